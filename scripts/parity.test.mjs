import assert from "node:assert/strict";
import { test } from "node:test";

import { namesIn, rowsWithoutAnswer } from "./parity-doc.mjs";
import { testsOf } from "./tests-of.mjs";

test("tests of Rust, however they are written", () => {
  const source = `
#[test]
fn plain() {}

#[tokio::test(start_paused = true)]
async fn paused() {}

#[test]
#[cfg(unix)]
fn with_another_attribute() {}

fn helper() {}

async fn over_transports(transport: Transport) {}

over_both!(
    over_transports,
    over_another,
);

proptest! {
    #[test]
    fn any_input(bytes in vec(any::<u8>(), 0..9)) {
        assert!(true);
    }
}

fn after() {}
    arrival(check("subscribe and receive"), two().await).await;
`;
  const names = ["plain", "paused", "with_another_attribute", "over_transports", "over_another", "any_input"];
  assert.deepEqual(testsOf("a.rs", source), new Set(["subscribe and receive", ...names]));
});

test("tests of Node, and scenarios", () => {
  const source = `
test("replies: ok, error, none", async () => {});
    test("inner", () => {});
  "binary payloads": async ({ connect }) => {
  "no scenario": 1,
test(\`made of \${parts}\`, () => {});
`;
  assert.deepEqual([...testsOf("a.test.mjs", source)].sort(), ["binary payloads", "inner", "replies: ok, error, none"]);
});

test("names in a document, also over a line's end", () => {
  const doc = "by `channels/a.rs: one` and `conformance/b.test.mjs: replies: ok\nand error`; not `fetch` nor `a.rs`";
  assert.deepEqual(namesIn(doc), [
    { file: "channels/a.rs", name: "one" },
    { file: "conformance/b.test.mjs", name: "replies: ok and error" },
  ]);
});

test("rows that say nothing", () => {
  const doc = "| theirs | ours |\n| --- | --- |\n| a | b |\n| c |  |\n| d |\n|  | e |\ntext";
  assert.deepEqual(rowsWithoutAnswer(doc), ["c", "d", ""]);
});
