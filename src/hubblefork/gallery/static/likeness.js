// The wall's part for odd and similar galaxies: the map, and ranks by the galaxies that have a tag.
import { asked, element } from "./state.js";
import { watch } from "./features.js";

const part = document.querySelector("[data-likeness]"), says = part.querySelector("[data-features]"), tag = part.querySelector("[data-like-tag]"), map = part.querySelector("[data-map]");
const go = (changes) => {
  const given = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) given.set(name, value);
  location.search = given;
};
if (says) watch(says, () => location.reload());
map?.addEventListener("click", () => go({ x: "map.x", y: "map.y" }));
if (tag) {
  const fill = async () => {
    const { tags } = await asked("/api/marks/summary", ""), now = new URLSearchParams(location.search).get("sort") ?? "";
    tag.replaceChildren(element("option", { value: "", text: "choose a tag" }),
      ...Object.entries(tags).map(([name, galaxies]) => element("option", { value: name, text: `${name} (${galaxies})` })));
    if (now.startsWith("-tag.")) tag.value = now.slice(5);
  };
  fill().catch(() => {});
  tag.addEventListener("focus", () => { if (tag.options.length < 2) fill().catch(() => {}); });
  tag.addEventListener("change", () => { if (tag.value) go({ sort: `-tag.${tag.value}` }); });
  part.querySelector("[data-again]").addEventListener("click", () => { if (tag.value) go({ sort: `-tag.${tag.value}` }); });
}
