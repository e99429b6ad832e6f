//! How a message looks on its way from node to node.
//!
//! An envelope is, in this order: `adsm`, a version, flags, the sender's origin, five names (namespace, sender,
//! receiver, topic, event) that each follow their length in two bytes, the payload, and, if the cluster has a
//! secret, a keyed hash of all that. Whatever arrives is checked against it before it is believed.

use std::str;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use serde::de::IgnoredAny;
use sha2::Sha256;

use crate::{Json, MAX_MESSAGE_BYTES, Message, Payload};

/// The longest envelope: the largest payload, and names that are too long for any sane use.
pub(crate) const MAX_ENVELOPE_BYTES: usize = MAX_MESSAGE_BYTES + 8 * 1024;

/// The longest name of a node.
pub(crate) const MAX_NODE_BYTES: usize = 255;

const MAGIC: &[u8] = b"adsm";
const VERSION: u8 = 1;

const DIRECT: u8 = 1;
const BINARY: u8 = 2;
const SEALED: u8 = 4;

/// The keyed hash is cut to half its length: still far too long to be guessed.
const SEAL_BYTES: usize = 16;

/// Names one `PubSub` among all that ever were: a node's name may be given twice, by mistake or by a restart.
pub(crate) type Origin = [u8; 16];

/// Writes the envelopes of a node, and opens those of others.
pub(crate) struct Envelopes {
    namespace: Box<str>,
    node: Box<str>,
    origin: Origin,
    seal: Option<Hmac<Sha256>>,
}

impl Envelopes {
    pub(crate) fn new(namespace: &str, node: &str, origin: Origin, secret: Option<&[u8]>) -> Self {
        // Not the secret itself: it may sign other things elsewhere, and none must pass for an envelope.
        let seal = secret.map(|secret| {
            let key = keyed(secret).chain_update(b"adsum between nodes").finalize().into_bytes();
            keyed(&key)
        });
        Self { namespace: namespace.into(), node: node.into(), origin, seal }
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Writes a message, to one node or to all; none if it is too long.
    pub(crate) fn write(&self, to: Option<&str>, message: &Message) -> Option<Bytes> {
        let (binary, payload) = match message.payload() {
            Payload::Json(json) => (0, json.as_bytes()),
            Payload::Binary(bytes) => (BINARY, bytes.as_ref()),
        };
        let names = [&*self.namespace, &*self.node, to.unwrap_or(""), message.topic(), message.event()];
        let names_len: usize = names.iter().map(|name| 2 + name.len()).sum();
        let len = MAGIC.len() + 2 + self.origin.len() + names_len + payload.len() + SEAL_BYTES;
        if payload.len() > MAX_MESSAGE_BYTES || len > MAX_ENVELOPE_BYTES {
            return None;
        }

        let direct = if to.is_some() { DIRECT } else { 0 };
        let sealed = if self.seal.is_some() { SEALED } else { 0 };
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, direct | binary | sealed]);
        bytes.extend_from_slice(&self.origin);
        for name in names {
            let len = u16::try_from(name.len()).ok()?;
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.extend_from_slice(payload);
        if let Some(seal) = &self.seal {
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
        let payload = match (&self.seal, head.flags & SEALED != 0) {
            (None, false) => head.rest,
            (None, true) => return Err(refused(Refusal::Sealed)),
            (Some(_), false) => return Err(refused(Refusal::Unsealed)),
            (Some(seal), true) => {
                let split = head.rest.len().checked_sub(SEAL_BYTES);
                let (payload, tag) =
                    split.map(|at| head.rest.split_at(at)).ok_or(refused(Refusal::Malformed))?;
                let signed = &bytes[..bytes.len() - SEAL_BYTES];
                if seal.clone().chain_update(signed).verify_truncated_left(tag).is_err() {
                    return Err(refused(Refusal::Secret));
                }
                payload
            }
        };
        let opened = head.opened(payload, self.seal.is_some());
        opened.map(Some).ok_or(refused(Refusal::Malformed))
    }
}

/// A message that has arrived.
pub(crate) struct Opened<'a> {
    /// The one node that is meant, if not all are.
    pub(crate) to: Option<&'a str>,
    pub(crate) message: Message,
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
        }
    }

    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Foreign => "it is no message of adsum",
            Self::Version => "it is written by another version of adsum",
            Self::Namespace => "it is of another namespace",
            Self::Sealed => "its sender has a secret, and this node has none",
            Self::Unsealed => "its sender has no secret, and this node has one",
            Self::Secret => "its sender has another secret, or somebody has changed it",
            Self::TooLarge => "it is larger than a message may be",
            Self::Malformed => "it is cut off, or badly written",
        }
    }
}

struct Head<'a> {
    flags: u8,
    origin: &'a [u8],
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
        let (origin, mut rest) = bytes.split_at_checked(size_of::<Origin>())?;
        let mut name = || {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (name, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
            rest = after;
            Some(name)
        };
        let (namespace, node, to, topic, event) = (name()?, name()?, name()?, name()?, name()?);
        Some(Self { flags, origin, namespace, node, to, topic, event, rest })
    }

    fn opened(&self, payload: &'a [u8], trusted: bool) -> Option<Opened<'a>> {
        let direct = self.flags & DIRECT != 0;
        if self.flags & !(DIRECT | BINARY | SEALED) != 0
            || (!direct && !self.to.is_empty())
            || payload.len() > MAX_MESSAGE_BYTES
        {
            return None;
        }
        let to = str::from_utf8(self.to).ok()?;
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
        Some(Opened { to: direct.then_some(to), message: Message::new(topic, event, payload) })
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
            let bytes = a.write(to.as_deref(), &message).unwrap();
            let opened = b.open(&bytes).unwrap().unwrap();
            prop_assert_eq!(opened.to, to.as_deref());
            prop_assert_eq!(opened.message.topic(), message.topic());
            prop_assert_eq!(opened.message.event(), message.event());
            prop_assert_eq!(opened.message.payload(), message.payload());
            prop_assert!(a.open(&bytes).unwrap().is_none());
        }

        #[test]
        fn one_changed_byte_is_refused(message in messages(), at in any::<Index>(), change in 1..=255_u8) {
            let (a, b) = (node("a", "ns", Some(SECRET)), node("b", "ns", Some(SECRET)));
            let mut bytes = a.write(None, &message).unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(b.open(&bytes).is_err());
        }

        #[test]
        fn a_part_is_refused(message in messages(), at in any::<Index>()) {
            let (a, b) = (node("a", "ns", Some(SECRET)), node("b", "ns", Some(SECRET)));
            let bytes = a.write(None, &message).unwrap();
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
        let write = |envelopes: Envelopes| envelopes.write(None, &hello()).unwrap();

        assert_eq!(why(b"hello"), Some((Refusal::Foreign, String::new())));
        assert_eq!(why(b""), Some((Refusal::Foreign, String::new())));
        assert_eq!(why(b"adsm"), Some((Refusal::Malformed, String::new())));
        assert_eq!(why(b"adsm\x02"), Some((Refusal::Version, String::new())));
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
    fn a_namesake_is_heard() {
        let twin = Envelopes::new("ns", "a", [7; 16], None);
        let bytes = node("a", "ns", None).write(None, &hello()).unwrap();
        assert!(twin.open(&bytes).unwrap().is_some());
    }

    #[test]
    fn json_of_a_stranger_is_read_before_it_is_believed() {
        let (a, b) = (node("a", "ns", None), node("b", "ns", None));
        for text in [&b"{"[..], b"{} {}", b"", b"\"\xff\"", b"\"\n\""] {
            let broken = Message::new("t", "e", Payload::Json(Json::from_encoded(text.to_vec())));
            let bytes = a.write(None, &broken).unwrap();
            assert_eq!(b.open(&bytes).err().map(|r| r.why), Some(Refusal::Malformed), "{text:?}");
        }
        let deep = Json::from_encoded([b"[".repeat(50_000), b"]".repeat(50_000)].concat());
        let bytes = a.write(None, &Message::new("t", "e", Payload::Json(deep))).unwrap();
        assert!(b.open(&bytes).is_ok());
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        let a = node("a", "ns", None);
        let largest = Payload::Binary(vec![0; MAX_MESSAGE_BYTES].into());
        assert!(a.write(None, &Message::new("t", "e", largest)).is_some());
        let larger = Payload::Binary(vec![0; MAX_MESSAGE_BYTES + 1].into());
        assert!(a.write(None, &Message::new("t", "e", larger)).is_none());
        let binary = Payload::Binary(Bytes::new());
        assert!(a.write(None, &Message::new("x".repeat(70_000), "e", binary)).is_none());
        // What is written must not be too large for those who read it, either.
        let largest = Payload::Binary(vec![0; MAX_MESSAGE_BYTES].into());
        assert!(a.write(None, &Message::new("x".repeat(9_000), "e", largest)).is_none());
    }

    #[test]
    fn a_flag_that_is_not_known_is_refused() {
        let (a, b) = (node("a", "ns", None), node("b", "ns", None));
        let bytes = a.write(None, &hello()).unwrap();
        for unknown in [8, 16, 32, 64, 128] {
            let mut changed = bytes.to_vec();
            changed[MAGIC.len() + 1] |= unknown;
            assert_eq!(b.open(&changed).err().map(|r| r.why), Some(Refusal::Malformed), "{unknown}");
        }
    }
}
