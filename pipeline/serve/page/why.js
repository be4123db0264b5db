// Why a result was found, drawn over photos: matched points and outlines, attended regions.

import { element, photo, shape } from "./dom.js";
import { photoAddress } from "./api.js";

// Points that are drawn; more would only cover the photo.
const SHOWN = 150;

// The reason to draw: of several rerankers, the last one that has one.
export function reasonOf(result) {
  return Object.values(result.explanation || {}).at(-1) || null;
}

// A layer over the photo of a result, in pixels of the upright photo; null where there is nothing to draw.
export function layer(result, fit = "meet") {
  const reason = reasonOf(result);
  if (!reason || !result.width) return null;
  const drawn = svg(result.width, result.height, fit);
  const unit = Math.max(result.width, result.height) / 100;
  if (reason.kind === "VerifiedMatches") drawMatches(drawn, reason, "image", unit);
  if (reason.kind === "Attended") drawAttended(drawn, reason.image, unit);
  return drawn.childElementCount ? drawn : null;
}

// The same over the query, of `width` x `height` pixels.
export function queryLayer(result, width, height) {
  const reason = reasonOf(result);
  if (!reason || !width) return null;
  const drawn = svg(width, height, "meet");
  const unit = Math.max(width, height) / 100;
  if (reason.kind === "VerifiedMatches") drawMatches(drawn, reason, "query", unit);
  if (reason.kind === "Attended") drawAttended(drawn, reason.query, unit);
  return drawn;
}

// In words, with small photos of the neighbours that counted.
export function explained(result) {
  const parts = [];
  for (const [name, reason] of Object.entries(result.explanation || {})) {
    parts.push(element("h3", {}, `Why (${name})`), element("p", {}, sentence(reason)));
    if (reason.kind === "Neighbours") parts.push(neighbours(reason));
  }
  return parts;
}

// In a few words, for a card.
export function brief(reason) {
  if (reason.kind === "VerifiedMatches") return `${reason.inliers} of ${reason.matches} points`;
  if (reason.kind === "Neighbours") return `${reason.neighbours.length} neighbours`;
  return "attended regions";
}

export function sentence(reason) {
  if (reason.kind === "VerifiedMatches") {
    const found = reason.geometry === "none" ? "not verified" : `agree with one ${reason.geometry === "homography" ? "plane" : "scene"}`;
    return `${reason.inliers} of ${reason.matches} matched points ${found}.`;
  }
  if (reason.kind === "Neighbours") {
    return `Similarity ${reason.before.toFixed(3)} became ${reason.after.toFixed(3)} when ${reason.neighbours.length} neighbours counted.`;
  }
  const others = (reason.candidates || []).slice(0, 5).map((one) => `${one.id} (${one.effect.toFixed(2)})`);
  const beside = others.length ? ` Other candidates: ${others.join(", ")}.` : "";
  return `Circles show where the reranker looked: the larger, the more it counts.${beside}`;
}

function neighbours(reason) {
  const items = reason.neighbours.slice(0, 12).map((one) =>
    element("li", {}, photo(photoAddress(one.id, 160), one.id, { loading: "lazy" }), element("span", {}, `${Math.round(one.weight * 100)} %`)),
  );
  return element("ul", { class: "neighbours" }, ...items);
}

function svg(width, height, fit) {
  return shape("svg", { class: "why", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: `xMidYMid ${fit}`, "aria-hidden": "true" });
}

// Verified points, the best first, each with the class of its colour: the same on both photos, from left to right over the query.
export function matchedPoints(reason) {
  const best = reason.points.filter((point) => point.inlier).sort((a, b) => b.score - a.score).slice(0, SHOWN);
  const place = new Map([...best].sort((a, b) => a.query[0] - b.query[0]).map((point, row) => [point, row]));
  return best.map((point) => ({ ...point, hue: `hue${Math.floor((place.get(point) * 8) / best.length)}` }));
}

function drawMatches(drawn, reason, side, unit) {
  if (side === "image" && reason.outline) {
    drawn.append(shape("polygon", { class: "outline", points: reason.outline.map((point) => point.join(",")).join(" "), "stroke-width": unit }));
  }
  for (const point of matchedPoints(reason)) {
    drawn.append(shape("circle", { class: `point ${point.hue}`, cx: point[side][0], cy: point[side][1], r: unit * 0.9, "stroke-width": unit * 0.3 }));
  }
}

function drawAttended(drawn, points, unit) {
  const most = Math.max(...points.map((point) => point.effect), 1e-9);
  for (const point of points.filter((one) => one.effect > 0.05 * most).slice(0, SHOWN)) {
    const share = point.effect / most;
    drawn.append(shape("circle", { class: "attended", cx: point.xy[0], cy: point.xy[1], r: unit * (1 + 5 * share), "fill-opacity": 0.2 + 0.4 * share }));
  }
}
