// Small helpers around the document.

export const byId = (id) => document.getElementById(id);

// An element with attributes, properties that begin with "on", and children; texts are never read as HTML.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  fill(made, attributes);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function shape(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  fill(made, attributes);
  return made;
}

function fill(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
}

export function fileName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

// A photo of the collection; where it cannot be had, a line says so in its place.
export function photo(address, alt, attributes = {}) {
  const image = element("img", { src: address, alt, draggable: "false", ...attributes });
  image.addEventListener("error", () => {
    image.replaceWith(element("span", { class: "gone", role: "img", "aria-label": `${alt}: the photo is gone` }, "The photo is gone"));
  });
  return image;
}

// Buttons with data-close, and a click beside a dialog, close it.
export function closable(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
}
