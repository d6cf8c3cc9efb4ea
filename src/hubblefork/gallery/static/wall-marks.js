// Marks on the wall: seen on the tiles, given by key, and a way to filter.
import { element, parse } from "./state.js";
import { keys, marksOf, person, refused, words } from "./marks.js";

const wall = document.querySelector("[data-wall]"), list = document.querySelector("[data-marked]");
const number = new Intl.NumberFormat("en");
const marks = new Map();

const paint = async (tiles) => {
  const found = Map.groupBy(await marksOf(tiles.map((tile) => tile.dataset.id)), (mark) => mark.galaxy_id);
  for (const tile of tiles) {
    const own = found.get(tile.dataset.id) ?? [];
    marks.set(tile.dataset.id, own);
    tile.querySelector(".marks")?.remove();
    const shown = [...new Set(own.filter((mark) => mark.kind !== "answer").map((mark) => (mark.kind === "star" ? "★" : mark.value)))];
    if (own.some((mark) => mark.kind === "answer" && mark.person === person())) shown.push("✓");
    const title = own.map((mark) => `${mark.person}: ${mark.holds ? "" : "not "}${words(mark)}`).join("\n");
    if (shown.length) tile.querySelector(".frame").append(element("span", { class: "marks", title, text: shown.join(" · ") }));
  }
};
new MutationObserver((changes) => {
  const tiles = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node.matches?.(".tile"));
  if (tiles.length) paint(tiles).catch(refused);
}).observe(wall, { childList: true });

document.addEventListener("marked", ({ detail }) => {
  const tile = detail && wall.querySelector(`.tile[data-id="${CSS.escape(detail.galaxy_id)}"]`);
  if (tile) paint([tile]).catch(refused);
  if (list.closest("details").open) summary().catch(refused);
});
keys(() => document.activeElement.closest?.(".tile")?.dataset.id ?? null, (id) => marks.get(id) ?? []);

// The list of tags and of people, each a filter.
const choice = (name, value, text, galaxies) => {
  const state = parse(location.search), pressed = state[name] === value;
  const button = element("button", { type: "button", class: "name", "aria-pressed": pressed, text });
  button.addEventListener("click", () => {
    document.dispatchEvent(new CustomEvent("choose", { detail: { [name]: pressed ? "" : value } }));
    setTimeout(() => summary().catch(refused), 50);
  });
  return element("li", { class: "marked" }, button, element("span", { class: "muted", text: number.format(galaxies) }));
};
const summary = async () => {
  const found = await (await fetch("/api/marks/summary")).json();
  if (found.error) throw new Error(found.error);
  const tags = Object.entries(found.tags).map(([tag, galaxies]) => choice("tag", tag, tag, galaxies));
  const people = Object.entries(found.people).map(([name, galaxies]) => choice("by", name, `by ${name}`, galaxies));
  list.replaceChildren(choice("starred", "1", "★ with a star", found.starred), ...tags, ...people);
};
list.closest("details").addEventListener("toggle", () => summary().catch(refused));
