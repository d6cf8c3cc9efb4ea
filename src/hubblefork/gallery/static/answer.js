// The questions of the tree about one galaxy, one key an answer, as on Galaxy Zoo.
import { element } from "./state.js";
import { keys, marksOf, person, refused, say, star, tag, tell, undo, words } from "./marks.js";

const id = document.querySelector("[data-galaxy]").dataset.galaxy;
const find = (selector) => document.querySelector(`[data-marking] ${selector}`);
const place = find("[data-question]"), finished = new Set(), works = new Map();
const root = document.documentElement, hide = find("[data-hide]");
let tree = null, marks = [];

const mine = () => marks.filter((mark) => mark.person === person());
const given = (question) => mine().filter((mark) => mark.kind === "answer" && question.answers.some((answer) => answer.name === mark.value));
const open = (question) => (question.exclusive || question.answers.length === 1 ? !given(question).length : !finished.has(question.name));

// The first question on the person's way through the tree that has no answer yet.
const current = () => {
  const named = new Map(tree.questions.map((question) => [question.name, question])), seen = new Set();
  const walk = (question) => {
    if (seen.has(question.name)) return null;
    seen.add(question.name);
    if (open(question)) return question;
    const said = given(question).filter((mark) => mark.holds).map((mark) => mark.value);
    for (const answer of question.answers) {
      for (const next of said.includes(answer.name) ? answer.leads_to : []) {
        const found = walk(named.get(next));
        if (found) return found;
      }
    }
    return null;
  };
  for (const question of tree.questions.filter((one) => one.root)) {
    const found = walk(question);
    if (found) return found;
  }
  return null;
};

const choices = (question) => {
  if (question.answers.length === 1) return [["yes", () => say(id, "answer", question.answers[0].name)], ["no", () => say(id, "answer", question.answers[0].name, false)]];
  const said = given(question).filter((mark) => mark.holds).map((mark) => mark.value);
  return question.answers.map((answer) => [answer.text, () => say(id, "answer", answer.name, question.exclusive || !said.includes(answer.name)), said.includes(answer.name)]);
};
const finish = async (question) => {
  finished.add(question.name);
  if (!given(question).length) await say(id, "answer", question.answers[0].name, false);
  paint();
};

const paint = () => {
  const starred = marks.some((mark) => mark.kind === "star"), button = find("[data-star]");
  button.setAttribute("aria-pressed", mine().some((mark) => mark.kind === "star"));
  button.firstElementChild.textContent = starred ? "★" : "☆";
  find("[data-tags]").replaceChildren(...marks.filter((mark) => mark.kind === "tag").map((mark) => {
    const own = mark.person === person(), text = own ? mark.value : `${mark.value} (${mark.person})`;
    const chip = element("button", { type: "button", text, disabled: own ? null : "", "aria-label": own ? `${text}: take away` : text });
    chip.addEventListener("click", () => say(id, "tag", mark.value, false).catch(refused));
    return element("li", {}, chip);
  }));
  if (!place || !tree) return;
  const said = mine().filter((mark) => mark.kind === "answer" && mark.holds).map(words), question = current();
  root.toggleAttribute("data-answered", !question);
  const focused = place.contains(document.activeElement);
  works.clear();
  place.replaceChildren(element("p", { class: "muted", text: said.length ? `You said: ${said.join(", ")}.` : "" }));
  if (!question) { place.append(element("p", { text: "That was the last question. → goes to the next galaxy." })); return; }
  const buttons = choices(question).map(([text, work, ticked], n) => choice(`${(n + 1) % 10}`, text, work, ticked));
  if (!question.exclusive && question.answers.length > 1) buttons.push(choice("Enter", "done", () => finish(question)));
  place.append(element("fieldset", {}, element("legend", { text: question.text }), ...buttons));
  if (focused) buttons[0].focus();
};
const choice = (key, text, work, ticked) => {
  const made = element("button", { type: "button", class: "choice", "aria-pressed": ticked ?? null }, element("kbd", { text: key }), text);
  made.addEventListener("click", () => next(work));
  works.set(key, work);
  return made;
};

// One after the other, so that a quick key answers the question that follows.
let last = Promise.resolve(), loading = null;
const next = (work) => { last = last.then(work).then(() => loading).catch(refused); };
const load = async () => {
  marks = await marksOf([id]);
  paint();
};
document.addEventListener("marked", () => { loading = load().catch(refused); });
document.addEventListener("person", () => { finished.clear(); paint(); });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && event.target.matches("a, button, summary")) return;
  if (!place || !/^([0-9]|Enter)$/.test(event.key)) return;
  event.preventDefault();
  next(() => works.get(event.key)?.());
});
keys(() => id, () => marks);
find("[data-star]").addEventListener("click", () => star(id, marks).catch(refused));
find("[data-tag]").addEventListener("click", () => tag(id).catch(refused));
hide?.setAttribute("aria-pressed", "unseen" in root.dataset);
hide?.addEventListener("click", () => {
  hide.setAttribute("aria-pressed", root.toggleAttribute("data-unseen"));
  localStorage.setItem("unseen", "unseen" in root.dataset ? "yes" : "");
});
find("[data-undo]").addEventListener("click", () => undo().catch(refused));

const begin = async () => {
  if (place) tree = await (await fetch("/api/tree")).json();
  await load();
  for (const question of tree?.questions ?? []) if (given(question).length) finished.add(question.name);
  paint();
};
begin().catch((error) => tell(error.message, true));
