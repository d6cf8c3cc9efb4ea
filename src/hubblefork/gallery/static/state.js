// What is shown, as the address says it: a view is a link.

export const MARKS = ["tag", "starred", "by"];

export const parse = (search) => {
  const given = new URLSearchParams(search);
  return {
    ranges: new Map(given.getAll("f").map((text) => {
      const parts = text.split(":");
      const [low, high] = parts.slice(-2);
      return [parts.slice(0, -2).join(":"), [low === "" ? null : +low, high === "" ? null : +high]];
    })),
    regions: given.getAll("in"),
    q: given.get("q") ?? "",
    named: given.get("named") ?? "",
    sort: given.get("sort") ?? "",
    size: +(given.get("size") ?? 144),
    share: +(given.get("share") ?? 0.6),
    gain: +(given.get("gain") ?? 0),
    tag: given.get("tag") ?? "",
    starred: given.get("starred") ?? "",
    by: given.get("by") ?? "",
    x: given.get("x") ?? "",
    y: given.get("y") ?? "",
  };
};

export const selection = (state) => {
  const written = new URLSearchParams();
  for (const [name, [low, high]] of state.ranges) written.append("f", `${name}:${low ?? ""}:${high ?? ""}`);
  for (const region of state.regions) written.append("in", region);
  if (state.q) written.set("q", state.q);
  for (const name of ["named", ...MARKS]) if (state[name]) written.set(name, state[name]);
  return written;
};

export const address = (state) => {
  const written = selection(state);
  if (state.sort) written.set("sort", state.sort);
  if (state.size !== 144) written.set("size", state.size);
  if (state.share !== 0.6) written.set("share", state.share);
  if (state.gain) written.set("gain", state.gain);
  if (state.x && state.y) { written.set("x", state.x); written.set("y", state.y); }
  return written;
};

// The brightness is in magnitudes: one more is 2.512 times the flux.
export const stamp = (id, size, { share, gain }) =>
  `/stamp/${encodeURIComponent(id)}?size=${size}&share=${share}${gain ? `&gain=${(10 ** (0.4 * gain)).toPrecision(4)}` : ""}`;

export const asked = async (path, parameters, signal) => {
  const response = await fetch(`${path}?${parameters}`, { signal });
  const found = await response.json();
  if (!response.ok) throw Object.assign(new Error(found.error ?? found.detail?.[0]?.msg ?? response.statusText), { needs: found.needs });
  return found;
};

const texts = JSON.parse(document.body?.dataset.words ?? "{}");
export const text = (name) => texts[name] ?? name.replaceAll("_", " ");
const of = {
  column: "", volunteers: `${document.body?.dataset.beside} of `, distance: "absolute difference of ",
  difference: "difference of ", width: "width of ", like: "like ", tag: "like those with the tag ",
};
export const label = (name) => {
  const [, kind, bare, asked] = /^(?:(column|volunteers|distance|difference|width|like|tag)\.)?(.*?)(~?)$/s.exec(name);
  return `${of[kind] ?? ""}${text(bare)}${asked && " (of asked)"}`;
};

export const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value; else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
