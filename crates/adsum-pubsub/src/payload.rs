//! What a message carries.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A value as JSON text, encoded once and shared by all who send it on.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// Encodes a value.
    ///
    /// # Errors
    /// What `serde_json` can't write: a map whose keys aren't strings, or a `Serialize` that fails.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self(text.into()))
    }

    /// Takes over text that was encoded elsewhere.
    ///
    /// The text isn't looked at: it must be one JSON value in UTF-8, or every frame that carries it is broken.
    pub fn from_encoded(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The empty object, `{}`.
    pub const fn empty_object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Reads the value as a type.
    ///
    /// # Errors
    /// The text doesn't have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(Bytes::copy_from_slice(raw.get().as_bytes()))
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// What a message carries: JSON, or bytes of the program's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// JSON text.
    Json(Json),
    /// Bytes that only the sender and the receiver understand.
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

    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.0.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Json> for Payload {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

/// Anything that can be sent: a [`Payload`] as it is, whatever else by encoding it as JSON.
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

// `Payload` and `Json` don't implement `Serialize`, so that they pass through untouched here.
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
    use super::*;

    #[test]
    fn json_passes_through_unchanged() {
        let raw: &RawValue = serde_json::from_str(r#"{"b":1,"a":1e3,"b":2}"#).unwrap();
        let payload = Json::from(raw).into_payload().unwrap();
        assert_eq!(payload, Payload::Json(Json::from_encoded(r#"{"b":1,"a":1e3,"b":2}"#)));
    }

    #[test]
    fn binary_does_not_decode() {
        let error = Payload::Binary(Bytes::from_static(b"x")).decode::<u32>().unwrap_err();
        assert!(error.to_string().contains("binary"));
    }
}
