// Plays recorded traffic against a server.
//
// It sends again what the clients sent; what they received must arrive again, on each socket in the same
// order, nothing missing and nothing more. The next frame goes out only when all that the recording shows
// before it has arrived. After each section every socket is asked for a heartbeat, whose answer must be the
// next to arrive: so a frame that the recording does not have is found, though it came last.

import { Comparison } from "./compare.mjs";
import { openRaw, refusal } from "./raw.mjs";

/** The recorder cut these connections itself; so does the player. */
const DESTROYED = 1006;
const NORMAL = 1000;

export class Player {
  #endpoint;
  #comparison;
  #deadline;
  #sockets = new Map();

  /** `endpoint(name)` is the URL that the connection of that name is opened with. */
  constructor(endpoint, { tolerate, deadline } = {}) {
    this.#endpoint = endpoint;
    this.#comparison = new Comparison({ tolerate });
    this.#deadline = deadline;
  }

  async play({ steps }) {
    for (const step of steps) {
      try {
        await this.#step(step);
      } catch (error) {
        error.message = `line ${step.line}, ${step.name}: ${error.message}`;
        throw error;
      }
    }
    for (const [name, socket] of this.#sockets) await this.#nothingMore(name, socket);
  }

  /** Cuts what is still open. */
  end() {
    for (const socket of this.#sockets.values()) socket.destroy();
    this.#sockets.clear();
  }

  #step(step) {
    switch (step.kind) {
      case "connect": return this.#connect(step);
      case "send": return this.#send(step);
      case "receive": return this.#receive(step);
      case "close": return this.#close(step);
    }
    throw new Error(`unknown kind of step: ${step.kind}`);
  }

  async #connect({ name, status }) {
    const url = this.#endpoint(name);
    if (status === 101) {
      this.#sockets.set(name, await openRaw(url, { deadline: this.#deadline }));
      return;
    }
    const actual = await refusal(url);
    if (actual !== status) throw new Error(`refused with HTTP ${actual}, recorded ${status}`);
  }

  async #send({ name, text, binary, ping }) {
    // The recorder did not note how those connected that spoke version 1.
    if (text?.startsWith("{") && text !== "{}" && !this.#sockets.has(name)) {
      this.#sockets.set(name, await openRaw(this.#endpoint(name), { deadline: this.#deadline, vsn: 1 }));
    }
    const socket = this.#sockets.get(name);
    // The recorder went on sending to sockets that the server had closed; nothing can come of it.
    if (socket === undefined) return;
    if (ping !== undefined) socket.ping(ping);
    else if (binary !== undefined) socket.sendBinary(binary);
    else socket.send(text);
  }

  async #receive({ name, text, ...other }) {
    const wanted = text ?? JSON.stringify(other);
    const frame = await this.#sockets.get(name).next(wanted);
    if (text !== undefined && frame.text !== undefined) {
      this.#comparison.text(text, frame.text);
    } else if (text !== undefined || frame.binary !== other.binary || frame.pong !== other.pong) {
      throw new Error(`${JSON.stringify(frame)} instead of ${wanted}`);
    }
  }

  async #close({ name, code }) {
    const socket = this.#sockets.get(name);
    this.#sockets.delete(name);
    if (code === DESTROYED) {
      await this.#nothingMore(name, socket);
      socket.destroy();
      return;
    }
    if (code === NORMAL) socket.close(code);
    const frame = await socket.next(`a close with ${code}`);
    if (frame.closed?.code !== code) throw new Error(`${JSON.stringify(frame)} instead of a close with ${code}`);
  }

  /** The answer to a heartbeat must be the next frame. */
  async #nothingMore(name, socket) {
    const ref = socket.barrier();
    const frame = await socket.next(`the answer to heartbeat ${ref}`);
    const payload = { response: {}, status: "ok" };
    const answer = socket.vsn === 1
      ? { topic: "phoenix", event: "phx_reply", ref, payload }
      : [null, ref, "phoenix", "phx_reply", payload];
    try {
      if (frame.text === undefined) throw new Error(JSON.stringify(frame));
      this.#comparison.text(JSON.stringify(answer), frame.text);
    } catch (error) {
      throw new Error(`${name} received what the recording does not have: ${error.message}`);
    }
  }
}
