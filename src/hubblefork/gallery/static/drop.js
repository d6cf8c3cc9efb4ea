// An image that is dropped anywhere gets its tree.
import { element, label } from "./state.js";
import { alike } from "./features.js";

const SHOWN = 8;

const bars = (found) => {
  const rows = found.answers.map((name, n) => [name, found.fractions[n], found.low?.[n], found.high?.[n]]).sort((a, b) => b[1] - a[1]).slice(0, 14);
  const body = element("tbody", {}, ...rows.map(([name, value, low, high]) => {
    const meter = element("meter", { min: 0, max: 1, value, "aria-hidden": "true" });
    const between = low === undefined ? "" : ` ${low.toFixed(2)}–${high.toFixed(2)}`;
    return element("tr", {}, element("th", { scope: "row", text: label(name) }), element("td", { class: "bar" }, meter),
      element("td", { class: "number" }, value.toFixed(2), element("span", { class: "muted", text: between })));
  }));
  return element("table", { class: "fractions" }, element("caption", { text: `${found.name}: predicted fractions of volunteers` }), body);
};

// The galaxies that look like a dropped image; none as long as the network has not looked at all of them.
const neighbours = async (file) => {
  const form = new FormData(), list = element("ol", { class: "wall", "aria-label": "Galaxies that look like it" });
  form.append("image", file);
  const response = await fetch("/api/near", { method: "POST", body: form });
  if (response.ok) list.replaceChildren(...alike(await response.json()));
  return list;
};

export const dropping = () => {
  const veil = document.querySelector("[data-drop]"), dialog = document.querySelector("[data-answers]");
  const close = () => { const button = element("button", { type: "button", class: "solid", text: "Close" }); button.addEventListener("click", () => dialog.close()); return button; };
  addEventListener("dragover", (event) => { if ([...event.dataTransfer.types].includes("Files")) { event.preventDefault(); veil.hidden = false; } });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) veil.hidden = true; });
  addEventListener("drop", async (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    veil.hidden = true;
    const files = [...event.dataTransfer.files].slice(0, 64), form = new FormData();
    for (const file of files) form.append("images", file);
    dialog.replaceChildren(element("p", { text: "The network looks at it …" }));
    dialog.showModal();
    try {
      const response = await fetch("/api/classify", { method: "POST", body: form }), found = await response.json();
      if (!response.ok) throw new Error(found.error ?? response.statusText);
      const parts = found.map((one, n) => element("section", { class: "dropped" },
        element("img", { src: URL.createObjectURL(files[n]), alt: one.name }),
        one.error ? element("p", { class: "fault", text: one.error }) : bars(one)));
      dialog.replaceChildren(...parts, close());
      parts.slice(0, SHOWN).forEach(async (part, n) => part.append(await neighbours(files[n])));
    } catch (error) {
      dialog.replaceChildren(element("p", { class: "fault", text: error.message }), close());
    }
  });
};
