// The collection, to take a photo of it.

import { images, photoAddress } from "./api.js";
import { byId, closable, element, fileName, photo } from "./dom.js";

const PAGE = 48;
const PAUSE = 250;

export class Browser {
  // `choose` is called with an image.
  constructor(choose) {
    this.dialog = byId("browser");
    this.choose = choose;
    this.shown = this.turn = 0;
    closable(this.dialog);
    let timer = 0;
    byId("browser-text").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.load(true), PAUSE);
    });
    byId("browser-more").addEventListener("click", () => this.load(false));
  }

  open() {
    this.dialog.showModal();
    byId("browser-text").focus();
    this.load(true);
  }

  async load(anew) {
    if (anew) this.shown = 0;
    const turn = (this.turn += 1);
    const found = await images({ text: byId("browser-text").value, offset: this.shown, limit: PAGE });
    if (turn !== this.turn) return;
    const items = found.images.map((image) => tile(image, () => {
      this.dialog.close();
      this.choose(image);
    }));
    if (anew) byId("browser-grid").replaceChildren(...items);
    else byId("browser-grid").append(...items);
    this.shown += items.length;
    byId("browser-count").textContent = `${found.total.toLocaleString("en")} ${found.total === 1 ? "photo" : "photos"}`;
    byId("browser-more").hidden = this.shown >= found.total;
  }
}

export function tile(image, chosen) {
  const name = image.label || fileName(image.path);
  return element("li", {}, element("button", { type: "button", "aria-label": `Search with ${image.path}`, onclick: chosen }, photo(photoAddress(image.id, 160), name, { loading: "lazy" }), element("span", {}, name)));
}
