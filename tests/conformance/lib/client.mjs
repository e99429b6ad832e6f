// A user with the real phoenix package: a socket, its channels, and what their presences reported.

import * as current from "phoenix";
import WebSocket from "ws";

import { Signal } from "../../lib/until.mjs";

/** Short waits between attempts, so that tests of reconnecting take no longer than they must. */
const SOON = () => 20;

export class Client {
  #changes = new Signal();
  #connections = 0;

  #Presence;

  #isInCrowd;

  #onSync;

  /**
   * `phoenix` is the package's exports, where it is not the current version that connects. One of a crowd keeps no
   * reports, since a thousand clients would copy a million. `onSync` is called with the room whenever its presences
   * have changed.
   */
  constructor(url, userId, { phoenix = current, isInCrowd = false, onSync = () => {}, ...options } = {}) {
    this.#Presence = phoenix.Presence;
    this.#isInCrowd = isInCrowd;
    this.#onSync = onSync;
    this.socket = new phoenix.Socket(url, {
      transport: WebSocket,
      params: { user_id: userId },
      reconnectAfterMs: SOON,
      rejoinAfterMs: SOON,
      ...options,
    });
    this.socket.onOpen(() => {
      this.#connections += 1;
      this.#changes.changed();
    });
    this.socket.connect();
  }

  /** Joins a topic and resolves with the room once the server has answered. */
  async join(topic, params) {
    const room = new Room(this.socket.channel(topic, params), this.#Presence, this.#isInCrowd, this.#onSync);
    await settled(room.channel.join());
    return room;
  }

  /** Resolves once the socket has been opened `count` times. */
  connected(count = 1) {
    return this.#changes.until(`connection ${count}`, () => this.#connections >= count);
  }

  /** Cuts the connection without a word, as a lost network does. */
  cut() {
    this.socket.conn.terminate();
  }

  /** Reads nothing until it is told to. */
  pause() {
    this.socket.conn.pause();
  }

  resume() {
    this.socket.conn.resume();
  }

  close() {
    return new Promise((resolve) => this.socket.disconnect(resolve));
  }
}

/** A channel and its presences. */
class Room {
  #changes = new Signal();
  /** What the presence callbacks reported, in order: `{ kind: "join" | "leave" | "sync", key, current, change }`. */
  reports = [];
  /** The other events that arrived, in order: `{ event, payload }`; `phx_error` and `phx_close` too. */
  events = [];
  /** The keys of which `onJoin` told a ref that was there already. */
  repeated = [];
  /** How many states have come. */
  states = 0;

  constructor(channel, Presence, isInCrowd, onSync) {
    this.channel = channel;
    this.presence = new Presence(channel);
    const report = isInCrowd ? () => {} : (...told) => this.#report(...told);
    this.presence.onJoin((key, current, change) => {
      const known = refs(current);
      if (refs(change).some((ref) => known.includes(ref))) this.repeated.push(key);
      report("join", key, current, change);
    });
    this.presence.onLeave((key, current, change) => report("leave", key, current, change));
    this.presence.onSync(() => {
      report("sync");
      onSync(this);
      this.#changes.changed();
    });
    channel.on("presence_state", () => {
      this.states += 1;
    });
    for (const event of ["shout", "phx_error", "phx_close"]) {
      channel.on(event, (payload) => {
        this.events.push({ event, payload });
        this.#changes.changed();
      });
    }
  }

  #report(kind, key, current, change) {
    // Copied, since phoenix.js goes on changing what it hands out.
    this.reports.push(JSON.parse(JSON.stringify({ kind, key, current, change })));
    this.#changes.changed();
  }

  /** The presences as phoenix.js holds them now, `{ key: metas }`. */
  here() {
    return Object.fromEntries(this.presence.list((key, { metas }) => [key, metas]));
  }

  /** How many metas each key has, `{ key: count }`. */
  counts() {
    return Object.fromEntries(this.presence.list((key, { metas }) => [key, metas.length]));
  }

  /** Resolves once each key has that many metas, and no other key is there. */
  async untilCounts(expected, options) {
    const wanted = sorted(expected);
    const keys = Object.keys(expected).length;
    const seen = () => sorted(this.counts());
    // The number of keys is cheap to compare.
    const isThere = () => Object.keys(this.presence.state).length === keys && seen() === wanted;
    await this.#changes.until(`the presences ${wanted}`, isThere, { state: seen, ...options });
    return this.here();
  }

  /** Resolves once `holds`, which is asked at each change. */
  until(what, holds, options) {
    return this.#changes.until(what, holds, options);
  }

  /** The first report after the first `from` for which `wanted` holds. */
  untilReport(what, wanted, from = 0) {
    return this.#changes.until(what, () => this.reports.slice(from).find(wanted), { state: () => this.reports.slice(from) });
  }

  untilEvent(event, from = 0) {
    return this.#changes.until(`the event ${event}`, () => this.events.slice(from).find((seen) => seen.event === event), {
      state: () => this.events,
    });
  }

  /** Pushes, and resolves with the answer, `{ status, response }`. */
  push(event, payload, timeout) {
    return settled(this.channel.push(event, payload, timeout));
  }

  /** Pushes what nobody answers. The push's timer would keep the process alive, so it is short. */
  cast(event, payload) {
    this.channel.push(event, payload, 100);
  }

  leave() {
    return settled(this.channel.leave());
  }
}

/** What a push came to: `{ status: "ok" | "error" | "timeout", response }`. */
export function settled(push) {
  return new Promise((resolve) => {
    for (const status of ["ok", "error", "timeout"]) push.receive(status, (response) => resolve({ status, response }));
  });
}

const refs = (presence) => (presence?.metas ?? []).map((meta) => meta.phx_ref);
const sorted = (counts) => JSON.stringify(Object.entries(counts).sort());
