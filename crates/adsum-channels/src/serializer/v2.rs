//! Version 2: JSON arrays.

use std::{borrow::Cow, fmt};

use adsum_pubsub::{Json, Message};
use bytes::Bytes;
use serde::{
    Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Address, BadFrame, ClientFrame, MAX_REF_BYTES};
use crate::frame::{Frame, Head};

pub(super) fn decode(text: &[u8]) -> Result<ClientFrame<'_>, BadFrame> {
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(text)?);
    let [join_ref, reference, topic, event, payload] = deserializer.deserialize_seq(Parts)?;
    deserializer.end()?;

    let (join_ref, reference) = (join_ref.get(), reference.get());
    if join_ref.len().max(reference.len()) > MAX_REF_BYTES {
        return Err(BadFrame::LongRef);
    }
    let topic_text = topic.get();
    Ok(ClientFrame {
        join_ref,
        reference,
        topic: string(topic_text)?,
        topic_text,
        event: string(event.get())?.unwrap_or(Cow::Borrowed(event.get())),
        payload,
    })
}

pub(super) fn push(to: Address<'_>, event: &str, payload: &Json) -> Frame {
    Frame::text(head(to, event, ""), payload.bytes().clone(), Bytes::from_static(b"]"))
}

pub(super) fn reply(to: Address<'_>, status: &str, response: &Json) -> Frame {
    let tail = match status {
        "ok" => Bytes::from_static(br#","status":"ok"}]"#),
        "error" => Bytes::from_static(br#","status":"error"}]"#),
        other => {
            let other = serde_json::to_string(other).expect("a string can be written as JSON");
            format!(r#","status":{other}}}]"#).into()
        }
    };
    Frame::text(head(to, "phx_reply", r#"{"response":"#), response.bytes().clone(), tail)
}

pub(super) fn broadcast(message: &Message, payload: &Json) -> Frame {
    let mut head = Head::with_capacity(16 + message.topic().len() + message.event().len());
    head.raw("[null,null,").string(message.topic()).raw(",").string(message.event()).raw(",");
    Frame::text(head, payload.bytes().clone(), Bytes::from_static(b"]"))
}

fn head(to: Address<'_>, event: &str, before_payload: &str) -> Head {
    let len = to.join_ref.len() + to.reference.len() + to.topic.len() + event.len() + before_payload.len();
    let mut head = Head::with_capacity(7 + len);
    head.raw("[").raw(to.join_ref).raw(",").raw(to.reference).raw(",").raw(to.topic);
    head.raw(",").string(event).raw(",").raw(before_payload);
    head
}

/// The string that a JSON text is; none where it's something else.
fn string(text: &str) -> Result<Option<Cow<'_, str>>, serde_json::Error> {
    if !text.starts_with('"') {
        return Ok(None);
    }
    let inner = &text[1..text.len() - 1];
    // Without an escape the text between the quotes is the string.
    if inner.contains('\\') {
        serde_json::from_str(text).map(|s| Some(Cow::Owned(s)))
    } else {
        Ok(Some(inner.into()))
    }
}

/// The first five elements of an array, unread: of a payload only the channel's types are ever built.
struct Parts;

impl<'de> Visitor<'de> for Parts {
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
    use super::*;

    #[test]
    fn a_frame_is_read_without_changing_its_parts() {
        let frame = decode(br#" [ "3" ,9, "a\u0062", "e\n", {"b":1e3, "b":-0} , "extra", [[]] ] "#).unwrap();
        assert_eq!((frame.join_ref, frame.reference), (r#""3""#, "9"));
        assert_eq!((frame.topic.as_deref(), frame.topic_text), (Some("ab"), r#""a\u0062""#));
        assert_eq!((&*frame.event, frame.payload.get()), ("e\n", r#"{"b":1e3, "b":-0}"#));
    }

    #[test]
    fn names_that_are_no_strings_keep_their_text() {
        let frame = decode(b"[null,null,null,5,[]]").unwrap();
        assert_eq!((frame.topic, frame.topic_text, &*frame.event), (None, "null", "5"));
    }

    #[test]
    fn other_shapes_are_bad_frames() {
        let long_ref = format!(r#"[null,"{}","t","e",{{}}]"#, "9".repeat(MAX_REF_BYTES));
        for text in
            ["not json", "{}", "[1,2,3]", r#"["1","1","t","e"]"#, "", "5", "[1,1,1,1,{}] x", &long_ref]
        {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode(br#"[null,"1","\ud800","e",{}]"#).is_err());
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
        let text = |frame: Frame| String::from_utf8(frame.into_bytes()[2..].to_vec()).unwrap();
        let json = Json::encode(&[1]).unwrap();
        assert_eq!(text(push(to, "new\"s", &json)), r#"["1",null,"t","new\"s",[1]]"#);
        let ok = r#"["1",null,"t","phx_reply",{"response":[1],"status":"ok"}]"#;
        assert_eq!(text(reply(to, "ok", &json)), ok);
        assert_eq!(text(reply(to, "error", &json)), ok.replace(r#""ok""#, r#""error""#));
        assert_eq!(text(reply(to, "so\"so", &json)), ok.replace(r#""ok""#, r#""so\"so""#));
    }
}
