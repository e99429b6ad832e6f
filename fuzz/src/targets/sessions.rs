//! The session of a socket: messages in, what they ask for out, held against a model that is told of the same.

use std::collections::{HashMap, HashSet};

use adsum_channels::{
    ClientMessage, Serializer, Wire,
    fuzzing::{Asked, Topics, version_2},
    read_string,
};

const MAX_CHANNELS: usize = 3;
const MAX_TOPIC_BYTES: usize = 12;
const MAX_REF_BYTES: usize = 64;

/// Input: a step a line: a message of version 2; `!n`, by which channel n takes no events any more; `?n`, by which
/// it has ended.
pub(crate) fn run(data: &[u8]) {
    let mut topics = Topics::new(MAX_CHANNELS, MAX_TOPIC_BYTES);
    let mut model = Model::default();
    for line in data.split(|byte| *byte == b'\n') {
        match line {
            [b'!', n] => {
                topics.close(usize::from(*n - n.min(&b'0')));
                model.closed.insert(usize::from(*n - n.min(&b'0')));
            }
            [b'?', n] => {
                let channel = usize::from(*n - n.min(&b'0'));
                topics.forget(channel);
                model.closed.insert(channel);
                model.joins.retain(|_, join| join.channel != channel);
            }
            _ => {
                let Ok(message) = version_2().decode(Wire::Text(line)) else { continue };
                let asked = topics.handle(&message, is_routed);
                let refs = [&message.join_ref, &message.reference];
                let expected =
                    refs.iter().all(|text| text.len() <= MAX_REF_BYTES).then(|| model.handle(&message));
                assert_eq!(asked, expected, "{message:?}");
                assert!(model.joins.len() <= MAX_CHANNELS);
            }
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
    fn handle(&mut self, message: &ClientMessage<'_>) -> Asked {
        const UNMATCHED: Asked = Asked::Error("unmatched topic");
        let Some(topic) = read_string(&message.topic) else { return UNMATCHED };
        let join = self.joins.get_mut(&*topic);
        let live = join.as_ref().is_some_and(|join| !join.leaving && !self.closed.contains(&join.channel));
        match (&*message.event, join) {
            ("heartbeat", _) if topic == "phoenix" => Asked::Ok,
            ("phx_join", _) if topic.len() > MAX_TOPIC_BYTES => Asked::Error("topic too long"),
            ("phx_join", _) if !is_routed(&topic) => UNMATCHED,
            ("phx_join", join) => {
                let after = join.map(|join| join.channel);
                let others = self.joins.keys().filter(|joined| **joined != topic).count();
                if others >= MAX_CHANNELS && !live {
                    return Asked::Error("too many channels joined");
                }
                let join_ref =
                    if message.join_ref == "null" { &message.reference } else { &message.join_ref };
                let channel = self.started;
                self.closed.remove(&channel);
                self.started += 1;
                let join = Join { named: join_ref.to_string(), leaving: false, channel };
                self.joins.insert(topic.into_owned(), join);
                Asked::Join { after, duplicate: live }
            }
            (_, Some(join)) if live && message.join_ref != "null" && message.join_ref != join.named => {
                Asked::Drop
            }
            ("phx_leave", Some(join)) if live => {
                join.leaving = true;
                Asked::Leave(join.channel)
            }
            (_, Some(join)) if live => Asked::Event(join.channel),
            ("phx_leave", _) => Asked::Ok,
            _ => UNMATCHED,
        }
    }
}
