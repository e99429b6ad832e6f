// The configurations of docs/proxies: two nodes are deployed one after the other, and nobody notices.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { LongPoll } from "phoenix";

import { DEADLINE, Signal } from "../lib/until.mjs";
import { Client } from "./lib/client.mjs";
import { Engine, freePort } from "../lib/engine.mjs";
import { startProxy } from "./lib/proxy.mjs";
import { startRooms } from "./lib/rooms.mjs";

const SOCKETS = 40;
const POLLS = 10;
/** How long a client may be away, in milliseconds, besides what a slow machine takes: four times what it took all to join. */
const AWAY = 3_000;

/** A client of the room that notes how long it was away. */
class Member {
  #changes = new Signal();
  #left = undefined;
  longest = 0;
  joins = 0;

  constructor(url, userId, options) {
    this.userId = userId;
    this.client = new Client(url, userId, options);
    this.client.socket.onClose(() => (this.#left ??= performance.now()));
  }

  async join(topic) {
    this.room = await this.client.join(topic);
    // phoenix.js keeps its push of the join, and this hook of it, for each time that it joins again.
    this.room.channel.joinPush.receive("ok", () => this.#joined());
    this.joins = 1;
  }

  #joined() {
    if (this.#left === undefined) return;
    this.longest = Math.max(this.longest, performance.now() - this.#left);
    this.#left = undefined;
    this.joins += 1;
    this.#changes.changed();
  }

  /** Resolves once it has joined, and is in now. */
  untilIn() {
    return this.#changes.until(`${this.userId} is back`, () => this.#left === undefined, { state: () => this.joins });
  }
}

for (const sample of ["nginx.conf", "haproxy.cfg"]) {
  describe(`two nodes behind ${sample}`, () => {
    let engine;
    let proxy;
    let addresses;
    const nodes = [];
    const members = [];

    const start = async (index) => {
      nodes[index] = await startRooms({ pubsub: engine.url(), node: `node-${index}`, listen: addresses[index] });
    };
    const enter = async (userId, options) => {
      const member = new Member(proxy.url, userId, options);
      members.push(member);
      await member.join("room:deploy");
      return member;
    };
    /** Ends a node as a deploy does, and starts it again once all of its clients are elsewhere. */
    const deploy = async (index) => {
      await nodes[index].stop();
      await Promise.all(members.map((member) => member.untilIn()));
      await start(index);
    };

    before(async () => {
      engine = await Engine.start("redis");
      addresses = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
      await Promise.all([start(0), start(1)]);
      proxy = await startProxy(sample, addresses);
    });
    afterEach(async () => {
      await Promise.all(members.splice(0).map((member) => member.client.close()));
    });
    after(async () => {
      await proxy?.kill();
      await Promise.all(nodes.map((node) => node.kill()));
      await engine.kill();
    });

    test("a rolling deploy under load is seen by nobody", async (context) => {
      const store = () => {
        const items = new Map();
        return { getItem: (key) => items.get(key), setItem: (key, value) => items.set(key, value) };
      };
      const began = performance.now();
      await Promise.all([
        ...Array.from({ length: SOCKETS }, (_, n) =>
          enter(`socket-${n}`, { longPollFallbackMs: DEADLINE, sessionStorage: store() })),
        ...Array.from({ length: POLLS }, (_, n) => enter(`poll-${n}`, { transport: LongPoll, sessionStorage: store() })),
      ]);
      const joined = performance.now() - began;
      const here = Object.fromEntries(members.map(({ userId }) => [userId, 1]));
      await Promise.all(members.map(({ room }) => room.untilCounts(here)));
      const before = members.map(({ room }) => room.reports.length);

      // WebSockets that come while a node is away must not spoil it for the other one (nginx: max_fails).
      for (const index of [0, 1, 0]) {
        await deploy(index);
        await enter(`late-${members.length}`, { longPollFallbackMs: DEADLINE, sessionStorage: store() });
      }

      const away = members.map(({ longest }) => longest);
      const most = (kind) =>
        Math.round(Math.max(...members.filter(({ userId }) => userId.startsWith(kind)).map(({ longest }) => longest)));
      const moved = members.filter(({ joins }) => joins > 1).length;
      context.diagnostic(`${moved} of ${members.length} moved; sockets away for ${most("socket")} ms at most, polls for ${most("poll")} ms; to join took ${Math.round(joined)} ms`);
      assert.ok(moved >= SOCKETS + POLLS, "the deploy of all nodes moves everybody");
      assert.ok(Math.max(...away) < AWAY + 4 * joined, `${Math.max(...away)} ms, and to join took ${joined} ms`);
      for (const [index, { room, client, userId }] of members.entries()) {
        const absent = room.reports
          .slice(before[index] ?? 0)
          .filter(({ kind, current }) => kind === "leave" && current.metas.length === 0);
        assert.deepEqual(absent, [], `${userId} sees nobody leave`);
        assert.equal(client.socket.transport === LongPoll, userId.startsWith("poll-"), `${userId} keeps its transport`);
      }
    });

    test("a batch that a long poll posts arrives", async () => {
      const member = await enter("poster", { transport: LongPoll });
      const text = "x".repeat(100_000);
      const pushes = Array.from({ length: 12 }, () => member.room.push("echo", { text }));
      for (const { status } of await Promise.all(pushes)) assert.equal(status, "ok");
    });
  });
}
