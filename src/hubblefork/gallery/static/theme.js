// The theme is set before the page is drawn, so that nothing flashes.
const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;
if (localStorage.getItem("unseen")) document.documentElement.dataset.unseen = "";
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme].theme")) return;
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  document.dispatchEvent(new Event("theme"));
});
