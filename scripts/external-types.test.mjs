import assert from "node:assert/strict";
import { test } from "node:test";

import { externalTypes } from "./external-types-of.mjs";

test("types of other crates in public signatures", () => {
  const source = `
    use std::fmt;
    use bytes::{Bytes, BytesMut as Mutable};
    use http::{self, header::{HeaderMap, HeaderName}};
    use tower::Service;
    use crate::Own;

    /// Takes a \`tower::Layer\`.
    pub fn one(bytes: Bytes, own: Own) -> Result<http::Uri, fmt::Error> { Service::new() }
    pub(crate) fn two(map: HeaderMap) {}
    fn three(mutable: Mutable) {}
    pub struct Four {
        pub name: HeaderName,
        mutable: Mutable,
    }
    pub struct Five(Mutable);
    pub struct Six(pub Bytes);
`;
  assert.deepEqual(externalTypes(source), ["bytes::Bytes", "http::Uri", "http::header::HeaderName"]);
});

test("a string may have slashes in it, and a comment a quote", () => {
  const source = `
use bytes::Bytes;
// 3.5" disks
const HEADER: &str = "// made by a test, not \\"by hand\\"";
fn hidden(bytes: Bytes) {}
const OTHER: &str = "pub fn shown(bytes: Bytes)";
`;
  assert.deepEqual(externalTypes(source), []);
});

test("traits and enums", () => {
  const source = `
use bytes::Bytes;
use serde::de::DeserializeOwned;
use http::Uri;

pub trait One: DeserializeOwned {
    type Two: Into<Bytes>;
    fn three() {
        let uri = Uri::default();
    }
}

pub enum Four {
    Five(Uri),
}
`;
  assert.deepEqual(externalTypes(source), ["bytes::Bytes", "http::Uri", "serde::de::DeserializeOwned"]);
  assert.deepEqual(externalTypes(source.replaceAll("pub ", "")), []);
});

test("exports, and traits of public types", () => {
  const source = `
use futures_core::{self, Stream};
use crate::elsewhere::Far;
use tokio::net::TcpStream;

pub use ts_rs::{self, TS};
pub(crate) use hidden::Secret;

pub struct Near;
struct Private;

impl<T: Send> Stream for Near {}
impl From<uuid::Uuid> for Far {}
impl http_body::Body for Private {}
trait Inner {}
impl Inner for Far {}
impl Elsewhere for TcpStream {}
`;
  assert.deepEqual(externalTypes(source), ["futures_core::Stream", "ts_rs::TS", "uuid::Uuid"]);
});
