// The page of `relook label`: a pair of photos, three answers, and the next pair.

import { photoAddress, ServiceError } from "./api.js";
import { byId, element, photo } from "./dom.js";
import { Lines } from "./lines.js";
import { layer, queryLayer, sentence } from "./why.js";

const KEYS = { y: "yes", n: "no", u: "unsure" };
const buttons = [...document.querySelectorAll("#answers button")];
const lines = new Lines(byId("pair"));
let question = null;
let waiting = true;

async function request(address, options) {
  const response = await fetch(address, options);
  const found = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new ServiceError(response.status, found.error);
  return found;
}

function post(address, what) {
  return request(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });
}

// Send something, then show the question that comes back; where it fails the same question stays.
async function proceed(send) {
  waiting = true;
  enable();
  try {
    show(await send());
    complain("");
  } catch (error) {
    complain(error.status ? error.message : "The server does not answer; what was answered before is kept. Is it still running?");
  }
  waiting = false;
  enable();
}

function answer(word) {
  if (waiting || !question) return;
  const { first, second } = question;
  proceed(() => post("/answers", { first: first.id, second: second.id, answer: word }));
}

function undo() {
  if (!waiting && !byId("undo").disabled) proceed(() => post("/undo", {}));
}

function show(found) {
  question = found.question;
  const { yes, no, unsure, undo: back } = found.answered;
  byId("collection-line").textContent = `${yes + no + unsure} answered: ${yes} yes, ${no} no, ${unsure} unsure`;
  byId("undo").dataset.left = back;
  lines.show(null);
  if (!question) {
    byId("title").textContent = "No pair is left whose answer does not follow from others.";
    byId("pair").replaceChildren();
    byId("facts").textContent = "";
    return;
  }
  byId("title").textContent = "Do both photos show the same thing?";
  byId("pair").dataset.pair = `${question.first.id}\n${question.second.id}`;
  byId("pair").replaceChildren(...["first", "second"].map((side) => figure(question[side], side)));
  byId("facts").textContent = facts(question);
  points(question);
}

function figure(image, side) {
  const frame = element("div", { class: "frame" }, photo(photoAddress(image.id, 1280), `The ${side} photo: ${image.path}`));
  return element("figure", { "data-id": image.id }, frame, element("figcaption", {}, image.path));
}

function facts({ support, similarity, sizes, together }) {
  const matched = support === null ? "not matched by adapt yet" : `support ${support}`;
  const photos = (count) => (count === 1 ? "1 photo" : `${count} photos`);
  const groups = together ? `both are in a group of ${photos(sizes[0])}` : `a yes joins ${photos(sizes[0])} and ${photos(sizes[1])}`;
  return `${matched}, similarity ${similarity}; ${groups}.`;
}

// The matched points of the pair that is shown, when they are known: nobody waits for them.
async function points(shown) {
  const words = new URLSearchParams({ first: shown.first.id, second: shown.second.id });
  let reason = null;
  try {
    reason = await request(`/points?${words}`);
  } catch (error) {
    if (shown === question) byId("facts").append(` No points are drawn: ${error.message}`);
  }
  if (!reason || shown !== question) return;
  const [first, second] = [shown.first, shown.second].map(({ width, height }) => ({ explanation: { matching: reason }, width, height }));
  const [left, right] = byId("pair").querySelectorAll(".frame");
  left.append(queryLayer(first, first.width, first.height) ?? "");
  right.append(layer(second) ?? "");
  byId("facts").append(` ${sentence(reason)}`);
  lines.show(reason);
}

function enable() {
  for (const button of buttons) button.disabled = waiting || (button.id === "undo" ? button.dataset.left === "0" : !question);
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

for (const button of buttons.filter((one) => one.dataset.answer)) button.addEventListener("click", () => answer(button.dataset.answer));
byId("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (KEYS[key]) answer(KEYS[key]);
  else if (key === "z") undo();
});
proceed(() => request("/question"));
