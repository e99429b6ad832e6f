//! The session of a socket: messages in, what they ask for out, held against a model that is told of the same.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use crate::{
    options::Options,
    protocol_session::{Action, Liveness, ProtocolSession},
    serializer::{ClientMessage, Serializer, V2, Wire, read_string},
};

const MAX_CHANNELS: usize = 3;
const MAX_TOPIC_BYTES: usize = 12;
const MAX_REF_BYTES: usize = 64;

/// Input: a step a line: a message of version 2; `!n`, by which channel n takes no events any more; `?n`, by which
/// it has ended.
pub fn sessions(data: &[u8]) {
    let options =
        Options { max_channels: MAX_CHANNELS, max_topic_bytes: MAX_TOPIC_BYTES, ..Options::default() };
    let mut session: ProtocolSession<Channel> = ProtocolSession::new(&options);
    let mut channels: Vec<Channel> = Vec::new();
    let mut model = Model::default();
    for line in data.split(|byte| *byte == b'\n') {
        match line {
            [b'!', n] => {
                let channel = usize::from(*n - n.min(&b'0'));
                close(&channels, channel);
                model.closed.insert(channel);
            }
            [b'?', n] => {
                let channel = usize::from(*n - n.min(&b'0'));
                close(&channels, channel);
                session.forget_all(|ended| ended.number == channel);
                model.closed.insert(channel);
                model.joins.retain(|_, join| join.channel != channel);
            }
            _ => {
                let Ok(message) = V2.decode(Wire::Text(line)) else { continue };
                let action = session.handle(&message, |topic| is_routed(topic).then_some(0)).ok();
                let refs = [&message.join_ref, &message.reference];
                let expected =
                    refs.iter().all(|text| text.len() <= MAX_REF_BYTES).then(|| model.handle(&message));
                assert_eq!(action.as_ref().map(Expected::of), expected, "{message:?}");
                if let Some(Action::Join { topic, join_ref, .. }) = action {
                    let channel = Channel { number: channels.len(), is_open: Rc::new(Cell::new(true)) };
                    channels.push(channel.clone());
                    session.insert(topic, join_ref, channel);
                }
                assert!(model.joins.len() <= MAX_CHANNELS);
            }
        }
    }
}

/// A channel, by its number in the order in which they started.
#[derive(Clone)]
struct Channel {
    number: usize,
    is_open: Rc<Cell<bool>>,
}

impl Liveness for Channel {
    fn is_open(&self) -> bool {
        self.is_open.get()
    }
}

/// Lets a channel accept no more events, if it was started.
fn close(channels: &[Channel], number: usize) {
    if let Some(channel) = channels.get(number) {
        channel.is_open.set(false);
    }
}

/// The part of an action that the model predicts.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Ok,
    Error(&'static str),
    Join { after: Option<usize>, duplicate: bool },
    Event(usize),
    Leave(usize),
    Drop,
}

impl Expected {
    fn of(action: &Action<Channel>) -> Self {
        match action {
            Action::Ok { .. } => Self::Ok,
            Action::Error { reason, .. } => Self::Error(reason),
            Action::Join { after, duplicate, .. } => {
                Self::Join { after: after.as_ref().map(|channel| channel.number), duplicate: *duplicate }
            }
            Action::Event(channel) => Self::Event(channel.number),
            Action::Leave(channel) => Self::Leave(channel.number),
            Action::Drop => Self::Drop,
        }
    }
}

fn is_routed(topic: &str) -> bool {
    topic.starts_with("room:")
}

#[derive(Default)]
struct Model {
    joins: HashMap<String, Join>,
    /// These take no events; of those that were not started yet it is of no interest.
    closed: HashSet<usize>,
    started: usize,
}

struct Join {
    named: String,
    leaving: bool,
    channel: usize,
}

impl Model {
    fn handle(&mut self, message: &ClientMessage<'_>) -> Expected {
        const UNMATCHED: Expected = Expected::Error("unmatched topic");
        let Some(topic) = read_string(&message.topic) else { return UNMATCHED };
        let join = self.joins.get_mut(&*topic);
        let live = join.as_ref().is_some_and(|join| !join.leaving && !self.closed.contains(&join.channel));
        match (&*message.event, join) {
            ("heartbeat", _) if topic == "phoenix" => Expected::Ok,
            ("phx_join", _) if topic.len() > MAX_TOPIC_BYTES => Expected::Error("topic too long"),
            ("phx_join", _) if !is_routed(&topic) => UNMATCHED,
            ("phx_join", join) => {
                let after = join.map(|join| join.channel);
                let others = self.joins.keys().filter(|joined| **joined != topic).count();
                if others >= MAX_CHANNELS && !live {
                    return Expected::Error("too many channels joined");
                }
                let join_ref =
                    if message.join_ref == "null" { &message.reference } else { &message.join_ref };
                let channel = self.started;
                self.closed.remove(&channel);
                self.started += 1;
                let join = Join { named: join_ref.to_string(), leaving: false, channel };
                self.joins.insert(topic.into_owned(), join);
                Expected::Join { after, duplicate: live }
            }
            (_, Some(join)) if live && message.join_ref != "null" && message.join_ref != join.named => {
                Expected::Drop
            }
            ("phx_leave", Some(join)) if live => {
                join.leaving = true;
                Expected::Leave(join.channel)
            }
            (_, Some(join)) if live => Expected::Event(join.channel),
            ("phx_leave", _) => Expected::Ok,
            _ => UNMATCHED,
        }
    }
}
