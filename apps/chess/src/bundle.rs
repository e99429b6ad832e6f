//! The board's package as one module: its nine files would be nine requests, each found only by reading the one before.

use std::{fmt::Write as _, fs, io, path::Path};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

/// The files, each after those that it needs.
const FILES: [&str; 9] = [
    "lib/Utils.js",
    "lib/Svg.js",
    "model/Extension.js",
    "model/Position.js",
    "model/ChessboardState.js",
    "view/PositionAnimationsQueue.js",
    "view/VisualMoveInput.js",
    "view/ChessboardView.js",
    "Chessboard.js",
];

/// The names that the page imports.
const EXPORTS: &str = "Chessboard, EXTENSION_POINT, Extension, INPUT_EVENT_TYPE, Svg";

/// A JavaScript module that is kept in memory.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    text: Bytes,
    etag: HeaderValue,
}

impl Bundle {
    /// Joins the files of cm-chessboard in this folder. Their top-level names differ, so they can share one scope.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut joined = String::new();
        for file in FILES {
            for line in fs::read_to_string(folder.join(file))?.lines() {
                if !line.starts_with("import ") && !line.starts_with("export {") {
                    joined.push_str(line.strip_prefix("export ").unwrap_or(line));
                    joined.push('\n');
                }
            }
        }
        writeln!(joined, "export {{ {EXPORTS} }}").expect("writing to a string never fails");
        let hash = Sha256::digest(&joined);
        let etag =
            hash[..8].iter().fold(String::from("\""), |etag, byte| etag + &format!("{byte:02x}")) + "\"";
        let etag = HeaderValue::try_from(etag).expect("hexadecimal digits are a valid header");
        Ok(Self { text: joined.into(), etag })
    }

    /// Answers a request with these headers.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response {
        let validator = [(header::ETAG, self.etag.clone())];
        let known =
            request.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
        if known.contains(self.etag.to_str().unwrap_or("\"")) {
            return (StatusCode::NOT_MODIFIED, validator).into_response();
        }
        (validator, [(header::CONTENT_TYPE, "text/javascript")], self.text.clone()).into_response()
    }
}
