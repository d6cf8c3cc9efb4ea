// The galaxies that look most like the one of the page.
import { asked } from "./state.js";
import { alike, watch } from "./features.js";

const id = encodeURIComponent(document.querySelector("[data-galaxy]").dataset.galaxy);
const all = document.querySelector("[data-near-all]"), list = document.querySelector("[data-near-list]"), says = document.querySelector("[data-near-says]");
watch(says, async () => {
  try {
    list.replaceChildren(...alike(await asked(`/api/near/${id}`, new URLSearchParams({ count: 16 }))));
    all.hidden = false;
  } catch (error) { says.textContent = error.message; }
});
