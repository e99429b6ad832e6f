// Input that no honest client sends: each gets a close code or an error, and everyone else goes on.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { openRaw } from "./lib/raw.mjs";
import { startRooms } from "./lib/rooms.mjs";

const MALFORMED = [1011];
const TOO_LONG = [1009];
const NOT_UTF8 = [1007];

const deep = (depth) => "[".repeat(depth) + "]".repeat(depth);

/** Frames that end their connection, and the close codes that may tell it. */
const CLOSED = {
  "text that is not JSON": ["not json", MALFORMED],
  "an empty frame": ["", MALFORMED],
  "half a frame": ['["1","1","room:h","ec', MALFORMED],
  "two values in one frame": ["[] []", MALFORMED],
  "an object": ["{}", MALFORMED],
  "a number": ["5", MALFORMED],
  "null": ["null", MALFORMED],
  "an empty array": ["[]", MALFORMED],
  "an array of three": ["[1,2,3]", MALFORMED],
  "an array of four": ['["1","1","room:h","phx_join"]', MALFORMED],
  "a ref of 100,000 brackets": [`["1",${deep(100_000)},"room:h","echo",{}]`, MALFORMED],
  "100,000 brackets": [deep(100_000), MALFORMED],
  "100,000 brackets that never close": ["[".repeat(100_000), MALFORMED],
  "10 MB of text": ["x".repeat(10_000_000), [...TOO_LONG, ...MALFORMED]],
  "an honest frame of 10 MB": [JSON.stringify(["1", "2", "room:h", "echo", { x: "x".repeat(10_000_000) }]), TOO_LONG],
  "bytes that are not UTF-8": [Buffer.from([0x5b, 0xff, 0xfe, 0x5d]), NOT_UTF8],
  "a payload that is not UTF-8": [
    Buffer.concat([Buffer.from('["1","2","room:h","echo","'), Buffer.from([0xc3, 0x28]), Buffer.from('"]')]),
    NOT_UTF8,
  ],
  "half of a surrogate pair in UTF-8": [Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), NOT_UTF8],
};

/** Frames of a joined socket that get an error: a reply, the end of the channel, or of the connection. */
const REFUSED = {
  "an array of the wrong types": [{}, [], {}, [], {}],
  "a topic that is an object": ["9", "9", { room: "h" }, "phx_join", {}],
  "a topic that is a number": ["9", "9", 5, "phx_join", {}],
  "a topic that is null": ["9", "9", null, "phx_join", {}],
  "an event that is an object": ["1", "9", "room:h", { echo: 1 }, {}],
  "a join for a topic of 100 KB": ["9", "9", `room:${"x".repeat(100_000)}`, "phx_join", {}],
  "a join for a topic of 100 KB that nobody serves": ["9", "9", "x".repeat(100_000), "phx_join", {}],
  "an event of 100 KB": ["1", "9", "room:h", "x".repeat(100_000), {}],
  "a meta of 1 MB": ["1", "9", "room:h", "update", { x: "x".repeat(1_000_000) }],
  ...Object.fromEntries(
    ["track", "update"].flatMap((event) =>
      [5, [], [{ a: 1 }], "x", null, true].map((payload) => [
        `${event} with the meta ${JSON.stringify(payload)}`,
        ["1", "9", "room:h", event, payload],
      ]),
    ),
  ),
};

describe("hostile input", () => {
  let rooms, bystander;
  let echoes = 0;

  before(async () => {
    rooms = await startRooms({ diffInterval: 0 });
    bystander = await join("bystander");
  });
  after(async () => {
    bystander?.destroy();
    await rooms.kill();
  });

  async function join(user) {
    const socket = await openRaw(rooms.endpoint({ vsn: "2.0.0", user_id: user }));
    socket.sendFrame("1", "1", "room:h", "phx_join", {});
    const joined = await socket.firstFrame("the join's reply", ([, , , event]) => event === "phx_reply");
    assert.equal(joined[4].status, "ok");
    return socket;
  }

  /** Runs `attack` on a socket of its own, then shows that server and bystander go on. */
  async function under(attack) {
    const socket = await join("mallory");
    try {
      await attack(socket);
    } finally {
      socket.destroy();
    }
    echoes += 1;
    bystander.sendFrame("1", `echo-${echoes}`, "room:h", "echo", { echoes });
    const echo = await bystander.firstFrame("the bystander's echo", ([, ref]) => ref === `echo-${echoes}`);
    assert.deepEqual(echo, ["1", `echo-${echoes}`, "room:h", "phx_reply", { response: { echoes }, status: "ok" }]);
    rooms.assertAlive();
  }

  for (const [name, [frame, codes]] of Object.entries(CLOSED)) {
    test(`${name} closes the socket with ${codes.join(" or ")}`, () =>
      under(async (socket) => {
        socket.send(frame);
        const { code } = await socket.untilClosed();
        assert.ok(codes.includes(code), `closed with ${code}`);
      }));
  }

  for (const [name, frame] of Object.entries(REFUSED)) {
    test(`${name} gets an error`, () =>
      under(async (socket) => {
        socket.sendFrame(...frame);
        await refused(socket, frame);
      }));
  }

  test("a payload of 100,000 brackets is echoed or refused", () =>
    under(async (socket) => {
      socket.send(`["1","9","room:h","echo",${deep(100_000)}]`);
      for (;;) {
        const { text, closed } = await socket.next("an answer");
        if (closed) return assert.ok(MALFORMED.includes(closed.code), `closed with ${closed.code}`);
        if (text.includes("phx_error") || text.includes(deep(100_000)) || text.includes('"error"')) return;
      }
    }));

  test("join params and metas of 100,000 brackets are refused or shown", () =>
    under(async (socket) => {
      socket.send(`["9","9","room:deep","phx_join",${deep(100_000)}]`);
      socket.send(`["1","10","room:h","track",{"x":${deep(100_000)}}]`);
      await refused(socket, ["1", "10", "room:h", "track"]);
    }));

  test("a thousand joins of one socket are too many", () =>
    under(async (socket) => {
      for (let n = 2; n < 1_000; n += 1) socket.sendFrame(`${n}`, `${n}`, `room:${n}`, "phx_join", {});
      const [, , , , last] = await socket.firstFrame("the last join's reply", ([, ref]) => ref === "999");
      assert.deepEqual(last, { response: { reason: "too many channels joined" }, status: "error" });
    }));

  /** Waits for an error that answers the frame: a reply to it, its channel's phx_error, or a close. */
  async function refused(socket, [joinRef, ref, topic]) {
    for (;;) {
      const { text, closed } = await socket.next("an error");
      if (closed) return assert.ok([...MALFORMED, ...TOO_LONG].includes(closed.code), `closed with ${closed.code}`);
      const [, gotRef, gotTopic, event, payload] = JSON.parse(text);
      if (event === "phx_error" && gotTopic === topic && gotRef === joinRef) return undefined;
      if (event === "phx_reply" && isDeepStrictEqual(gotRef, ref) && payload.status === "error") {
        return assert.equal(typeof payload.response.reason, "string");
      }
    }
  }
});
