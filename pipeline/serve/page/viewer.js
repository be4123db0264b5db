// The full view of a result beside the query, with lines between matched points.

import { photoAddress } from "./api.js";
import { byId, closable, element, fileName, photo } from "./dom.js";
import { Lines } from "./lines.js";
import { explained, layer, queryLayer, reasonOf } from "./why.js";

export class Viewer {
  // `results` has the list, `query` the photo that was searched with, `feedback` the marks; `search` is called with a
  // result.
  constructor(results, query, feedback, search) {
    this.dialog = byId("viewer");
    this.results = results;
    this.query = query;
    this.feedback = feedback;
    this.place = 0;
    this.lines = new Lines(byId("viewer-pair"));
    closable(this.dialog);
    byId("viewer-previous").addEventListener("click", () => this.open(this.place - 1));
    byId("viewer-next").addEventListener("click", () => this.open(this.place + 1));
    byId("viewer-search").addEventListener("click", () => {
      this.dialog.close();
      search(this.results.list[this.place]);
    });
    for (const kind of ["like", "unlike"]) {
      byId(`viewer-${kind}`).addEventListener("click", () => {
        this.dialog.close();
        feedback.toggle(this.results.list[this.place], kind);
      });
    }
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.open(this.place - 1);
      if (event.key === "ArrowRight") this.open(this.place + 1);
    });
  }

  get isOpen() {
    return this.dialog.open;
  }

  open(place) {
    const result = this.results.list[place];
    if (!result) return;
    this.place = place;
    byId("viewer-title").textContent = `${result.rank}. ${result.label || fileName(result.path)}`;
    const query = element("figure", {}, element("div", { class: "frame" }, photo(this.query.address, "The query"), queryLayer(result, this.query.width, this.query.height)), element("figcaption", {}, "Query"));
    const found = element("figure", {}, element("div", { class: "frame" }, photo(photoAddress(result.id, 1280), result.label || result.path), layer(result)), element("figcaption", {}, result.path));
    byId("viewer-pair").replaceChildren(query, found);
    byId("viewer-facts").replaceChildren(this.facts(result), ...explained(result));
    for (const kind of ["like", "unlike"]) byId(`viewer-${kind}`).setAttribute("aria-pressed", String(this.feedback.kindOf(result.id) === kind));
    byId("viewer-whole").href = photoAddress(result.id);
    byId("viewer-previous").disabled = place === 0;
    byId("viewer-next").disabled = place === this.results.list.length - 1;
    if (!this.dialog.open) this.dialog.showModal();
    this.lines.show(reasonOf(result));
  }

  // The same result again, when its reasons have come.
  refresh() {
    if (this.isOpen) this.open(Math.min(this.place, this.results.list.length - 1));
  }

  facts(result) {
    const rows = [
      ["Score", result.score.toFixed(4)],
      ["Before re-ranking", `${result.global_score.toFixed(4)}, rank ${result.global_rank}`],
      ...Object.entries(result.scores).map(([name, score]) => [name, score === null ? "not re-ranked" : score.toFixed(4)]),
      ["Label", result.label || "none"],
      ...(result.split ? [["Split", result.split]] : []),
      ...(result.width ? [["Pixels", `${result.width} × ${result.height}`]] : []),
    ];
    return element("dl", {}, ...rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }
}
