// Why a galaxy has its fractions: where the network looked, and what it says of each view.
import { asked, element, label } from "./state.js";

const main = document.querySelector("[data-galaxy]"), why = document.querySelector("[data-why]"), id = encodeURIComponent(main.dataset.galaxy);
const answer = document.querySelector("[data-why-answer]"), over = document.querySelector("[data-why-over]"), says = document.querySelector("[data-why-says]");
const list = document.querySelector("[data-why-views]"), overlay = document.querySelector("[data-overlay]"), zoom = document.querySelector("[data-zoom]");
let found = null;

const look = async () => {
  const [covered, views] = await Promise.all([asked(`/api/occlusion/${id}`, ""), asked(`/api/views/${id}`, "")]);
  const unsure = views.answers.map((_, n) => { const mean = views.fractions.reduce((sum, view) => sum + view[n], 0) / views.fractions.length; return mean * (1 - mean); });
  answer.replaceChildren(...views.answers.map((name) => element("option", { value: name, text: label(name) })));
  answer.value = views.answers[unsure.indexOf(Math.max(...unsure))];
  list.replaceChildren(...views.fractions.map((_, n) => element("li", {}, element("img", { src: `/view/${n}/${id}`, alt: `View ${n + 1}`, width: 128, height: 128 }), element("span", { class: "number" }))));
  return { covered, views };
};

const show = () => {
  overlay.hidden = !why.open || !over.checked || !found;
  if (!why.open || !found) return;
  const column = found.views.answers.indexOf(answer.value), values = found.views.fractions.map((view) => view[column]);
  const mean = values.reduce((sum, value) => sum + value) / values.length, spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  const losses = found.covered.losses.flat().map((part) => part[column]), most = Math.max(...losses), least = Math.min(...losses);
  const gain = least < -0.02 ? `, the blue ones raises it by up to ${(-least).toFixed(2)}` : "";
  says.textContent = `Sixteen views: ${mean.toFixed(2)} ± ${spread.toFixed(2)}, from ${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}. `
    + (Math.max(most, -least) < 0.02 ? "No part of the image matters by itself." : `Covering the amber parts lowers it by up to ${most.toFixed(2)}${gain}.`);
  overlay.src = `/occlusion/${id}?answer=${encodeURIComponent(answer.value)}&share=${zoom.value}`;
  overlay.alt = `Where the network looked for “${answer.selectedOptions[0].text}”`;
  [...list.children].forEach((item, n) => { item.lastChild.textContent = values[n].toFixed(2); });
};

const open = async () => {
  if (why.open && !found) {
    try { found = await look(); } catch (error) { says.textContent = error.message; }
  }
  show();
};
why.addEventListener("toggle", open);
for (const control of [answer, over, zoom]) control.addEventListener("change", show);
