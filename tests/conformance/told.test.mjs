// Every callback of the phoenix package is watched: nobody is told twice that somebody joined, and all count right.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { Client } from "./lib/client.mjs";
import { startRooms } from "./lib/rooms.mjs";

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
      // Together more than the kernel and the server hold for a socket.
      const updates = 800;
      const text = "x".repeat(7000);
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
      for (let n = 0; n < updates; n += 1) await stays.push("update", { n, text });
      const counts = Object.fromEntries(["slow", "stays", ...users.slice(2)].map((user) => [user, 1]));
      const last = ({ presence }) => presence.state.stays?.metas[0].n === updates - 1;
      await stays.until("the last update", () => last(stays));
      await stays.untilCounts(counts);
      assert.equal(room.states, 1);
      slow.resume();
      await room.until("the last update", () => last(room));
      await room.untilCounts(counts);
      assert.equal(room.states, 2, "the state is sent again");
      if (diffInterval !== 0) check(room, "slow");
    });
  });
}

describe("a thousand clients of the phoenix package", () => {
  test("who join one room at once are told each ref once", { timeout: 240_000 }, async () => {
    const rooms = await startRooms();
    const users = [...Array(1000).keys()].map((n) => `user-${n}`);
    const clients = users.map((user) => new Client(rooms.url, user, { isInCrowd: true, timeout: 120_000 }));
    try {
      const joined = await Promise.all(clients.map((client) => client.join("room:crowd")));
      const counts = Object.fromEntries(users.map((user) => [user, 1]));
      for (const room of joined) await room.untilCounts(counts, { deadline: 120_000 });
      assert.deepEqual(
        joined.flatMap(({ repeated }) => repeated),
        [],
      );
      rooms.assertAlive();
    } finally {
      await Promise.all(clients.map((client) => client.close()));
      await rooms.kill();
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
