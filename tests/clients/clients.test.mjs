// Clients that others have written, through one list of scenarios. The scenarios that a client can't play are named beside it in lib/.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { PHOENIX_CLIENTS } from "./lib/phoenix.mjs";
import { PYTHON_CLIENTS } from "./lib/python.mjs";
import { REALTIME_CLIENTS } from "./lib/realtime-js.mjs";
import { INTERVALS, start } from "./lib/servers.mjs";

const CLIENTS = [...PHOENIX_CLIENTS, ...REALTIME_CLIENTS, ...PYTHON_CLIENTS];

/** Clients that speak where the one under test can't, one for each server. */
const OTHERS = {
  rooms: CLIENTS.find(({ name }) => name.startsWith("@supabase/phoenix")),
  supabase: CLIENTS.find(({ name }) => name.startsWith("@supabase/realtime-js")),
};

/** How the servers refuse the topic `denied`. */
const REFUSALS = { rooms: /unauthorized/, supabase: /Unauthorized/ };

const count = (...users) => {
  const counts = {};
  for (const user of users) counts[user] = (counts[user] ?? 0) + 1;
  return counts;
};

/** Each with what it asks of a client beside joining and listening. */
const SCENARIOS = {
  "pushes are answered, in order": {
    needs: ["echo"],
    run: async ({ join }) => {
      const alice = await join("alice", "replies");
      const payload = { n: 1, s: 'grün € 😀 "q"', nul: null, deep: { er: [{}] } };
      assert.deepEqual(await alice.echo(payload), { status: "ok", response: payload });
      assert.deepEqual(await alice.fail({ reason: "no" }), { status: "error", response: { reason: "no" } });
      const answers = await Promise.all([...Array(50).keys()].map((n) => alice.echo({ n })));
      assert.deepEqual(answers.map(({ response }) => response.n), [...Array(50).keys()]);
    },
  },

  "a join that is denied says why": {
    run: async ({ connect, client }) => {
      const alice = await connect("alice");
      const { status, response } = (await alice.join("denied")).answer;
      assert.equal(status, "error");
      assert.match(response.reason, REFUSALS[client.server]);
    },
  },

  "a broadcast reaches the others": {
    run: async ({ join, joinOther }) => {
      const alice = await join("alice", "broadcast");
      const bob = await joinOther("bob", "broadcast");
      await bob.say({ n: 1, s: "grün € 😀" });
      await alice.untilHeard({ n: 1, s: "grün € 😀" });
    },
  },

  "its broadcast reaches the others, and not itself": {
    needs: ["say"],
    run: async ({ join, joinOther, client }) => {
      const [alice, bob, other] = [await join("alice", "say"), await join("bob", "say"), await joinOther("carol", "say")];
      const answer = await alice.say({ from: "alice" });
      if (!client.lacks.answers) assert.equal(answer.status, "ok");
      await Promise.all([bob, other].map((room) => room.untilHeard({ from: "alice" })));
      await other.say({ from: "carol" });
      await alice.untilHeard({ from: "carol" });
      assert.deepEqual(alice.heard, [{ from: "carol" }]);
    },
  },

  "some who join one after the other see each other once": {
    run: async ({ join }) => {
      const users = ["alice", "bob", "carol"];
      const rooms = [];
      for (const user of users) rooms.push(await join(user, "row"));
      for (const room of rooms) await room.untilHere(count(...users));
    },
  },

  "two devices of one user, of which one goes": {
    run: async ({ join, connect }) => {
      const bob = await join("bob", "devices");
      const first = await connect("alice");
      await first.join("devices");
      const second = await join("alice", "devices");
      for (const room of [bob, second]) await room.untilHere(count("alice", "alice", "bob"));
      await first.close();
      for (const room of [bob, second]) await room.untilHere(count("alice", "bob"));
    },
  },

  "a user who leaves is gone, and may come back": {
    needs: ["leave"],
    run: async ({ join, connect }) => {
      const bob = await join("bob", "leave");
      const alice = await connect("alice");
      const room = await alice.join("leave");
      const old = await bob.untilHere(count("alice", "bob"));
      // In version 1 no message names its join: what is under way to the first would reach the second, if the client
      // joins again before the leave is answered.
      await room.untilHere(count("alice", "bob"));
      assert.equal((await room.leave()).status, "ok");
      await bob.untilHere(count("bob"));
      const again = await alice.join("leave");
      assert.equal(again.answer.status, "ok");
      for (const seen of [bob, again]) await seen.untilHere(count("alice", "bob"));
      await bob.untilHere(count("alice", "bob"), (metas) => metas.some((meta) => !JSON.stringify(old).includes(JSON.stringify(meta))));
    },
  },

  "a meta that another updates is replaced": {
    run: async ({ join, joinOther }) => {
      const alice = await join("alice", "updated");
      const bob = await joinOther("bob", "updated");
      await alice.untilHere(count("alice", "bob"));
      for (const status of ["away", "back", "away again"]) await bob.update({ status });
      await alice.untilHere(count("alice", "bob"), (metas) => metas.some(({ status }) => status === "away again"));
    },
  },

  "a meta that it updates is replaced": {
    needs: ["update"],
    run: async ({ join, joinOther }) => {
      const bob = await joinOther("bob", "update");
      const alice = await join("alice", "update");
      await bob.untilHere(count("alice", "bob"));
      for (const status of ["away", "back", "away again"]) await alice.update({ status });
      const isThere = (metas) => metas.some(({ status }) => status === "away again");
      for (const room of [alice, bob]) await room.untilHere(count("alice", "bob"), isThere);
    },
  },

  "a storm of joins, after which half go": {
    run: async ({ connect }) => {
      const users = [...Array(24).keys()].map((n) => `user-${n % 20}`);
      const clients = await Promise.all(users.map((user) => connect(user)));
      const rooms = await Promise.all(clients.map((client) => client.join("storm")));
      await Promise.all(rooms.map((room) => room.untilHere(count(...users))));
      await Promise.all(clients.slice(0, 12).map((client) => client.close()));
      await Promise.all(rooms.slice(12).map((room) => room.untilHere(count(...users.slice(12)))));
    },
  },

  "a server that is killed and started again": {
    needs: ["reconnect"],
    run: async ({ client, connectTo, diffInterval }, t) => {
      const running = [await start(client.server, { diffInterval })];
      t.after(() => Promise.all(running.map((server) => server.kill())));
      const clients = await Promise.all(["alice", "bob"].map((user) => connectTo(running[0], user)));
      const rooms = await Promise.all(clients.map((client) => client.join("restart")));
      const old = await Promise.all(rooms.map((room) => room.untilHere(count("alice", "bob"))));
      await running[0].kill();
      running.push(await start(client.server, { diffInterval, listen: running[0].address }));
      await Promise.all(rooms.map((room, n) => room.untilHereAnew(count("alice", "bob"), old[n])));
      await rooms[0].say({ back: true });
      await rooms[1].untilHeard({ back: true });
    },
  },
};

for (const client of CLIENTS) {
  for (const { name, diffInterval } of INTERVALS) {
    describe(`${client.name} at ${name}`, () => {
      let server, program;
      const clients = [];

      before(async () => {
        program = await client.start?.();
        server = await start(client.server, { diffInterval });
      });
      afterEach(async () => {
        await Promise.all(clients.splice(0).map((open) => open.close().catch(() => {})));
        server.assertAlive();
      });
      after(() => Promise.all([server?.kill(), program?.end()]));

      const opened = async (connecting) => {
        const open = await connecting;
        const close = open.close.bind(open);
        // Some of the tests close it themselves.
        let closing;
        open.close = () => (closing ??= close());
        clients.push(open);
        return open;
      };
      const connectTo = async (to, user) => {
        const open = await opened(client.connect(to.url, user, program));
        const join = open.join.bind(open);
        open.join = async (topic) => {
          const room = await join(topic);
          // At 0 one is told of oneself by a diff too, as by Phoenix, which may come after the state.
          if (diffInterval === 0 && !client.comparesRefs) room.mayRepeat(user);
          return room;
        };
        return open;
      };
      const connect = (user) => connectTo(server, user);
      const join = async (user, topic) => joined(await connect(user), topic);
      const joinOther = async (user, topic) => joined(await opened(OTHERS[client.server].connect(server.url, user)), topic);

      for (const [what, { needs = [], run }] of Object.entries(SCENARIOS)) {
        test(what, async (t) => {
          const lacks = needs.find((need) => client.lacks[need]);
          if (lacks) return t.skip(client.lacks[lacks]);
          await run({ client, connect, connectTo, join, joinOther, diffInterval }, t);
        });
      }
    });
  }
}

async function joined(client, topic) {
  const room = await client.join(topic);
  assert.equal(room.answer.status, "ok", JSON.stringify(room.answer));
  return room;
}
