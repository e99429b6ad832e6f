// The promises of a cluster of `rooms` to the clients of its nodes, over a real engine.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { Client } from "./client.mjs";
import { Engine, Wire, freePort } from "../../lib/engine.mjs";
import { startRooms } from "./rooms.mjs";

/** How long a lost node may take to be missed, in milliseconds, on a machine that does much else meanwhile. */
const NOTICED = 10_000;

/** Runs all scenarios over an engine. */
export function describeCluster(kind) {
  describe(`three nodes over ${kind}`, () => {
    let engine;
    const nodes = new Map();
    const clients = [];
    const wires = [];

    /** Starts a node, or starts it again at its old address. */
    const start = async (name, { port = engine.port, listen } = {}) => {
      const node = await startRooms({ pubsub: engine.url(port), node: name, diffInterval: 0, listen });
      nodes.set(name, node);
      return node;
    };
    const startAll = () => Promise.all(["a", "b", "c"].map((name) => start(name)));
    const connect = (node, userId) => {
      const client = new Client(node.url, userId);
      clients.push(client);
      return client;
    };
    /** One user on each node, all in one room, all of whom see all. */
    const roomOfThree = async (rooms, topic) => {
      const joined = await Promise.all(rooms.map((node, index) => connect(node, `user-${index}`).join(topic)));
      for (const room of joined) await room.untilCounts({ "user-0": 1, "user-1": 1, "user-2": 1 });
      return joined;
    };

    before(async () => {
      engine = await Engine.start(kind);
    });
    afterEach(async () => {
      await Promise.all(clients.splice(0).map((client) => client.close()));
      await Promise.all([...nodes.values()].map((node) => node.kill()));
      nodes.clear();
      wires.splice(0).forEach((wire) => wire.close());
    });
    after(() => engine.kill());

    test("a user who joins, changes and leaves on one node is seen on all", async () => {
      const rooms = await startAll();
      const [a, b, c] = await roomOfThree(rooms, "room:seen");
      assert.deepEqual(b.here(), a.here());
      await a.push("update", { status: "away" });
      await c.untilReport("the change", ({ kind, change }) => kind === "join" && change.metas[0].status === "away");
      await b.leave();
      const left = await a.untilReport("onLeave", ({ kind, key }) => kind === "leave" && key === "user-1");
      assert.equal(left.change.metas[0].phx_reason, "left");
      await c.untilCounts({ "user-0": 1, "user-2": 1 });
    });

    test("broadcasts reach the clients of all nodes", async () => {
      const rooms = await startAll();
      const [a, b, c] = await roomOfThree(rooms, "room:shout");
      a.cast("shout", { text: "hi" });
      for (const room of [a, b, c]) assert.deepEqual((await room.untilEvent("shout")).payload, { text: "hi" });
    });

    test("a node that is killed is missed, and no other", async () => {
      const rooms = await startAll();
      const [, b, c] = await roomOfThree(rooms, "room:killed");
      const killed = performance.now();
      await rooms[0].kill();
      for (const room of [b, c]) {
        const left = await room.untilReport("onLeave", ({ kind }) => kind === "leave");
        assert.equal(left.key, "user-0");
        assert.equal(left.change.metas[0].phx_reason, "unreachable");
        assert.ok(performance.now() - killed < NOTICED);
        await room.untilCounts({ "user-1": 1, "user-2": 1 });
      }
    });

    test("a node that is stopped for a while is missed, and comes back with all of its people", async () => {
      const rooms = await startAll();
      const [a, b, c] = await roomOfThree(rooms, "room:stopped");
      const before = b.here()["user-0"];
      rooms[0].pause();
      for (const room of [b, c]) await room.untilCounts({ "user-1": 1, "user-2": 1 });
      await new Promise((resolve) => setTimeout(resolve, 6_000));
      rooms[0].resume();
      for (const room of [b, c]) {
        const here = await room.untilCounts({ "user-0": 1, "user-1": 1, "user-2": 1 });
        assert.deepEqual(here["user-0"], before, "the same presence, not another");
      }
      const missed = a.reports.filter(({ kind }) => kind === "leave");
      assert.deepEqual(missed, [], "it doesn't take its own sleep for the silence of others");
    });

    test("an engine that is killed and started again costs nobody a leave", async () => {
      const rooms = await startAll();
      const all = await roomOfThree(rooms, "room:engine");
      await engine.kill();
      // Longer than a silence that would count on a network that is there.
      await new Promise((resolve) => setTimeout(resolve, 4_500));
      assert.equal((await all[0].push("echo", { still: "here" })).status, "ok", "a node works on by itself");
      const late = await connect(rooms[1], "late").join("room:engine");
      await engine.start();
      for (const room of [...all, late]) {
        await room.untilCounts({ "user-0": 1, "user-1": 1, "user-2": 1, late: 1 });
        assert.deepEqual(room.reports.filter(({ kind }) => kind === "leave"), []);
      }
    });

    test("a node that is cut off is missed, and all lists are equal once it is back", async () => {
      const wire = await Wire.to(engine.port);
      wires.push(wire);
      const rooms = [await start("a"), await start("b"), await start("c", { port: wire.port })];
      const [a, b, c] = await roomOfThree(rooms, "room:cut");
      wire.cut();
      for (const room of [a, b]) await room.untilCounts({ "user-0": 1, "user-1": 1 });
      await connect(rooms[2], "islander").join("room:cut");
      await b.leave();
      wire.mend();
      for (const room of [a, c]) await room.untilCounts({ "user-0": 1, "user-2": 1, islander: 1 });
      assert.deepEqual(sorted(a.here()), sorted(c.here()));
    });

    test("a rolling restart is seen by nobody", async () => {
      const ports = [await freePort(), await freePort(), await freePort()];
      const names = ["a", "b", "c"];
      const addresses = ports.map((port) => `127.0.0.1:${port}`);
      await Promise.all(names.map((name, index) => start(name, { listen: addresses[index] })));
      const rooms = names.map((name) => nodes.get(name));
      const all = await roomOfThree(rooms, "room:deploy");
      for (const [index, name] of names.entries()) {
        const refs = all[index].here()[`user-${index}`].map(({ phx_ref }) => phx_ref);
        await nodes.get(name).stop();
        await start(name, { listen: addresses[index] });
        // Its client is back, with a presence of the new node's.
        for (const room of all) {
          const isNew = ({ kind, key, change }) =>
            kind === "join" && key === `user-${index}` && !refs.includes(change.metas[0].phx_ref);
          await room.untilReport("the new presence", isNew);
        }
      }
      for (const room of all) {
        await room.untilCounts({ "user-0": 1, "user-1": 1, "user-2": 1 });
        const absent = room.reports.filter(({ kind, current }) => kind === "leave" && current.metas.length === 0);
        assert.deepEqual(absent, [], "no key was ever absent");
      }
    });

    test("a node of a name that is taken is named, and nobody is missed", async () => {
      const rooms = await startAll();
      const all = await roomOfThree(rooms, "room:twin");
      const twin = await startRooms({ pubsub: engine.url(), node: "a", diffInterval: 0 });
      nodes.set("twin", twin);
      await twin.untilError(/another node of this name is alive.*/);
      for (const room of all) assert.deepEqual(room.reports.filter(({ kind }) => kind === "leave"), []);
    });
  });
}

const sorted = (here) => Object.entries(here).sort(([a], [b]) => (a < b ? -1 : 1));
