//! What Supabase adds to version 2 of the protocol: binary frames for broadcasts, with an event of the user's own.
//!
//! ```text
//! from a client  3 | join_ref ref topic event meta, encoding | names | payload
//! to a client    4 | topic event meta, encoding              | names | payload
//! ```

use adsum::{
    Address, BadMessage, ClientMessage, Frame, Json, Message, Payload, Serializer, Unsendable, V2, Wire,
    write_string,
};
use serde_json::Value;

/// Bytes are broadcast as this, followed by the user's event.
pub(crate) const BYTES: &str = "broadcast:";

/// JSON is broadcast as `broadcast`, with the user's event in the payload.
pub(crate) fn in_json(event: &str, payload: &Value) -> Payload {
    let event = write_string(event);
    Json::from_encoded(format!(r#"{{"type":"broadcast","event":{event},"payload":{payload}}}"#)).into()
}

pub(crate) struct Supabase;

impl Serializer for Supabase {
    fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
        let Wire::Binary([3, broadcast @ ..]) = message else { return V2.decode(message) };
        read(broadcast).ok_or(BadMessage::Other("a broadcast that can't be read".into()))
    }

    fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        V2.push(to, event, payload)
    }

    fn reply(&self, to: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable> {
        V2.reply(to, status, response)
    }

    fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable> {
        let (topic, Some(event), Payload::Binary(data)) =
            (message.topic(), message.event().strip_prefix(BYTES), message.payload())
        else {
            return V2.broadcast(message);
        };
        let len = |name: &str| u8::try_from(name.len()).map_err(|_| Unsendable::Other("a long name".into()));
        let head = [4, len(topic)?, len(event)?, 0, 0];
        Ok(Frame::binary([&head[..], topic.as_bytes(), event.as_bytes(), data].concat()))
    }
}

fn read(bytes: &[u8]) -> Option<ClientMessage<'_>> {
    let (&[join_ref, reference, topic, event, meta, encoding], mut rest) = bytes.split_first_chunk()?;
    let mut name = |len: u8| {
        let (name, after) = rest.split_at_checked(len.into())?;
        rest = after;
        str::from_utf8(name).ok()
    };
    let names = [name(join_ref)?, name(reference)?, name(topic)?];
    let (event, _meta) = (name(event)?, name(meta)?);
    let (event, payload) = match encoding {
        0 => (format!("{BYTES}{event}").into(), Payload::Binary(rest.to_vec().into())),
        _ => ("broadcast".into(), in_json(event, &serde_json::from_slice(rest).ok()?)),
    };
    let [join_ref, reference, topic] = names.map(|name| write_string(name).into());
    Some(ClientMessage { join_ref, reference, topic, event, payload })
}
