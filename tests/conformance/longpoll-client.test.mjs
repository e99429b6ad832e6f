// The real phoenix package over long poll, chosen by the program or fallen back to.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { LongPoll } from "phoenix";
import WebSocket from "ws";

import { Client } from "./lib/client.mjs";
import { startRooms } from "./lib/rooms.mjs";

/** A WebSocket that never opens, as behind a proxy that knows nothing of it. */
class Refused extends WebSocket {
  constructor(url, protocols) {
    super(url.replace("/websocket", "/nowhere"), protocols);
  }
}

describe("the phoenix package over long poll", () => {
  let rooms;
  const clients = [];

  const connect = (userId, options) => {
    const client = new Client(rooms.url, userId, { transport: LongPoll, ...options });
    clients.push(client);
    return client;
  };

  before(async () => {
    // Short, so that it does not take long until a client that polls no more is gone.
    rooms = await startRooms({ longpollWindow: 1000 });
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
    rooms.assertAlive();
  });
  after(() => rooms.kill());

  test("presence, with two devices and beside a WebSocket", async () => {
    const one = await connect("alice").join("room:devices");
    const two = await connect("alice").join("room:devices");
    const bob = await connect("bob", { transport: WebSocket }).join("room:devices");
    const seen = await one.untilCounts({ alice: 2, bob: 1 });
    assert.deepEqual(await two.untilCounts({ alice: 2, bob: 1 }), seen);
    assert.deepEqual(await bob.untilCounts({ alice: 2, bob: 1 }), seen);
    const { response } = await one.push("update", { status: "away" });
    const updated = await bob.untilReport("the update", ({ kind, change }) =>
      kind === "join" && change.metas.some(({ phx_ref }) => phx_ref === response.phx_ref));
    assert.equal(updated.change.metas[0].status, "away");
  });

  test("replies, errors, and what is broadcast", async () => {
    const alice = await connect("alice").join("room:talk");
    const bob = await connect("bob").join("room:talk");
    const text = "grün \u{1f600} \"q\" \\";
    assert.deepEqual(await alice.push("echo", { text }), { status: "ok", response: { text } });
    assert.deepEqual(await alice.push("fail", { no: 1 }), { status: "error", response: { no: 1 } });
    assert.deepEqual((await alice.push("shout_from", { text })).status, "ok");
    assert.deepEqual((await bob.untilEvent("shout")).payload, { text });
  });

  test("a channel that crashes comes back, and one that is left does not", async () => {
    const alice = await connect("alice").join("room:ends");
    await alice.untilCounts({ alice: 1 });
    alice.cast("crash", {});
    await alice.untilEvent("phx_error");
    await alice.untilReport("a join after the crash", ({ kind }) => kind === "join", alice.reports.length);
    assert.equal((await alice.push("echo", {})).status, "ok");
    assert.equal((await alice.leave()).status, "ok");
    await alice.untilEvent("phx_close");
  });

  // A browser names the page with a GET and its origin with a POST, and the proxy in between says another Host.
  test("a page is refused at its first request where Host isn't passed on, and backs off", async () => {
    const real = globalThis.fetch;
    const methods = [];
    globalThis.fetch = (url, options) => {
      methods.push(options.method);
      const names = options.method === "GET" ? { referer: "https://example.org/page" } : { origin: "https://example.org" };
      return real(url, { ...options, headers: { ...options.headers, ...names } });
    };
    try {
      const attempts = [];
      const backedOff = new Promise((resolve) => {
        const reconnectAfterMs = (tries) => {
          attempts.push(tries);
          if (tries === 5) resolve();
          return 10;
        };
        connect("alice", { reconnectAfterMs }).join("room:proxy").catch(() => {});
      });
      await backedOff;
      assert.deepEqual(attempts, [1, 2, 3, 4, 5]);
      assert.deepEqual(methods, ["GET", "GET", "GET", "GET", "GET"]);
    } finally {
      globalThis.fetch = real;
    }
  });

  test("a client that polls no more leaves", async () => {
    const bob = await connect("bob").join("room:silent");
    const alice = connect("alice");
    await alice.join("room:silent");
    await bob.untilCounts({ alice: 1, bob: 1 });
    await alice.close();
    await bob.untilCounts({ bob: 1 });
  });

  test("if WebSocket is refused, longPollFallbackMs leads here", async () => {
    const client = connect("alice", { transport: Refused, longPollFallbackMs: 2000 });
    const alice = await client.join("room:fallback");
    await alice.untilCounts({ alice: 1 });
    assert.equal(client.socket.transport, LongPoll);
    assert.equal((await alice.push("echo", {})).status, "ok");
  });

  test("a server that is killed and started again", async () => {
    const own = await startRooms({ longpollWindow: 1000 });
    const client = new Client(own.url, "alice", { transport: LongPoll });
    clients.push(client);
    const alice = await client.join("room:restart");
    const before = await alice.untilCounts({ alice: 1 });
    await own.kill();
    const again = await startRooms({ longpollWindow: 1000, listen: own.address });
    try {
      const isNew = ({ kind, change }) => kind === "join" && change.metas[0].phx_ref !== before.alice[0].phx_ref;
      await alice.untilReport("a join at the new server", isNew);
    } finally {
      await client.close();
      await again.kill();
    }
  });
});
