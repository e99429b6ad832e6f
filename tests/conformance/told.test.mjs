// Every callback of the phoenix package is watched: nobody is told twice that somebody joined, and all count right.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";

import { Client } from "./lib/client.mjs";
import { startProfiles, startRooms } from "./lib/rooms.mjs";

const PACES = [
  { name: "the default", diffInterval: undefined },
  { name: "an interval of 50 ms", diffInterval: 50 },
  { name: "an interval of 0", diffInterval: 0 },
];

for (const { name, diffInterval } of PACES) {
  describe(`the phoenix package at ${name}`, () => {
    let rooms;
    const clients = [];

    before(async () => {
      rooms = await startRooms({ diffInterval });
    });
    afterEach(async () => {
      await Promise.all(clients.splice(0).map((client) => client.close()));
      rooms.assertAlive();
    });
    after(() => rooms.kill());

    const connect = (userId, options) => {
      const client = new Client(rooms.url, userId, options);
      clients.push(client);
      return client;
    };

    /** Nobody but oneself may be told twice, and oneself at an interval of 0 only, as in Phoenix. */
    const check = (room, userId) => {
      const twice = room.repeated;
      assert.deepEqual(twice, diffInterval === 0 ? twice.filter((key) => key === userId) : [], userId);
    };

    test("some who join one after the other", async () => {
      const users = ["alice", "bob", "carol", "dave"];
      const joined = [];
      for (const user of users) joined.push([user, await connect(user).join("room:row")]);
      const counts = Object.fromEntries(users.map((user) => [user, 1]));
      for (const [user, room] of joined) {
        await room.untilCounts(counts);
        check(room, user);
      }
    });

    test("a storm, with two tabs of some and updates in between", async () => {
      const users = [...Array(200).keys()].map((n) => `user-${n % 160}`);
      const joined = await Promise.all(
        users.map(async (user, n) => {
          const room = await connect(user).join("room:storm");
          if (n % 5 === 0) await room.push("update", { status: `${n}` });
          return [user, room];
        }),
      );
      const counts = {};
      for (const user of users) counts[user] = (counts[user] ?? 0) + 1;
      for (const [, room] of joined) await room.untilCounts(counts);
      // At 0 nothing is held, as in Phoenix: a diff may come between the reply and the state, which phoenix.js then
      // applies once more.
      if (diffInterval !== 0) for (const [user, room] of joined) check(room, user);
    });

    // Windows of 50 ms make too few diffs of the same updates.
    const skip = diffInterval === 50;
    test("a reader who is too slow, while others come, go and update", { skip }, async () => {
      // Together more than the kernel and the server hold for a socket, though compression takes a quarter off.
      const updates = 2000;
      const text = randomBytes(5_250).toString("base64");
      const inCrowd = { isInCrowd: true };
      const slow = connect("slow", inCrowd);
      const room = await slow.join("room:slow");
      const stays = await connect("stays", inCrowd).join("room:slow");
      slow.pause();
      const users = [...Array(6).keys()].map((n) => `user-${n}`);
      const tabs = await Promise.all(
        users.map((user) => connect(user, inCrowd).join("room:slow")),
      );
      await Promise.all(tabs.slice(0, 2).map((tab) => tab.leave()));
      const hasSeen = (n, { presence }) => presence.state.stays?.metas[0].n === n;
      for (let n = 0; n < updates; n += 1) {
        await stays.push("update", { n, text });
        // One by one: a busy server would put several into one diff.
        await stays.until("the update", () => hasSeen(n, stays));
      }
      const counts = Object.fromEntries(["slow", "stays", ...users.slice(2)].map((user) => [user, 1]));
      await stays.untilCounts(counts);
      assert.equal(room.states, 1);
      slow.resume();
      await room.until("the last update", () => hasSeen(updates - 1, room));
      await room.untilCounts(counts);
      assert.equal(room.states, 2, "the state is sent again");
      if (diffInterval !== 0) check(room, "slow");
    });
  });
}

describe("a thousand tabs of the phoenix package", () => {
  test("which join one room at once are told each ref once, and never count wrong", { timeout: 240_000 }, async () => {
    const profiles = await startProfiles();
    const topic = "room:crowd";
    const patience = 120_000;
    const users = [...Array(1000).keys()].map((n) => `user-${n % 900}`);
    const slowUsers = ["slow-0", "slow-1", "slow-2"];
    const counts = { stays: 1 };
    for (const user of [...slowUsers, ...users]) counts[user] = (counts[user] ?? 0) + 1;
    /** The keys of which anybody counted too many, at any time. */
    const wrong = [];
    const clients = [];
    const connect = (user) => {
      const client = new Client(profiles.url, user, {
        isInCrowd: true,
        onSync: ({ presence: { state } }) => {
          for (const key in state) if (state[key].metas.length > counts[key]) wrong.push(key);
        },
        timeout: patience,
        // A client that doesn't read hears no answer to its heartbeats.
        heartbeatIntervalMs: 600_000,
      });
      clients.push(client);
      return client;
    };
    const join = async (user) => {
      const client = connect(user);
      return { client, room: await client.join(topic) };
    };
    /** How often each user has edited their profile. */
    const edits = {};
    const edit = async (user, room) => {
      edits[user] = (edits[user] ?? 0) + 1;
      assert.equal((await room.push("edit", {})).status, "ok");
    };
    try {
      const slow = await Promise.all(slowUsers.map(join));
      const { room: stays } = await join("stays");
      for (const { room } of slow) await room.until("somebody", () => room.presence.state.stays !== undefined);
      for (const { client } of slow) client.pause();
      // More than the server and the kernel hold for one that doesn't read.
      const text = "x".repeat(7000);
      for (let n = 0; n < 60; n += 1) await stays.push("update", { n, text });
      await stays.push("update", { n: 60 });
      // Some of the crowd are there before it, and are reloaded while all others come.
      const reloaded = await Promise.all(users.slice(0, 40).map(join));
      const open = await profiles.openSockets();
      await Promise.all(reloaded.map(({ client }) => client.close()));
      while ((await profiles.openSockets()) > open - reloaded.length);

      const crowd = await Promise.all(
        users.map(async (user, n) => {
          const { room } = await join(user);
          if (n % 25 === 0) await room.push("update", { n });
          if (n % 100 === 1) await edit(user, room);
          return room;
        }),
      );
      await edit("stays", stays);
      for (const { client } of slow) client.resume();
      const all = Object.entries(counts);
      const rooms = [...slow.map(({ room }) => room), stays, ...crowd];
      for (const room of rooms) {
        // Cheaper than to compare sorted texts.
        const isWhole = () => {
          const { state } = room.presence;
          const isRight = ([user, count]) =>
            state[user]?.metas.length === count && state[user].edits === (edits[user] ?? 0);
          return Object.keys(state).length === all.length && all.every(isRight);
        };
        await room.until("all, with their new profiles", isWhole, { deadline: patience });
        // A refresh joins its key again, by intent.
        assert.deepEqual(room.repeated.filter((key) => edits[key] === undefined), []);
      }
      assert.deepEqual(wrong, []);
      for (const { room } of slow) assert.ok(room.states > 1, "the state is sent again");
      profiles.assertAlive();
    } finally {
      await Promise.all(clients.map((client) => client.close()));
      await profiles.kill();
    }
  });
});

describe("the phoenix package under linger", () => {
  const withRooms = async (use) => {
    const rooms = await startRooms({ linger: 10_000 });
    const clients = [];
    const connect = (userId) => {
      const client = new Client(rooms.url, userId);
      clients.push(client);
      return client;
    };
    try {
      await use(connect);
      rooms.assertAlive();
    } finally {
      await Promise.all(clients.map((client) => client.close()));
      await rooms.kill();
    }
  };

  test("tabs that are reloaded", () =>
    withRooms(async (connect) => {
      const users = [...Array(60).keys()].map((n) => `user-${n % 40}`);
      const tabs = await Promise.all(
        users.map(async (user) => {
          const client = connect(user);
          return { user, client, room: await client.join("room:reload") };
        }),
      );
      const counts = {};
      for (const user of users) counts[user] = (counts[user] ?? 0) + 1;
      for (const { room } of tabs) await room.untilCounts(counts);
      const [gone, stay] = [tabs.filter((_, n) => n % 3 === 0), tabs.filter((_, n) => n % 3 !== 0)];
      await Promise.all(gone.map(({ client }) => client.close()));
      const back = await Promise.all(gone.map(async ({ user }) => ({ user, room: await connect(user).join("room:reload") })));
      for (const { room } of [...stay, ...back]) {
        await room.untilCounts(counts);
        assert.deepEqual(room.repeated, []);
      }
      // Each that came back took the place of the one before.
      const left = stay[0].room.reports.filter(({ kind }) => kind === "leave");
      for (const { current } of left) assert.notDeepEqual(current.metas, [], "nobody was seen to leave");
    }));
});
