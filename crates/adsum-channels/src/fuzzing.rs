//! Private items that read input from outside, for the fuzz targets. Not public API.

use std::{cell::Cell, fmt, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, request::Parts};
use serde_json::Value;

use crate::{
    admission,
    connect::Connect,
    frame::Frame,
    longpoll::{self, PostedMessage},
    options::Options,
    origin::{Origins, Pattern, Rule},
    protocol_session::{Action, Liveness, ProtocolSession},
    rfc6455::{
        handshake,
        reader::{Incoming, Reader},
    },
    serializer::{ClientMessage, Serializer, V1, V2},
    token::term,
};

/// Version 1 of the protocol.
pub fn version_1() -> impl Serializer {
    V1
}

/// Version 2 of the protocol.
pub fn version_2() -> impl Serializer {
    V2
}

/// A frame as it is written to a socket.
pub fn frame_bytes(frame: Frame) -> Bytes {
    frame.into_bytes()
}

/// Reads what a client sends over WebSocket.
#[derive(Debug)]
pub struct Frames(Reader);

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of WebSocket messages")]
pub enum Sent {
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    Close(Option<u16>, String),
}

impl Frames {
    /// Refuses longer messages.
    pub fn new(max_message_bytes: usize) -> Self {
        Self(Reader::new(max_message_bytes))
    }

    /// Takes what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }

    /// The next message, or the code to close with.
    pub fn next_sent(&mut self) -> Result<Option<Sent>, u16> {
        let incoming = match self.0.next() {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.close_code()),
        };
        Ok(Some(match incoming {
            Incoming::Text(text) => Sent::Text(text),
            Incoming::Binary(bytes) => Sent::Binary(bytes),
            Incoming::Ping(payload) => Sent::Ping(payload),
            Incoming::Pong(_) => Sent::Pong,
            Incoming::Close { code, reason } => Sent::Close(code, reason),
        }))
    }

    /// The bytes that the reader has room for.
    pub fn held(&self) -> usize {
        self.0.held()
    }
}

/// The answer to the key of an upgrade request, if it is one.
pub fn accept(request: &Parts) -> Option<HeaderValue> {
    handshake::accept(request).ok()
}

/// A request as the program sees it.
pub fn connect(request: Parts) -> Connect {
    Connect::new(request, None)
}

/// The version of the protocol that an address asks for.
pub fn version(uri: &Uri) -> Option<String> {
    admission::version(uri).ok()
}

/// The token of a request of long poll.
pub fn longpoll_token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    longpoll::token(headers, uri).ok().flatten()
}

/// Whether a request's origin is the host itself or, if a pattern is given, matches it. `None` if
/// it is no pattern.
pub fn accepts_origin(pattern: Option<&str>, headers: &HeaderMap, uri: &Uri) -> Option<bool> {
    let rule = match pattern {
        Some(pattern) => Rule::Listed(vec![Pattern::parse(pattern)?]),
        None => Rule::Host,
    };
    Some(Origins { rule, hosts: Vec::new() }.check(headers, uri).is_ok())
}

/// The messages of one post.
pub fn longpoll_batch(body: &Bytes) -> Option<Vec<Sent>> {
    let batch = longpoll::batch(body).ok()?;
    let message = |message| match message {
        PostedMessage::Text(text) => Sent::Text(text),
        PostedMessage::Binary(bytes) => Sent::Binary(bytes.into()),
    };
    Some(batch.into_iter().map(message).collect())
}

/// Writes a tuple as tokens carry it.
pub fn write_term(elements: [&Value; 3]) -> Option<Vec<u8>> {
    term::encode_tuple(elements).ok()
}

/// Reads a tuple as tokens carry it.
pub fn read_term(bytes: &[u8]) -> Option<Vec<Value>> {
    term::decode_tuple(bytes).ok()
}

/// The joined topics of a socket, with channels that are numbers.
pub struct Topics {
    session: ProtocolSession<Number>,
    open: Vec<Rc<Cell<bool>>>,
}

#[derive(Clone)]
struct Number(usize, Rc<Cell<bool>>);

impl Liveness for Number {
    fn is_open(&self) -> bool {
        self.1.get()
    }
}

/// The action for a message.
#[derive(Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the session's own")]
pub enum Asked {
    Ok,
    Error(&'static str),
    /// A channel of the next number was started. It follows on one, which may have been joined still.
    Join {
        after: Option<usize>,
        duplicate: bool,
    },
    Event(usize),
    Leave(usize),
    Drop,
}

impl Topics {
    /// None joined.
    pub fn new(max_channels: usize, max_topic_bytes: usize) -> Self {
        let options = Options { max_channels, max_topic_bytes, ..Options::default() };
        Self { session: ProtocolSession::new(&options), open: Vec::new() }
    }

    /// Handles a message; `None` if it is a bad one.
    pub fn handle(&mut self, message: &ClientMessage<'_>, is_routed: impl Fn(&str) -> bool) -> Option<Asked> {
        Some(match self.session.handle(message, |topic| is_routed(topic).then_some(0)).ok()? {
            Action::Ok { .. } => Asked::Ok,
            Action::Error { reason, .. } => Asked::Error(reason),
            Action::Event(channel) => Asked::Event(channel.0),
            Action::Leave(channel) => Asked::Leave(channel.0),
            Action::Drop => Asked::Drop,
            Action::Join { topic, join_ref, after, duplicate, .. } => {
                let open = Rc::new(Cell::new(true));
                self.session.insert(topic, join_ref, Number(self.open.len(), open.clone()));
                self.open.push(open);
                Asked::Join { after: after.map(|channel| channel.0), duplicate }
            }
        })
    }

    /// A channel takes no events any more.
    pub fn close(&mut self, channel: usize) {
        if let Some(open) = self.open.get(channel) {
            open.set(false);
        }
    }

    /// A channel has ended.
    pub fn forget(&mut self, channel: usize) {
        self.close(channel);
        self.session.forget_all(|number| number.0 == channel);
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").field("started", &self.open.len()).finish_non_exhaustive()
    }
}
