//! The fuzz target of what reads input from other nodes, and the part whose instructions are counted.
//!
//! The target is here, and not beside the others, since it needs private items. This module exists only with
//! `--cfg fuzzing`, and is not public API.

use std::hint::black_box;

use serde_json::value::RawValue;

use crate::{
    envelope::{Content, Control, Envelopes},
    message::Message,
    payload::Payload,
};

const SECRET: &[u8] = b"a secret of the cluster";

/// The envelopes between nodes. An envelope that opens can be written and opened again; JSON is JSON; and of one that a
/// secret has sealed, no byte can be changed. A control message has one way of being written.
///
/// Input: where a byte is changed and to what, then an envelope. Or a control message.
pub fn envelopes(data: &[u8]) {
    if let Some(control) = Control::from_bytes(data) {
        assert_eq!(control.to_bytes(), data);
    }
    let Some((&[low, high, byte], bytes)) = data.split_first_chunk() else { return };
    let [a, b] = ["a", "b"].map(|node| envelopes_of(node, None));
    let Some((to, message)) = open(&b, bytes) else { return };
    if let Payload::Json(json) = message.payload() {
        serde_json::from_slice::<&RawValue>(json.as_bytes()).expect("what claims to be JSON is read first");
    }
    let same = |opened: Option<(Option<&str>, Message)>| {
        let (again_to, again) = opened.expect("what is written can be opened");
        assert_eq!((&again_to, again.topic()), (&to, message.topic()));
        assert_eq!((again.event(), again.payload()), (message.event(), message.payload()));
    };
    same(open(&b, &a.write(to, &message, 1).expect("it is no longer than before")));

    let [a, sealed] = ["a", "b"].map(|node| envelopes_of(node, Some(SECRET)));
    assert!(open(&sealed, bytes).is_none(), "what isn't sealed is refused");
    let Some(bytes) = a.write(to, &message, 1) else { return };
    same(open(&sealed, &bytes));
    let mut changed = bytes.to_vec();
    let at = usize::from(u16::from_le_bytes([low, high])) % changed.len();
    if changed[at] != byte {
        changed[at] = byte;
        assert!(open(&sealed, &changed).is_none(), "a changed byte is noticed");
    }
}

/// Returns a function that writes and opens the envelope of a message.
pub fn envelope_round_trip(secret: &[u8]) -> impl Fn(&Message) {
    let [from, to] = ["a", "b"].map(|node| envelopes_of(node, Some(secret)));
    move |message| {
        let envelope = from.write(None, black_box(message), 1).expect("it is short");
        black_box(open(&to, &envelope).expect("it was just written"));
    }
}

fn envelopes_of(node: &str, secret: Option<&[u8]>) -> Envelopes {
    let mut origin = [0; 16];
    origin[..node.len()].copy_from_slice(node.as_bytes());
    Envelopes::new("adsum", node, origin, secret)
}

/// The receiving node, if there is one, and the message. `None` if the envelope is refused.
fn open<'a>(envelopes: &Envelopes, bytes: &'a [u8]) -> Option<(Option<&'a str>, Message)> {
    let opened = envelopes.open(bytes).ok()??;
    let Content::Message(message) = opened.content else { return None };
    Some((opened.to, message))
}
