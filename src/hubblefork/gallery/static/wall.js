import { MARKS, address, asked, element, label, parse, selection, stamp } from "./state.js";
import { Range } from "./ranges.js";
import { dropping } from "./drop.js";
import { Plot } from "./plot.js";
import { watch } from "./features.js";

const PAGE = 60;
const find = (selector) => document.querySelector(selector);
const wall = find("[data-wall]"), fault = find("[data-fault]"), count = find("[data-count]"), end = find("[data-end]");
const sort = find("[data-sort]"), query = find("#query"), named = find("#named"), size = find("[data-size]"), share = find("[data-share]");
const gain = find("[data-gain]");
const corrected = find("[data-corrected]"), chips = find("[data-chips]");
const number = new Intl.NumberFormat("en");
const ranges = new Map();
let state = parse(location.search), loaded = 0, known = null, asking = null, more = null;

const remember = (push) => {
  const url = `/?${address(state)}`;
  history[push ? "pushState" : "replaceState"](null, "", url);
};

const tile = (galaxy, shown, at) => {
  const id = encodeURIComponent(galaxy.galaxy_id), pixels = Math.min(640, Math.ceil(state.size * Math.min(devicePixelRatio, 2) / 32) * 32);
  const image = element("img", { src: stamp(galaxy.galaxy_id, pixels, state), alt: `Galaxy ${galaxy.galaxy_id}`, decoding: "async", class: "waiting", width: state.size, height: state.size });
  const frame = element("span", { class: "frame" }, image);
  image.addEventListener("load", () => image.classList.remove("waiting"));
  image.addEventListener("error", () => { frame.classList.add("none"); image.remove(); });
  const value = shown.length && galaxy[shown[0]] !== null ? (+galaxy[shown[0]]).toPrecision(2) : "";
  const caption = element("span", { class: "caption" }, element("span", { text: galaxy.galaxy_id }), element("b", { text: value }));
  const own = address(state); own.set("at", at);
  const text = shown.map((name) => `${label(name)} ${galaxy[name]?.toPrecision(3) ?? "unknown"}`).join(", ");
  const link = element("a", { href: `/galaxy/${id}?${own}`, title: text || null }, frame, caption);
  return element("li", { class: "tile", "data-id": galaxy.galaxy_id, "data-row": galaxy.row }, link);
};

const page = async (offset, signal) => {
  const parameters = selection(state);
  if (state.sort) parameters.set("sort", state.sort);
  parameters.set("offset", offset);
  parameters.set("limit", PAGE);
  return asked("/api/galaxies", parameters, signal);
};

const say = (error) => {
  fault.hidden = !error;
  fault.textContent = error ?? "";
};

const fill = (found, offset) => {
  const tiles = found.galaxies.map((galaxy, n) => tile(galaxy, found.shown, offset + n));
  if (offset) wall.append(...tiles); else wall.replaceChildren(...tiles);
  loaded = offset + tiles.length;
  known = found.selected;
  count.textContent = number.format(found.selected);
  end.hidden = loaded < known;
  end.textContent = known ? "That is all of them." : "No galaxy is in this selection. Widen a slider or clear a condition.";
};

const load = async () => {
  asking?.abort();
  asking = new AbortController();
  more = null;
  const { signal } = asking;
  try {
    const [found] = await Promise.all([page(0, signal), histograms(signal)]);
    say(null);
    fill(found, 0);
    near();
    plot.draw(state);
    correct(signal);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
    if (error.needs === "features") watch(fault, load);
  }
};

const next = async () => {
  if (more || known === null || loaded >= known) return;
  const { signal } = asking;
  more = page(loaded, signal);
  try {
    const found = await more;
    if (!signal.aborted) fill(found, loaded);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
  more = null;
  if (!signal.aborted) near();
};

const near = () => { if (sentinel.getBoundingClientRect().top < innerHeight * 2) next(); };

const correct = async (signal) => {
  corrected.hidden = true;
  if (!state.q && !state.ranges.size && !state.regions.length) return;
  try {
    const found = await asked("/api/fraction", selection(state), signal);
    if (signal.aborted) return;
    const percent = (value) => `${(100 * value).toPrecision(3)}%`;
    corrected.hidden = false;
    corrected.textContent = "value" in found
      ? `${found.corrected ? "corrected" : "uncorrected"} ${percent(found.value)} (${percent(found.low)} to ${percent(found.high)})`
      : "no corrected fraction";
    corrected.title = found.reason || found.estimator;
  } catch { /* the count stands by itself */ }
};

const histograms = async (signal) => {
  const open = [...ranges.values()].filter((range) => range.place.offsetParent !== null);
  const parts = [];
  for (let n = 0; n < open.length; n += 24) parts.push(open.slice(n, n + 24));
  await Promise.all(parts.map(async (part) => {
    const parameters = selection(state);
    for (const range of part) parameters.append("of", range.name);
    const found = await asked("/api/histograms", parameters, signal);
    found.forEach((histogram, n) => part[n].draw(histogram));
  }));
};

// Controls

let waiting = 0;
const change = (push = true, wait = 0) => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { remember(push); controls(); load(); }, wait);
};

const ranged = (name, ends, whole) => {
  if (ends.every((value) => value === null)) state.ranges.delete(name); else state.ranges.set(name, ends);
  change(whole, whole ? 0 : 120);
};

const controls = () => {
  query.value = state.q;
  named.value = state.named;
  sort.value = state.sort;
  if (sort.value !== state.sort) {
    sort.append(element("option", { value: state.sort, text: `${label(state.sort.replace(/^-/, ""))}, ${state.sort.startsWith("-") ? "highest" : "lowest"} first` }));
    sort.value = state.sort;
  }
  size.value = state.size;
  share.value = state.share;
  if (gain) gain.value = state.gain;
  wall.style.setProperty("--tile", `${state.size}px`);
  for (const [name, range] of ranges) range.set(state.ranges.get(name));
  for (const answer of document.querySelectorAll(".answer")) answer.classList.toggle("sorted", state.sort.replace(/^-/, "") === answer.querySelector("[data-range]").dataset.range);
  const ranged = [...state.ranges].map(([name, [low, high]]) => chip(
    `${label(name)} ${low === null ? `≤ ${high}` : high === null ? `≥ ${low}` : `${low} to ${high}`}`, () => state.ranges.delete(name)));
  const regions = state.regions.map((region, n) => chip(
    `region of ${region.split(":").slice(0, 2).map(label).join(" and ")}`, () => state.regions.splice(n, 1)));
  const words = { tag: `tag “${state.tag}”`, starred: "with a star", by: `marked by ${state.by}` };
  const marked = MARKS.filter((name) => state[name]).map((name) => chip(words[name], () => { state[name] = ""; }));
  chips.replaceChildren(...ranged, ...regions, ...marked);
};

const chip = (text, remove) => {
  const button = element("button", { type: "button", text, "aria-label": `${text}: remove` });
  button.addEventListener("click", () => { remove(); change(); });
  return element("li", {}, button);
};

const reveal = () => {
  for (const name of state.ranges.keys()) {
    const answer = document.querySelector(`.answer[data-quantity="${CSS.escape(name.replace(/~$/, ""))}"]`);
    if (answer && name.endsWith("~")) ask(answer.querySelector("[data-asked]"), true);
    for (let above = answer?.closest("details"); above; above = above.parentElement.closest("details")) above.open = true;
  }
};

const make = (place) => ranges.set(place.dataset.range, new Range(place, ranged));
for (const place of document.querySelectorAll("[data-range]")) make(place);

const ask = (button, pressed) => {
  const place = button.closest(".answer").querySelector("[data-range]"), old = place.dataset.range;
  button.setAttribute("aria-pressed", pressed);
  ranges.delete(old);
  state.ranges.delete(pressed ? button.dataset.asked : `${button.dataset.asked}~`);
  place.dataset.range = pressed ? `${button.dataset.asked}~` : button.dataset.asked;
  make(place);
};

document.addEventListener("click", (event) => {
  const by = event.target.closest("[data-by]"), pressed = event.target.closest("[data-asked]");
  if (by) { state.sort = state.sort === by.dataset.by ? by.dataset.by.replace(/^-/, "") : by.dataset.by; change(); }
  if (pressed) { ask(pressed, pressed.getAttribute("aria-pressed") !== "true"); change(); }
});
document.addEventListener("toggle", (event) => {
  if (event.target.matches("details.question") && event.target.open) histograms().catch((error) => say(error.message));
}, true);
find("[data-query]").addEventListener("submit", (event) => { event.preventDefault(); state.q = query.value; state.named = named.value; change(); });
query.addEventListener("change", () => { state.q = query.value; change(); });
named.addEventListener("input", () => { state.named = named.value; change(false, 200); });
sort.addEventListener("change", () => { state.sort = sort.value; change(); });
find("[data-turn]").addEventListener("click", () => { if (state.sort && state.sort !== "random") { state.sort = state.sort.startsWith("-") ? state.sort.slice(1) : `-${state.sort}`; change(); } });
find("[data-clear]").addEventListener("click", () => { state.ranges.clear(); state.regions = []; for (const name of ["q", "named", ...MARKS]) state[name] = ""; change(); });
document.addEventListener("choose", ({ detail }) => { Object.assign(state, detail); change(); });
for (const [input, name] of [[size, "size"], [share, "share"], [gain, "gain"]].filter(([input]) => input)) {
  input.addEventListener("input", () => { state[name] = +input.value; wall.style.setProperty("--tile", `${state.size}px`); });
  input.addEventListener("change", () => change(false));
}
const filters = find("#filters"), opener = find("[data-open-filters]");
opener.addEventListener("click", () => {
  opener.setAttribute("aria-expanded", filters.classList.toggle("shown"));
  histograms().catch((error) => say(error.message));
});
addEventListener("popstate", () => {
  const there = parse(location.search);
  if (`${address(there)}` === `${address(state)}`) return;
  state = there;
  reveal();
  controls();
  load();
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); query.focus(); }
  const here = document.activeElement.closest?.(".tile");
  if (!here) return;
  const columns = getComputedStyle(wall).gridTemplateColumns.split(" ").length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  const to = step && wall.children[[...wall.children].indexOf(here) + step];
  if (to) { event.preventDefault(); to.querySelector("a").focus(); }
});

const sentinel = find("[data-sentinel]");
addEventListener("scroll", near, { passive: true });
addEventListener("resize", near);

const plot = new Plot((region) => { state.regions.push(region); change(); },
  (x, y) => { state.x = x; state.y = y; remember(false); });
dropping();
reveal();
controls();
load();
