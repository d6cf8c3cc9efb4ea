import { address, asked, parse, selection, stamp } from "./state.js";

const main = document.querySelector("[data-galaxy]"), given = new URLSearchParams(location.search), state = parse(location.search);
const at = given.has("at") ? +given.get("at") : null;
document.querySelector("[data-back]").href = `/?${address(state)}`;

const portrait = document.querySelector("[data-portrait]"), zoom = document.querySelector("[data-zoom]");
const show = () => { portrait.src = stamp(main.dataset.galaxy, 848, { share: zoom.value, gain: state.gain }); };
zoom.addEventListener("change", show);
if (state.gain) show();

const step = async (link) => {
  const to = at === null ? -1 : at + +link.dataset.step;
  link.hidden = to < 0;
  if (to < 0) return;
  const parameters = selection(state);
  if (state.sort) parameters.set("sort", state.sort);
  parameters.set("offset", to);
  parameters.set("limit", 1);
  const found = await asked("/api/galaxies", parameters);
  if (!found.galaxies.length) { link.hidden = true; return; }
  const own = address(state);
  own.set("at", to);
  link.href = `/galaxy/${encodeURIComponent(found.galaxies[0].galaxy_id)}?${own}`;
};
const steps = [...document.querySelectorAll("[data-step]")];
for (const link of steps) step(link).catch(() => { link.hidden = true; });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea")) return;
  const link = { ArrowLeft: steps[0], ArrowRight: steps[1] }[event.key];
  if (link && !link.hidden) location.href = link.href;
  if (event.key === "Escape") location.href = document.querySelector("[data-back]").href;
});
