// The errors of `rooms` about its options, and about a client whose key it can't track.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startServer } from "../lib/server.mjs";
import { Client } from "./lib/client.mjs";
import { startRooms } from "./lib/rooms.mjs";

/** Starts `rooms` with options, and resolves with its errors once it has written one like `pattern`. */
async function rooms(options, pattern) {
  const server = await startServer("rooms", { options });
  try {
    return (await server.untilError(pattern)).input;
  } finally {
    await server.kill();
  }
}

/** Nothing listens there, which a node says after all else. */
const ENGINE = ["--listen", "127.0.0.1:0", "--pubsub", "nats://127.0.0.1:1", "--node", "a"];
const NO_ENGINE = /the engine is unreachable/;

describe("the options of rooms", () => {
  test("bad ones are named in words", async () => {
    for (const [options, pattern] of [
      [["--listen", "127.0.0.1:0", "--secret", "short"], /^rooms: .*20 bytes/m],
      [["--listen", "127.0.0.1:0", "--pubsub", "ftp://host"], /^rooms: --pubsub is/m],
      [["--listen", "127.0.0.1:0", "--linger", "99999999999"], /^rooms: .*linger/m],
      [["--listen", "127.0.0.1:0", "--longpoll-window", "99999999999"], /^rooms: .*longpoll_window/m],
      [["--listen", "192.0.2.1:1"], /^rooms: can't listen on 192\.0\.2\.1:1: .*another --listen/m],
    ]) {
      const said = await rooms(options, pattern);
      assert.doesNotMatch(said, /Error: |panicked/);
    }
  });

  test("the public secret is warned of where there is an engine", async () => {
    assert.match(await rooms(ENGINE, NO_ENGINE), /WARN.*the secret is the public one/);
    const own = [...ENGINE, "--secret", "twenty bytes or more of them"];
    assert.doesNotMatch(await rooms(own, NO_ENGINE), /public/);
  });
});

describe("a key that is too long", () => {
  let server;
  before(async () => {
    server = await startRooms();
  });
  after(() => server.kill());

  test("is refused by the join, and the channel doesn't crash", async () => {
    for (const key of ["x".repeat(256), "ü".repeat(128)]) {
      const client = new Client(server.url, key);
      const channel = client.socket.channel("room:long");
      const events = [];
      channel.on("phx_error", (payload) => events.push(payload));
      const answer = await new Promise((resolve) => {
        const join = channel.join();
        for (const status of ["ok", "error"]) join.receive(status, (response) => resolve({ status, response }));
      });
      assert.equal(answer.status, "error");
      assert.match(answer.response.reason, /256 bytes.*255/);
      channel.leave();
      await client.close();
      assert.deepEqual(events, []);
    }
    const client = new Client(server.url, "x".repeat(255));
    await (await client.join("room:long")).untilCounts({ ["x".repeat(255)]: 1 });
    await client.close();
  });
});
