// The phoenix package, from 1.4 to 1.8, through one list of scenarios, over each of its transports.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { Client, settled } from "./lib/client.mjs";
import { startRooms } from "./lib/rooms.mjs";
import { loadVersions, RefusedWebSocket, transportOf } from "./lib/versions.mjs";

/** 1.5 forgets the timer of its heartbeat, which then keeps the test process alive for as long: so it is short. */
const HEARTBEAT = 2000;
const BYTES = [0, 1, 127, 128, 255];
const bytes = () => Uint8Array.from(BYTES).buffer;
const assertBytes = (actual) => {
  assert.ok(actual instanceof ArrayBuffer, `no ArrayBuffer: ${JSON.stringify(actual)}`);
  assert.deepEqual([...new Uint8Array(actual)], BYTES);
};

const SCENARIOS = {
  "join, reply, error reply and no reply": async ({ connect }) => {
    const alice = await connect("alice").join("room:replies");
    assert.equal(alice.channel.state, "joined");
    const payload = { n: 1, s: 'grün € 😀 "q"', nul: null, deep: { er: [{}] } };
    assert.deepEqual(await alice.push("echo", payload), { status: "ok", response: payload });
    assert.deepEqual(await alice.push("fail", { reason: "no" }), { status: "error", response: { reason: "no" } });
    assert.equal((await alice.push("shout", { body: "to nobody" }, 100)).status, "timeout");
    await alice.untilEvent("shout");
    assert.equal((await alice.push("echo", {})).status, "ok", "a timeout does not end the channel");
  },

  "a broadcast reaches everyone in the room": async ({ connect }) => {
    const alice = await connect("alice").join("plain:shout");
    const bob = await connect("bob").join("plain:shout");
    assert.deepEqual(await alice.push("shout_from", { body: "others" }), { status: "ok", response: {} });
    assert.deepEqual((await bob.untilEvent("shout")).payload, { body: "others" });
    bob.cast("shout", { body: "all" });
    assert.deepEqual((await alice.untilEvent("shout")).payload, { body: "all" }, "not her own shout_from");
  },

  "a join that is denied says why": async ({ connect }) => {
    const client = connect("alice");
    for (const [topic, reason] of [["room:denied", "unauthorized"], ["nosuch:topic", "unmatched topic"]]) {
      const channel = client.socket.channel(topic);
      assert.deepEqual(await settled(channel.join()), { status: "error", response: { reason } });
      channel.leave();
    }
    assert.equal((await (await client.join("room:allowed")).push("echo", {})).status, "ok");
  },

  "a leave, and a new join on the same socket": async ({ connect }) => {
    const client = connect("alice");
    const bob = await connect("bob").join("room:leave");
    const first = await client.join("room:leave");
    await bob.untilCounts({ alice: 1, bob: 1 });
    assert.equal((await first.leave()).status, "ok");
    await first.untilEvent("phx_close");
    await bob.untilCounts({ bob: 1 });
    const second = await client.join("room:leave");
    await bob.untilCounts({ alice: 1, bob: 1 });
    assert.equal((await second.push("echo", {})).status, "ok");
  },

  "a channel that crashes is joined again": async ({ connect }) => {
    const client = connect("alice");
    const alice = await client.join("room:crash");
    const neighbour = await client.join("plain:neighbour");
    const { alice: before } = await alice.untilCounts({ alice: 1 });
    const from = alice.reports.length;
    alice.cast("crash", {});
    await alice.untilEvent("phx_error");
    await alice.untilReport("her return", joinedAnew("alice", before), from);
    await alice.untilCounts({ alice: 1 });
    assert.deepEqual(await alice.push("echo", { back: true }), { status: "ok", response: { back: true } });
    assert.equal((await neighbour.push("echo", {})).status, "ok");
    assert.deepEqual(neighbour.events, [], "its neighbour does not notice");
  },

  "presence: two devices under one key": async ({ connect }) => {
    const bob = await connect("bob").join("room:devices");
    const devices = [await connect("alice").join("room:devices"), await connect("alice").join("room:devices")];
    const { alice: metas } = await bob.untilCounts({ alice: 2, bob: 1 });
    for (const device of devices) assert.deepEqual((await device.untilCounts({ alice: 2, bob: 1 })).alice, metas);
    const joins = bob.reports.filter(({ kind, key }) => kind === "join" && key === "alice");
    assert.equal(joins[0].current, undefined, "nobody was there under this key");
    assert.ok(bob.reports.some(({ kind }) => kind === "sync"));

    await devices[0].leave();
    const left = await bob.untilReport("onLeave of one device", ({ kind, key }) => kind === "leave" && key === "alice");
    const { alice: rest } = await bob.untilCounts({ alice: 1, bob: 1 });
    assert.deepEqual(left.current.metas, rest, "onLeave says who stays under the key");
    await devices[1].leave();
    await bob.untilCounts({ bob: 1 });
  },

  "presence: an update replaces the meta": async ({ connect }) => {
    const alice = await connect("alice").join("room:update");
    const bob = await connect("bob").join("room:update");
    const [old] = (await bob.untilCounts({ alice: 1, bob: 1 })).alice;
    const from = bob.reports.length;
    const { status, response } = await alice.push("update", { status: "away" });
    assert.equal(status, "ok");
    await bob.untilReport("the old meta's leave", ({ kind, change }) => kind === "leave" && change.metas[0].phx_ref === old.phx_ref, from);
    const { alice: metas } = await bob.untilCounts({ alice: 1, bob: 1 });
    assert.deepEqual(metas, [{ online_at: old.online_at, status: "away", phx_ref: response.phx_ref, phx_ref_prev: old.phx_ref }]);
  },

  "binary payloads": async ({ connect, transport, version }, t) => {
    if (!version.can(transport, "binary")) return t.skip("not in this version");
    const alice = await connect("alice").join("plain:binary");
    // Whoever hears it is on a WebSocket, since the package reads no binary frames by long poll.
    const bob = await connect("bob", { transport: transportOf(version.phoenix, "websocket") }).join("plain:binary");
    assert.equal((await alice.push("shout_from", bytes())).status, "ok");
    assertBytes((await bob.untilEvent("shout")).payload);
    const { status, response } = await bob.push("echo", bytes());
    assert.equal(status, "ok");
    assertBytes(response);
  },

  "a server that is killed and started again": async ({ options, transport, version }, t) => {
    const running = [await startRooms()];
    const clients = ["alice", "bob"].map((user) => new Client(running[0].url, user, options(version, transport)));
    t.after(() => end(clients, running));
    const rooms = [await clients[0].join("room:restart"), await clients[1].join("room:restart")];
    const old = Object.values(await rooms[0].untilCounts({ alice: 1, bob: 1 })).flat();
    await rooms[1].untilCounts({ alice: 1, bob: 1 });
    const from = rooms.map(({ reports }) => reports.length);

    await running[0].kill();
    await Promise.all(rooms.map((room) => room.untilEvent("phx_error")));
    running.push(await startRooms({ listen: running[0].address }));
    for (const [index, room] of rooms.entries()) {
      for (const user of ["alice", "bob"]) await room.untilReport(`the return of ${user}`, joinedAnew(user, old), from[index]);
      await room.untilCounts({ alice: 1, bob: 1 });
      assert.equal((await room.push("echo", {})).status, "ok");
    }
  },
};

/** A join of `user` that `old` does not have. Before 1.6, onJoin is given the old metas too, ahead of the new. */
const joinedAnew = (user, old) => {
  const refs = old.map(({ phx_ref }) => phx_ref);
  return ({ kind, key, change }) => kind === "join" && key === user && change.metas.some(({ phx_ref }) => !refs.includes(phx_ref));
};

const options = ({ phoenix }, transport) => ({ phoenix, transport: transportOf(phoenix, transport), heartbeatIntervalMs: HEARTBEAT });

async function end(clients, servers = []) {
  await Promise.all(clients.map((client) => client.close()));
  // 1.4 leaves its heartbeat running when it disconnects.
  for (const { socket } of clients) clearTimeout(socket.heartbeatTimer);
  await Promise.all(servers.map((server) => server.kill()));
}

for (const version of await loadVersions()) {
  describe(`phoenix ${version.name}`, () => {
    let rooms;
    const clients = [];
    const connect = (user, given) => {
      const client = new Client(rooms.url, user, { phoenix: version.phoenix, ...given });
      clients.push(client);
      return client;
    };

    before(async () => {
      rooms = await startRooms();
    });
    afterEach(async () => {
      await end(clients.splice(0));
      rooms.assertAlive();
    });
    after(() => rooms.kill());

    for (const transport of ["websocket", "longpoll"]) {
      for (const [name, scenario] of Object.entries(SCENARIOS)) {
        // Rooms of its own for each transport: who disconnects from a long poll is there until its session ends.
        test(`${transport}: ${name}`, (t) => {
          const over = (user, given) => inTransport(connect(user, { ...options(version, transport), ...given }), transport);
          return scenario({ connect: over, options, transport, version }, t);
        });
      }
    }

    test("long poll where WebSocket is refused", async (t) => {
      if (!version.canFallBack) return t.skip("not in this version");
      const client = connect("alice", { transport: RefusedWebSocket, longPollFallbackMs: 50, sessionStorage: memory() });
      const alice = await client.join("room:fallback");
      assert.ok(client.socket.conn instanceof version.phoenix.LongPoll);
      await alice.untilCounts({ alice: 1 });
      assert.equal((await alice.push("echo", {})).status, "ok");
    });
  });
}

/** Names the rooms that are joined after the transport, so that its scenarios don't meet those of another. */
function inTransport(client, transport) {
  const join = client.join.bind(client);
  client.join = (topic, params) => join(`${topic}:${transport}`, params);
  return client;
}

/** The storage that a browser has for a tab. */
function memory() {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
}
