// Two quantities against each other; Plotly is loaded when the panel is opened first.
import { asked, element, label, selection } from "./state.js";

let loading = null;
const plotly = () => loading ??= new Promise((done, failed) => {
  document.head.append(element("link", { rel: "stylesheet", href: "/static/plotly.css", id: "plotly.js-style-global", class: "no-inline-styles" }));
  const script = element("script", { src: "/plotly.js" });
  script.addEventListener("load", () => done(globalThis.Plotly));
  script.addEventListener("error", () => failed(new Error("the plot library could not be loaded")));
  document.head.append(script);
});

export class Plot {
  constructor(selected, chosen) {
    this.panel = document.querySelector("[data-plot-panel]");
    this.area = document.querySelector("[data-plot-area]");
    this.button = document.querySelector("[data-plot]");
    this.axes = ["x", "y"].map((axis) => document.querySelector(`[data-axis="${axis}"]`));
    this.selected = selected;
    this.turn = 0;
    const names = [...document.querySelectorAll("[data-quantity]")].map((answer) => answer.dataset.quantity);
    for (const axis of this.axes) {
      axis.append(...names.map((name) => element("option", { value: name, text: label(name) })));
      axis.addEventListener("change", () => { chosen(...this.axes.map((one) => one.value)); this.draw(this.state); });
    }
    this.axes[1].selectedIndex = Math.min(1, names.length - 1);
    this.button.addEventListener("click", () => {
      this.panel.hidden = !this.panel.hidden;
      this.button.setAttribute("aria-expanded", !this.panel.hidden);
      chosen(...(this.panel.hidden ? ["", ""] : this.axes.map((one) => one.value)));
      this.draw(this.state);
    });
    document.addEventListener("theme", () => this.draw(this.state));
  }

  async draw(state) {
    this.state = state;
    if (!state) return; // the wall is not there yet, and draws when it is
    if (state.x && state.y) {
      [state.x, state.y].forEach((name, n) => {
        this.axes[n].value = name;
        if (this.axes[n].value !== name) this.axes[n].append(element("option", { value: name, text: label(name), selected: "" }));
      });
      this.panel.hidden = false;
      this.button.setAttribute("aria-expanded", "true");
    }
    if (this.panel.hidden) return;
    const [x, y] = this.axes.map((axis) => axis.value), parameters = selection(state);
    parameters.set("x", x);
    parameters.set("y", y);
    const turn = ++this.turn;
    const [Plotly, found] = await Promise.all([plotly(), asked("/api/density", parameters)]);
    if (turn !== this.turn) return; // drawn by a later call, or a lasso would lose its axes half-way
    const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
    const axis = (name) => ({ title: { text: label(name) }, gridcolor: colour("--line"), zeroline: false, color: colour("--muted") });
    const centre = (edges) => edges.slice(1).map((edge, n) => (edge + edges[n]) / 2);
    const shown = found.counts.map((row) => row.map((count) => (count ? Math.log10(count) : null)));
    const hover = `${label(x)} %{x:.3g}<br>${label(y)} %{y:.3g}<br>%{customdata} galaxies<extra></extra>`;
    const bar = colour("--bar");
    await Plotly.react(this.area, [{
      type: "heatmap", x: centre(found.x_edges), y: centre(found.y_edges), z: shown, customdata: found.counts, showscale: false,
      colorscale: [[0, `${bar}55`], [0.6, bar], [1, colour("--ink")]], hovertemplate: hover,
    }, { type: "scatter", mode: "markers", x: [null], y: [null], showlegend: false }], { // a lasso needs points
      margin: { l: 55, r: 10, t: 10, b: 45 }, dragmode: "lasso", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") }, xaxis: axis(x), yaxis: axis(y),
    }, { displayModeBar: false, responsive: true });
    this.area.removeAllListeners("plotly_selected");
    this.area.on("plotly_selected", (event) => {
      const drawn = event?.lassoPoints;
      if (!drawn || drawn.x.length < 3) return;
      const step = Math.ceil(drawn.x.length / 60), points = [];
      for (let n = 0; n < drawn.x.length; n += step) points.push(+drawn.x[n].toPrecision(4), +drawn.y[n].toPrecision(4));
      Plotly.restyle(this.area, { selectedpoints: [null] });
      Plotly.relayout(this.area, { selections: [] });
      this.selected(`${x}:${y}:${points.join(",")}`);
    });
  }
}
