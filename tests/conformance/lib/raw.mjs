// A bare WebSocket, frame by frame, below the phoenix package.

import WebSocket from "ws";

import { DEADLINE, Signal } from "../../lib/until.mjs";

/** Opens a socket and resolves when it is open; rejects with an error whose `status` is the refusal's. */
export async function openRaw(url, options) {
  const socket = new RawSocket(url, options);
  await socket.opened();
  return socket;
}

/** The HTTP status that a connection is refused with. */
export async function refusal(url) {
  try {
    (await openRaw(url)).destroy();
  } catch (error) {
    if (error.status !== undefined) return error.status;
    throw error;
  }
  throw new Error(`${url} was not refused`);
}

export class RawSocket {
  #ws;
  #arrived = [];
  #changes = new Signal();
  #deadline;
  #barriers = 0;
  #refused = undefined;
  /** How it was closed, `{ code, reason }`, once it was. */
  closed = undefined;

  /** With COMPRESS it accepts compression, and compresses all that it sends. */
  constructor(url, { deadline = DEADLINE, vsn = 2, compresses = process.env.COMPRESS !== undefined } = {}) {
    this.#deadline = deadline;
    /** The major version of the protocol that it speaks. */
    this.vsn = vsn;
    this.#ws = new WebSocket(url, { perMessageDeflate: compresses && { threshold: 0 } });
    this.#ws.on("open", () => this.#changes.changed());
    this.#ws.on("message", (data, binary) => this.#push(binary ? { binary: data.toString("hex") } : { text: data.toString() }));
    this.#ws.on("pong", (data) => this.#push({ pong: data.toString("hex") }));
    this.#ws.on("close", (code, reason) => {
      this.closed = { code, reason: reason.toString() };
      this.#changes.changed();
    });
    this.#ws.on("unexpected-response", (request, response) => {
      this.#refused = Object.assign(new Error(`refused with HTTP ${response.statusCode}`), { status: response.statusCode });
      request.destroy();
      this.#changes.changed();
    });
    // A reset connection is told by its close; here it only must not end the test run.
    this.#ws.on("error", (error) => {
      this.#refused ??= error;
      this.#changes.changed();
    });
  }

  #push(frame) {
    this.#arrived.push(frame);
    this.#changes.changed();
  }

  /** The extensions that were agreed on, and the bytes that have arrived. */
  get extensions() {
    return this.#ws.extensions;
  }

  get bytesRead() {
    return this.#ws._socket.bytesRead;
  }

  async opened() {
    await this.#changes.until("an open socket", () => {
      if (this.#ws.readyState === WebSocket.OPEN) return true;
      if (this.#refused !== undefined) throw this.#refused;
      return false;
    }, { deadline: this.#deadline }).catch((error) => {
      this.destroy();
      throw error;
    });
  }

  /** Sends text as it stands; a Buffer goes as a text frame too, whatever its bytes. */
  send(text) {
    this.#ws.send(text, { binary: false });
  }

  sendFrame(...frame) {
    this.send(JSON.stringify(frame));
  }

  sendBinary(hex) {
    this.#ws.send(Buffer.from(hex, "hex"), { binary: true });
  }

  ping(hex) {
    this.#ws.ping(Buffer.from(hex, "hex"));
  }

  /** The next frame that arrives, `{ text }`, `{ binary }` or `{ pong }`, or `{ closed }` where none will. */
  next(what = "a frame") {
    return this.#changes.until(what, () => {
      if (this.#arrived.length > 0) return this.#arrived.shift();
      return this.closed && { closed: this.closed };
    }, { deadline: this.#deadline });
  }

  /** The next text frame, parsed; an error if the socket closes instead. */
  async nextFrame(what) {
    const { text, closed } = await this.next(what);
    if (closed) throw new Error(`closed with ${closed.code} instead of ${what ?? "a frame"}`);
    return JSON.parse(text);
  }

  /** The first frame for which `wanted` holds; those before it are dropped. */
  async firstFrame(what, wanted) {
    for (;;) {
      const frame = await this.nextFrame(what);
      if (wanted(frame)) return frame;
    }
  }

  /** How the server closed the socket; frames that arrive before are dropped. */
  async untilClosed() {
    for (;;) {
      const { closed } = await this.next("the server to close the socket");
      if (closed) return closed;
    }
  }

  /** Sends a heartbeat whose answer marks a place in what arrives; returns its ref. */
  barrier() {
    const ref = `barrier-${++this.#barriers}`;
    if (this.vsn === 1) this.send(JSON.stringify({ topic: "phoenix", event: "heartbeat", payload: {}, ref }));
    else this.sendFrame(null, ref, "phoenix", "heartbeat", {});
    return ref;
  }

  close(code) {
    this.#ws.close(code);
  }

  /** Ends the connection without a word, as a lost network does. */
  destroy() {
    this.#ws.terminate();
  }
}
