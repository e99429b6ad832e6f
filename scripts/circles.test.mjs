import assert from "node:assert/strict";
import { test } from "node:test";

import { arrows, circles } from "./circles-of.mjs";

const between = (found) => found.map(({ from, to, name }) => `${from} -> ${to}: ${name}`).sort();
const circlesOf = (sources) => circles(arrows(new Map(Object.entries(sources)))).map(({ modules }) => modules);

test("the names in a file, however they are written", () => {
  const sources = new Map([
    ["lib.rs", "mod log;\nmod frame;\nmod queue;\npub use self::frame::Frame;"],
    ["frame.rs", "pub struct Frame;"],
    ["log.rs", "mod limit;\npub(crate) use self::limit::cut;"],
    ["log/limit.rs", "pub(crate) fn cut() {}\n"],
    [
      "queue.rs",
      `
//! See [\`crate::log::Docs\`].
mod entries;

use std::{fmt, sync::Arc};

use crate::{
    Frame,
    frame::{self, Head},
    log::cut,
};

// use crate::log::Comment;
fn text() -> &'static str {
    let sent = frame::encode();
    "crate::log::Text"
}

#[cfg(test)]
use crate::log::OnlyInTests;

#[cfg(test)]
mod tests {
    use crate::log::InTests;
}

struct Rest(crate::log::Rest, entries::Entry);

pub(crate) mod optional {
    use super::{Frame, Rest};
}
`,
    ],
    ["queue/entries.rs", "use super::Queue;\nuse crate::log::limited;\n"],
  ]);
  const found = arrows(sources);
  assert.deepEqual(between(found.filter(({ from }) => from.startsWith("queue"))), [
    "queue -> frame: *",
    "queue -> frame: Frame",
    "queue -> frame: Head",
    "queue -> frame: encode",
    "queue -> log: Rest",
    "queue -> log::limit: cut",
    "queue -> queue::entries: Entry",
    "queue::entries -> log: limited",
    "queue::entries -> queue: Queue",
  ]);
  assert.deepEqual(
    found.filter(({ isByFace }) => isByFace).map(({ from, name }) => [from, name]),
    [["queue", "Frame"]],
  );
});

test("a circle of two files, and of three", () => {
  assert.deepEqual(circlesOf({ "a.rs": "use crate::b::B;", "b.rs": "use crate::a::A;" }), [["a", "b"]]);
  const three = { "a.rs": "use crate::b::B;", "b.rs": "use super::c::C;", "c.rs": "fn f() { crate::a::g() }" };
  assert.deepEqual(circlesOf(three), [["a", "b", "c"]]);
  assert.deepEqual(circlesOf({ ...three, "c.rs": "" }), []);
});

test("a parent and its children are one room, and its children are rooms in it", () => {
  const parent = { "a.rs": "mod b;\nuse self::b::B;", "a/b.rs": "use super::A;" };
  assert.deepEqual(circlesOf(parent), []);
  assert.deepEqual(circlesOf({ ...parent, "c.rs": "use crate::a::A;", "a/b.rs": "use crate::c::C;" }), [["a", "c"]]);
  assert.deepEqual(circlesOf({ ...parent, "a/b.rs": "use super::d::D;", "a/d.rs": "use super::b::B;" }), [["a::b", "a::d"]]);
});

test("a name that is handed on belongs to the file that has it", () => {
  const sources = {
    "a.rs": "mod low;\nmod high;\npub(crate) use self::{high::High, low::Low};",
    "a/low.rs": "pub struct Low;",
    "a/high.rs": "use super::Low;",
    "b.rs": "use crate::a::Low;",
  };
  assert.deepEqual(circlesOf(sources), []);
  assert.deepEqual(between(arrows(new Map(Object.entries(sources)))).filter((arrow) => arrow.startsWith("b ")), ["b -> a::low: Low"]);
});
