// The recorded session of a real Phoenix, played against `rooms`.

import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Player } from "./lib/player.mjs";
import { parseRecording } from "./lib/recording.mjs";
import { startRooms } from "./lib/rooms.mjs";

/** In this section the recorder left a stray connection; its first steps say nothing of the protocol. */
const STRAY = { section: "connect with an unsupported vsn", steps: 2 };

/** Before this section the recorder closed its other connection to the room without noting it. */
const ALONE = "no vsn parameter";

/** The connection's name in the recording, and what it connected with. */
function params(name) {
  if (name === "X") return { vsn: "2.0.0" };
  if (name === "vsn=9.0.0") return { vsn: "9.0.0", user_id: "alice" };
  if (name === "V1") return { vsn: "1.0.0", user_id: "v1" };
  if (name === "V?") return { user_id: "v1" };
  const user = { A: "alice", A2: "alice", B: "bob" }[name] ?? (/^M\d+$/.test(name) ? "mal" : undefined);
  if (user === undefined) throw new Error(`nobody knows what ${name} connected with`);
  return { vsn: "2.0.0", user_id: user };
}

/** The one object that was sent with a key twice, `"b":1` and `"b":3`: a server may keep either. */
function tolerate(recorded, actual, path) {
  return path.join("/") === "4/response/b" && recorded === 1 && actual === 3;
}

const sections = parseRecording(readFileSync(new URL("recorded/phoenix-frames.txt", import.meta.url), "utf8"));

test("the sections named here are in the recording", () => {
  for (const name of [STRAY.section, ALONE]) {
    if (!sections.some(({ title }) => title === name)) throw new Error(`no section has the title ${name}`);
  }
});

/** A server of its own, and who plays against it. */
async function start(t) {
  const rooms = await startRooms({ diffInterval: 0 });
  const player = new Player((name) => rooms.endpoint(params(name)), { tolerate });
  t.after(async () => {
    player.end();
    await rooms.kill();
  });
  return { rooms, player };
}

test("the recorded session at diff interval 0", async (t) => {
  const { rooms, player } = await start(t);
  // One session: where a section fails, those after it would only repeat it.
  for (const { title, steps } of sections) {
    if (title === ALONE) continue;
    const played = title === STRAY.section ? steps.slice(STRAY.steps) : steps;
    let failed;
    await t.test(title, () => player.play({ steps: played }).catch((error) => {
      failed = error;
      throw error;
    }));
    if (failed) return;
  }
  rooms.assertAlive();
});

test(`recorded: ${ALONE}`, async (t) => {
  const { player } = await start(t);
  await player.play(sections.find(({ title }) => title === ALONE));
});
