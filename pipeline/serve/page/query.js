// What is searched with: a file or an image of the collection, and a box on it.

import { photoAddress } from "./api.js";
import { byId, fileName } from "./dom.js";

const CORNERS = ["x0", "y0", "x1", "y1"];
// A box of fewer pixels on the screen is a click.
const LEAST = 6;

export class Query {
  // `changed` is called whenever there is something else to search with.
  constructor(changed) {
    this.changed = changed;
    this.file = this.id = this.box = null;
    this.width = this.height = 0;
    this.image = byId("query-image");
    this.shape = byId("box-shape");
    this.listen();
  }

  get given() {
    return Boolean(this.file || this.id);
  }

  get address() {
    return this.image.getAttribute("src");
  }

  useFile(file) {
    if (this.address?.startsWith("blob:")) URL.revokeObjectURL(this.address);
    this.file = file;
    this.id = null;
    this.show(URL.createObjectURL(file), file.name || "pasted photo", 0, 0);
  }

  useImage(image) {
    this.file = null;
    this.id = image.id;
    this.show(photoAddress(image.id, 640), image.label ? `${image.label} · ${fileName(image.path)}` : image.path, image.width, image.height);
  }

  show(address, name, width, height) {
    this.setBox(null);
    [this.width, this.height] = [width, height];
    byId("empty").hidden = true;
    byId("stage").hidden = byId("box-fields").hidden = false;
    byId("stage").classList.remove("unseen");
    byId("query-name").hidden = false;
    byId("query-name").textContent = name;
    this.image.src = address;
    this.changed();
  }

  listen() {
    this.image.addEventListener("load", () => {
      if (!this.width) [this.width, this.height] = [this.image.naturalWidth, this.image.naturalHeight];
      this.drawBox();
    });
    this.image.addEventListener("error", () => byId("stage").classList.add("unseen"));
    const input = byId("file");
    byId("choose").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (input.files[0]) this.useFile(input.files[0]);
      input.value = "";
    });
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
      if (file) this.useFile(file);
    });
    this.listenForDrops();
    this.listenForBoxes();
  }

  listenForDrops() {
    const drop = byId("drop");
    for (const kind of ["dragenter", "dragover"]) {
      document.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files[0]) this.useFile(event.dataTransfer.files[0]);
    });
  }

  listenForBoxes() {
    const layer = byId("box-layer");
    let start = null;
    layer.addEventListener("pointerdown", (event) => {
      if (event.button || !this.width) return;
      start = this.pixel(event);
      layer.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    layer.addEventListener("pointermove", (event) => start && this.drawBox(this.between(start, this.pixel(event))));
    layer.addEventListener("pointercancel", () => {
      start = null;
      this.drawBox();
    });
    layer.addEventListener("pointerup", (event) => {
      if (!start) return;
      const box = this.between(start, this.pixel(event));
      start = null;
      const scale = this.image.clientWidth / this.width;
      if ((box[2] - box[0]) * scale < LEAST || (box[3] - box[1]) * scale < LEAST) this.drawBox();
      else this.searchWith(box);
    });
    for (const name of CORNERS) byId(name).addEventListener("change", () => this.readFields());
    byId("box-clear").addEventListener("click", () => this.box && this.searchWith(null));
  }

  // Where the pointer is, in pixels of the upright photo.
  pixel(event) {
    const place = this.image.getBoundingClientRect();
    const x = ((event.clientX - place.left) / place.width) * this.width;
    const y = ((event.clientY - place.top) / place.height) * this.height;
    return [Math.round(Math.min(Math.max(x, 0), this.width)), Math.round(Math.min(Math.max(y, 0), this.height))];
  }

  between(a, b) {
    return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  }

  readFields() {
    const numbers = CORNERS.map((name) => byId(name).valueAsNumber);
    if (numbers.some(Number.isNaN) || numbers[0] >= numbers[2] || numbers[1] >= numbers[3]) return;
    this.searchWith(numbers);
  }

  searchWith(box) {
    this.setBox(box);
    this.changed();
  }

  setBox(box) {
    this.box = box;
    CORNERS.forEach((name, place) => {
      byId(name).value = box ? box[place] : "";
    });
    this.drawBox();
  }

  drawBox(box = this.box) {
    this.shape.toggleAttribute("hidden", !box);
    if (!box || !this.width) return;
    byId("box-layer").setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const values = { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] };
    for (const [name, value] of Object.entries(values)) this.shape.setAttribute(name, value);
  }

  // The fields of the form of a search.
  fill(form) {
    if (this.file) form.set("image", this.file, this.file.name || "pasted");
    else form.set("id", this.id);
    if (this.box) form.set("box", this.box.join(","));
    if (this.id && !this.box) form.set("skip_itself", "true");
  }
}
