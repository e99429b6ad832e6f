//! A client's view of its connection, and waiting for more to come.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    frame::{self, Body, Frame},
    roster::Roster,
};

/// Shared by all clients of a server, or of a cluster.
#[derive(Debug)]
pub(super) struct Shared {
    /// How long a test waits for what it expects.
    pub(super) patience: Mutex<Duration>,
    /// The number of frames and closes that clients have heard.
    pub(super) heard: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { patience: Mutex::new(super::DEFAULT_PATIENCE), heard: AtomicU64::new(0) }
    }
}

/// One client's side of its socket. It outlives the connection: a client may connect again.
pub(super) struct ClientLog {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Mutex<ClientState>,
    changed: Notify,
    began: Instant,
}

#[derive(Default)]
pub(super) struct ClientState {
    /// Every frame and event of the client, as a failed test prints it.
    seen: Vec<String>,
    /// The last ref that was used.
    reference: u64,
    pub(super) replies: HashMap<String, (String, Body)>,
    pub(super) topics: HashMap<String, JoinState>,
    /// The connection has ended, with this code.
    pub(super) closed: Option<u16>,
}

/// A topic that the client has joined, or tried to.
pub(super) struct JoinState {
    pub(super) join_ref: String,
    pub(super) params: Value,
    /// Pushes and broadcasts that no test has taken yet.
    pub(super) inbox: VecDeque<(String, Body)>,
    pub(super) end: Option<(String, Value)>,
    pub(super) roster: Roster,
}

impl ClientLog {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, state: Mutex::default(), changed: Notify::new(), began: Instant::now() }
    }

    /// A ref that wasn't used before.
    pub(super) fn next_ref(&self) -> String {
        let mut state = self.state.lock();
        state.reference += 1;
        state.reference.to_string()
    }

    pub(super) fn note(&self, what: &str) {
        let line = format!("{:>9.3} {what}", self.began.elapsed().as_secs_f64());
        self.state.lock().seen.push(line);
    }

    pub(super) fn heard_text(&self, text: &[u8]) {
        self.note(&format!("<- {}", String::from_utf8_lossy(text)));
        self.heard(frame::read_text(text));
    }

    pub(super) fn heard_binary(&self, bytes: &Bytes) {
        self.note(&format!("<- {}", frame::describe_binary(bytes)));
        self.heard(frame::read_binary(bytes));
    }

    fn heard(&self, frame: Option<Frame>) {
        let frame = frame.expect("the server sends frames of version 2");
        // The answer to a heartbeat: nothing that a test waits for.
        if frame.topic == "phoenix" {
            return;
        }
        self.state.lock().take(frame);
        self.tell();
    }

    pub(super) fn closed(&self, code: u16) {
        self.note(&format!("closed with {code}"));
        self.state.lock().closed.get_or_insert(code);
        self.tell();
    }

    fn tell(&self) {
        self.shared.heard.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Waits until `look` finds something. Fails if it takes longer than the patience of the test.
    pub(super) async fn until<T>(
        &self,
        expected: &str,
        at: &'static Location<'static>,
        mut look: impl FnMut(&mut ClientState) -> Option<T>,
    ) -> T {
        let patience = *self.shared.patience.lock();
        let found = timeout(patience, async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = look(&mut self.state.lock()) {
                    return found;
                }
                changed.await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => self.fail(&format!("{expected} didn't come within {patience:?}"), at),
        }
    }

    /// Ends the test, and prints what the client has seen.
    #[expect(clippy::panic, reason = "this is how a test fails")]
    pub(super) fn fail(&self, why: &str, at: &Location<'_>) -> ! {
        let mut text = format!("{why}\n  expected at {at}\n  what this client saw, in seconds:\n");
        for line in &self.state.lock().seen {
            writeln!(text, "  {line}").expect("a string takes all");
        }
        panic!("{text}");
    }
}

impl ClientState {
    fn take(&mut self, frame: Frame) {
        let Frame { join_ref, reference, topic, event, status, body } = frame;
        if let (Some(reference), Some(status)) = (&reference, status) {
            self.replies.insert(reference.clone(), (status, body));
            return;
        }
        let Some(topic) = self.topics.get_mut(&topic) else { return };
        // As phoenix.js does, drop messages of an earlier join.
        if join_ref.is_some_and(|join_ref| join_ref != topic.join_ref) {
            return;
        }
        if let Body::Json(payload) = &body {
            match &*event {
                "presence_state" => topic.roster.state(&topic.join_ref, payload),
                "presence_diff" => topic.roster.diff(&topic.join_ref, payload),
                "phx_close" | "phx_error" => {
                    topic.end = Some((event, payload.clone()));
                    return;
                }
                _ => {}
            }
        }
        topic.inbox.push_back((event, body));
    }
}
