// Clients that are the phoenix package, or that were made of it.

import { createRequire } from "node:module";
import WebSocket from "ws";

import { Room } from "./room.mjs";

const require = createRequire(import.meta.url);
const SOON = () => 20;

/** The clients, as packages and what their sockets are given beside the common options. */
export const PHOENIX_CLIENTS = [
  { name: "phoenix 1.3.5", specifier: "phoenix-1.3", options: { transport: WebSocket } },
  { name: "@supabase/phoenix 0.4.4", specifier: "@supabase/phoenix", options: { transport: WebSocket } },
  // It brings a WebSocket of its own.
  { name: "phoenix-channels 1.0.0", specifier: "phoenix-channels", options: {} },
  // Its long poll expects answers of Phoenix before 1.4.
  { name: "phoenix-socket 1.2.3", specifier: "phoenix-socket", options: { transport: WebSocket } },
].map(({ name, specifier, options }) => {
  const { Socket, Presence } = require(specifier);
  return {
    name,
    server: "rooms",
    lacks: {},
    // Before 1.4.
    comparesRefs: typeof Presence === "function",
    connect: async (url, user) => new Client({ Socket, Presence, options }, url, user),
  };
});

class Client {
  #Presence;

  constructor({ Socket, Presence, options }, url, user) {
    this.#Presence = Presence;
    const common = { params: { user_id: user }, heartbeatIntervalMs: 2000, reconnectAfterMs: SOON, rejoinAfterMs: SOON };
    this.socket = new Socket(url, { ...common, ...options });
    this.socket.connect();
  }

  /** Joins, and resolves with the room and the server's answer. */
  async join(name) {
    const channel = this.socket.channel(`room:${name}`, {});
    const room = new PhoenixRoom(channel);
    show(this.#Presence, channel, room);
    room.answer = await settled(channel.join());
    // It would join again and again.
    if (room.answer.status !== "ok") channel.leave();
    return room;
  }

  close() {
    return new Promise((resolve) => {
      this.socket.disconnect(resolve);
      // Before 1.5 it leaves its heartbeat running, which would keep the test process alive.
      clearInterval(this.socket.heartbeatTimer);
    });
  }
}

class PhoenixRoom extends Room {
  #channel;

  constructor(channel) {
    super();
    this.#channel = channel;
    channel.on("shout", (payload) => this.hear(payload));
  }

  echo = (payload) => settled(this.#channel.push("echo", payload));
  fail = (payload) => settled(this.#channel.push("fail", payload));
  say = (payload) => settled(this.#channel.push("shout_from", payload));
  update = (meta) => settled(this.#channel.push("update", meta));
  leave = () => settled(this.#channel.leave());
}

/** Shows a room who is there, by the client's own presence. */
function show(Presence, channel, room) {
  if (typeof Presence === "function") {
    const presence = new Presence(channel);
    presence.onSync(() => room.see(metasOf(presence.state)));
    return;
  }
  // Before 1.4 the state is the program's to keep.
  follow((event, handle) => channel.on(event, handle), Presence, room);
}

/** Keeps the state of a room by a `Presence` that is functions only. */
export function follow(on, Presence, room) {
  let state = {};
  const keep = (next) => {
    state = next;
    room.see(metasOf(state));
  };
  on("presence_state", (whole) => keep(Presence.syncState(state, whole)));
  on("presence_diff", (diff) => keep(Presence.syncDiff(state, diff)));
}

/** That of phoenix 1.3, which compares no refs: whatever is told twice is there twice. */
export const STRICT_PRESENCE = require("phoenix-1.3").Presence;

const metasOf = (state) => Object.fromEntries(Object.entries(state).map(([key, { metas }]) => [key, metas]));

/** What a push came to: `{ status: "ok" | "error" | "timeout", response }`. */
function settled(push) {
  return new Promise((resolve) => {
    for (const status of ["ok", "error", "timeout"]) push.receive(status, (response) => resolve({ status, response }));
  });
}
