// The player must fail where traffic differs from the recording: shown here with a server that plays the
// recorded server's part, faithfully or not.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { WebSocketServer } from "ws";

import { Player } from "./lib/player.mjs";
import { parseRecording } from "./lib/recording.mjs";

const RECORDING = `# a short session
## A joins
A HTTP 101 {}
[  10ms] A -> ["1","1","room:1","phx_join",{}]
[  11ms] A <- ["1","1","room:1","phx_reply",{"response":{},"status":"ok"}]
[  11ms] A <- [null,null,"room:1","presence_diff",{"joins":{"a":{"metas":[{"online_at":"17","phx_ref":"R1"}]}},"leaves":{}}]
[  11ms] A <- ["1",null,"room:1","presence_state",{"a":{"metas":[{"online_at":"17","phx_ref":"R1"}]}}]

## update, then an error that Elixir words, and a frame without an answer
[  20ms] A -> ["1","2","room:1","update",{"s":1e3}]
[  21ms] A <- ["1","2","room:1","phx_reply",{"response":{"phx_ref":"R2"},"status":"ok"}]
[  21ms] A <- [null,null,"room:1","presence_diff",{"joins":{"a":{"metas":[{"online_at":"17","phx_ref":"R2","phx_ref_prev":"R1","s":1.0e3}]}},"leaves":{"a":{"metas":[{"online_at":"17","phx_ref":"R1"}]}}}]
[  30ms] A -> ["1","3","room:1","track",{}]
[  31ms] A <- ["1","3","room:1","phx_reply",{"response":{"reason":"{:already_tracked, #PID<0.1.0>, \\"room:1\\", \\"a\\"}"},"status":"error"}]
[  40ms] A -> ["9","4","room:1","echo",{}]

## a malformed frame
M1 HTTP 101 {}
[  50ms] M1 -> not json
[  51ms] M1 closed code=1011 reason=""
[  52ms] M1 -> [null,"h","phoenix","heartbeat",{}]
A -> PING 6869
A <- PONG 6869
[  60ms] A closed code=1000 reason=""
`;

/**
 * Plays the server's part of `recording`: waits for each frame that a client sent, answers with those that
 * follow, and gives every heartbeat of the player its answer. `change` may alter the list of text frames.
 */
async function serve(recording, change) {
  const steps = parseRecording(recording).flatMap(({ steps }) => steps);
  const answers = change(steps.filter(({ kind, pong }) => kind !== "connect" && kind !== "send" && !pong));
  const sockets = [];
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  const sent = steps.filter(({ kind, text }) => kind === "send" && text !== undefined);

  server.on("connection", (socket) => {
    const name = ["A", "M1"][sockets.length];
    sockets.push(socket);
    socket.on("message", (data) => {
      const text = data.toString();
      const [, ref] = text.startsWith("[") ? JSON.parse(text) : [];
      if (ref?.startsWith("barrier")) {
        socket.send(JSON.stringify([null, ref, "phoenix", "phx_reply", { status: "ok", response: {} }]));
        return;
      }
      const { line } = sent.find((step) => step.name === name && step.text === text);
      const next = sent.find((step) => step.line > line)?.line ?? Infinity;
      for (const answer of answers.filter((step) => step.line > line && step.line < next)) {
        if (answer.kind === "receive") socket.send(answer.text);
        else if (answer.name === name) socket.close(answer.code);
      }
    });
  });
  await once(server, "listening");
  return server;
}

/** Plays the recording against a server whose answers `change` has altered. */
async function play(t, change, deadline) {
  const server = await serve(RECORDING, change);
  const player = new Player(() => `ws://127.0.0.1:${server.address().port}`, { deadline });
  t.after(() => {
    player.end();
    server.close();
  });
  for (const section of parseRecording(RECORDING)) await player.play(section);
}

/** Alters the text of the answers that hold `from`. */
const replace = (from, to) => (answers) =>
  answers.map((step) => (step.text === undefined ? step : { ...step, text: step.text.replaceAll(from, to) }));

/** Alters the text of the answer on that line of the recording. */
const replaceAt = (line, from, to) => (answers) =>
  answers.map((step) => (step.line === line ? { ...step, text: step.text.replace(from, to) } : step));

const ACCEPTED = {
  "the recorded frames": (answers) => answers,
  "other refs and times": (answers) => replace("17", "18")(replace("R2", "other2")(replace("R1", "other1")(answers))),
  "another form of a number": replace("1.0e3", "1000"),
  "a reason in a meta that left": replaceAt(12, '"phx_ref":"R1"}]}}}]', '"phx_ref":"R1","phx_reason":"left"}]}}}]'),
  "other words for already_tracked": replaceAt(14, /"\{:already.*\}"/, '"a is tracked in room:1"'),
};

for (const [name, change] of Object.entries(ACCEPTED)) test(`accepts ${name}`, (t) => play(t, change));

const UNFAITHFUL = {
  "a missing frame": [(answers) => answers.filter(({ line }) => line !== 6), /presence_diff/],
  "a missing last frame": [(answers) => answers.filter(({ line }) => line !== 14), /nothing within/, 500],
  "a frame more": [(answers) => answers.flatMap((step) => (step.line === 12 ? [step, step] : [step])), /line 14/],
  "an answer to what has none": [
    (answers) => [...answers, { kind: "receive", name: "A", line: 15.5, text: '["9","4","room:1","phx_reply",{}]' }],
    /what the recording does not have/,
  ],
  "two frames in another order": [
    (answers) => [answers[1], answers[0], ...answers.slice(2)].map((step, i) => ({ ...step, line: answers[i].line })),
    /line 5/,
  ],
  "another value": [replaceAt(12, "1.0e3", "1001"), /at \/4\/joins\/a\/metas\/0\/s/],
  "another element of the frame": [replaceAt(7, '["1",', "[null,"), /at \/0/],
  "a frame of another arity": [replaceAt(7, /\]$/, ',"more"]'), /elements/],
  "a key more": [replaceAt(7, '"online_at"', '"more":1,"online_at"'), /at \/4\/a\/metas\/0\/more/],
  "a key missing": [replaceAt(7, '"online_at":"17",', ""), /online_at: is missing/],
  "an online_at that is no time": [replaceAt(7, '"17"', '"now"'), /online_at/],
  "a ref that is not the one named before": [replaceAt(7, "R1", "R9"), /phx_ref/],
  "one ref for two": [replace("R2", "R1"), /phx_ref/],
  "an unknown reason": [
    replaceAt(12, '"phx_ref":"R1"}]}}}]', '"phx_ref":"R1","phx_reason":"bored"}]}}}]'),
    /phx_reason/,
  ],
  "a reason in a meta that joined": [replaceAt(6, '"phx_ref":"R1"', '"phx_ref":"R1","phx_reason":"left"'), /phx_reason/],
  "an error that names nobody": [replaceAt(14, /"\{:already.*\}"/, '"no"'), /reason/],
  "another close code": [
    (answers) => answers.map((step) => (step.code === 1011 ? { ...step, code: 1002 } : step)),
    /1002/,
  ],
};

for (const [name, [change, message, deadline]] of Object.entries(UNFAITHFUL)) {
  test(`finds ${name}`, (t) => assert.rejects(play(t, change, deadline), message));
}

test("a line that is no step is an error", () => {
  assert.throws(() => parseRecording("## title\nA says hello\n"), /line 2 is no step/);
});
