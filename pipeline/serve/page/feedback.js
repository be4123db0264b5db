// Results that the query moves towards and away from: relevance feedback, for one query.

import { byId, element, fileName } from "./dom.js";

const WORDS = { like: "More like", unlike: "Less like" };

export class Feedback {
  // `changed` is called whenever an image is marked or no longer marked.
  constructor(changed) {
    this.changed = changed;
    this.marks = new Map();
    this.about = null;
  }

  kindOf(id) {
    return this.marks.get(id)?.kind || null;
  }

  // Mark a result as `kind`, "like" or "unlike"; a second time takes the mark away.
  toggle(result, kind) {
    if (this.kindOf(result.id) === kind) this.marks.delete(result.id);
    else this.marks.set(result.id, { kind, name: fileName(result.path) });
    this.show();
    this.changed();
  }

  show() {
    byId("feedback").replaceChildren(...[...this.marks].map(([id, { kind, name }]) => {
      const remove = element("button", { type: "button", "aria-label": `Remove ${WORDS[kind].toLowerCase()} ${name}` }, "✕");
      remove.addEventListener("click", () => this.toggle({ id, path: name }, kind));
      return element("li", {}, `${WORDS[kind]} ${name}`, remove);
    }));
  }

  // The fields of the form of a search for `query`, an address; marks of another query are forgotten.
  fill(form, query) {
    if (this.about !== query) this.marks.clear();
    this.about = query;
    this.show();
    for (const [id, { kind }] of this.marks) form.append(kind, id);
  }
}
