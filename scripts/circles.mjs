#!/usr/bin/env node
// Checks that imports inside each crate point down: no circle of files but a parent and its children, and no path that
// leads through the crate's face, which would hide where it leads.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { arrows, circles } from "./circles-of.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

const crates = new Map();
for (const path of execFileSync("git", ["ls-files", "crates/*/src/*.rs"], { cwd: root, encoding: "utf8" }).split("\n")) {
  const [, crate, file] = path.match(/^crates\/([^/]+)\/src\/(.+)$/) ?? [];
  if (!file || /(^|\/)tests(\/|\.rs$)/.test(file)) continue;
  (crates.get(crate) ?? crates.set(crate, new Map()).get(crate)).set(file, readFileSync(root + path, "utf8"));
}

let [files, faults] = [0, 0];
for (const [crate, sources] of crates) {
  const found = arrows(sources);
  for (const { from, name } of found.filter(({ isByFace }) => isByFace)) {
    console.error(`${crate}: ${from} names ${name} through the crate's face; name it by its module`);
    faults += 1;
  }
  for (const { modules, arrows } of circles(found)) {
    console.error(`${crate}: a circle of ${modules.join(", ")}`);
    for (const { from, to, name } of arrows) console.error(`  ${from} -> ${to}: ${name}`);
    faults += 1;
  }
  files += sources.size;
}
console.log(`${files} files in ${crates.size} crates, ${faults} circles and paths through a face`);
process.exitCode = files > 0 && faults === 0 ? 0 : 1;
