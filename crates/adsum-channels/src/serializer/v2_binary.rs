//! The binary frames of version 2. The lengths of all names, one byte each, come before the names.
//!
//! ```text
//! push of a client     0 | join_ref ref topic event         | names | data
//! push to a client     0 | join_ref topic event             | names | data
//! reply                1 | join_ref ref topic status        | names | data
//! broadcast            2 | topic event                      | names | data
//! ```

use std::borrow::Cow;

use adsum_pubsub::{Message, Payload};
use bytes::Bytes;

use super::{Address, BadMessage, ClientMessage, Unsendable, read_string, write_string};
use crate::frame::{Frame, Head};

const PUSH: u8 = 0;
const REPLY: u8 = 1;
const BROADCAST: u8 = 2;

pub(super) fn decode(bytes: &[u8]) -> Result<ClientMessage<'_>, BadMessage> {
    let bad = |what: &'static str| BadMessage::Other(what.into());
    let [kind, join_ref, reference, topic, event, rest @ ..] = bytes else {
        return Err(bad("a binary message is shorter than its header of five bytes"));
    };
    if *kind != PUSH {
        return Err(bad("a client's binary message must have the kind 0"));
    }
    let mut rest = rest;
    let mut name = |len: &u8| {
        let (name, after) =
            rest.split_at_checked(usize::from(*len)).ok_or(bad("a binary message ends within its names"))?;
        rest = after;
        Ok::<_, BadMessage>(std::str::from_utf8(name)?)
    };
    let (join_ref, reference) = (write_string(name(join_ref)?), write_string(name(reference)?));
    let (topic, event) = (write_string(name(topic)?), name(event)?);
    Ok(ClientMessage {
        join_ref: join_ref.into(),
        reference: reference.into(),
        topic: topic.into(),
        event: event.into(),
        payload: Payload::Binary(Bytes::copy_from_slice(rest)),
    })
}

pub(super) fn push(to: Address<'_>, event: &str, data: &Bytes) -> Result<Frame, Unsendable> {
    let (join_ref, topic) = (string(to.join_ref), string(to.topic));
    frame(PUSH, &[("join_ref", &join_ref), ("topic", &topic), ("event", event)], data)
}

pub(super) fn reply(to: Address<'_>, status: &str, data: &Bytes) -> Result<Frame, Unsendable> {
    let (join_ref, reference, topic) = (string(to.join_ref), string(to.reference), string(to.topic));
    let names = [("join_ref", &*join_ref), ("ref", &*reference), ("topic", &*topic), ("status", status)];
    frame(REPLY, &names, data)
}

pub(super) fn broadcast(message: &Message, data: &Bytes) -> Result<Frame, Unsendable> {
    frame(BROADCAST, &[("topic", message.topic()), ("event", message.event())], data)
}

/// A name without its quotes; empty for `null`.
fn string(text: &str) -> Cow<'_, str> {
    read_string(text).unwrap_or(if text == "null" { "".into() } else { text.into() })
}

fn frame(kind: u8, names: &[(&'static str, &str)], data: &Bytes) -> Result<Frame, Unsendable> {
    let mut head = Head::with_capacity(1 + names.iter().map(|(_, name)| 1 + name.len()).sum::<usize>());
    head.byte(kind);
    for (what, name) in names {
        let len = u8::try_from(name.len());
        head.byte(len.map_err(|_| Unsendable::TooLong { name: what, len: name.len() })?);
    }
    for (_, name) in names {
        head.raw(name);
    }
    Ok(Frame::spliced_binary(head, data.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_recorded_frames_are_read_and_written() {
        let sent = hex("0002020a0431363230726f6f6d3a63686573736563686f010203ff");
        let message = decode(&sent).unwrap();
        assert_eq!((&*message.join_ref, &*message.reference), (r#""16""#, r#""20""#));
        assert_eq!((&*message.topic, &*message.event), (r#""room:chess""#, "echo"));
        let Payload::Binary(data) = &message.payload else { panic!("it is binary") };
        let to = Address { join_ref: r#""16""#, reference: r#""20""#, topic: r#""room:chess""# };
        let reply = reply(to, "ok", data).unwrap().into_bytes();
        assert_eq!(reply[2..], hex("0102020a0231363230726f6f6d3a63686573736f6b010203ff"));
        let shout = Message::new("room:chess", "shout", message.payload.clone());
        let broadcast = broadcast(&shout, data).unwrap().into_bytes();
        assert_eq!(broadcast[2..], hex("020a05726f6f6d3a636865737373686f7574010203ff"));
        assert_eq!(broadcast[0], 0x82);
    }

    #[test]
    fn other_bytes_are_bad_messages() {
        for bytes in ["", "00", "0001010101", "0100000000", "0200000000", "0000000001ff", "00010000007b7b"] {
            let read = decode(&hex(bytes)).map(drop);
            assert_eq!(read.is_ok(), bytes == "00010000007b7b", "{bytes}: {read:?}");
        }
    }

    #[test]
    fn a_name_of_256_bytes_has_no_form() {
        let to = Address { join_ref: "null", reference: "null", topic: r#""t""# };
        assert!(push(to, &"e".repeat(255), &Bytes::new()).is_ok());
        let error = push(to, &"e".repeat(256), &Bytes::new()).unwrap_err();
        assert_eq!(error, Unsendable::TooLong { name: "event", len: 256 });
    }
}
