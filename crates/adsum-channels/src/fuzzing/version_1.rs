//! Version 1 of the protocol. A message is an object, nothing of its parts is changed by reading, and what is
//! written from it is read back the same.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{event_of, text, text_of};
use crate::serializer::{Address, Serializer, V1, Wire};

/// Input: a message.
pub fn version_1(data: &[u8]) {
    let binary = V1.decode(Wire::Binary(data)).ok();
    let Ok(message) = V1.decode(Wire::Text(data)) else {
        assert!(binary.is_none(), "a binary frame is read as a text frame is");
        return;
    };
    let binary = binary.expect("a binary frame is read as a text frame is");
    assert_eq!((&binary.topic, &binary.event), (&message.topic, &message.event));
    assert_eq!((&binary.reference, &binary.join_ref), (&message.reference, &message.join_ref));
    assert_eq!(binary.payload, message.payload);
    let object: HashMap<String, &RawValue> =
        serde_json::from_slice(data).expect("a message is a JSON object");
    assert_eq!(message.topic, object["topic"].get());
    assert_eq!(message.reference, object["ref"].get());
    assert_eq!(message.join_ref, object.get("join_ref").map_or("null", |join_ref| join_ref.get()));
    assert_eq!(text_of(&message.payload), object["payload"].get());
    assert_eq!(message.event, event_of(object["event"]));

    let to = Address { join_ref: &message.join_ref, reference: &message.reference, topic: &message.topic };
    let push = text(V1.push(to, &message.event, &message.payload).expect("it is JSON"));
    let again = V1.decode(Wire::Text(&push)).expect("what is written can be read");
    assert_eq!((&again.topic, &again.reference), (&message.topic, &message.reference));
    assert_eq!((&again.event, &again.payload), (&message.event, &message.payload));

    let reply = text(V1.reply(to, "ok", &message.payload).expect("it is JSON"));
    let reply = V1.decode(Wire::Text(&reply)).expect("what is written can be read");
    assert_eq!((&*reply.event, &reply.reference), ("phx_reply", &message.reference));
    assert_eq!(
        text_of(&reply.payload),
        format!(r#"{{"status":"ok","response":{}}}"#, text_of(&message.payload))
    );
}
