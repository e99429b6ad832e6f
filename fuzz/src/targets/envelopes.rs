//! The envelopes between nodes. An envelope that opens can be written and opened again; JSON is JSON; and of one that a
//! secret has sealed, no byte can be changed. A control message has one way of being written.

use adsum_pubsub::{
    Payload,
    fuzzing::{self, Envelopes},
};
use serde_json::value::RawValue;

const SECRET: &[u8] = b"a secret of the cluster";

/// Input: where a byte is changed and to what, then an envelope. Or a control message.
pub(crate) fn run(data: &[u8]) {
    if let Some(written) = fuzzing::rewrite_control(data) {
        assert_eq!(written, data);
    }
    let Some((&[low, high, byte], bytes)) = data.split_first_chunk() else { return };
    let [a, b] = ["a", "b"].map(|node| Envelopes::new(node, None));
    let Some((to, message)) = b.open(bytes) else { return };
    if let Payload::Json(json) = message.payload() {
        serde_json::from_slice::<&RawValue>(json.as_bytes()).expect("what claims to be JSON is read first");
    }
    let same = |opened: Option<(Option<String>, adsum_pubsub::Message)>| {
        let (again_to, again) = opened.expect("what is written can be opened");
        assert_eq!((&again_to, again.topic()), (&to, message.topic()));
        assert_eq!((again.event(), again.payload()), (message.event(), message.payload()));
    };
    same(b.open(&a.write(to.as_deref(), &message).expect("it is no longer than before")));

    let [a, sealed] = ["a", "b"].map(|node| Envelopes::new(node, Some(SECRET)));
    assert!(sealed.open(bytes).is_none(), "what isn't sealed is refused");
    let Some(bytes) = a.write(to.as_deref(), &message) else { return };
    same(sealed.open(&bytes));
    let mut changed = bytes.to_vec();
    let at = usize::from(u16::from_le_bytes([low, high])) % changed.len();
    if changed[at] != byte {
        changed[at] = byte;
        assert!(sealed.open(&changed).is_none(), "a changed byte is noticed");
    }
}
