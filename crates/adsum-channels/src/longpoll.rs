//! Long poll: the transport of clients without WebSocket.
//!
//! The client posts its messages and polls for messages; a session on the server stands for the socket. The status of a
//! response is in its JSON: phoenix.js expects the HTTP status 200.

mod parts;
mod remote;
mod responder;
mod session;

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use adsum_pubsub::{
    log::limited,
    tasks::{self, Task},
};
use axum::{
    body::{Body, to_bytes},
    extract::{OriginalUri, Request},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
    },
    request::Parts,
};
use http_body_util::LengthLimitError;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::{
    remote::{Name, Relay},
    session::{Polled, Published, SessionHandle},
};
use crate::{
    admission,
    endpoint::EndpointOwner,
    query::{self, BadQuery},
    refusal::Refusal,
    serve::unanswered,
    sockets::SocketSets,
    token::{SignError, Tokens},
    transport_name::LONGPOLL,
};

const SALT: &str = "adsum long poll session";
/// Derives the key that hides node names in tokens.
const NODE_SALT: &str = "adsum long poll node";
/// How long a session's token is valid, as in Phoenix.
const TOKEN_MAX_AGE: Duration = Duration::from_hours(14 * 24);
/// Maximum number of messages in a post, the same as in phoenix.js.
const MAX_BATCH: usize = 100;

/// The long poll sessions of a router; answers their requests.
pub(crate) struct LongPoll {
    owner: Arc<EndpointOwner>,
    /// Signs the sessions' tokens.
    tokens: Tokens,
    /// Tokens of other secrets. Each has its own, since the secret that signs a token also hides the node in it.
    also_accepted: Vec<Tokens>,
    sessions: Arc<Sessions>,
    relay: Arc<Relay>,
    /// Set once the relay is subscribed, when the first session may have requests from other nodes.
    listens: OnceLock<()>,
    /// Receives the relay's messages.
    listener: OnceLock<Task>,
}

type Sessions = Mutex<HashMap<String, SessionHandle>>;

/// Removes a session from the map when it is dropped.
struct SessionEntry {
    id: String,
    sessions: Weak<Sessions>,
}

impl Drop for SessionEntry {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.upgrade() {
            let session = sessions.lock().remove(&self.id);
            // Outside the lock: it drops pending requests, which send responses to other nodes.
            drop(session);
        }
    }
}

/// The content of a token. Clients can read it, except for the node's name.
#[derive(Serialize, Deserialize)]
struct SignedName {
    /// Encrypted, in base64.
    node: String,
    relay: String,
    session: String,
    /// A hash of the path at which the session was opened, since another socket has other clients, origins and layers.
    mount: String,
}

#[derive(Serialize)]
struct LongpollAnswer {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The HTTP status, which phoenix.js ignores, but a proxy may use.
    #[serde(skip)]
    http: StatusCode,
}

impl LongpollAnswer {
    fn status(status: u16) -> Self {
        Self { status, token: None, messages: None, reason: None, http: StatusCode::OK }
    }

    fn with(status: u16, token: String, messages: Vec<String>) -> Self {
        Self { token: Some(token), messages: Some(messages), ..Self::status(status) }
    }

    /// phoenix.js closes on a 403, and retries with increasing pauses.
    fn refused(refusal: &Refusal) -> Self {
        let answer = Self::status(403);
        match refusal {
            Refusal::Limit(limit) => Self { http: limit.status(), reason: Some(limit.to_string()), ..answer },
            _ => answer,
        }
    }
}

impl LongPoll {
    pub(crate) fn new(owner: Arc<EndpointOwner>, tokens: Tokens, also_accepted: Vec<Tokens>) -> Self {
        let pubsub = owner.endpoint.context.pubsub.clone();
        let relay = Relay::new(
            pubsub,
            random().unwrap_or_default(),
            owner.endpoint.context.options.longpoll_node_timeout,
        );
        let (listens, listener) = (OnceLock::new(), OnceLock::new());
        let (sessions, relay) = (Arc::default(), Arc::new(relay));
        Self { owner, tokens, also_accepted, sessions, relay, listens, listener }
    }

    pub(crate) async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let mut response = match parts.method {
            Method::OPTIONS => preflight(&parts.headers),
            Method::GET | Method::POST => match token(&parts.headers, &parts.uri) {
                Ok(token) => self.serve(parts, body, token).await,
                Err(error) => bad_request(error.reason()),
            },
            _ => StatusCode::BAD_REQUEST.into_response(),
        };
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }

    async fn serve(&self, parts: Parts, body: Body, token: Option<String>) -> Response {
        let session = token.and_then(|token| self.session(token, &mount(&parts)));
        if parts.method == Method::POST {
            return self.publish(&parts, body, session).await;
        }
        match session {
            None if self.is_draining(&parts.extensions) => {
                unanswered(StatusCode::SERVICE_UNAVAILABLE.into_response())
            }
            None => json(&self.open(parts).await),
            Some((token, session)) => json(&self.poll(parts, token, session).await),
        }
    }

    async fn poll(&self, parts: Parts, token: String, session: SessionLocation) -> LongpollAnswer {
        if self.is_refused(&parts) {
            return LongpollAnswer::status(403);
        }
        let is_draining = self.is_draining(&parts.extensions);
        let polled = match &session {
            SessionLocation::Local(session) => session.poll().await,
            SessionLocation::Remote(name) => self.relay.poll(name, self.window()).await,
        };
        match (polled, session) {
            (Polled::Messages(messages), _) => LongpollAnswer::with(200, token, messages),
            (Polled::Nothing, _) => LongpollAnswer::with(204, token, Vec::new()),
            // The session no longer exists, as if it weren't found on this node.
            (Polled::Gone, SessionLocation::Remote(_)) if !is_draining => self.open(parts).await,
            // The session ended while the client waited. The next poll opens a new one.
            (Polled::Gone, _) => LongpollAnswer::status(410),
        }
    }

    /// Opens a session. To the client the first 410 means an open socket, a later one a lost socket.
    async fn open(&self, parts: Parts) -> LongpollAnswer {
        let endpoint = &self.owner.endpoint;
        let mount = mount(&parts);
        let admitted = match admission::admit(endpoint, parts, LONGPOLL).await {
            Ok(admitted) => admitted,
            Err(denied) => return LongpollAnswer::refused(&denied.refusal),
        };
        let Some(id) = random() else { return LongpollAnswer::status(403) };
        self.listen();
        let token = match self.sign(self.relay.name(id.clone()), mount) {
            Ok(token) => token,
            Err(error) => {
                limited!(ERROR, %error, "refused a long poll session: its token can't be signed");
                return LongpollAnswer::status(403);
            }
        };
        let entry = SessionEntry { id: id.clone(), sessions: Arc::downgrade(&self.sessions) };
        let (session, requests) = SessionHandle::new(endpoint.context.options.longpoll_window);
        // Inserted before it starts, so that it can't be removed first.
        self.sessions.lock().insert(id, session);
        session::start(&self.owner, admitted, requests, entry);
        LongpollAnswer::with(410, token, Vec::new())
    }

    fn is_refused(&self, parts: &Parts) -> bool {
        self.owner.endpoint.origins.check(&parts.headers, &parts.uri).is_err()
    }

    async fn publish(
        &self,
        parts: &Parts,
        body: Body,
        session: Option<(String, SessionLocation)>,
    ) -> Response {
        let (options, metrics) = (&self.owner.endpoint.context.options, &self.owner.endpoint.metrics);
        if self.is_refused(parts) {
            return json(&LongpollAnswer::status(403));
        }
        let Some((_, session)) = session else { return json(&LongpollAnswer::status(410)) };
        // The whole body is limited like the outbound queue, and each message like one of a WebSocket.
        let body = match to_bytes(body, options.max_queue_bytes).await {
            Ok(body) => body,
            Err(error) if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) => {
                metrics.limit_hit("max_queue_bytes");
                return bad_request("the body is longer than max_queue_bytes");
            }
            Err(_) => return bad_request("the body was cut off"),
        };
        let is_batch = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| {
            kind.to_str().is_ok_and(|kind| kind.trim_start().starts_with("application/x-ndjson"))
        });
        let batch = if is_batch { batch(&body) } else { Ok(vec![PostedMessage::Text(body)]) };
        let batch = match batch {
            Ok(batch) => batch,
            Err(reason) => return bad_request(reason),
        };
        if batch.iter().any(|message| message.len() > options.max_message_bytes) {
            metrics.message_too_large();
            return bad_request("a message is longer than max_message_bytes");
        }
        let published = match session {
            SessionLocation::Local(session) => session.publish(batch).await,
            SessionLocation::Remote(name) => self.relay.publish(&name, batch, self.window()).await,
        };
        match published {
            Published::Taken => json(&LongpollAnswer::status(200)),
            Published::Bad(error) => bad_request(&error),
            Published::Gone => json(&LongpollAnswer::status(410)),
            Published::Late => json(&LongpollAnswer::status(408)),
            Published::TooLong => {
                metrics.limit_hit("queue_bytes");
                bad_request(
                    "a message never fits into the queue to the node of the session (NodeBuilder::queue)",
                )
            }
        }
    }

    /// Whether the router's sockets, or those of the request's server, are being drained.
    fn is_draining(&self, request: &Extensions) -> bool {
        SocketSets::of(&self.owner.endpoint.sockets, request, None).are_draining()
    }

    /// The session that a token names, if it was opened at this mount.
    fn session(&self, token: String, mount: &str) -> Option<(String, SessionLocation)> {
        let (signed, tokens) = self.verify(&token)?;
        let node = STANDARD.decode(&signed.node).ok()?;
        let node = String::from_utf8(tokens.veil(NODE_SALT, &signed.session, &node)).ok()?;
        if signed.mount != mount {
            return None;
        }
        let name = Name { node, relay: signed.relay, session: signed.session };
        if self.relay.is_remote(&name) {
            self.listen();
            return Some((token, SessionLocation::Remote(name)));
        }
        let session = self.sessions.lock().get(&name.session).cloned()?;
        Some((token, SessionLocation::Local(session)))
    }

    /// Returns the content of a token, and the tokens whose secret has signed it.
    fn verify(&self, token: &str) -> Option<(SignedName, &Tokens)> {
        let mut accepted = std::iter::once(&self.tokens).chain(&self.also_accepted);
        accepted.find_map(|tokens| Some((tokens.verify(SALT, token, TOKEN_MAX_AGE).ok()?, tokens)))
    }

    fn sign(&self, name: Name, mount: String) -> Result<String, SignError> {
        let Name { node, relay, session } = name;
        let node = STANDARD.encode(self.tokens.veil(NODE_SALT, &session, node.as_bytes()));
        self.tokens.sign_for(SALT, &SignedName { node, relay, session, mount }, TOKEN_MAX_AGE)
    }

    /// Starts to receive messages from other nodes, if there can be any.
    fn listen(&self) {
        if !self.owner.endpoint.context.pubsub.is_networked() {
            return;
        }
        let mut inbox = None;
        self.listens.get_or_init(|| inbox = Some(self.relay.subscribe()));
        // Spawned outside the lock, by the caller that has subscribed.
        if inbox.is_some() {
            let (relay, sessions) = (self.relay.clone(), self.sessions.clone());
            let listen = move || {
                let inbox = inbox.take().unwrap_or_else(|| relay.subscribe());
                relay.clone().listen(inbox, sessions.clone())
            };
            let name = "long poll listener";
            let _ = self.listener.set(tasks::spawn(name, tasks::restarted(name, listen)));
        }
    }

    fn window(&self) -> Duration {
        self.owner.endpoint.context.options.longpoll_window
    }
}

/// The location of a session.
enum SessionLocation {
    Local(SessionHandle),
    Remote(Name),
}

/// A hash of the path that the client requested, ignoring empty segments.
fn mount(parts: &Parts) -> String {
    let uri = parts.extensions.get().map_or(&parts.uri, |OriginalUri(uri)| uri);
    let segments = uri.path().split('/').filter(|segment| !segment.is_empty());
    let hash = segments.fold(Sha256::new(), |hash, segment| hash.chain_update(segment).chain_update("/"));
    STANDARD.encode(&hash.finalize()[..16])
}

/// An unguessable name. Logs and returns `None` if the system has no randomness.
fn random() -> Option<String> {
    let mut random = [0; 16];
    match getrandom::fill(&mut random) {
        Ok(()) => Some(STANDARD.encode(random)),
        Err(error) => {
            limited!(ERROR, %error, "refused a long poll session: the system has no randomness");
            None
        }
    }
}

/// A message that a client has posted.
#[cfg_attr(fuzzing, derive(Debug, PartialEq))]
pub(crate) enum PostedMessage {
    Text(Bytes),
    Binary(Vec<u8>),
}

impl PostedMessage {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// Parses a post with one message per line: JSON, or else bytes in base64.
pub(crate) fn batch(body: &Bytes) -> Result<Vec<PostedMessage>, &'static str> {
    let lines = body.split(|byte| *byte == b'\n').map(|line| body.slice_ref(line.trim_ascii()));
    let messages: Vec<_> = lines
        .filter(|line| !line.is_empty())
        .take(MAX_BATCH + 1)
        .map(|line| match line[0] {
            b'[' | b'{' => Ok(PostedMessage::Text(line)),
            _ => STANDARD
                .decode(&line)
                .map(PostedMessage::Binary)
                .map_err(|_| "a line is neither JSON nor base64"),
        })
        .collect::<Result<_, _>>()?;
    if messages.len() > MAX_BATCH {
        return Err("more than 100 messages in one post");
    }
    Ok(messages)
}

/// The session token of a request. In the query, a program's own parameter of this name comes before it.
pub(crate) fn token(headers: &HeaderMap, uri: &Uri) -> Result<Option<String>, BadQuery> {
    let in_query = query::text(uri, "token")?;
    Ok(match headers.get("x-phoenix-longpoll-token") {
        Some(token) => token.to_str().ok().map(str::to_owned),
        None => in_query,
    })
}

fn preflight(headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allowed = response.headers_mut();
    allowed.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(HeaderValue::from_static("")));
    allowed.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("get, post, options"));
    allowed.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    response
}

fn json(answer: &LongpollAnswer) -> Response {
    let body = serde_json::to_vec(answer).expect("numbers and strings can be encoded as JSON");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (answer.http, headers, body).into_response()
}

fn bad_request(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, reason.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_or_base64() {
        let read = batch(&Bytes::from_static(b"[1]\n{\"a\":1}\r\n\nAAH/\n")).unwrap();
        assert!(
            matches!(&read[..], [PostedMessage::Text(a), PostedMessage::Text(b), PostedMessage::Binary(c)]
            if a == "[1]" && b == "{\"a\":1}" && c == &[0, 1, 255])
        );
        assert!(batch(&Bytes::from_static(b"not json")).is_err());
        assert!(batch(&"[]\n".repeat(100).into()).is_ok());
        assert!(batch(&"[]\n".repeat(101).into()).is_err());
    }
}
