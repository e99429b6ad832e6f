//! A client: one user's connection, joined to one topic, and what it sees there.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::{
    Common,
    connection::{self, Connection},
    view::{Changes, View},
    wire::{self, Count, Numbered, Reply, ServerFrame, TEXT},
    world::{World, add},
};

/// How long a join may take.
const JOIN_TIMEOUT: Duration = Duration::from_mins(2);

/// The ref of a leave, and of a question whose answer is kept.
const LEAVE: &str = "l";
const QUESTION: &str = "q";

/// The state or count that a client is sent once it has joined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The reply only.
    Reply,
    /// `presence_state`.
    State,
    /// `presence_count`.
    Count,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) view: View,
    synced: bool,
    /// Diffs that came before the state.
    early: Vec<Rc<Changes>>,
    /// When the view first had as many users as it should; 0 before.
    pub(crate) complete_at: u64,
    pub(crate) first_leave_at: u64,
}

struct Echo {
    next: u64,
    sent: VecDeque<(u64, u64)>,
}

pub(crate) struct Client {
    pub(crate) user: u32,
    pub(crate) room: usize,
    topic: String,
    greeting: Greeting,
    /// Whether the times at which it sees others count.
    pub(crate) sampled: Cell<bool>,
    /// Whether it will stop reading. Set before it connects.
    pub(crate) modest: Cell<bool>,
    /// How many it should see.
    pub(crate) target: Cell<usize>,
    connection: OnceCell<Rc<Connection>>,
    pub(crate) seen: RefCell<Seen>,
    shouts_heard: Cell<usize>,
    echo: RefCell<Option<Echo>>,
    joined: Notify,
    left: Notify,
    leaving: Cell<bool>,
    answer: RefCell<Option<String>>,
    answered: Notify,
    /// The counts that came, each with its time.
    pub(crate) counts: RefCell<Vec<(u64, u64)>>,
}

impl Client {
    pub(crate) fn new(user: u32, room: usize, topic: String, greeting: Greeting, target: usize) -> Rc<Self> {
        Rc::new(Self {
            user,
            room,
            topic,
            greeting,
            sampled: Cell::new(true),
            modest: Cell::default(),
            target: Cell::new(target),
            connection: OnceCell::new(),
            seen: RefCell::default(),
            shouts_heard: Cell::default(),
            echo: RefCell::default(),
            joined: Notify::new(),
            left: Notify::new(),
            leaving: Cell::default(),
            answer: RefCell::default(),
            answered: Notify::new(),
            counts: RefCell::default(),
        })
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        self.connection.get().expect("it is used only once it is connected")
    }

    pub(crate) fn sees(&self) -> usize {
        self.seen.borrow().view.len()
    }

    /// Whether it is connected.
    pub(crate) async fn connect(self: &Rc<Self>, world: &Rc<World>, common: &Common) -> bool {
        let started = world.now();
        match Connection::open(common, self.user, self.modest.get()).await {
            Ok((connection, reader, rest)) => {
                world.latencies.connect.record(world.now() - started);
                world.connections.borrow_mut().push(Rc::downgrade(&connection));
                let reading = connection::read(world.clone(), connection.clone(), reader, rest, self.clone());
                let first = self.connection.set(connection).is_ok();
                assert!(first, "a client connects once");
                tokio::task::spawn_local(reading);
                true
            }
            Err(error) => {
                world.error(format!("can't connect: {error}"));
                false
            }
        }
    }

    /// Joins; returns once it is greeted.
    pub(crate) async fn join(&self, world: &World) {
        World::note(&world.joined, self.user, world.now());
        self.push(&self.user.to_string(), "phx_join", "{}");
        if tokio::time::timeout(JOIN_TIMEOUT, self.joined.notified()).await.is_err() {
            world.error("a join was not answered");
        }
    }

    pub(crate) fn push(&self, reference: &str, event: &str, payload: &str) {
        let Self { user, topic, .. } = self;
        self.connection().send(&format!(r#"["{user}","{reference}","{topic}","{event}",{payload}]"#));
    }

    /// Leaves its topic; returns once the channel is closed.
    pub(crate) async fn leave(&self) {
        self.leaving.set(true);
        self.push(LEAVE, "phx_leave", "{}");
        self.left.notified().await;
    }

    /// Sends an event, and returns the server's reply.
    pub(crate) async fn ask(&self, event: &str, payload: &str) -> String {
        self.push(QUESTION, event, payload);
        loop {
            if let Some(answer) = self.answer.take() {
                return answer;
            }
            self.answered.notified().await;
        }
    }

    /// Says something to all in the topic: what they all are to hear is known before it comes.
    pub(crate) fn shout(&self, world: &World, payload: &str) {
        let text = format!(r#"[null,null,"{}","shout",{payload}]"#, self.topic);
        let mut frame = Vec::new();
        wire::write_plain(&mut frame, TEXT, text.as_bytes());
        world.shouts.borrow_mut().push(&frame, world.now());
        self.push("s", "shout", payload);
    }

    /// Has so many echoes under way from now on, until the world stops.
    pub(crate) fn start_echoes(&self, world: &World, depth: usize) {
        let mut echo = Echo { next: 0, sent: VecDeque::new() };
        let mut out = Vec::new();
        for _ in 0..depth {
            self.write_echo(world.now(), &mut echo, &mut out);
        }
        *self.echo.borrow_mut() = Some(echo);
        self.connection().send_frames(&out);
    }

    pub(crate) fn echoes_under_way(&self) -> usize {
        self.echo.borrow().as_ref().map_or(0, |echo| echo.sent.len())
    }

    fn write_echo(&self, now: u64, echo: &mut Echo, out: &mut Vec<u8>) {
        let (Self { user, topic, .. }, n) = (self, echo.next);
        echo.next += 1;
        echo.sent.push_back((n, now));
        let text = format!(r#"["{user}","e{n}","{topic}","echo",{{"n":{n},"t":{now}}}]"#);
        wire::write_masked(out, TEXT, text.as_bytes());
    }

    /// Takes the broadcasts that come next, as long as they look as they must. How many bytes they are.
    ///
    /// One that doesn't is left for [`handle`](Self::handle), which says what is wrong.
    pub(crate) fn take_shouts(&self, world: &World, now: u64, bytes: &[u8]) -> usize {
        let mut shouts = world.shouts.borrow_mut();
        let (mut taken, mut heard) = (0, self.shouts_heard.get());
        while let Some(frame) = shouts.frame(heard)
            && bytes[taken..].starts_with(frame)
        {
            taken += frame.len();
            let (sent, by) = shouts.heard(heard);
            // Every client's would be more work than all the rest.
            if self.sampled.get() && world.measuring.get() {
                world.latencies.deliver.record(now.saturating_sub(sent));
            }
            if by == world.listeners.get() {
                world.all_heard.notify_one();
            }
            heard += 1;
        }
        let new = (heard - self.shouts_heard.replace(heard)) as u64;
        add(&world.deliveries, new);
        add(&world.frames, new);
        taken
    }

    /// Handles any other message; what is to be answered is appended to `out`.
    pub(crate) fn handle(&self, world: &World, now: u64, text: &str, out: &mut Vec<u8>) {
        let Ok((join_ref, reference, _, event, payload)) = serde_json::from_str::<ServerFrame<'_>>(text)
        else {
            return world.error(format!("not understood: {text}"));
        };
        match event {
            "presence_diff" | "presence_state" if self.greeting != Greeting::State => {
                world.error("presences where none should be told");
            }
            "presence_state" => self.take_state(world, now, payload.get()),
            "presence_diff" => self.take_diff(world, now, payload.get()),
            "presence_count" => self.take_count(world, now, payload.get()),
            "phx_reply" => self.take_reply(world, now, (join_ref, reference), payload, out),
            "phx_close" if self.leaving.get() => self.left.notify_one(),
            _ => world.error(format!("not expected by {}: {text}", self.user)),
        }
    }

    fn take_state(&self, world: &World, now: u64, payload: &str) {
        let state = match world.parsed.borrow_mut().state(payload) {
            Ok(state) => state,
            Err(error) => return world.error(error),
        };
        let mut seen = self.seen.borrow_mut();
        if std::mem::replace(&mut seen.synced, true) {
            add(&world.resyncs, 1);
        } else {
            world.latencies.state.record(now.saturating_sub(World::noted(&world.joined, self.user)));
        }
        seen.view.clear();
        state.apply(&mut seen.view);
        for early in std::mem::take(&mut seen.early) {
            early.apply(&mut seen.view);
        }
        self.look_whether_complete(world, now, &mut seen);
        self.joined.notify_one();
    }

    fn take_diff(&self, world: &World, now: u64, payload: &str) {
        let diff = match world.parsed.borrow_mut().diff(payload) {
            Ok(diff) => diff,
            Err(error) => return world.error(error),
        };
        if self.sampled.get() && world.measuring.get() {
            let (latencies, now) = (&world.latencies, |since: u64| now.saturating_sub(since));
            for &(user, _) in diff.joins.iter().filter(|(user, _)| *user != self.user) {
                match (World::noted(&world.updated, user), World::noted(&world.joined, user)) {
                    (0, 0) => {}
                    (0, joined) => latencies.join.record(now(joined)),
                    (updated, _) => latencies.update.record(now(updated)),
                }
            }
            for &(user, _) in diff.leaves.iter().filter(|(user, _)| *user != self.user) {
                match World::noted(&world.left, user) {
                    0 => {}
                    left => latencies.leave.record(now(left)),
                }
            }
        }
        let mut seen = self.seen.borrow_mut();
        if !diff.leaves.is_empty() && seen.first_leave_at == 0 {
            seen.first_leave_at = now;
        }
        if seen.synced {
            diff.apply(&mut seen.view);
            self.look_whether_complete(world, now, &mut seen);
        } else {
            seen.early.push(diff);
        }
    }

    fn look_whether_complete(&self, world: &World, now: u64, seen: &mut Seen) {
        if seen.complete_at == 0 && seen.view.len() == self.target.get() {
            seen.complete_at = now;
            world.complete.set(world.complete.get() + 1);
        }
    }

    fn take_count(&self, world: &World, now: u64, payload: &str) {
        match serde_json::from_str(payload) {
            Ok(Count { presences, keys }) if presences == keys => {
                self.counts.borrow_mut().push((now, presences));
                self.joined.notify_one();
            }
            _ => world.error(format!("a count of {payload}")),
        }
    }

    fn take_reply(
        &self,
        world: &World,
        now: u64,
        (join_ref, reference): (Option<&str>, Option<&str>),
        payload: &RawValue,
        out: &mut Vec<u8>,
    ) {
        let Ok(Reply { status: "ok", response }) = serde_json::from_str(payload.get()) else {
            return world.error(format!("a reply of {payload}"));
        };
        let Some(reference) = reference else { return world.error("a reply without a ref") };
        if let Some(n) = reference.strip_prefix('e') {
            return self.take_echo(world, now, join_ref, n, response, out);
        }
        if reference == QUESTION {
            *self.answer.borrow_mut() = Some(response.get().to_owned());
            self.answered.notify_one();
        } else if Some(reference) == join_ref {
            world.latencies.reply.record(now.saturating_sub(World::noted(&world.joined, self.user)));
            if self.greeting == Greeting::Reply {
                self.joined.notify_one();
            }
        }
    }

    fn take_echo(
        &self,
        world: &World,
        now: u64,
        join_ref: Option<&str>,
        n: &str,
        response: &RawValue,
        out: &mut Vec<u8>,
    ) {
        let mut echo = self.echo.borrow_mut();
        let Some(echo) = &mut *echo else { return world.error("an echo of nothing") };
        let Some(sent) = echo.sent.pop_front() else { return world.error("an echo too many") };
        let number = |text: &str| text.parse::<u64>().ok();
        let echoed = serde_json::from_str(response.get()).ok().map(|Numbered { n, t }| (n, t));
        if echoed != Some(sent)
            || number(n) != Some(sent.0)
            || join_ref.and_then(number) != Some(self.user.into())
        {
            world.error(format!("{response} echoed for {sent:?}"));
        }
        add(&world.replies, 1);
        if world.measuring.get() {
            world.latencies.echo.record(now.saturating_sub(sent.1));
        }
        if !world.stopped.get() {
            self.write_echo(now, echo, out);
        }
    }
}
