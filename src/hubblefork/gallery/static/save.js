// The selection as a file, or to another program.
import { parse, selection } from "./state.js";
import { refused, tell } from "./marks.js";

const menu = document.querySelector("[data-save]");
const shown = () => {
  const state = parse(location.search), parameters = selection(state);
  if (state.sort) parameters.set("sort", state.sort);
  return [state, parameters];
};
menu.addEventListener("toggle", () => {
  const [state, parameters] = shown();
  for (const link of menu.querySelectorAll("[data-table]")) link.href = `/download/galaxies.${link.dataset.table}?${parameters}`;
  parameters.set("share", state.share);
  if (state.gain) parameters.set("gain", (10 ** (0.4 * state.gain)).toPrecision(4));
  for (const link of menu.querySelectorAll("[data-sheet]")) link.href = `/download/sheet.pdf?${parameters}&first=${link.dataset.sheet}`;
});
menu.querySelector("[data-samp]").addEventListener("click", async () => {
  menu.open = false;
  tell("The table is sent …");
  try {
    const response = await fetch(`/api/samp?${shown()[1]}`, { method: "POST" }), found = await response.json();
    if (!response.ok) throw new Error(found.error ?? response.statusText);
    tell(`Sent to ${found.received_by.join(", ")}.`);
  } catch (error) { refused(error); }
});
document.addEventListener("click", (event) => { if (menu.open && !menu.contains(event.target)) menu.open = false; });
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && menu.open) { menu.open = false; menu.querySelector("summary").focus(); } });
