// Lines between matched points of two photos that stand side by side, or one below the other.

import { shape } from "./dom.js";
import { matchedPoints } from "./why.js";

// Lines that are drawn, of the best matches; more cannot be told apart.
const SHOWN = 60;

// A layer over `pair`, the element that has the photos of the query and of a result, each with its layer of points.
export class Lines {
  constructor(pair) {
    this.pair = pair;
    this.drawn = null;
    // Photos get their size when they are loaded, and another one with the window.
    new ResizeObserver(() => this.draw()).observe(pair);
  }

  // Draw those of `reason`; none where it has no points.
  show(reason) {
    this.points = reason && reason.kind === "VerifiedMatches" ? matchedPoints(reason).slice(0, SHOWN) : [];
    this.draw();
  }

  draw() {
    this.drawn?.remove();
    const [query, image] = this.pair.querySelectorAll("svg.why");
    if (!this.points?.length || !query || !image) return;
    this.drawn = shape("svg", { class: "lines", "aria-hidden": "true" });
    for (const point of this.points) {
      const [from, to] = [this.place(query, point.query), this.place(image, point.image)];
      this.drawn.append(shape("line", { class: point.hue, x1: from.x, y1: from.y, x2: to.x, y2: to.y }));
    }
    this.pair.append(this.drawn);
  }

  // Where a point of a photo's layer is, in pixels of the pair.
  place(layer, [x, y]) {
    const corner = this.pair.getBoundingClientRect();
    const there = new DOMPoint(x, y).matrixTransform(layer.getScreenCTM());
    return { x: there.x - corner.left, y: there.y - corner.top };
  }
}
