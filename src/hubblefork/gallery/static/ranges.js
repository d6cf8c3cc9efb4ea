// A quantity's histogram with two handles: all galaxies behind, the selection before.
import { element, label } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";
const STEPS = 200;

export class Range {
  constructor(place, changed) {
    this.place = place;
    this.name = place.dataset.range;
    this.changed = changed;
    this.span = [0, 1];
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", "0 0 100 24");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("aria-hidden", "true");
    this.handles = ["at least", "at most"].map((end, n) => {
      const input = element("input", { type: "range", min: 0, max: STEPS, value: n * STEPS, "aria-label": `${label(this.name)}, ${end}` });
      input.addEventListener("input", () => this.slid(n));
      input.addEventListener("change", () => this.slid(n, true));
      return input;
    });
    place.replaceChildren(this.svg, element("span", { class: "rail" }), ...this.handles);
  }

  get answer() { return this.place.closest(".answer"); }

  value(n) { const [low, high] = this.span; return low + (high - low) * this.handles[n].value / STEPS; }

  slid(n, whole = false) {
    const [low, high] = this.handles.map((handle) => +handle.value);
    if (low > high) this.handles[n].value = n ? low : high;
    this.show();
    const ends = this.handles.map((handle, k) => (+handle.value === k * STEPS ? null : +this.value(k).toPrecision(4)));
    this.changed(this.name, ends, whole);
  }

  set(ends) {
    this.ends = ends;
    const [low, high] = this.span;
    this.handles.forEach((handle, n) => {
      const end = ends?.[n] ?? null;
      handle.value = end === null ? n * STEPS : Math.round(STEPS * (end - low) / (high - low));
      handle.setAttribute("aria-valuetext", this.text(this.value(n)));
    });
    this.show();
  }

  text(value) { return Math.abs(value) >= 1000 ? value.toFixed(0) : +value.toPrecision(3) + ""; }

  show() {
    const set = this.handles.some((handle, n) => +handle.value !== n * STEPS);
    this.answer.classList.toggle("set", set);
    const output = this.answer.querySelector("output");
    output.textContent = set ? `${this.text(this.value(0))} – ${this.text(this.value(1))}` : "";
    const last = +this.handles[0].value > STEPS / 2;
    this.handles[0].style.zIndex = last ? 2 : 1;
    this.handles[1].style.zIndex = last ? 1 : 2;
  }

  draw({ edges, all, selected }) {
    const span = [edges[0], edges[edges.length - 1]];
    if (span[0] !== this.span[0] || span[1] !== this.span[1]) { this.span = span; this.set(this.ends); }
    // The root of the counts, so that a few galaxies among many are seen.
    const most = Math.sqrt(Math.max(...all, 1)), width = 100 / all.length;
    const bars = (counts, kind) => counts.map((count, n) => {
      const bar = document.createElementNS(SVG, "rect"), height = count ? Math.max(1, 24 * Math.sqrt(count) / most) : 0;
      for (const [name, value] of Object.entries({ class: kind, x: n * width + 0.3, width: width - 0.6, y: 24 - height, height })) bar.setAttribute(name, value);
      return bar;
    });
    this.svg.replaceChildren(...bars(all, "whole"), ...bars(selected, "part"));
  }
}
