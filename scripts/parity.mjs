#!/usr/bin/env node
// Checks that every test that these documents name exists, and that each of their rows says something.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { namesIn, rowsWithoutAnswer } from "./parity-doc.mjs";
import { testsOf } from "./tests-of.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const DOCS = ["docs/phoenix-parity.md", "apps/chess/SITUATIONS.md"];

/** The documents' names of folders, and where their files may be. */
const FOLDERS = {
  channels: ["crates/adsum-channels/tests/it", "crates/adsum-channels/src"],
  pubsub: ["crates/adsum-pubsub/tests/it", "crates/adsum-pubsub/src"],
  tracker: ["crates/adsum-tracker/tests/it", "crates/adsum-tracker/src"],
  presence: ["crates/adsum/tests/it", "crates/adsum/src"],
  conformance: ["tests/conformance"],
  fuzz: ["fuzz"],
  chess: ["apps/chess/tests/it", "apps/chess/src"],
  browser: ["tests/browser"],
};

function exists({ file, name }) {
  const [folder, ...rest] = file.split("/");
  const paths = (FOLDERS[folder] ?? []).map((base) => `${root}${base}/${rest.join("/")}`).filter(existsSync);
  return paths.some((path) => testsOf(path, readFileSync(path, "utf8")).has(name));
}

let isRight = true;
for (const path of DOCS) {
  const doc = readFileSync(root + path, "utf8");
  const names = namesIn(doc);
  const missing = names.filter((name) => !exists(name));
  const empty = rowsWithoutAnswer(doc);
  for (const { file, name } of missing) console.error(`${path} names "${name}" of ${file}, which is no test there`);
  for (const row of empty) console.error(`${path} has no answer to ${row}`);
  console.log(`${names.length} tests named in ${path}, ${missing.length} missing`);
  isRight &&= names.length > 0 && missing.length === 0 && empty.length === 0;
}
process.exitCode = isRight ? 0 : 1;
