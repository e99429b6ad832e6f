//! Version 2 of the protocol, text and binary. All that is a message by the protocol's letter is read, nothing of
//! its parts is changed, and what is written from it is read back the same.

use adsum_pubsub::{Message, Payload};
use serde_json::value::RawValue;

use super::{event_of, text_of};
use crate::serializer::{Address, ClientMessage, Serializer, V2, Wire, read_string};

/// Input: a message, read as text and as bytes.
pub fn version_2(data: &[u8]) {
    text(data);
    binary(data);
}

fn text(data: &[u8]) {
    let parts: Option<Vec<&RawValue>> =
        std::str::from_utf8(data).ok().and_then(|text| serde_json::from_str(text).ok());
    let parts = parts.filter(|parts| parts.len() >= 5);
    let message = V2.decode(Wire::Text(data)).ok();
    assert_eq!(message.is_some(), parts.is_some(), "{message:?}");
    let (Some(message), Some(parts)) = (message, parts) else { return };
    assert_eq!(message.join_ref, parts[0].get());
    assert_eq!(message.reference, parts[1].get());
    assert_eq!(message.topic, parts[2].get());
    assert_eq!(message.event, event_of(parts[3]));
    assert_eq!(text_of(&message.payload), parts[4].get());

    let push = super::text(V2.push(to(&message), &message.event, &message.payload).expect("JSON"));
    let again = V2.decode(Wire::Text(&push)).expect("what is written can be read");
    assert_eq!(
        (&again.join_ref, &again.reference, &again.topic),
        (&message.join_ref, &message.reference, &message.topic)
    );
    assert_eq!((&again.event, &again.payload), (&message.event, &message.payload));

    let reply = super::text(V2.reply(to(&message), "ok", &message.payload).expect("JSON"));
    let reply = V2.decode(Wire::Text(&reply)).expect("what is written can be read");
    assert_eq!((&*reply.event, &reply.reference), ("phx_reply", &message.reference));
    assert_eq!(
        text_of(&reply.payload),
        format!(r#"{{"response":{},"status":"ok"}}"#, text_of(&message.payload))
    );

    let Some(topic) = read_string(&message.topic) else { return };
    let broadcast = Message::new(&*topic, &*message.event, message.payload.clone());
    let broadcast = super::text(V2.broadcast(&broadcast).expect("JSON"));
    let again = V2.decode(Wire::Text(&broadcast)).expect("what is written can be read");
    assert_eq!((&*again.join_ref, &*again.reference), ("null", "null"));
    assert_eq!(read_string(&again.topic), Some(topic));
    assert_eq!((&again.event, &again.payload), (&message.event, &message.payload));
}

fn binary(data: &[u8]) {
    let Ok(message) = V2.decode(Wire::Binary(data)) else { return };
    let [join_ref, reference, topic] = [&message.join_ref, &message.reference, &message.topic]
        .map(|text| read_string(text).expect("the names of a binary message are strings"));
    let Payload::Binary(payload) = &message.payload else { panic!("a binary message has a binary payload") };
    let names = [&*join_ref, &*reference, &*topic, &*message.event];
    assert_eq!(frame(0, &names, payload), data, "all of a message is read");

    let push = V2.push(to(&message), &message.event, &message.payload).expect("no name is too long");
    assert_eq!(super::binary(push), frame(0, &[&join_ref, &topic, &message.event], payload));
    let reply = V2.reply(to(&message), "ok", &message.payload).expect("no name is too long");
    assert_eq!(super::binary(reply), frame(1, &[&join_ref, &reference, &topic, "ok"], payload));
    let broadcast = Message::new(&*topic, &*message.event, message.payload.clone());
    let broadcast = V2.broadcast(&broadcast).expect("no name is too long");
    assert_eq!(super::binary(broadcast), frame(2, &[&topic, &message.event], payload));
}

fn to<'a>(message: &'a ClientMessage<'_>) -> Address<'a> {
    Address { join_ref: &message.join_ref, reference: &message.reference, topic: &message.topic }
}

fn frame(kind: u8, names: &[&str], payload: &[u8]) -> Vec<u8> {
    let lens = names.iter().map(|name| u8::try_from(name.len()).expect("it came in a byte"));
    let mut frame: Vec<u8> = [kind].into_iter().chain(lens).collect();
    frame.extend(names.iter().flat_map(|name| name.bytes()));
    frame.extend(payload);
    frame
}
