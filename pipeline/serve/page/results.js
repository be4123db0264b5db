// The grid of results: cards that keep their identity between the stages of a search, and move to their new places.

import { photoAddress } from "./api.js";
import { byId, element, fileName, photo } from "./dom.js";
import { brief, layer, reasonOf, sentence } from "./why.js";

const MOVE = { duration: 450, easing: "cubic-bezier(.2,.8,.2,1)" };

export class Results {
  // `search` is called with a result to search with, `view` with its place in the list.
  constructor(search, view) {
    this.grid = byId("grid");
    this.search = search;
    this.view = view;
    this.list = [];
    this.cards = new Map();
    this.opened = new Set();
    this.grid.addEventListener("keydown", (event) => this.move(event));
  }

  clear() {
    this.list = [];
    this.cards.clear();
    this.opened.clear();
    this.grid.replaceChildren();
  }

  show(stage) {
    const before = new Map([...this.cards].map(([id, card]) => [id, card.getBoundingClientRect()]));
    const focused = document.activeElement?.closest?.("#grid li")?.dataset.id;
    this.list = stage.results;
    const groups = new Map();
    for (const result of this.list) groups.set(result.group, (groups.get(result.group) || 0) + 1);
    const cards = new Map();
    for (const result of this.list) cards.set(result.id, this.card(result, stage, groups.get(result.group)));
    this.cards = cards;
    this.grid.replaceChildren(...cards.values());
    if (focused) this.cards.get(focused)?.querySelector("button").focus();
    this.animate(before);
  }

  card(result, stage, size) {
    const kept = this.cards.get(result.id);
    const name = fileName(result.path);
    const image = kept?.querySelector("img, .gone") || photo(photoAddress(result.id, 320), result.label || name, { loading: "lazy" });
    const reranked = stage.stage !== "global";
    const first = result.group === result.rank;
    const folded = !first && !this.opened.has(result.group);
    const described = `${result.rank}. ${result.label || name}, score ${result.score.toFixed(3)}${reranked ? `, ${moveInWords(result)}` : ""}. Search with this photo`;
    const card = element("li", { "data-id": result.id, hidden: folded, class: first ? "" : "near" },
      element("button", { type: "button", class: "photo", "aria-label": described, onclick: () => this.search(result) }, image, layer(result)),
      element("span", { class: "rank", "aria-hidden": "true" }, String(result.rank)),
      reranked ? moved(result) : null,
      element("button", { type: "button", class: "view", "aria-label": `Full view of ${name}`, title: "Full view (V)", onclick: () => this.view(this.list.indexOf(result)) }, "⤢"),
      element("div", { class: "caption" },
        element("strong", {}, result.label || name),
        result.label ? element("span", { class: "file", title: result.path }, name) : element("span", { class: "file", title: result.path }, result.path.slice(0, -name.length - 1)),
        scores(result, reranked),
        reasonOf(result) ? element("span", { class: "reason", title: sentence(reasonOf(result)) }, brief(reasonOf(result))) : null,
      ),
    );
    if (first && size > 1) card.querySelector(".caption").append(this.more(result, size - 1));
    return card;
  }

  more(result, count) {
    const words = () => (this.opened.has(result.group) ? `Hide ${count} nearly the same` : `+ ${count} nearly the same`);
    const button = element("button", { type: "button", class: "more", "aria-expanded": String(this.opened.has(result.group)) }, words());
    button.addEventListener("click", () => {
      if (!this.opened.delete(result.group)) this.opened.add(result.group);
      const open = this.opened.has(result.group);
      for (const other of this.list) {
        if (other.group === result.group && other.rank !== other.group) this.cards.get(other.id).hidden = !open;
      }
      button.textContent = words();
      button.setAttribute("aria-expanded", String(open));
    });
    return button;
  }

  animate(before) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [id, card] of this.cards) {
      const from = before.get(id);
      const to = card.getBoundingClientRect();
      if (!from || !from.width || !to.width) continue;
      const [x, y] = [from.left - to.left, from.top - to.top];
      if (x || y) card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], MOVE);
    }
  }

  // Arrow keys move between the cards that are shown, by place on the screen.
  move(event) {
    const card = event.target.closest("li");
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns() };
    if (!card || !(event.key in steps)) return;
    const shown = [...this.grid.children].filter((one) => !one.hidden);
    const next = shown[shown.indexOf(card) + steps[event.key]];
    next?.querySelector("button").focus();
    event.preventDefault();
  }

  columns() {
    return getComputedStyle(this.grid).gridTemplateColumns.split(" ").length;
  }

  // The place in the list of the card that has the focus or the pointer; else the first.
  current() {
    const card = document.activeElement?.closest?.("#grid li") || this.grid.querySelector("li:hover");
    const place = this.list.findIndex((result) => result.id === card?.dataset.id);
    return place < 0 ? 0 : place;
  }
}

function scores(result, reranked) {
  const before = `before re-ranking: ${result.global_score.toFixed(3)}, rank ${result.global_rank}`;
  return element("span", { class: "score", title: before }, result.score.toFixed(3), reranked ? element("small", {}, ` was ${result.global_score.toFixed(3)}`) : null);
}

function moved(result) {
  const by = result.global_rank - result.rank;
  const kind = by > 0 ? "up" : by < 0 ? "down" : "same";
  const sign = by > 0 ? `▲ ${by}` : by < 0 ? `▼ ${-by}` : "=";
  return element("span", { class: `moved ${kind}`, title: moveInWords(result), "aria-hidden": "true" }, sign);
}

function moveInWords(result) {
  const by = result.global_rank - result.rank;
  return by ? `${by > 0 ? "up" : "down"} ${Math.abs(by)} from ${result.global_rank}` : "not moved";
}
