import assert from "node:assert/strict";
import { test } from "node:test";

import { findings } from "./words-of.mjs";

const lines = (source, isDocument = false) => findings(source, isDocument).map(({ line }) => line);

test("sentences without a subject in comments", () => {
  for (const source of [
    "// Who sends one more delivers.",
    "    /// What was tracked.",
    "//! A title\n//!\n//! Where nobody listens, nothing is sent.",
    "/// One sentence. Who comes next\n/// stands in it.",
    "let a = 1; // What it is",
    "/** Who asks. */",
    "# Who builds.",
    "-- Who plays.",
    "  clock BIGINT, -- What is left.",
    "/* Where it stands. */",
  ]) {
    assert.equal(lines(source).length, 1, source);
  }
  assert.deepEqual(lines("fn f() {}\n\n// Fine.\n// Here. What comes\n// of it."), [4]);
});

test("sentences that are fine", () => {
  for (const source of [
    "// Who is there?",
    "/// Says who is there, what they do and where.",
    "// What is left:\n// - this",
    'let text = "Who";',
    'call("What a day."); ',
    "/// ```\n/// // Who is there\n/// ```",
    "/// The topic. Whoever joins it is sent a state.",
  ]) {
    assert.deepEqual(lines(source), [], source);
  }
});

test("documents, outside of code and tables", () => {
  assert.deepEqual(lines("# What there is\n\nWhat is left stays.\n\n- Who leaves is gone.\n", true), [3, 5]);
  assert.deepEqual(lines("| What | Who leaves |\n```text\nWho is there\n```\nWhat counts:\n", true), []);
});

test("phrases, in texts too", () => {
  const source = ["/// `x`; none where it is.", 'warn!("failed; it tries on")', "// So many keys stand here at most."];
  assert.deepEqual(lines(source.join("\n")), [1, 2, 3]);
  assert.deepEqual(lines("It needs not be so.\n\nA token, in earnest.", true), [1, 3]);
});
