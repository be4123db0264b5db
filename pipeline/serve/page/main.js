// Puts the parts of the page together: a change of the query or of the filters is a search.

import { collection, images, onTokenNeeded, search } from "./api.js";
import { Browser, tile } from "./browser.js";
import { byId, closable } from "./dom.js";
import { Feedback } from "./feedback.js";
import { Filters } from "./filters.js";
import { Query } from "./query.js";
import { Results } from "./results.js";
import { Viewer } from "./viewer.js";

const EXAMPLES = 12;
let running = null;
let ready = null;

const query = new Query(run);
const filters = new Filters(run);
const results = new Results(searchWith, (place) => viewer.open(place));
const feedback = new Feedback(run);
const viewer = new Viewer(results, query, feedback, searchWith);
const browser = new Browser(searchWith);

function searchWith(image) {
  history.pushState({ image: { id: image.id, path: image.path, label: image.label, width: image.width, height: image.height } }, "");
  query.useImage(image);
  window.scrollTo({ top: 0, behavior: "instant" });
}

async function run() {
  if (!query.given) return;
  running?.abort();
  const mine = (running = new AbortController());
  byId("start").hidden = true;
  await ready; // a photo may be dropped before the choice of rerankers is there
  if (mine !== running) return;
  const form = new FormData();
  query.fill(form);
  filters.fill(form);
  feedback.fill(form, query.address);
  say("Searching …");
  complain("");
  byId("results").setAttribute("aria-busy", "true");
  try {
    for await (const stage of search(form, mine.signal)) {
      if (mine !== running) return;
      results.show(stage);
      viewer.refresh();
      say(inWords(stage, form));
    }
  } catch (error) {
    if (mine !== running || error.name === "AbortError") return;
    if (!results.list.length || error.status !== 503) results.clear();
    say("");
    complain(error.status ? error.message : "The server does not answer. Is it still running?");
  } finally {
    if (mine === running) byId("results").removeAttribute("aria-busy");
  }
}

function inWords(stage, form) {
  const count = `${stage.results.length} of ${stage.images.toLocaleString("en")} photos in ${stage.seconds.toFixed(2)} s`;
  const random = stage.weights.startsWith("random") ? ` The weights are random: the order means nothing.` : "";
  if (!stage.results.length) return `No photo fits the filters.${random}`;
  if (stage.stage === "global") return stage.final ? `${count}, global search.${random}` : `${count}. Re-ranking with ${form.get("rerank").replaceAll(",", ", then ")} …`;
  if (!stage.final) return `${count}, re-ranked with ${stage.rerank.join(", then ")}. Finding out why …`;
  return `${count}, re-ranked with ${stage.rerank.join(", then ")}.${random}`;
}

function say(text) {
  byId("status").textContent = text;
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

function keys(event) {
  const typing = event.target.closest("input:not([type=range],[type=checkbox]), select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    "/": () => {
      byId("options").open = true;
      byId("text").focus();
    },
    "?": () => byId("help").showModal(),
    c: () => browser.open(),
    e: () => byId("grid").classList.toggle("all"),
    o: () => byId("file").click(),
    v: () => viewer.open(results.current()),
  };
  const action = actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

function token(problem) {
  byId("token-problem").textContent = problem;
  byId("token").showModal();
  return new Promise((resolve) => {
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      byId("token").close();
      resolve(byId("token-text").value);
      byId("token-text").value = "";
    }, { once: true });
  });
}

async function begin() {
  onTokenNeeded(token);
  byId("token").addEventListener("cancel", (event) => event.preventDefault());
  closable(byId("help"));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("browse").addEventListener("click", () => browser.open());
  document.addEventListener("keydown", keys);
  window.addEventListener("popstate", (event) => event.state?.image && query.useImage(event.state.image));
  if (matchMedia("(max-width: 760px)").matches) byId("options").open = false;
  try {
    const what = await collection();
    byId("collection-line").textContent = `${what.images.toLocaleString("en")} photos · ${what.model}`;
    filters.offer(what);
    const count = Math.min(EXAMPLES, what.images);
    const places = [...Array(count).keys()].map((number) => Math.floor(((number + 0.5) * what.images) / count));
    const some = (await Promise.all(places.map((offset) => images({ offset, limit: 1 })))).flatMap((found) => found.images);
    byId("start-grid").replaceChildren(...some.map((image) => tile(image, () => searchWith(image))));
    byId("start").hidden = query.given;
    say("Drop, paste or choose a photo, or take one of the collection.");
  } catch (error) {
    complain(error.status ? error.message : "The server does not answer. Is it still running?");
  }
}

ready = begin();
