// The real phoenix package against `rooms`: what a browser's code sees.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { Client, settled } from "./lib/client.mjs";
import { refusal } from "./lib/raw.mjs";
import { INTERVALS, startRooms } from "./lib/rooms.mjs";

for (const { name, diffInterval } of INTERVALS) {
  describe(`the phoenix package at ${name}`, () => {
    let rooms;
    const clients = [];

    const connect = (userId, options) => {
      const client = new Client(rooms.url, userId, options);
      clients.push(client);
      return client;
    };

    before(async () => {
      rooms = await startRooms({ diffInterval });
    });
    afterEach(async () => {
      await Promise.all(clients.splice(0).map((client) => client.close()));
      rooms.assertAlive();
    });
    after(() => rooms.kill());

    test("join, onSync, onJoin and list", async () => {
      const alice = await connect("alice").join("room:join");
      const { alice: own } = await alice.untilCounts({ alice: 1 });
      assert.match(own[0].online_at, /^\d+$/);
      assert.match(own[0].phx_ref, /^\S+$/);
      await alice.untilReport("onSync", ({ kind }) => kind === "sync");
      const joined = await alice.untilReport("onJoin of herself", ({ kind, key }) => kind === "join" && key === "alice");
      assert.equal(joined.current, undefined, "nobody was there under this key");
      assert.deepEqual(joined.change.metas, own);

      const before = alice.reports.length;
      const bob = await connect("bob").join("room:join");
      const seenByBob = await bob.untilCounts({ alice: 1, bob: 1 });
      const seenByAlice = await alice.untilCounts({ alice: 1, bob: 1 });
      assert.deepEqual(seenByAlice, seenByBob);
      const bobs = await alice.untilReport("onJoin of bob", ({ kind, key }) => kind === "join" && key === "bob", before);
      assert.deepEqual(bobs.change.metas, seenByAlice.bob);
    });

    test("onLeave after a leave", async () => {
      const alice = await connect("alice").join("room:leave");
      const bob = await connect("bob").join("room:leave");
      const { bob: bobs } = await alice.untilCounts({ alice: 1, bob: 1 });
      assert.equal((await bob.leave()).status, "ok");
      await bob.untilEvent("phx_close");
      await alice.untilCounts({ alice: 1 });
      const left = await alice.untilReport("onLeave of bob", ({ kind, key }) => kind === "leave" && key === "bob");
      assert.deepEqual(left.current.metas, []);
      assert.equal(left.change.metas[0].phx_ref, bobs[0].phx_ref);
      assert.equal((await alice.push("echo", { still: "here" })).status, "ok");
    });

    test("two connections under one key are one key with two metas", async () => {
      const bob = await connect("bob").join("room:tabs");
      const tabs = [await connect("alice").join("room:tabs"), await connect("alice").join("room:tabs")];
      const { alice: metas } = await bob.untilCounts({ alice: 2, bob: 1 });
      for (const tab of tabs) assert.deepEqual((await tab.untilCounts({ alice: 2, bob: 1 })).alice, metas);
      assert.notEqual(metas[0].phx_ref, metas[1].phx_ref);

      await tabs[0].leave();
      const { alice: rest } = await bob.untilCounts({ alice: 1, bob: 1 });
      assert.deepEqual(rest, [metas[1]], "the first tab left, the second stays");
      const left = await bob.untilReport("onLeave of one tab", ({ kind, key }) => kind === "leave" && key === "alice");
      assert.deepEqual(left.current.metas, rest, "onLeave says who stays under the key");

      await tabs[1].leave();
      await bob.untilCounts({ bob: 1 });
    });

    test("update replaces the meta and names the one before", async () => {
      const alice = await connect("alice").join("room:update");
      const bob = await connect("bob").join("room:update");
      let before = (await bob.untilCounts({ alice: 1, bob: 1 })).alice[0];
      for (const status of ["away", "back"]) {
        const from = bob.reports.length;
        const reply = await alice.push("update", { status });
        assert.equal(reply.status, "ok");
        const { phx_ref: ref } = reply.response;
        assert.notEqual(ref, before.phx_ref);
        await bob.untilReport(`the update to ${status}`, ({ kind, change }) => kind === "leave" && change.metas[0].phx_ref === before.phx_ref, from);
        const { alice: metas } = await bob.untilCounts({ alice: 1, bob: 1 });
        assert.deepEqual(metas, [{ online_at: before.online_at, status, phx_ref: ref, phx_ref_prev: before.phx_ref }]);
        const join = bob.reports.slice(from).find(({ kind, key }) => kind === "join" && key === "alice");
        assert.deepEqual(join.current.metas.map(({ phx_ref }) => phx_ref), [before.phx_ref], "onJoin says what was there");
        before = metas[0];
      }
    });

    test("many updates at once end with the last", async () => {
      const alice = await connect("alice").join("room:updates");
      const bob = await connect("bob").join("room:updates");
      await bob.untilCounts({ alice: 1, bob: 1 });
      const replies = await Promise.all(Array.from({ length: 100 }, (_, n) => alice.push("update", { n })));
      const last = replies.at(-1).response.phx_ref;
      for (const room of [alice, bob]) {
        await room.untilReport("the last update", ({ kind, key, change }) => kind === "join" && key === "alice" && change.metas.some(({ phx_ref }) => phx_ref === last));
        const { alice: metas } = await room.untilCounts({ alice: 1, bob: 1 });
        assert.equal(metas[0].n, 99);
        assert.equal(metas[0].phx_ref, last);
      }
    });

    test("untrack and track", async () => {
      const alice = await connect("alice").join("room:untrack");
      const bob = await connect("bob").join("room:untrack");
      await bob.untilCounts({ alice: 1, bob: 1 });
      assert.equal((await alice.push("untrack", {})).status, "ok");
      await bob.untilCounts({ bob: 1 });
      assert.equal((await alice.push("echo", {})).status, "ok", "untrack does not end the channel");

      const tracked = await alice.push("track", { m: 1 });
      const { alice: metas } = await bob.untilCounts({ alice: 1, bob: 1 });
      assert.deepEqual(metas, [{ m: 1, phx_ref: tracked.response.phx_ref }]);
      const again = await alice.push("track", { m: 2 });
      assert.equal(again.status, "error");
      assert.equal(typeof again.response.reason, "string");
      assert.equal((await alice.push("echo", {})).status, "ok", "a second track does not end the channel");
    });

    test("a connection that is cut is a leave", async () => {
      const alice = await connect("alice").join("room:cut");
      // This one stays away, so that the leave is seen alone.
      const bob = connect("bob", { reconnectAfterMs: () => 3_600_000 });
      await bob.join("room:cut");
      const { bob: bobs } = await alice.untilCounts({ alice: 1, bob: 1 });
      bob.cut();
      await alice.untilCounts({ alice: 1 });
      const left = await alice.untilReport("onLeave of bob", ({ kind, key }) => kind === "leave" && key === "bob");
      assert.equal(left.change.metas[0].phx_ref, bobs[0].phx_ref);
    });

    test("a client whose connection was cut comes back by itself", async () => {
      const alice = await connect("alice").join("room:back");
      const bob = connect("bob");
      const bobsRoom = await bob.join("room:back");
      const { bob: before } = await bobsRoom.untilCounts({ alice: 1, bob: 1 });
      const from = alice.reports.length;
      const bobsFrom = bobsRoom.reports.length;
      bob.cut();
      await bob.connected(2);
      const renewed = ({ kind, key, change }) => kind === "join" && key === "bob" && change.metas[0].phx_ref !== before[0].phx_ref;
      await alice.untilReport("bob's return", renewed, from);
      await bobsRoom.untilReport("his own return", renewed, bobsFrom);
      assert.deepEqual(await bobsRoom.untilCounts({ alice: 1, bob: 1 }), await alice.untilCounts({ alice: 1, bob: 1 }));
    });

    test("replies: ok, error, none", async () => {
      for (const topic of ["room:replies", "plain:replies"]) {
        const room = await connect("alice").join(topic);
        const payload = { n: 1, f: 1.5, s: 'grün € 😀 "q" / \\ \u0001 <tag>', nul: null, arr: [1, [2]], deep: { er: {} } };
        assert.deepEqual(await room.push("echo", payload), { status: "ok", response: payload });
        assert.deepEqual(await room.push("fail", { reason: "no" }), { status: "error", response: { reason: "no" } });
        const unanswered = await room.push("shout", { body: "to nobody" }, 100);
        assert.equal(unanswered.status, "timeout");
      }
    });

    test("shout reaches everyone, shout_from everyone else, in both kinds of room", async () => {
      for (const topic of ["room:shout", "plain:shout"]) {
        const alice = await connect("alice").join(topic);
        const bob = await connect("bob").join(topic);
        const elsewhere = await connect("carol").join(`${topic}:elsewhere`);
        const others = await alice.push("shout_from", { body: "others" });
        assert.deepEqual(others, { status: "ok", response: {} });
        alice.cast("shout", { body: "all" });
        assert.deepEqual((await alice.untilEvent("shout")).payload, { body: "all" }, "not her own shout_from");
        await bob.untilEvent("shout", 1);
        assert.deepEqual(bob.events.map(({ payload }) => payload), [{ body: "others" }, { body: "all" }]);
        assert.equal((await elsewhere.push("echo", {})).status, "ok");
        assert.deepEqual(elsewhere.events, []);
      }
    });

    test("a plain room tells nothing of presence", async () => {
      const alice = await connect("alice").join("plain:quiet");
      const bob = await connect("bob").join("plain:quiet");
      bob.cast("shout", { after: "joining" });
      await alice.untilEvent("shout");
      assert.deepEqual(alice.reports, []);
    });

    test("a channel that crashes comes back, and its neighbours never notice", async () => {
      const bob = await connect("bob").join("room:crash");
      const client = connect("alice");
      const alice = await client.join("room:crash");
      const neighbour = await client.join("plain:neighbour");
      const { alice: before } = await bob.untilCounts({ alice: 1, bob: 1 });
      const from = bob.reports.length;
      alice.cast("crash", {});
      await alice.untilEvent("phx_error");
      await bob.untilReport("alice's return", ({ kind, key, change }) => kind === "join" && key === "alice" && change.metas[0].phx_ref !== before[0].phx_ref, from);
      await bob.untilCounts({ alice: 1, bob: 1 });
      await alice.untilCounts({ alice: 1, bob: 1 });
      assert.deepEqual(await alice.push("echo", { back: true }), { status: "ok", response: { back: true } });
      assert.deepEqual(await neighbour.push("echo", { n: 1 }), { status: "ok", response: { n: 1 } });
      assert.deepEqual(neighbour.events, []);
    });

    test("a channel that stops is closed for good", async () => {
      const bob = await connect("bob").join("room:stop");
      for (const event of ["stop", "stop_reply"]) {
        const alice = await connect("alice").join("room:stop");
        await bob.untilCounts({ alice: 1, bob: 1 });
        if (event === "stop") alice.cast("stop", {});
        else assert.equal((await alice.push("stop_reply", {})).status, "ok");
        await alice.untilEvent("phx_close");
        assert.equal(alice.channel.state, "closed");
        await bob.untilCounts({ bob: 1 });
      }
    });

    test("a leave and a new join on the same socket", async () => {
      const client = connect("alice");
      const first = await client.join("room:again");
      await first.untilCounts({ alice: 1 });
      await first.leave();
      const second = await client.join("room:again");
      await second.untilCounts({ alice: 1 });
      assert.equal((await second.push("echo", {})).status, "ok");
    });

    test("a join that is denied says why", async () => {
      const client = connect("alice");
      const channel = client.socket.channel("room:denied");
      assert.deepEqual(await settled(channel.join()), { status: "error", response: { reason: "unauthorized" } });
      channel.leave();
      const unmatched = client.socket.channel("nosuch:topic");
      assert.deepEqual(await settled(unmatched.join()), { status: "error", response: { reason: "unmatched topic" } });
      unmatched.leave();
      assert.equal((await (await client.join("room:allowed")).push("echo", {})).status, "ok");
    });

    test("nobody connects without a user id", async () => {
      assert.equal(await refusal(rooms.endpoint({ vsn: "2.0.0" })), 403);
    });

    test("fifty clients end with the same list, and so do those who stay", async () => {
      const users = Array.from({ length: 50 }, (_, n) => `user-${n}`);
      const everyone = await Promise.all(users.map((user) => connect(user).join("room:many")));
      await sameList(everyone, users);
      await Promise.all(everyone.slice(0, 25).map((room) => room.leave()));
      await sameList(everyone.slice(25), users.slice(25));
    });
  });

  for (const end of ["kill", "stop"]) test(`a server that ends by ${end} and is started again, at ${name}`, async (t) => {
    const first = await startRooms({ diffInterval });
    const alice = new Client(first.url, "alice");
    const bob = new Client(first.url, "bob");
    const running = [first];
    t.after(async () => {
      await Promise.all([alice.close(), bob.close(), ...running.map((rooms) => rooms.kill())]);
    });
    const rooms = [await alice.join("room:restart"), await bob.join("room:restart")];
    const before = await rooms[0].untilCounts({ alice: 1, bob: 1 });
    await rooms[1].untilCounts({ alice: 1, bob: 1 });
    const from = rooms.map(({ reports }) => reports.length);

    // A stop drains: no phx_close comes, after which phoenix.js would stay away.
    await first[end]();
    assert.deepEqual(rooms.flatMap(({ events }) => events).filter(({ event }) => event === "phx_close"), []);
    await Promise.all(rooms.map((room) => room.untilEvent("phx_error")));
    running.push(await startRooms({ diffInterval, listen: first.address }));
    await Promise.all([alice.connected(2), bob.connected(2)]);

    const old = Object.values(before).flat().map(({ phx_ref }) => phx_ref);
    for (const [index, room] of rooms.entries()) {
      for (const user of ["alice", "bob"]) {
        await room.untilReport(`the return of ${user}`, ({ kind, key, change }) => kind === "join" && key === user && !old.includes(change.metas[0].phx_ref), from[index]);
      }
      await room.untilCounts({ alice: 1, bob: 1 });
    }
    assert.deepEqual(rooms[0].here(), rooms[1].here());
    assert.equal((await rooms[0].push("echo", { again: true })).status, "ok");
  });
}

/** Waits until all rooms list these users, once each, and asserts that they agree on every meta. */
async function sameList(rooms, users) {
  const counts = Object.fromEntries(users.map((user) => [user, 1]));
  const lists = await Promise.all(rooms.map((room) => room.untilCounts(counts)));
  for (const list of lists) assert.deepEqual(list, lists[0]);
}
