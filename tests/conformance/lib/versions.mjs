// The phoenix package in its versions, as a browser would load them, and what each can do.

import WebSocket from "ws";

/** The name that each version is installed under. */
const PACKAGES = { 1.4: "phoenix-1.4", 1.5: "phoenix-1.5", 1.6: "phoenix-1.6", 1.7: "phoenix-1.7", 1.8: "phoenix" };

/** The version that each feature came with, by transport. */
const SINCE = {
  websocket: { binary: 1.5 },
  // No version reads binary frames that come by long poll, and 1.7 is the first to send them.
  longpoll: { binary: 1.7 },
};
const FALLBACK_SINCE = 1.7;

/** Loads every version: `{ name, phoenix, can(transport, feature), canFallBack }`. */
export async function loadVersions() {
  const versions = [];
  for (const [name, specifier] of Object.entries(PACKAGES)) {
    const phoenix = await asInBrowser(() => import(specifier));
    versions.push({
      name,
      phoenix,
      can: (transport, feature) => Number(name) >= SINCE[transport][feature],
      canFallBack: Number(name) >= FALLBACK_SINCE,
    });
  }
  return versions;
}

/** The transport of that name, as the package's option takes it. */
export function transportOf(phoenix, name) {
  return { websocket: WebSocket, longpoll: phoenix.LongPoll }[name];
}

/** A WebSocket that the server refuses, whatever it is told. */
export class RefusedWebSocket extends WebSocket {
  constructor(url) {
    super(url.replace("/websocket", "/refused"));
  }
}

/** The package looks for its globals once, when it is loaded; nobody else shall find them. */
async function asInBrowser(load) {
  globalThis.self = { XMLHttpRequest: FetchedRequest };
  try {
    const module = await load();
    return module.Socket ? module : module.default;
  } finally {
    delete globalThis.self;
  }
}

/** As much of XMLHttpRequest as the package uses, over fetch. */
class FetchedRequest {
  readyState = 0;
  responseText = "";
  timeout = 0;
  #method;
  #url;
  #headers = {};
  #abort = new AbortController();

  open(method, url) {
    this.#method = method;
    this.#url = url;
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  async send(body) {
    const signal = this.timeout ? AbortSignal.any([this.#abort.signal, AbortSignal.timeout(this.timeout)]) : this.#abort.signal;
    try {
      const response = await fetch(this.#url, { method: this.#method, headers: this.#headers, body, signal });
      this.responseText = await response.text();
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      if (error.name === "TimeoutError") this.ontimeout?.();
      else this.onerror?.();
      return;
    }
    this.readyState = 4;
    this.onreadystatechange?.();
  }

  abort() {
    this.#abort.abort();
  }
}
