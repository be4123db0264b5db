// How it is searched: rerankers, depth, filters.

import { byId, element } from "./dom.js";

const DEPTHS = [10, 20, 50, 100, 200, 500, 1000];
const TOPS = [12, 24, 48, 96, 192];
const PAUSE = 350;

export class Filters {
  // `changed` is called a moment after the last change.
  constructor(changed) {
    this.labels = [];
    this.form = byId("filters");
    let timer = 0;
    this.changed = () => {
      clearTimeout(timer);
      timer = setTimeout(changed, PAUSE);
    };
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => this.input(event));
    byId("label").addEventListener("change", () => this.takeLabel(true));
    this.form.addEventListener("reset", () => setTimeout(() => this.reset()));
  }

  offer(collection) {
    const usable = collection.rerankers.filter((one) => !one.reason).map((one) => one.name);
    const chains = [collection.rerank.join(",") || "none", "none", ...usable];
    if (usable.includes("superglobal") && usable.includes("matching")) chains.push("superglobal,matching");
    const rerank = byId("rerank");
    rerank.replaceChildren(...[...new Set(chains)].map((chain) => element("option", { value: chain }, chain === "none" ? "nothing (global search)" : chain.replaceAll(",", ", then "))));
    this.depths = [null, ...DEPTHS.filter((depth) => depth <= collection.most.depth)];
    byId("depth").max = this.depths.length - 1;
    const tops = TOPS.filter((top) => top <= collection.most.top_k);
    byId("top").replaceChildren(...(tops.length ? tops : [collection.most.top_k]).map((top) => element("option", { value: top, selected: top === 24 }, String(top))));
    this.values = new Set(collection.labels.map((one) => one.value));
    this.list("labels", collection.labels);
    this.list("folders", collection.folders);
    byId("split").append(...collection.splits.map((one) => element("option", { value: one.value }, `${one.value} (${one.images})`)));
    byId("label-field").hidden = !collection.labels.length;
    byId("split-field").hidden = collection.splits.length < 2;
    byId("folder-field").hidden = !collection.folders.length;
    this.showDepth();
  }

  list(id, values) {
    byId(id).replaceChildren(...values.map((one) => element("option", { value: one.value }, `${one.images} photos`)));
  }

  input(event) {
    if (event.target.id === "depth") this.showDepth();
    if (event.target.id === "label") this.takeLabel(false);
    else this.changed();
  }

  // A label becomes a chip when it is one that exists, or when it was entered.
  takeLabel(entered) {
    const value = byId("label").value.trim();
    if (!value || !(entered || this.values.has(value))) return;
    byId("label").value = "";
    if (!this.labels.includes(value)) this.labels.push(value);
    this.showLabels();
    this.changed();
  }

  showLabels() {
    byId("label-chips").replaceChildren(...this.labels.map((label) => {
      const remove = element("button", { type: "button", "aria-label": `Remove the label ${label}` }, "✕");
      remove.addEventListener("click", () => {
        this.labels = this.labels.filter((one) => one !== label);
        this.showLabels();
        this.changed();
        byId("label").focus();
      });
      return element("li", {}, label, remove);
    }));
  }

  showDepth() {
    const depth = this.depths[byId("depth").valueAsNumber];
    byId("depth-value").textContent = depth ?? "default";
    byId("depth").setAttribute("aria-valuetext", depth === null ? "default" : `${depth} candidates`);
  }

  reset() {
    this.labels = [];
    this.showLabels();
    this.showDepth();
    this.changed();
  }

  // The fields of the form of a search.
  fill(form) {
    form.set("rerank", byId("rerank").value);
    form.set("top_k", byId("top").value);
    const depth = this.depths[byId("depth").valueAsNumber];
    if (depth) form.set("depth", depth);
    for (const label of this.labels) form.append("label", label);
    if (byId("split").value) form.append("split", byId("split").value);
    for (const name of ["folder", "text"]) if (byId(name).value.trim()) form.set(name, byId(name).value.trim());
    const least = byId("min-score").valueAsNumber;
    if (!Number.isNaN(least)) form.set("min_score", least);
    if (byId("explain").checked) form.set("explain", "true");
  }
}
