// Supabase's client for JavaScript. It wants Node 22 for the WebSocket there; with another it runs on 20.

import { RealtimeClient } from "@supabase/realtime-js";
import WebSocket from "ws";

import { Room } from "./room.mjs";

const SOON = () => 20;

/** In both versions of the protocol that it speaks. */
export const REALTIME_CLIENTS = ["2.0.0", "1.0.0"].map((vsn) => ({
  name: `@supabase/realtime-js 2.119.1, version ${vsn}`,
  server: "supabase",
  comparesRefs: true,
  lacks: { echo: "it sends broadcasts and presences only" },
  connect: async (url, user) => new Client(url, user, vsn),
}));

class Client {
  #user;

  constructor(url, user, vsn) {
    this.#user = user;
    this.socket = connect(url, { vsn });
  }

  /** Joins, and resolves with the room and the server's answer. */
  async join(name) {
    const isPrivate = name === "denied";
    const config = {
      broadcast: { ack: true, self: false },
      presence: { key: this.#user, enabled: true },
      private: isPrivate,
    };
    const channel = this.socket.channel(isPrivate ? "private:denied" : name, { config });
    const room = new RealtimeRoom(this.socket, channel);
    room.answer = await new Promise((resolve) => {
      channel.subscribe(async (status, error) => {
        if (status === "SUBSCRIBED") resolve({ status: await channel.track({ status: "new" }) });
        else resolve({ status: "error", response: { reason: error?.message } });
      });
    });
    if (room.answer.status !== "ok") await this.socket.removeChannel(channel);
    return room;
  }

  close() {
    return this.socket.disconnect();
  }
}

class RealtimeRoom extends Room {
  #socket;
  #channel;

  constructor(socket, channel) {
    super();
    this.#socket = socket;
    this.#channel = channel;
    channel.on("broadcast", { event: "shout" }, ({ payload }) => this.hear(payload));
    channel.on("presence", { event: "sync" }, () => this.see(channel.presenceState()));
  }

  say = async (payload) => ({ status: await this.#channel.send({ type: "broadcast", event: "shout", payload }) });
  update = async (meta) => ({ status: await this.#channel.track(meta) });
  leave = async () => ({ status: await this.#socket.removeChannel(this.#channel) });
}

/** A client as a program makes it. */
export function connect(url, { vsn = "2.0.0", apikey = "anon", ...options } = {}) {
  return new RealtimeClient(url, {
    params: { apikey },
    transport: WebSocket,
    vsn,
    heartbeatIntervalMs: 2000,
    reconnectAfterMs: SOON,
    ...options,
  });
}
