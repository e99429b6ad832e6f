//! How a message looks on its way from node to node.
//!
//! An envelope is, in this order: `adsm`, a version, flags, the sender's origin, the message's number, five names
//! (namespace, sender, receiver, topic, event) that each follow their length in two bytes, the payload, and, if the
//! cluster has a secret, a keyed hash of all that. Whatever arrives is checked against it before it is believed.
//!
//! A control message has its content in the payload, and neither a number nor a topic.

use std::str;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use serde::de::IgnoredAny;
use sha2::Sha256;

pub(crate) use crate::replay::Origin;
use crate::{
    Json, MAX_MESSAGE_BYTES, Message, Payload,
    replay::{Nonce, Numbers},
};

/// The longest envelope: the largest payload, and names that are too long for any sane use.
pub(crate) const MAX_ENVELOPE_BYTES: usize = MAX_MESSAGE_BYTES + 8 * 1024;

/// The longest name of a node.
pub(crate) const MAX_NODE_BYTES: usize = 255;

const MAGIC: &[u8] = b"adsm";
/// Version 1 had no numbers.
const VERSION: u8 = 2;

const DIRECT: u8 = 1;
const BINARY: u8 = 2;
const SEALED: u8 = 4;
const CONTROL: u8 = 8;

/// The keyed hash is cut to half its length: still far too long to be guessed.
const SEAL_BYTES: usize = 16;

/// Writes the envelopes of a node, and opens those of others.
pub(crate) struct Envelopes {
    namespace: Box<str>,
    node: Box<str>,
    origin: Origin,
    /// By the cluster's secret, and by others that are accepted as well. None if there is no secret.
    seals: Vec<Hmac<Sha256>>,
}

/// What one node says to another about its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Asks whether this origin is alive.
    Challenge { of: Origin, nonce: Nonce },
    /// Answers this origin.
    Answer { to: Origin, nonce: Nonce, numbers: Numbers },
}

impl Envelopes {
    /// The first secret is the cluster's; the others are accepted only.
    pub(crate) fn new<'s>(
        namespace: &str,
        node: &str,
        origin: Origin,
        secrets: impl IntoIterator<Item = &'s [u8]>,
    ) -> Self {
        // Not the secret itself: it may sign other things elsewhere, and none must pass for an envelope.
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

    /// Writes a message, to one node or to all; none if it is too long.
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

    /// Reads what another node has written; none if this node itself has.
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

        // The names are only as good as the hash is, but a log without them would be of no help.
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

/// A message that has arrived.
pub(crate) struct Opened<'a> {
    /// The sender.
    pub(crate) peer: &'a str,
    pub(crate) origin: Origin,
    pub(crate) number: u64,
    /// The one node that is meant, if not all are.
    pub(crate) to: Option<&'a str>,
    pub(crate) content: Content,
}

/// What an envelope holds.
pub(crate) enum Content {
    Message(Message),
    Control(Control),
}

/// A message that isn't taken, and the node that has sent it, as far as it says so.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    pub(crate) why: Refusal,
    pub(crate) peer: &'a str,
}

/// Why a message isn't taken.
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
            Self::Foreign => "it is no message of adsum",
            Self::Version => "it is written by another version of adsum that this one can't talk to",
            Self::Namespace => "it is of another namespace",
            Self::Sealed => "its sender has a secret, and this node has none",
            Self::Unsealed => "its sender has no secret, and this node has one",
            Self::Secret => "its sender has another secret, or somebody has changed it",
            Self::TooLarge => "it is larger than a message may be",
            Self::Malformed => "it is cut off, or badly written",
            Self::Replayed => "it was heard before, or is too old: somebody repeats messages on the engine",
            Self::Unanswered => "its sender doesn't answer: it has ended, or somebody repeats its messages",
            Self::Overflow => "too much waits to be delivered while its sender is admitted",
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
    /// Reads what stands after the version. It decides on nothing, but for where each part ends.
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
            // Clients get the text as it is, so one that is no JSON would break their frames.
            serde_json::from_str::<IgnoredAny>(str::from_utf8(payload).ok()?).ok()?;
        }
        // A copy: what keeps a payload must not keep the buffer alive into which it was read.
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

    /// Opens what holds a message.
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
        fn what_is_written_is_read(message in messages(), to in any::<Option<String>>(), secret in secrets()) {
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
    fn what_is_too_long_is_not_written() {
        let a = node("a", "ns", None);
        let largest = Payload::Binary(vec![0; MAX_MESSAGE_BYTES].into());
        assert!(a.write(None, &Message::new("t", "e", largest), 7).is_some());
        let larger = Payload::Binary(vec![0; MAX_MESSAGE_BYTES + 1].into());
        assert!(a.write(None, &Message::new("t", "e", larger), 7).is_none());
        let binary = Payload::Binary(Bytes::new());
        assert!(a.write(None, &Message::new("x".repeat(70_000), "e", binary), 7).is_none());
        // What is written must not be too large for those who read it, either.
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
