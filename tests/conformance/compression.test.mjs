// Messages are compressed for clients that offer it, as `ws` and browsers do by themselves. COMPRESS=1 runs all the other
// tests with compression too.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { Client } from "./lib/client.mjs";
import { openRaw } from "./lib/raw.mjs";
import { startRooms } from "./lib/rooms.mjs";

const AGREED = "permessage-deflate";

describe("compression", () => {
  let rooms;
  const clients = [];

  before(async () => {
    rooms = await startRooms({ compress: 512 });
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

  test("the phoenix package has every presence and message of a large room, in fewer bytes", async () => {
    const users = [...Array(150).keys()].map((n) => `user-${n}`);
    const watcher = connect("watcher");
    await watcher.connected();
    const { conn } = watcher.socket;
    assert.equal(conn.extensions, AGREED);
    let texts = 0;
    conn.on("message", (data) => {
      texts += data.length;
    });
    const room = await watcher.join("room:crowd");
    const joined = await Promise.all(users.map((user) => connect(user).join("room:crowd")));
    const counts = Object.fromEntries(["watcher", ...users].map((user) => [user, 1]));
    await room.untilCounts(counts);
    await Promise.all(joined.map((other) => other.untilCounts(counts)));

    const saying = { text: "all of this is said to everybody at once, ".repeat(2_000) };
    joined[0].cast("shout", saying);
    assert.deepEqual((await room.untilEvent("shout")).payload, saying);

    // One who comes late is sent the whole state.
    const late = await connect("late").join("room:crowd");
    await late.untilCounts({ ...counts, late: 1 });
    const { bytesRead } = conn._socket;
    assert.ok(bytesRead < texts / 3, `${bytesRead} bytes for ${texts} of text`);
  });

  test("a client's messages may be compressed, and another's needn't", async () => {
    const [compressing, plain] = await Promise.all(
      [true, false].map((compresses) => openRaw(rooms.endpoint({ user_id: "u", vsn: "2.0.0" }), { compresses })),
    );
    assert.deepEqual([compressing.extensions, plain.extensions], [AGREED, ""]);
    for (const socket of [compressing, plain]) {
      socket.sendFrame("1", "1", "plain:a", "phx_join", {});
      await socket.nextFrame();
    }
    const payload = { text: "the very same words, ".repeat(2_000) };
    for (const [n, from] of [compressing, plain, compressing].entries()) {
      const before = [compressing.bytesRead, plain.bytesRead];
      from.sendFrame("1", null, "plain:a", "shout", { n, ...payload });
      for (const socket of [compressing, plain]) {
        assert.deepEqual(await socket.nextFrame(), [null, null, "plain:a", "shout", { n, ...payload }]);
      }
      assert.ok(compressing.bytesRead - before[0] < 1_000);
      assert.ok(plain.bytesRead - before[1] > 40_000);
    }
    compressing.destroy();
    plain.destroy();
  });
});
