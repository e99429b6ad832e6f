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

/** The keys of which `onJoin` told a ref that was there already. */
function repeated(room) {
  const refs = (presence) => (presence?.metas ?? []).map((meta) => meta.phx_ref);
  const joins = room.reports.filter(({ kind }) => kind === "join");
  return joins.filter(({ current, change }) => refs(change).some((ref) => refs(current).includes(ref))).map(({ key }) => key);
}

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

    const connect = (userId) => {
      const client = new Client(rooms.url, userId);
      clients.push(client);
      return client;
    };

    /** Nobody but oneself may be told twice, and oneself at an interval of 0 only, as in Phoenix. */
    const check = (room, userId) => {
      const twice = repeated(room);
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
  });
}

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
        assert.deepEqual(repeated(room), []);
      }
      // Each that came back took the place of the one before.
      const left = stay[0].room.reports.filter(({ kind }) => kind === "leave");
      for (const { current } of left) assert.notDeepEqual(current.metas, [], "nobody was seen to leave");
    }));
});
