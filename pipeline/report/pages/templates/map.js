// Reads the places of all points, writes them into the pixels of the canvas, and shows the photo under the pointer.
const data = JSON.parse(document.getElementById("data").textContent);
const unpack = (text, Kind) => new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const xy = unpack(data.xy, Uint16Array), groups = { label: unpack(data.label, Uint32Array), cluster: unpack(data.cluster, Uint16Array) };
const total = data.ids.length, matches = new Uint8Array(total).fill(1);
const canvas = document.getElementById("plane"), context = canvas.getContext("2d"), card = document.getElementById("card");
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98500", "#56b4e9", "#8c564b", "#6a51a3", "#7f9f00", "#e3119c", "#00a8b5", "#a50f15"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const plane = { scale: 1, x: 0, y: 0 };
let by = "label", only = -1, matching = total, largest = 0, colourOf = new Map(), names = [], pixels = null, waiting = false;

// The colour of a group: of the twelve largest their own, of the others grey. Pixels are little-endian: A, B, G, R.
const packed = (hex, alpha = 255) => ((alpha << 24) | (parseInt(hex.slice(5, 7), 16) << 16) | (parseInt(hex.slice(3, 5), 16) << 8) | parseInt(hex.slice(1, 3), 16)) >>> 0;

function legend() {
  const counts = new Map();
  for (const group of groups[by]) counts.set(group, (counts.get(group) || 0) + 1);
  const name = (group) => (by === "cluster" ? "cluster " + (group + 1) : data.labels[group] || "no label");
  const unnamed = by === "label" ? data.labels.indexOf("") : -1;
  largest = Math.max(...counts.keys());
  names = [...counts].sort((a, b) => (a[0] === unnamed) - (b[0] === unnamed) || b[1] - a[1]);
  colourOf = new Map(names.filter(([group]) => group !== unnamed).slice(0, COLOURS.length).map(([group], n) => [group, COLOURS[n]]));
  document.getElementById("kind").textContent = "Largest " + by + "s";
  document.getElementById("legend").replaceChildren(...names.slice(0, 60).map(([group, count]) => {
    const item = document.createElement("li"), button = document.createElement("button"), dot = document.createElement("i"), size = document.createElement("span");
    dot.style.background = colourOf.get(group) || "#888888";
    size.className = "quiet";
    size.textContent = count.toLocaleString("en");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(dot, name(group), size);
    button.onclick = () => {
      only = only === group ? -1 : group;
      for (const other of document.querySelectorAll("#legend button")) other.setAttribute("aria-pressed", String(other === button && only === group));
      draw();
    };
    item.append(button);
    return item;
  }));
  only = -1;
}

// Where a point lies, in pixels of the canvas.
function frame() {
  const side = Math.min(canvas.width, canvas.height) * 0.94 * plane.scale;
  return { side, left: canvas.width / 2 + (plane.x - 0.5) * side, top: canvas.height / 2 + (plane.y - 0.5) * side };
}

function paint() {
  waiting = false;
  const width = canvas.clientWidth * devicePixelRatio | 0, height = canvas.clientHeight * devicePixelRatio | 0;
  if (canvas.width !== width || canvas.height !== height || !pixels) {
    canvas.width = width;
    canvas.height = height;
    pixels = context.createImageData(width, height);
  }
  const into = new Uint32Array(pixels.data.buffer), { side, left, top } = frame(), own = groups[by];
  into.fill(0);
  const size = (total > 20000 ? 1 : total > 2000 ? 2 : 4) * Math.sqrt(plane.scale);
  const radius = Math.max(1, Math.round(devicePixelRatio * Math.min(7, size)));
  const halves = Array.from({ length: 2 * radius + 1 }, (_, j) => Math.sqrt(radius * radius + 0.5 - (j - radius) ** 2) | 0);
  const faint = packed(dark.matches ? "#30363d" : "#dfe3e8"), rest = packed("#888888"), colours = new Uint32Array(largest + 1).fill(rest);
  for (const [group, hex] of colourOf) colours[group] = packed(hex);
  if (only >= 0 && !colourOf.has(only)) colours[only] = packed(dark.matches ? "#58a6ff" : "#0969da");
  // Points that are not chosen lie below the others.
  for (let shown = matching === total && only < 0 ? 1 : 0; shown < 2; shown++) {
    for (let n = 0; n < total; n++) {
      if ((matches[n] && (only < 0 || own[n] === only) ? 1 : 0) !== shown) continue;
      const x = (left + (xy[2 * n] / 65535) * side + 0.5) | 0, y = (top + (1 - xy[2 * n + 1] / 65535) * side + 0.5) | 0;
      if (x < radius || y < radius || x >= width - radius || y >= height - radius) continue;
      const colour = shown ? colours[own[n]] : faint;
      for (let j = -radius; j <= radius; j++) {
        const row = (y + j) * width + x, half = halves[j + radius];
        for (let i = row - half; i <= row + half; i++) into[i] = colour;
      }
    }
  }
  context.putImageData(pixels, 0, 0);
}

function draw() {
  if (!waiting) requestAnimationFrame(paint);
  waiting = true;
}

function nearest(event) {
  const { side, left, top } = frame(), x = event.offsetX * devicePixelRatio, y = event.offsetY * devicePixelRatio;
  let best = -1, least = (14 * devicePixelRatio) ** 2;
  for (let n = 0; n < total; n++) {
    if (!matches[n] || (only >= 0 && groups[by][n] !== only)) continue;
    const dx = left + (xy[2 * n] / 65535) * side - x, dy = top + (1 - xy[2 * n + 1] / 65535) * side - y, far = dx * dx + dy * dy;
    if (far < least) [best, least] = [n, far];
  }
  return best;
}

function hover(event) {
  const n = nearest(event);
  card.hidden = n < 0;
  canvas.style.cursor = n < 0 ? "grab" : "pointer";
  if (n < 0) return n;
  const photo = card.querySelector("img"), address = data.thumbnails[n] || data.folder + data.files[n];
  photo.hidden = false;
  photo.onerror = () => { photo.hidden = true; };
  if (photo.getAttribute("src") !== address) photo.src = address;
  card.querySelector("p").textContent = (data.labels[groups.label[n]] || "no label") + "\n" + data.ids[n];
  card.style.left = Math.max(0, Math.min(event.offsetX + 14, canvas.clientWidth - 180)) + "px";
  card.style.top = Math.max(0, Math.min(event.offsetY + 14, canvas.clientHeight - 200)) + "px";
  return n;
}

function zoom(factor, x = 0.5 * canvas.width, y = 0.5 * canvas.height) {
  const before = frame(), u = (x - before.left) / before.side, v = (y - before.top) / before.side;
  plane.scale = Math.min(200, Math.max(0.5, plane.scale * factor));
  const side = Math.min(canvas.width, canvas.height) * 0.94 * plane.scale;
  plane.x = (x - u * side - canvas.width / 2) / side + 0.5;
  plane.y = (y - v * side - canvas.height / 2) / side + 0.5;
  draw();
}

let held = null, moved = 0;
canvas.addEventListener("pointerdown", (event) => { held = event; moved = 0; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (!held) return hover(event);
  const { side } = frame();
  plane.x += ((event.offsetX - held.offsetX) * devicePixelRatio) / side;
  plane.y += ((event.offsetY - held.offsetY) * devicePixelRatio) / side;
  moved += Math.abs(event.offsetX - held.offsetX) + Math.abs(event.offsetY - held.offsetY);
  held = event;
  card.hidden = true;
  draw();
});
canvas.addEventListener("pointerup", (event) => {
  held = null;
  if (moved > 4) return;
  const n = hover(event);
  if (n >= 0 && event.pointerType === "mouse") window.open(data.folder + data.files[n], "_blank", "noopener");
});
canvas.addEventListener("pointerleave", () => { card.hidden = true; });
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), event.offsetX * devicePixelRatio, event.offsetY * devicePixelRatio); }, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
  if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") { Object.assign(plane, { scale: 1, x: 0, y: 0 }); draw(); }
  else if (move) { plane.x += move[0] / plane.scale; plane.y += move[1] / plane.scale; draw(); event.preventDefault(); }
});
document.getElementById("by").addEventListener("change", (event) => { by = event.target.value; legend(); draw(); });
document.getElementById("filter").addEventListener("input", (event) => {
  const text = event.target.value.toLowerCase();
  matching = 0;
  for (let n = 0; n < total; n++) matching += matches[n] = Number(!text || (data.ids[n] + " " + data.labels[groups.label[n]]).toLowerCase().includes(text));
  document.getElementById("count").textContent = text ? matching.toLocaleString("en") + " of " + total.toLocaleString("en") : "";
  draw();
});
dark.addEventListener("change", draw);
new ResizeObserver(draw).observe(canvas);
if (data.labels.length === 1) document.getElementById("by").value = by = "cluster";
legend();
draw();
