//! Version 1: JSON objects. Clients from before 2018 use it, and those that request no version.

use std::borrow::Cow;

use adsum_pubsub::{Json, Message, Payload};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Address, BadMessage, ClientMessage, Serializer, Unsendable, Wire, read_string};
use crate::frame::{Frame, Head};

/// Version 1 of the protocol: JSON objects, without binary payloads. Clients that request no version use it.
#[derive(Clone, Copy, Debug, Default)]
pub struct V1;

#[derive(Deserialize)]
struct Object<'m> {
    #[serde(borrow)]
    topic: &'m RawValue,
    #[serde(borrow)]
    event: &'m RawValue,
    #[serde(borrow)]
    payload: &'m RawValue,
    #[serde(borrow, rename = "ref")]
    reference: &'m RawValue,
    #[serde(borrow, default)]
    join_ref: Option<&'m RawValue>,
}

impl Serializer for V1 {
    fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
        // Python clients send JSON in binary frames, and Phoenix ignores the kind of frame.
        let (Wire::Text(text) | Wire::Binary(text)) = message;
        let text = std::str::from_utf8(text)?;
        // serde would also read the struct from an array of its fields, which is not version 1.
        if !text.trim_start().starts_with('{') {
            return Err(BadMessage::Other("a message of version 1 of the protocol must be an object".into()));
        }
        let object: Object<'m> = serde_json::from_str(text)?;
        let join_ref = object.join_ref.map_or("null", RawValue::get);
        let event = object.event.get();
        Ok(ClientMessage {
            join_ref: join_ref.into(),
            reference: object.reference.get().into(),
            topic: object.topic.get().into(),
            event: read_string(event).unwrap_or(Cow::Borrowed(event)),
            payload: Payload::Json(object.payload.into()),
        })
    }

    fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        let mut head = Head::with_capacity(32 + event.len());
        head.raw(r#"{"event":"#).string(event).raw(r#","payload":"#);
        Ok(Frame::spliced(head, json(payload)?, tail("", to.topic, to.reference)))
    }

    fn reply(&self, to: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable> {
        let mut head = Head::with_capacity(64 + status.len());
        head.raw(r#"{"event":"phx_reply","payload":{"status":"#).string(status).raw(r#","response":"#);
        Ok(Frame::spliced(head, json(response)?, tail("}", to.topic, to.reference)))
    }

    fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable> {
        let topic = super::write_string(message.topic());
        let to = Address { join_ref: "null", reference: "null", topic: &topic };
        self.push(to, message.event(), message.payload())
    }
}

fn json(payload: &Payload) -> Result<&Json, Unsendable> {
    match payload {
        Payload::Json(json) => Ok(json),
        Payload::Binary(_) => Err(Unsendable::Binary { version: "1" }),
    }
}

fn tail(after_payload: &str, topic: &str, reference: &str) -> Bytes {
    [after_payload, r#","ref":"#, reference, r#","topic":"#, topic, "}"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_with_and_without_a_join_ref() {
        let text =
            r#"{"topic":"room:v1","event":"phx_join","payload":{"a":1},"ref":"1","join_ref":"1","x":0}"#;
        let message = V1.decode(Wire::Text(text.as_bytes())).unwrap();
        assert_eq!((&*message.join_ref, &*message.reference), (r#""1""#, r#""1""#));
        assert_eq!((&*message.topic, &*message.event), (r#""room:v1""#, "phx_join"));
        let text = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":2}"#;
        let message = V1.decode(Wire::Text(text.as_bytes())).unwrap();
        assert_eq!((&*message.join_ref, &*message.reference), ("null", "2"));
        for text in [
            "",
            "[]",
            r#"["t","e",{},"1","1"]"#,
            "{}",
            r#"{"topic":"t","event":"e","payload":{}}"#,
            "\"\\ud800\"",
            "{\"topic\":\"\u{0}",
        ] {
            assert!(V1.decode(Wire::Text(text.as_bytes())).is_err(), "{text}");
        }
        // Each of Phoenix's keys is required.
        let whole = r#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#;
        for key in ["topic", "event", "payload", "ref"] {
            assert!(V1.decode(Wire::Text(whole.replace(key, "other").as_bytes())).is_err(), "{key}");
        }
    }

    #[test]
    fn json_in_a_binary_frame_is_read() {
        let message =
            V1.decode(Wire::Binary(br#"{"topic":"t","event":"e","payload":{"a":1},"ref":"1"}"#)).unwrap();
        assert_eq!((&*message.topic, &*message.event, &*message.reference), (r#""t""#, "e", r#""1""#));
        for bytes in [&b"x"[..], b"\xff", b"\0\x01"] {
            assert!(V1.decode(Wire::Binary(bytes)).is_err());
        }
    }

    #[test]
    fn frames_are_objects() {
        let to = Address { join_ref: r#""1""#, reference: "null", topic: r#""t""# };
        let payload = Payload::Json(Json::empty_object());
        let text =
            |frame: Result<Frame, _>| String::from_utf8(frame.unwrap().into_bytes()[2..].to_vec()).unwrap();
        assert_eq!(text(V1.push(to, "e", &payload)), r#"{"event":"e","payload":{},"ref":null,"topic":"t"}"#);
        let to = Address { reference: r#""5""#, ..to };
        let reply = r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"5","topic":"t"}"#;
        assert_eq!(text(V1.reply(to, "ok", &payload)), reply);
    }
}
