//! Version 2: JSON arrays, and binary frames for binary payloads.

use std::{borrow::Cow, fmt};

use adsum_pubsub::{Message, Payload};
use bytes::Bytes;
use serde::{
    Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Address, BadMessage, ClientMessage, Serializer, Unsendable, Wire, read_string, v2_binary};
use crate::frame::{Frame, Head};

/// Version 2 of the protocol: JSON arrays, and binary frames for binary payloads. phoenix.js uses it.
#[derive(Clone, Copy, Debug, Default)]
pub struct V2;

impl Serializer for V2 {
    fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
        match message {
            Wire::Text(text) => decode(text),
            Wire::Binary(bytes) => v2_binary::decode(bytes),
        }
    }

    fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        match payload {
            Payload::Json(json) => {
                let tail = Bytes::from_static(b"]");
                Ok(Frame::spliced(head(to, event, "", json.len() + tail.len()), json, tail))
            }
            Payload::Binary(data) => v2_binary::push(to, event, data),
        }
    }

    fn reply(&self, to: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable> {
        match response {
            Payload::Json(json) => {
                let tail = status_tail(status);
                let head = head(to, "phx_reply", r#"{"response":"#, json.len() + tail.len());
                Ok(Frame::spliced(head, json, tail))
            }
            Payload::Binary(data) => v2_binary::reply(to, status, data),
        }
    }

    fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable> {
        match message.payload() {
            Payload::Json(json) => {
                let mut head = Head::with_capacity(16 + message.topic().len() + message.event().len());
                head.raw("[null,null,").string(message.topic()).raw(",").string(message.event()).raw(",");
                Ok(Frame::spliced(head, json, Bytes::from_static(b"]")))
            }
            Payload::Binary(data) => v2_binary::broadcast(message, data),
        }
    }
}

fn decode(text: &[u8]) -> Result<ClientMessage<'_>, BadMessage> {
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(text)?);
    let [join_ref, reference, topic, event, payload] = deserializer.deserialize_seq(MessageElements)?;
    deserializer.end()?;
    let event = event.get();
    Ok(ClientMessage {
        join_ref: join_ref.get().into(),
        reference: reference.get().into(),
        topic: topic.get().into(),
        // An event that isn't a string keeps its JSON text, which differs from all events of the protocol.
        event: read_string(event).unwrap_or(Cow::Borrowed(event)),
        payload: Payload::Json(payload.into()),
    })
}

fn status_tail(status: &str) -> Bytes {
    match status {
        "ok" => Bytes::from_static(br#","status":"ok"}]"#),
        "error" => Bytes::from_static(br#","status":"error"}]"#),
        other => format!(r#","status":{}}}]"#, super::write_string(other)).into(),
    }
}

fn head(to: Address<'_>, event: &str, before_payload: &str, rest: usize) -> Head {
    let len = to.join_ref.len() + to.reference.len() + to.topic.len() + event.len() + before_payload.len();
    let mut head = Head::before(7 + len, rest);
    head.raw("[").raw(to.join_ref).raw(",").raw(to.reference).raw(",").raw(to.topic);
    head.raw(",").string(event).raw(",").raw(before_payload);
    head
}

/// The first five elements of an array, unparsed: a payload is only parsed as the channel's types.
struct MessageElements;

impl<'de> Visitor<'de> for MessageElements {
    type Value = [&'de RawValue; 5];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of at least 5 elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut part = |index| seq.next_element()?.ok_or_else(|| de::Error::invalid_length(index, &self));
        let parts = [part(0)?, part(1)?, part(2)?, part(3)?, part(4)?];
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::Json;

    use super::*;

    #[test]
    fn a_message_is_read_without_changing_its_parts() {
        let message =
            decode(br#" [ "3" ,9, "a\u0062", "e\n", {"b":1e3, "b":-0} , "extra", [[]] ] "#).unwrap();
        assert_eq!((&*message.join_ref, &*message.reference), (r#""3""#, "9"));
        assert_eq!(&*message.topic, r#""a\u0062""#);
        let payload = Payload::Json(Json::from_encoded(r#"{"b":1e3, "b":-0}"#));
        assert_eq!((&*message.event, message.payload), ("e\n", payload));
    }

    #[test]
    fn names_that_are_no_strings_keep_their_text() {
        let message = decode(b"[null,null,null,5,[]]").unwrap();
        assert_eq!((&*message.topic, &*message.event), ("null", "5"));
    }

    #[test]
    fn other_shapes_are_bad_messages() {
        for text in ["not json", "{}", "[1,2,3]", r#"["1","1","t","e"]"#, "", "5", "[1,1,1,1,{}] x"] {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode(b"[null,\"\xff\",\"t\",\"e\",{}]").is_err());
    }

    #[test]
    fn nesting_is_no_matter_of_the_stack() {
        let deep = |n| format!("[null,null,\"t\",\"e\",{}{}]", "[".repeat(n), "]".repeat(n));
        assert!(decode(deep(400_000).as_bytes()).is_ok());
        assert!(decode(&deep(400_000).as_bytes()[..300_000]).is_err());
    }

    #[test]
    fn frames_look_as_phoenix_writes_them() {
        let to = Address { join_ref: r#""1""#, reference: "null", topic: r#""t""# };
        let text =
            |frame: Result<Frame, _>| String::from_utf8(frame.unwrap().into_bytes()[2..].to_vec()).unwrap();
        let json = Payload::Json(Json::encode(&[1]).unwrap());
        assert_eq!(text(V2.push(to, "new\"s", &json)), r#"["1",null,"t","new\"s",[1]]"#);
        let ok = r#"["1",null,"t","phx_reply",{"response":[1],"status":"ok"}]"#;
        assert_eq!(text(V2.reply(to, "ok", &json)), ok);
        assert_eq!(text(V2.reply(to, "error", &json)), ok.replace(r#""ok""#, r#""error""#));
        assert_eq!(text(V2.reply(to, "so\"so", &json)), ok.replace(r#""ok""#, r#""so\"so""#));
    }
}
