#!/usr/bin/env node
// Checks that public signatures of the crates name only those types of other crates that are meant to be part of the
// public API: a new one ties our versions to theirs. Says what is new, and what isn't used any more.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { externalTypes } from "./external-types-of.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** By crate: those that a program of adsum's uses anyway, and the types of the others one by one. */
const MEANT = new Set(readFileSync(root + "scripts/external-types.txt", "utf8").split("\n").filter((line) => line && !line.startsWith("#")));

// tasks.rs is for these crates alone.
const files = execFileSync("git", ["ls-files", "crates/*/src/*"], { cwd: root, encoding: "utf8" })
  .split("\n")
  .filter((path) => path.endsWith(".rs") && !/\/(tests|fuzzing|tasks)\b/.test(path));
const named = new Map();
for (const path of files) {
  for (const type of externalTypes(readFileSync(root + path, "utf8"))) {
    if (!type.startsWith("adsum")) named.set(type, path);
  }
}

const added = [...named].filter(([type]) => !MEANT.has(type));
const gone = [...MEANT].filter((type) => !named.has(type));
for (const [type, path] of added) console.error(`${path}: ${type} is new in a public signature; scripts/external-types.txt lists those that are meant`);
for (const type of gone) console.error(`scripts/external-types.txt lists ${type}, which no public signature names`);
console.log(`${named.size} types of other crates in public signatures, ${added.length} not meant`);
process.exitCode = files.length > 0 && added.length === 0 && gone.length === 0 ? 0 : 1;
