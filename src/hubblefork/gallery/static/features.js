// Whether the network has looked at all images: until then its place says so, and offers to begin.
import { asked, element } from "./state.js";

const number = new Intl.NumberFormat("en");

export const watch = async (place, there) => {
  const begin = element("button", { type: "button", class: "solid", text: "Let the network look at all images" });
  begin.addEventListener("click", async () => {
    begin.disabled = true;
    await fetch("/api/features", { method: "POST" });
    look();
  });
  const look = async () => {
    let found;
    try { found = await asked("/api/features", ""); } catch (error) { place.textContent = error.message; return; }
    if (found.state === "there") { place.replaceChildren(); there(); return; }
    if (found.state === "working") {
      const share = found.total ? ` ${number.format(found.done)} of ${number.format(found.total)}` : "";
      place.replaceChildren(element("p", { class: "muted", text: `The network looks at all images: ${found.what ?? "it begins"}${share}` }), element("progress", { max: found.total || 1, value: found.done ?? 0, "aria-label": "looked at" }));
      setTimeout(look, 2000);
      return;
    }
    const why = found.fault || "Similar and odd galaxies are found once the network has looked at all images: about 150 a second on each core. It happens once for a catalogue.";
    place.replaceChildren(element("p", { class: found.fault ? "fault" : "muted", text: why }), begin);
  };
  await look();
};

export const alike = (galaxies) => galaxies.map((galaxy) => {
  const id = encodeURIComponent(galaxy.galaxy_id);
  const image = element("img", { src: `/stamp/${id}?size=256&share=0.6`, alt: `Galaxy ${galaxy.galaxy_id}`, width: 144, height: 144, loading: "lazy" });
  const caption = element("span", { class: "caption" }, element("span", { text: galaxy.galaxy_id }), element("b", { text: galaxy.likeness.toFixed(2) }));
  return element("li", { class: "tile" }, element("a", { href: `/galaxy/${id}` }, element("span", { class: "frame" }, image), caption));
});
