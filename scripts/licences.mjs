#!/usr/bin/env node
// Checks that every dependency, of Rust and of npm, has a licence that deny.toml allows.
//
// cargo-deny does that too, and more, but takes minutes to install; this asks for nothing but Node.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { allowedLicences, allows } from "./spdx.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (path) => readFileSync(`${root}/${path}`, "utf8");

const LOCK_FILES = ["apps/chess", "tests/conformance", "tests/clients", "tests/browser"].map((folder) => `${folder}/package-lock.json`);

/** Packages of npm that tests alone use, each allowed by name under the licence that it has. */
const FOR_TESTS = { "axe-core": "MPL-2.0" };

function cratesOf() {
  const metadata = execFileSync("cargo", ["metadata", "--format-version", "1", "--locked", "--all-features"], {
    cwd: root,
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "inherit"],
  });
  return JSON.parse(metadata).packages.map(({ name, version, license }) => ({ name, version, license }));
}

function npmPackagesOf(lockFile) {
  return Object.entries(JSON.parse(read(lockFile)).packages)
    .filter(([path]) => path !== "")
    .map(([path, { version, license }]) => ({ name: path.replace(/^.*node_modules\//, ""), version, license }));
}

const allowed = allowedLicences(read("deny.toml"));
const packages = [...cratesOf(), ...LOCK_FILES.flatMap(npmPackagesOf)];
const refused = packages.filter(({ name, license }) => !allows(license, allowed) && FOR_TESTS[name] !== license);

for (const { name, version, license } of refused) {
  console.error(`${name} ${version}: ${license ?? "no licence"} is not allowed by deny.toml`);
}
console.log(`${packages.length} packages, ${refused.length} with a licence that is not allowed`);
process.exitCode = refused.length === 0 ? 0 : 1;
