#!/usr/bin/env node
// Checks comments and documents for sentences that a reader has to read twice: `scripts/words.mjs` for the whole
// repository, `scripts/words.mjs PATH..` for some files or folders.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { findings } from "./words-of.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The patterns themselves, what others have written or named, what is over, and what no database lets change. */
const EXCEPT = [
  "CHANGELOG.md",
  "scripts/words",
  "docs/phoenix-parity.md",
  "tests/conformance/recorded/",
  "apps/chess/migrations/",
];

const READ = /\.(rs|mjs|js|ts|md|css|sql|yml|toml|conf|service|py)$|(^|\/)(Makefile|install-missing|features|fuzz|profiles|rustc-fuzzing)$/;

const starts = (path, list) => list.some((start) => path.startsWith(start));
const named = process.argv.slice(2);
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", ...named], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((path) => READ.test(path) && !starts(path, EXCEPT));

let found = 0;
for (const path of files) {
  for (const { line, what, text } of findings(readFileSync(root + path, "utf8"), path.endsWith(".md"))) {
    found += 1;
    console.error(`${path}:${line}: ${what}: ${text}`);
  }
}
console.log(`${files.length} files, ${found} sentences to write anew`);
process.exitCode = files.length > 0 && found === 0 ? 0 : 1;
