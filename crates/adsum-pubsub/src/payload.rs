//! The payload of a message.

use std::{
    any::type_name,
    error::Error,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A value as JSON text, encoded once and shared by all who send it.
#[derive(Clone)]
pub struct Json(Text);

#[derive(Clone)]
enum Text {
    Whole(Bytes),
    Parts(Arc<Parts>),
}

/// Text in consecutive parts, each of which other values may share.
struct Parts {
    all: Box<[Bytes]>,
    /// The places of the compressed forms of these parts.
    compressed: Box<[Option<Compressed>]>,
    len: usize,
    /// The joined parts, for a reader that needs them in one piece.
    whole: OnceLock<Bytes>,
}

impl Json {
    /// Encodes a value.
    ///
    /// # Errors
    /// `serde_json` can't encode the value: a map has keys that aren't strings, or its `Serialize` fails.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(Self::from_encoded)
    }

    /// Takes text that is already encoded.
    ///
    /// The text isn't checked: it must be one JSON value in UTF-8, or every frame that carries it is broken.
    pub fn from_encoded(text: impl Into<Bytes>) -> Self {
        Self(Text::Whole(text.into()))
    }

    /// Takes text that is already encoded, in consecutive parts. They are sent without being joined, so values with
    /// common parts share them until they are written.
    ///
    /// ```
    /// # use adsum_pubsub as adsum;
    /// use adsum::Json;
    /// use bytes::Bytes;
    ///
    /// let names = Bytes::from_static(br#""Ann","Bob""#);
    /// let (open, close) = (Bytes::from_static(b"["), Bytes::from_static(b"]"));
    /// let json = Json::from_encoded_parts([open, names, close]);
    /// assert_eq!(json.as_bytes(), br#"["Ann","Bob"]"#);
    /// ```
    pub fn from_encoded_parts<P: Into<JsonPart>>(parts: impl IntoIterator<Item = P>) -> Self {
        let parts = parts.into_iter().map(Into::into).map(|JsonPart { text, compressed }| (text, compressed));
        let (all, compressed): (Vec<_>, Vec<_>) = parts.unzip();
        let len = all.iter().map(Bytes::len).sum();
        let (all, compressed) = (all.into(), compressed.into());
        Self(Text::Parts(Arc::new(Parts { all, compressed, len, whole: OnceLock::new() })))
    }

    /// The empty object, `{}`.
    pub const fn empty_object() -> Self {
        Self(Text::Whole(Bytes::from_static(b"{}")))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes()
    }

    /// The text, shared. The first call joins the parts, if there are several.
    pub fn bytes(&self) -> &Bytes {
        match &self.0 {
            Text::Whole(text) => text,
            Text::Parts(parts) => parts.whole.get_or_init(|| parts.all.concat().into()),
        }
    }

    /// The parts of the text; usually one.
    pub fn parts(&self) -> &[Bytes] {
        match &self.0 {
            Text::Whole(text) => std::slice::from_ref(text),
            Text::Parts(parts) => &parts.all,
        }
    }

    /// The places of the compressed forms of the [parts](Self::parts). A part that no other value shares has none; the
    /// text in one piece has no places at all.
    pub fn compressed_parts(&self) -> &[Option<Compressed>] {
        match &self.0 {
            Text::Whole(_) => &[],
            Text::Parts(parts) => &parts.compressed,
        }
    }

    /// The parts with the places of their compressed forms, for another value that shares them.
    pub fn json_parts(&self) -> impl Iterator<Item = JsonPart> {
        let compressed = self.compressed_parts().iter().cloned().chain(std::iter::repeat(None));
        self.parts()
            .iter()
            .zip(compressed)
            .map(|(text, compressed)| JsonPart { text: text.clone(), compressed })
    }

    /// The length of the text in bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Text::Whole(text) => text.len(),
            Text::Parts(parts) => parts.len,
        }
    }

    /// Whether the text is empty, which is not a JSON value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the value as a type.
    ///
    /// # Errors
    /// The text doesn't have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.as_bytes())
    }
}

/// A part of a JSON text, and perhaps the place where its compressed form is kept.
#[derive(Clone, Debug)]
pub struct JsonPart {
    text: Bytes,
    compressed: Option<Compressed>,
}

impl JsonPart {
    /// A part that many values share. Its compressed form is made once, when it is first sent to a client that accepts
    /// compression, and kept while any of them is kept.
    pub fn shared(text: Bytes) -> Self {
        Self { text, compressed: Some(Compressed::default()) }
    }

    /// The text.
    pub fn text(&self) -> &Bytes {
        &self.text
    }
}

impl From<Bytes> for JsonPart {
    fn from(text: Bytes) -> Self {
        Self { text, compressed: None }
    }
}

/// The place where the compressed form of a shared text is kept. The transport chooses the form.
#[derive(Clone, Debug, Default)]
pub struct Compressed(Arc<OnceLock<Bytes>>);

impl Compressed {
    /// The compressed form, if it was made.
    pub fn get(&self) -> Option<&Bytes> {
        self.0.get()
    }

    /// The compressed form, which `compress` makes at the first call. Concurrent callers wait for the first one.
    pub fn get_or_init(&self, compress: impl FnOnce() -> Bytes) -> &Bytes {
        self.0.get_or_init(compress)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Json {}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self::from_encoded(Bytes::copy_from_slice(raw.get().as_bytes()))
    }
}

/// As the response of an axum handler: JSON with its content type.
#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Json {
    fn into_response(self) -> axum_core::response::Response {
        let content_type = [("content-type", "application/json")];
        (content_type, self.bytes().clone()).into_response()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The payload of a message: JSON, or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// JSON text.
    Json(Json),
    /// Bytes whose meaning only the sender and the receiver know.
    Binary(Bytes),
}

impl Payload {
    /// Reads a JSON payload as a type.
    ///
    /// # Errors
    /// The payload is binary, or doesn't have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self {
            Self::Json(json) => json.decode(),
            Self::Binary(_) => Err(serde::de::Error::custom("the payload is binary, not JSON")),
        }
    }

    /// Reads a client's JSON payload as a type. With `?` in a channel's function, a payload that doesn't have the shape
    /// of `T` refuses the event or the join with an error instead of ending the channel.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), with the position in the payload.
    pub fn decode_or_refuse<T: DeserializeOwned>(&self) -> Result<T, MalformedPayload> {
        let Self::Json(json) = self else {
            return Err(MalformedPayload::binary(type_name::<T>()));
        };
        let mut reader = serde_json::Deserializer::from_slice(json.as_bytes());
        serde_path_to_error::deserialize(&mut reader).map_err(|error| MalformedPayload::of::<T>(&error))
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A payload doesn't have the requested shape; from [`Payload::decode_or_refuse`].
///
/// It names the position but no value of the payload, so it may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedPayload {
    expected: &'static str,
    path: String,
    is_missing: bool,
    line: usize,
    column: usize,
}

impl MalformedPayload {
    fn binary(expected: &'static str) -> Self {
        Self { expected, path: String::new(), is_missing: false, line: 0, column: 0 }
    }

    fn of<T>(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let (path, inner) = (error.path(), error.inner());
        let mut path = if path.iter().next().is_some() { path.to_string() } else { String::new() };
        let text = inner.to_string();
        let missing = missing_member(&text);
        if let Some(name) = missing {
            // serde tells the path of the object that lacks it.
            let dot = if path.is_empty() { "" } else { "." };
            path.extend([dot, name]);
        }
        let is_missing = missing.is_some();
        Self { expected: type_name::<T>(), path, is_missing, line: inner.line(), column: inner.column() }
    }

    /// The path of the wrong or missing member, such as `user.age` or `tags[2]`. Empty for the whole payload. It includes
    /// map keys that the client chose.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for MalformedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, path, is_missing, line, column } = self;
        write!(f, "the payload is not a valid {expected}: ")?;
        match (line, &**path) {
            (0, _) => f.write_str("it is binary"),
            (_, "") => write!(f, "line {line}, column {column}"),
            (_, path) if *is_missing => write!(f, "{path} is missing, line {line}, column {column}"),
            (_, path) => write!(f, "at {path}, line {line}, column {column}"),
        }
    }
}

/// The name in serde's error for a missing field. It is a word of the program's types, not of the client.
fn missing_member(error: &str) -> Option<&str> {
    let (name, _) = error.strip_prefix("missing field `")?.split_once('`')?;
    Some(name)
}

impl Error for MalformedPayload {}

impl From<Json> for Payload {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

/// Anything that can be sent: a [`Payload`] as it is, any other value encoded as JSON.
pub trait IntoPayload {
    /// Makes the payload.
    ///
    /// # Errors
    /// As [`Json::encode`].
    fn into_payload(self) -> Result<Payload, serde_json::Error>;
}

impl<T: Serialize> IntoPayload for T {
    fn into_payload(self) -> Result<Payload, serde_json::Error> {
        Json::encode(&self).map(Payload::Json)
    }
}

// `Payload` and `Json` don't implement `Serialize`, so they pass through unchanged here.
impl IntoPayload for Payload {
    fn into_payload(self) -> Result<Payload, serde_json::Error> {
        Ok(self)
    }
}

impl IntoPayload for Json {
    fn into_payload(self) -> Result<Payload, serde_json::Error> {
        Ok(Payload::Json(self))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn json_passes_through_unchanged() {
        let raw: &RawValue = serde_json::from_str(r#"{"b":1,"a":1e3,"b":2}"#).unwrap();
        let payload = Json::from(raw).into_payload().unwrap();
        assert_eq!(payload, Payload::Json(Json::from_encoded(r#"{"b":1,"a":1e3,"b":2}"#)));
    }

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "only decoded")]
    struct Move {
        square: String,
        clock: Vec<u32>,
    }

    #[test]
    fn a_malformed_payload_says_where_and_no_value() {
        let refusal = |text: &'static str| {
            Payload::Json(Json::from_encoded(text)).decode_or_refuse::<Move>().unwrap_err()
        };
        let wrong = refusal(r#"{"square": "e4", "clock": [1, "hunter2"]}"#);
        assert_eq!(wrong.path(), "clock[1]");
        assert!(wrong.to_string().ends_with("Move: at clock[1], line 1, column 39"), "{wrong}");
        assert!(!wrong.to_string().contains("hunter2"));
        assert_eq!(refusal("7").path(), "");
        let missing = refusal(r#"{"clock": []}"#);
        assert_eq!(missing.path(), "square");
        assert!(missing.to_string().ends_with("Move: square is missing, line 1, column 13"), "{missing}");
        let binary = Payload::Binary(Bytes::from_static(b"x")).decode_or_refuse::<Move>().unwrap_err();
        assert!(binary.to_string().ends_with("it is binary"), "{binary}");
        let nested = Payload::Json(Json::from_encoded(r#"{"game": [{"square": "e4", "clock": []}, {}]}"#));
        let nested = nested.decode_or_refuse::<HashMap<String, Vec<Move>>>().unwrap_err();
        assert_eq!(nested.path(), "game[1].square");
    }

    #[test]
    fn parts_are_one_text() {
        let parts = ["{\"a\":", "1", "}"].map(|part| Bytes::from_static(part.as_bytes()));
        let json = Json::from_encoded_parts(parts.clone());
        assert_eq!((json.parts(), json.len()), (&parts[..], 7));
        assert_eq!(json, Json::from_encoded(r#"{"a":1}"#));
        assert_eq!(json.bytes().as_ptr(), json.clone().bytes().as_ptr(), "joined once");
        assert_eq!(size_of::<Json>(), size_of::<Bytes>());
    }

    #[test]
    fn binary_does_not_decode() {
        let error = Payload::Binary(Bytes::from_static(b"x")).decode::<u32>().unwrap_err();
        assert!(error.to_string().contains("binary"));
    }
}
