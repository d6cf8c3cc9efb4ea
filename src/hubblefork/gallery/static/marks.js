// What people say of galaxies: stars, tags, answers. Each mark is on the gallery's disk when it is shown here.
import { element, text } from "./state.js";

const MOST = 240;
export const person = () => localStorage.getItem("person") || "me";

const sent = async (path, body) => {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const found = await response.json();
  if (!response.ok) throw new Error(found.error ?? found.detail?.[0]?.msg ?? response.statusText);
  document.dispatchEvent(new CustomEvent("marked", { detail: found }));
  return found;
};
export const say = (galaxy_id, kind, value = "", holds = true) => sent("/api/marks", { person: person(), galaxy_id, kind, value, holds });
export const undo = async () => {
  const undone = await sent("/api/marks/undo", { person: person() });
  tell(undone ? `Undone: ${words(undone)} of ${undone.galaxy_id}` : `There is nothing that ${person()} could undo.`);
  return undone;
};

export const marksOf = async (ids) => {
  const parts = [];
  for (let n = 0; n < ids.length; n += MOST) parts.push(ids.slice(n, n + MOST));
  const found = await Promise.all(parts.map(async (part) => {
    const response = await fetch(`/api/marks?${new URLSearchParams(part.map((id) => ["of", id]))}`);
    return response.ok ? response.json() : [];
  }));
  return found.flat();
};

export const words = (mark) => (mark.kind === "star" ? "star" : text(mark.value));

// A line at the foot of the page that screen readers say and that goes away.
let fading = 0;
export const tell = (message, fault = false) => {
  let line = document.querySelector("[data-said]");
  line ??= document.body.appendChild(element("p", { class: "said", role: "status", "data-said": "" }));
  line.classList.toggle("fault", fault);
  line.textContent = message;
  clearTimeout(fading);
  fading = setTimeout(() => { line.textContent = ""; }, fault ? 12000 : 4000);
};
const refused = (error) => tell(error.message, true);

const asked = (dialog, input) => new Promise((done) => {
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  dialog.addEventListener("close", () => done(dialog.returnValue === "tag" ? input.value.trim() : ""), { once: true });
});

// The marks of one galaxy, and what a key does to it.
export const star = async (id, marks) => {
  const mine = marks.some((mark) => mark.kind === "star" && mark.person === person());
  await say(id, "star", "", !mine);
  tell(mine ? `${id} has no star of ${person()} any more.` : `★ ${id}. u undoes it.`);
};
export const tag = async (id) => {
  const dialog = document.querySelector("[data-tag-dialog]"), input = dialog.querySelector("input");
  const typed = asked(dialog, input), response = await fetch("/api/marks/summary");
  if (response.ok) dialog.querySelector("datalist").replaceChildren(...Object.keys((await response.json()).tags).map((value) => element("option", { value })));
  const value = await typed;
  if (!value) return;
  await say(id, "tag", value);
  tell(`${id} is tagged “${value}”. u undoes it.`);
};

export const keys = (galaxy, painted) => document.addEventListener("keydown", async (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const work = { s: (id) => star(id, painted(id)), t: tag, u: undo }[event.key], id = galaxy();
  if (!work || (id === null && work !== undo)) return;
  event.preventDefault();
  await work(id).catch(refused);
});

for (const input of document.querySelectorAll("[data-person]")) {
  input.value = person();
  input.addEventListener("change", () => { localStorage.setItem("person", input.value.trim()); input.value = person(); document.dispatchEvent(new Event("person")); });
}
export { refused };
