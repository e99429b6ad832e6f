// The live side of the page: one socket, and the channels on it.

import { Presence, Socket } from "/vendor/phoenix.mjs";

/**
 * How often the page asks the server for a sign of life, in milliseconds. A connection that gives none is lost within
 * two of these.
 */
const HEARTBEAT = 4_000;

/** How long a connection may take to be made, in milliseconds. The next one may reach another node. */
const CONNECT = 4_000;

/** How long a hidden page waits before it connects again, in milliseconds. */
const RETRY_HIDDEN = 3_000;

/**
 * Connects, and stays connected until `close` is called.
 *
 * `onConnection("online" | "lost")`: whether what is shown is live. `onRefused()`: the server may no longer know us.
 */
export class Live {
  #socket;
  #channels = new Set();
  #closed = false;
  /** The page is being left: it is hidden too then, but not away. */
  #isLeaving = false;
  #left = null;
  #retry = null;
  /** The connection that is being made, and since when. */
  #attempt = { conn: null, since: 0 };
  #watch = null;
  #handlers;

  constructor({ onConnection, onRefused }) {
    this.#handlers = { onConnection, onRefused };
    // Before the socket's own listener, which closes the connection.
    window.addEventListener("pagehide", this.#bye);
    window.addEventListener("pageshow", this.#back);
    document.addEventListener("visibilitychange", this.#look);
    this.#socket = new Socket("/socket", { heartbeatIntervalMs: HEARTBEAT });
    window.addEventListener("pagehide", this.#leave);
    this.#socket.onClose(this.#lost);
    this.#socket.onError(() => {
      this.#lost();
      if (!this.#closed) onRefused();
    });
    this.#socket.connect();
    this.#watch = setInterval(() => this.#giveUp(), 1_000);
  }

  /** Gives up a connection that is never made: at a node that hangs, nobody says so. */
  #giveUp() {
    const { conn } = this.#socket;
    if (!conn || conn.readyState !== WebSocket.CONNECTING) return void (this.#attempt.conn = null);
    const now = performance.now();
    if (this.#attempt.conn !== conn) this.#attempt = { conn, since: now };
    else if (now - this.#attempt.since >= CONNECT) conn.close();
  }

  /**
   * Joins a topic. `params` is asked at each join. The handlers are all optional:
   * `onJoin(reply)` at each join, also after a lost connection; `onError(problem)` when the join is refused;
   * `onPresence(presences, fresh)`: `fresh` when the whole came anew, so that differences to before are no news;
   * `events`: a handler for each event.
   */
  join(topic, params, { onJoin, onError, onPresence, events = {} } = {}) {
    let told = null;
    const channel = this.#socket.channel(topic, () => {
      told = attention();
      return params ? params() : {};
    });
    if (onPresence) {
      // Before Presence binds its own handlers, for they run in this order.
      let fresh = true;
      channel.on("presence_state", () => (fresh = true));
      const presence = new Presence(channel);
      presence.onSync(() => {
        onPresence(presence.list((id, entry) => ({ id, ...entry })), fresh);
        fresh = false;
      });
    }
    for (const [event, handle] of Object.entries(events)) channel.on(event, handle);
    const joined = new Joined(channel, () => {
      // The tab may have been hidden or shown while the join was under way.
      if (!joined.saysStatus || !joined.isJoined() || told === attention()) return;
      told = attention();
      joined.push("status", { status: told });
    });
    joined.saysStatus = params !== undefined;
    channel.onError(this.#lost);
    channel
      .join()
      .receive("ok", (reply) => {
        onJoin?.(reply);
        if (!this.#closed) this.#handlers.onConnection("online");
        joined.tellStatus();
      })
      .receive("error", (reason) => onError?.(reason));
    this.#channels.add(joined);
    joined.onLeave = () => this.#channels.delete(joined);
    return joined;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearInterval(this.#watch);
    window.removeEventListener("pagehide", this.#bye);
    window.removeEventListener("pagehide", this.#leave);
    window.removeEventListener("pageshow", this.#back);
    document.removeEventListener("visibilitychange", this.#look);
    this.#socket.disconnect();
  }

  #lost = () => {
    if (this.#closed) return;
    this.#handlers.onConnection("lost");
    this.#retryHidden();
  };

  /** The socket doesn't connect again while the page is hidden: a player who looks away would be gone for others. */
  #retryHidden() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      if (!document.hidden || this.#closed || this.#isLeaving || this.#socket.isConnected()) return;
      this.#socket.connect();
      this.#retryHidden();
    }, RETRY_HIDDEN);
  }

  #bye = () => {
    this.#isLeaving = true;
    this.#left = this.#socket.conn;
    for (const channel of this.#channels) channel.onPageHide?.();
  };

  /** After the socket's own listener, which waits until all is sent: a page that is kept may be frozen before. */
  #leave = () => this.#left?.close();

  #back = () => {
    this.#isLeaving = false;
  };

  #look = () => {
    if (this.#isLeaving) return;
    for (const channel of this.#channels) channel.tellStatus();
  };
}

/** A tab that cannot be seen is away. */
export function attention() {
  return document.visibilityState === "hidden" ? "away" : "here";
}

/** One channel, as long as it is wanted. */
class Joined {
  #channel;

  constructor(channel, tellStatus) {
    this.#channel = channel;
    this.tellStatus = tellStatus;
  }

  isJoined() {
    return this.#channel.isJoined() && this.#channel.socket.isConnected();
  }

  /**
   * Sends an event and resolves to `{ ok: reply }`, `{ error: problem }`, or `{}` when no answer came. Nothing waits for
   * a connection: what is sent without one is answered by `{}` at once, so that it can't happen later unseen.
   */
  push(event, payload = {}) {
    if (!this.isJoined()) return Promise.resolve({});
    return new Promise((resolve) => {
      this.#channel
        .push(event, payload)
        .receive("ok", (ok) => resolve({ ok }))
        .receive("error", (error) => resolve({ error }))
        .receive("timeout", () => resolve({}));
    });
  }

  leave() {
    this.onLeave?.();
    this.#channel.leave();
  }
}
