import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { allowedLicences, allows } from "./spdx.mjs";

const allowed = new Set(["MIT", "Apache-2.0", "Unicode-3.0"]);

test("allowed expressions", () => {
  for (const expression of [
    "MIT",
    "MIT OR GPL-3.0",
    "GPL-3.0 OR MIT",
    "MIT/GPL-3.0",
    "(MIT OR GPL-3.0) AND Unicode-3.0",
    "Apache-2.0 WITH LLVM-exception",
    "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
  ]) {
    assert.equal(allows(expression, allowed), true, expression);
  }
});

test("expressions that are not allowed", () => {
  for (const expression of [
    undefined,
    "",
    "GPL-3.0",
    "MIT AND GPL-3.0",
    "(MIT OR Apache-2.0) AND GPL-3.0",
    "GPL-3.0 OR MIT AND MPL-2.0",
    "mit",
  ]) {
    assert.equal(allows(expression, allowed), false, expression);
  }
});

test("a text that is no expression is an error", () => {
  for (const expression of ["MIT OR", "(MIT", "MIT Apache-2.0", ")", "AND MIT"]) {
    assert.throws(() => allows(expression, allowed), /not a licence expression/, expression);
  }
});

test("the list is read from deny.toml", () => {
  assert.deepEqual(
    allowedLicences('[graph]\nall-features = true\n\n[licenses]\nallow = [\n    "MIT",\n    "ISC",\n]\n\n[bans]\nallow = ["x"]\n'),
    new Set(["MIT", "ISC"]),
  );
  assert.throws(() => allowedLicences('[bans]\nallow = ["x"]\n'), /no list/);
  assert.ok(allowedLicences(readFileSync(new URL("../deny.toml", import.meta.url), "utf8")).has("MIT"));
});
