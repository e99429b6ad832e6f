// The servers under test: examples/rooms, and profiles beside these tests.

import { startServer } from "../../lib/server.mjs";

/** The intervals every client test runs at: each change its own diff, as Phoenix does, and the default. */
export const INTERVALS = [
  { name: "diff interval 0", diffInterval: 0 },
  { name: "the default diff interval", diffInterval: undefined },
];

/** Starts a server; `listen` names its address, port 0 takes any that is free. */
export async function startRooms({ diffInterval, longpollWindow, linger, compress, listen = "127.0.0.1:0", pubsub, node } = {}) {
  const options = ["--listen", listen];
  if (diffInterval !== undefined) options.push("--diff-interval", String(diffInterval));
  if (longpollWindow !== undefined) options.push("--longpoll-window", String(longpollWindow));
  if (linger !== undefined) options.push("--linger", String(linger));
  if (compress !== undefined) options.push("--compress", String(compress));
  if (pubsub !== undefined) options.push("--pubsub", pubsub, "--node", node);
  return new Rooms(await startServer("rooms", { options, ready: /^listening on (\S+:\d+)$/m }));
}

/** Starts rooms whose users have a profile, `{ edits }`, that takes 200 ms to read, and where presences linger. */
export async function startProfiles() {
  return new Profiles(await startServer("profiles", { ready: /^listening on (\S+:\d+)$/m }));
}

class Rooms {
  #server;

  constructor(server) {
    this.#server = server;
    this.address = server.readyLine[1];
  }

  /** The URL that the phoenix package is given. */
  get url() {
    return `ws://${this.address}/socket`;
  }

  /** The URL that a bare WebSocket connects to. */
  endpoint(params) {
    return `${this.url}/websocket?${new URLSearchParams(params)}`;
  }

  /** The origin of a long poll, without the path and query of the recording. */
  get origin() {
    return `http://${this.address}`;
  }

  assertAlive() {
    this.#server.assertAlive();
  }

  /** As of the server's own. */
  untilError(pattern) {
    return this.#server.untilError(pattern);
  }

  pause() {
    this.#server.pause();
  }

  resume() {
    this.#server.resume();
  }

  stop() {
    return this.#server.stop();
  }

  kill() {
    return this.#server.kill();
  }
}

class Profiles extends Rooms {
  /** How many sockets are open, or not yet closed for good. */
  async openSockets() {
    return Number(await (await fetch(`${this.origin}/sockets`)).text());
  }
}
