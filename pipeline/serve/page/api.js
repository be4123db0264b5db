// Requests to the service. Everything else of the page goes through here.

const BUSY = 503;
const TRIES = 4;

export class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let askForToken = null;

// `ask` shows a dialog and resolves with what was typed.
export function onTokenNeeded(ask) {
  askForToken = ask;
}

export function photoAddress(id, side) {
  const query = side ? `?size=${side}` : "";
  return `/images/${encodeURIComponent(id)}${query}`;
}

export async function collection() {
  return (await request("/collection")).json();
}

export async function images(parameters) {
  return (await request(`/images?${new URLSearchParams(parameters)}`)).json();
}

// The stages of a search as they come; `signal` ends it.
export async function* search(form, signal) {
  const response = await request("/search/stream", { method: "POST", body: form, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let ended = false; !ended; ) {
    const { value, done } = await reader.read();
    ended = done;
    text += done ? "\n" : value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines.filter(Boolean)) {
      const stage = JSON.parse(line);
      if (stage.error) throw new ServiceError(BUSY, stage.error);
      yield stage;
    }
  }
}

async function request(address, options = {}) {
  let problem = "";
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(address, options);
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({ error: response.statusText }));
    if (response.status === 401 && askForToken) {
      await openSession(await askForToken(problem));
      problem = "This is not the token of the server.";
    } else if (response.status === BUSY && response.headers.has("Retry-After") && attempt < TRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000 * attempt));
      options.signal?.throwIfAborted();
    } else {
      throw new ServiceError(response.status, error);
    }
  }
}

async function openSession(token) {
  await fetch("/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
}
