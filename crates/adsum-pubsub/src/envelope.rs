//! The wire format of messages between nodes.
//!
//! An envelope consists, in this order, of `adsm`, a version, flags, the sender's origin, the message's number, five
//! names (namespace, sender, receiver, topic, event), each after its length in two bytes, the payload, and, if the
//! cluster has a secret, a keyed hash of all that. The hash is verified before the content is used.
//!
//! A control message has its content in the payload, and neither a number nor a topic.

use std::str;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use serde::de::IgnoredAny;
use sha2::Sha256;

use crate::{
    adapter::MAX_MESSAGE_BYTES,
    message::Message,
    payload::{Json, Payload},
    replay::{Nonce, Numbers, Origin},
};

/// Maximum size of an envelope: the largest payload, and ample room for the names.
pub(crate) const MAX_ENVELOPE_BYTES: usize = MAX_MESSAGE_BYTES + 8 * 1024;

/// Maximum length of a node's name.
pub(crate) const MAX_NODE_BYTES: usize = 255;

const MAGIC: &[u8] = b"adsm";
/// Version 1 had no numbers.
const VERSION: u8 = 2;

const DIRECT: u8 = 1;
const BINARY: u8 = 2;
const SEALED: u8 = 4;
const CONTROL: u8 = 8;

/// The keyed hash is truncated to half its length, which is still infeasible to guess.
const SEAL_BYTES: usize = 16;

/// Writes this node's envelopes and opens those from other nodes.
pub(crate) struct Envelopes {
    namespace: Box<str>,
    node: Box<str>,
    origin: Origin,
    /// Keyed by the cluster's secret, then by the other accepted secrets. Empty if there is no secret.
    seals: Vec<Hmac<Sha256>>,
}

/// A message between nodes about their origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Asks whether this origin is alive.
    Challenge { of: Origin, nonce: Nonce },
    /// Answers a challenge of this origin.
    Answer { to: Origin, nonce: Nonce, numbers: Numbers },
}

impl Envelopes {
    /// Creates the envelopes of a node. The first secret signs; all of them are accepted.
    pub(crate) fn new<'s>(
        namespace: &str,
        node: &str,
        origin: Origin,
        secrets: impl IntoIterator<Item = &'s [u8]>,
    ) -> Self {
        // A derived key: the secret may sign other things elsewhere, which must not pass for envelopes.
        let seals = secrets.into_iter().map(|secret| {
            let key = keyed(secret).chain_update(b"adsum between nodes").finalize().into_bytes();
            keyed(&key)
        });
        Self { namespace: namespace.into(), node: node.into(), origin, seals: seals.collect() }
    }

    /// Whether the cluster has a secret.
    pub(crate) fn are_sealed(&self) -> bool {
        !self.seals.is_empty()
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Writes a message to one node or to all. Returns `None` if it is too long.
    pub(crate) fn write(&self, to: Option<&str>, message: &Message, number: u64) -> Option<Bytes> {
        let (binary, payload) = match message.payload() {
            Payload::Json(json) => (0, json.as_bytes()),
            Payload::Binary(bytes) => (BINARY, bytes.as_ref()),
        };
        self.write_parts(binary, to, number, message.topic(), message.event(), payload)
    }

    /// Writes a control message to one node.
    pub(crate) fn write_control(&self, to: &str, control: &Control) -> Option<Bytes> {
        self.write_parts(BINARY | CONTROL, Some(to), 0, "", "", &control.to_bytes())
    }

    fn write_parts(
        &self,
        flags: u8,
        to: Option<&str>,
        number: u64,
        topic: &str,
        event: &str,
        payload: &[u8],
    ) -> Option<Bytes> {
        let names = [&*self.namespace, &*self.node, to.unwrap_or(""), topic, event];
        let names_len: usize = names.iter().map(|name| 2 + name.len()).sum();
        let len = MAGIC.len() + 2 + self.origin.len() + 8 + names_len + payload.len() + SEAL_BYTES;
        if payload.len() > MAX_MESSAGE_BYTES || len > MAX_ENVELOPE_BYTES {
            return None;
        }

        let direct = if to.is_some() { DIRECT } else { 0 };
        let sealed = if self.are_sealed() { SEALED } else { 0 };
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, direct | flags | sealed]);
        bytes.extend_from_slice(&self.origin);
        bytes.extend_from_slice(&number.to_le_bytes());
        for name in names {
            let len = u16::try_from(name.len()).ok()?;
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.extend_from_slice(payload);
        if let Some(seal) = self.seals.first() {
            let tag = seal.clone().chain_update(&bytes).finalize().into_bytes();
            bytes.extend_from_slice(&tag[..SEAL_BYTES]);
        }
        Some(bytes.into())
    }

    /// Opens an envelope from another node. Returns `None` if this node itself has written it.
    pub(crate) fn open<'a>(&self, bytes: &'a [u8]) -> Result<Option<Opened<'a>>, Refused<'a>> {
        let stranger = |why| Refused { why, peer: "" };
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(stranger(Refusal::TooLarge));
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(stranger(Refusal::Foreign))?;
        let (&version, body) = body.split_first().ok_or(stranger(Refusal::Malformed))?;
        if version != VERSION {
            return Err(stranger(Refusal::Version));
        }
        let head = Head::read(body).ok_or(stranger(Refusal::Malformed))?;
        if head.origin == self.origin {
            return Ok(None);
        }

        // Nothing proves the name yet, but a log line without it would not help.
        let peer = str::from_utf8(head.node).ok().filter(|name| name.len() <= MAX_NODE_BYTES).unwrap_or("");
        let refused = |why| Refused { why, peer };
        if head.namespace != self.namespace.as_bytes() {
            return Err(refused(Refusal::Namespace));
        }
        let payload = match (self.are_sealed(), head.flags & SEALED != 0) {
            (false, false) => head.rest,
            (false, true) => return Err(refused(Refusal::Sealed)),
            (true, false) => return Err(refused(Refusal::Unsealed)),
            (true, true) => {
                let split = head.rest.len().checked_sub(SEAL_BYTES);
                let (payload, tag) =
                    split.map(|at| head.rest.split_at(at)).ok_or(refused(Refusal::Malformed))?;
                let signed = &bytes[..bytes.len() - SEAL_BYTES];
                let is_by = |seal: &Hmac<Sha256>| {
                    seal.clone().chain_update(signed).verify_truncated_left(tag).is_ok()
                };
                if !self.seals.iter().any(is_by) {
                    return Err(refused(Refusal::Secret));
                }
                payload
            }
        };
        let opened = head.opened(peer, payload, self.are_sealed());
        opened.map(Some).ok_or(refused(Refusal::Malformed))
    }
}

impl Control {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Challenge { of, nonce } => [&[0][..], &of, &nonce].concat(),
            Self::Answer { to, nonce, numbers: Numbers { last, stale } } => {
                [&[1][..], &to, &nonce, &last.to_le_bytes(), &stale.to_le_bytes()].concat()
            }
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&kind, bytes) = bytes.split_first()?;
        let (&origin, bytes) = bytes.split_first_chunk::<16>()?;
        let (&nonce, bytes) = bytes.split_first_chunk::<16>()?;
        match kind {
            0 if bytes.is_empty() => Some(Self::Challenge { of: origin, nonce }),
            1 => {
                let (&last, bytes) = bytes.split_first_chunk::<8>()?;
                let stale = bytes.try_into().ok()?;
                let numbers = Numbers { last: u64::from_le_bytes(last), stale: u64::from_le_bytes(stale) };
                Some(Self::Answer { to: origin, nonce, numbers })
            }
            _ => None,
        }
    }
}

/// An envelope that was opened.
pub(crate) struct Opened<'a> {
    /// The sending node.
    pub(crate) peer: &'a str,
    pub(crate) origin: Origin,
    pub(crate) number: u64,
    /// The receiving node. `None` if it is for all nodes.
    pub(crate) to: Option<&'a str>,
    pub(crate) content: Content,
}

/// The content of an envelope.
pub(crate) enum Content {
    Message(Message),
    Control(Control),
}

/// A refused envelope, and the node that claims to have sent it.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    pub(crate) why: Refusal,
    pub(crate) peer: &'a str,
}

/// Why an envelope is refused, in the order of the labels of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    Foreign,
    Version,
    Namespace,
    Sealed,
    Unsealed,
    Secret,
    TooLarge,
    Malformed,
    Replayed,
    Unanswered,
    Overflow,
}

impl Refusal {
    /// The label of the counter.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Version => "version",
            Self::Namespace => "namespace",
            Self::Sealed => "sealed",
            Self::Unsealed => "unsealed",
            Self::Secret => "secret",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Replayed => "replayed",
            Self::Unanswered => "unanswered",
            Self::Overflow => "overflow",
        }
    }

    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Foreign => "it is not a message from adsum",
            Self::Version => "its sender runs an incompatible version of adsum",
            Self::Namespace => "it belongs to another namespace",
            Self::Sealed => "its sender has a secret, and this node has none",
            Self::Unsealed => "its sender has no secret, and this node has one",
            Self::Secret => "its sender has another secret, or the message was tampered with",
            Self::TooLarge => "it exceeds the maximum size of a message",
            Self::Malformed => "it is truncated or malformed",
            Self::Replayed => {
                "it was received before, or is too old: somebody replays messages on the engine"
            }
            Self::Unanswered => "its sender doesn't answer: it has stopped, or somebody replays its messages",
            Self::Overflow => "the queue of messages is full while their sender is admitted",
        }
    }
}

struct Head<'a> {
    flags: u8,
    origin: Origin,
    number: u64,
    namespace: &'a [u8],
    node: &'a [u8],
    to: &'a [u8],
    topic: &'a [u8],
    event: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads what follows the version. Finds where each part ends, and checks nothing else.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&flags, bytes) = bytes.split_first()?;
        let (&origin, bytes) = bytes.split_first_chunk()?;
        let (&number, mut rest) = bytes.split_first_chunk()?;
        let number = u64::from_le_bytes(number);
        let mut name = || {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (name, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
            rest = after;
            Some(name)
        };
        let (namespace, node, to, topic, event) = (name()?, name()?, name()?, name()?, name()?);
        Some(Self { flags, origin, number, namespace, node, to, topic, event, rest })
    }

    fn opened(&self, peer: &'a str, payload: &'a [u8], trusted: bool) -> Option<Opened<'a>> {
        let direct = self.flags & DIRECT != 0;
        if self.flags & !(DIRECT | BINARY | SEALED | CONTROL) != 0
            || (!direct && !self.to.is_empty())
            || payload.len() > MAX_MESSAGE_BYTES
        {
            return None;
        }
        let to = direct.then_some(str::from_utf8(self.to).ok()?);
        let (origin, number) = (self.origin, self.number);
        if self.flags & CONTROL != 0 {
            let content = Content::Control(Control::from_bytes(payload)?);
            return (direct && trusted).then_some(Opened { peer, origin, number, to, content });
        }
        let topic = str::from_utf8(self.topic).ok()?;
        let event = str::from_utf8(self.event).ok()?;
        let is_binary = self.flags & BINARY != 0;
        if !is_binary && !trusted {
            // Clients get the text unchanged, so invalid JSON would break their frames.
            serde_json::from_str::<IgnoredAny>(str::from_utf8(payload).ok()?).ok()?;
        }
        // A copy: whoever keeps the payload must not keep the whole read buffer alive.
        let payload = Bytes::copy_from_slice(payload);
        let payload =
            if is_binary { Payload::Binary(payload) } else { Payload::Json(Json::from_encoded(payload)) };
        let content = Content::Message(Message::new(topic, event, payload));
        Some(Opened { peer, origin, number, to, content })
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    const SECRET: &[u8] = b"a secret of the cluster";

    fn node(name: &str, namespace: &str, secret: Option<&[u8]>) -> Envelopes {
        let mut origin = [0; 16];
        origin[..name.len()].copy_from_slice(name.as_bytes());
        Envelopes::new(namespace, name, origin, secret)
    }

    /// Opens an envelope with a message.
    fn opened<'a>(node: &Envelopes, bytes: &'a [u8]) -> (Option<&'a str>, Message) {
        let Some(Opened { to, content: Content::Message(message), .. }) = node.open(bytes).unwrap() else {
            panic!("it is a message");
        };
        (to, message)
    }

    fn hello() -> Message {
        Message::new("t", "hello", Payload::Json(Json::empty_object()))
    }

    fn messages() -> impl Strategy<Value = Message> {
        let payload = prop_oneof![
            any::<String>().prop_map(|text| Payload::Json(Json::encode(&text).unwrap())),
            any::<Vec<u8>>().prop_map(|bytes| Payload::Binary(bytes.into())),
        ];
        (any::<String>(), any::<String>(), payload)
            .prop_map(|(topic, event, payload)| Message::new(topic, event, payload))
    }

    fn secrets() -> impl Strategy<Value = Option<&'static [u8]>> {
        prop_oneof![Just(None), Just(Some(SECRET))]
    }

    proptest! {
        #[test]
        fn a_written_envelope_is_read(message in messages(), to in any::<Option<String>>(), secret in secrets()) {
            let (a, b) = (node("a", "ns", secret), node("b", "ns", secret));
            let bytes = a.write(to.as_deref(), &message, 7).unwrap();
            let (node, opened) = opened(&b, &bytes);
            prop_assert_eq!(node, to.as_deref());
            prop_assert_eq!(opened.topic(), message.topic());
            prop_assert_eq!(opened.event(), message.event());
            prop_assert_eq!(opened.payload(), message.payload());
            prop_assert_eq!(b.open(&bytes).unwrap().unwrap().number, 7);
            prop_assert!(a.open(&bytes).unwrap().is_none());
        }

        #[test]
        fn one_changed_byte_is_refused(message in messages(), at in any::<Index>(), change in 1..=255_u8) {
            let (a, b) = (node("a", "ns", Some(SECRET)), node("b", "ns", Some(SECRET)));
            let mut bytes = a.write(None, &message, 7).unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(b.open(&bytes).is_err());
        }

        #[test]
        fn a_part_is_refused(message in messages(), at in any::<Index>()) {
            let (a, b) = (node("a", "ns", Some(SECRET)), node("b", "ns", Some(SECRET)));
            let bytes = a.write(None, &message, 7).unwrap();
            prop_assert!(b.open(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_can_be_opened(secret in secrets(), start in 0..7_usize, bytes in any::<Vec<u8>>()) {
            let mut text = [MAGIC, &[VERSION, BINARY]].concat();
            text.truncate(start);
            text.extend(bytes);
            let _ = node("b", "ns", secret).open(&text);
        }
    }

    #[test]
    fn it_says_why_it_refuses() {
        let b = node("b", "ns", Some(SECRET));
        let why = |bytes: &[u8]| b.open(bytes).err().map(|refused| (refused.why, refused.peer.to_owned()));
        let write = |envelopes: Envelopes| envelopes.write(None, &hello(), 7).unwrap();

        assert_eq!(why(b"hello"), Some((Refusal::Foreign, String::new())));
        assert_eq!(why(b""), Some((Refusal::Foreign, String::new())));
        assert_eq!(why(b"adsm"), Some((Refusal::Malformed, String::new())));
        for version in [0, 1, 3, 255] {
            assert_eq!(why(&[b"adsm", &[version][..], &[0; 64]].concat()).unwrap().0, Refusal::Version);
        }
        assert_eq!(why(&vec![0; MAX_ENVELOPE_BYTES + 1]), Some((Refusal::TooLarge, String::new())));
        let (other, unsealed) = (node("a", "other", Some(SECRET)), node("a", "ns", None));
        assert_eq!(why(&write(other)), Some((Refusal::Namespace, "a".to_owned())));
        assert_eq!(why(&write(unsealed)), Some((Refusal::Unsealed, "a".to_owned())));
        let forger = node("a", "ns", Some(b"another secret, as long"));
        assert_eq!(why(&write(forger)), Some((Refusal::Secret, "a".to_owned())));
        let sealed = write(node("a", "ns", Some(SECRET)));
        assert_eq!(node("b", "ns", None).open(&sealed).err().map(|r| r.why), Some(Refusal::Sealed));
    }

    #[test]
    fn a_secret_is_changed_node_by_node() {
        const NEW: &[u8] = b"a newer secret of the cluster";
        let node = |name: &str, secrets: &[&'static [u8]]| {
            let origin = [name.as_bytes()[0]; 16];
            Envelopes::new("ns", name, origin, secrets.iter().copied())
        };
        let stages: [&[&[u8]]; 4] = [&[SECRET], &[SECRET, NEW], &[NEW, SECRET], &[NEW]];
        for pair in stages.windows(2) {
            let (a, b) = (node("a", pair[0]), node("b", pair[1]));
            assert!(b.open(&a.write(None, &hello(), 1).unwrap()).is_ok());
            assert!(a.open(&b.write(None, &hello(), 1).unwrap()).is_ok());
        }
        let (a, b) = (node("a", stages[0]), node("b", stages[3]));
        assert!(b.open(&a.write(None, &hello(), 1).unwrap()).is_err());
    }

    #[test]
    fn a_control_message_is_believed_with_a_secret_only() {
        let numbers = Numbers { last: 7, stale: 3 };
        for control in [
            Control::Challenge { of: [1; 16], nonce: [2; 16] },
            Control::Answer { to: [1; 16], nonce: [2; 16], numbers },
        ] {
            let (a, b) = (node("a", "ns", Some(SECRET)), node("b", "ns", Some(SECRET)));
            let bytes = a.write_control("b", &control).unwrap();
            let opened = b.open(&bytes).unwrap().unwrap();
            assert_eq!(opened.to, Some("b"));
            assert!(matches!(opened.content, Content::Control(content) if content == control));
            let (a, b) = (node("a", "ns", None), node("b", "ns", None));
            let bytes = a.write_control("b", &control).unwrap();
            assert_eq!(b.open(&bytes).err().map(|refused| refused.why), Some(Refusal::Malformed));
        }
    }

    #[test]
    fn a_namesake_is_heard() {
        let twin = Envelopes::new("ns", "a", [7; 16], []);
        let bytes = node("a", "ns", None).write(None, &hello(), 7).unwrap();
        assert!(twin.open(&bytes).unwrap().is_some());
    }

    #[test]
    fn json_of_a_stranger_is_read_before_it_is_believed() {
        let (a, b) = (node("a", "ns", None), node("b", "ns", None));
        for text in [&b"{"[..], b"{} {}", b"", b"\"\xff\"", b"\"\n\""] {
            let broken = Message::new("t", "e", Payload::Json(Json::from_encoded(text.to_vec())));
            let bytes = a.write(None, &broken, 7).unwrap();
            assert_eq!(b.open(&bytes).err().map(|r| r.why), Some(Refusal::Malformed), "{text:?}");
        }
        let deep = Json::from_encoded([b"[".repeat(50_000), b"]".repeat(50_000)].concat());
        let bytes = a.write(None, &Message::new("t", "e", Payload::Json(deep)), 7).unwrap();
        assert!(b.open(&bytes).is_ok());
    }

    #[test]
    fn an_envelope_that_is_too_long_is_not_written() {
        let a = node("a", "ns", None);
        let largest = Payload::Binary(vec![0; MAX_MESSAGE_BYTES].into());
        assert!(a.write(None, &Message::new("t", "e", largest), 7).is_some());
        let larger = Payload::Binary(vec![0; MAX_MESSAGE_BYTES + 1].into());
        assert!(a.write(None, &Message::new("t", "e", larger), 7).is_none());
        let binary = Payload::Binary(Bytes::new());
        assert!(a.write(None, &Message::new("x".repeat(70_000), "e", binary), 7).is_none());
        // A written envelope must not exceed the limit for reading, either.
        let largest = Payload::Binary(vec![0; MAX_MESSAGE_BYTES].into());
        assert!(a.write(None, &Message::new("x".repeat(9_000), "e", largest), 7).is_none());
    }

    #[test]
    fn a_flag_that_is_not_known_is_refused() {
        let (a, b) = (node("a", "ns", None), node("b", "ns", None));
        let bytes = a.write(None, &hello(), 7).unwrap();
        for unknown in [16, 32, 64, 128] {
            let mut changed = bytes.to_vec();
            changed[MAGIC.len() + 1] |= unknown;
            assert_eq!(b.open(&changed).err().map(|r| r.why), Some(Refusal::Malformed), "{unknown}");
        }
    }
}
