// The types that are generated for pages fit phoenix.js, and say what the server sends.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import WebSocket from "ws";

const here = fileURLToPath(new URL("./", import.meta.url));

test("a page in TypeScript compiles with the generated types, and understands the server", async (t) => {
  execFileSync(join(here, "node_modules/.bin/tsc"), ["--project", "typed"], { cwd: here, encoding: "utf8" });

  const program = join(dirname(process.env.ROOMS_BIN), "channel");
  const server = spawn(program, ["127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => server.kill());
  const [line] = await once(createInterface({ input: server.stdout }), "line");
  const address = line.replace("listening on ", "");

  const { read } = await import("./typed/built/page.js");
  const heard = await read(`ws://${address}/socket`, WebSocket);
  const refused = 'refused: {"reason":"a name, please"}';
  assert.deepEqual(heard, [refused, "line 101 is line 100", "Bob marks line 7", "Bob is in line 12", "Bob: left"]);
});
