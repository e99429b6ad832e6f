//! A node that hears whatever others may say, in any order and at any time. When nobody has been heard for long
//! enough, and the longest grace is over, it keeps nothing of them.

use std::time::Duration;

use adsum_tracker::{
    Bare, Cluster, ClusterMessage, ClusterOptions, Effect, Incarnation, Key, Limits, MAX_GRACE, Meta,
    Replica, Time, Tracker, Usage, Windows,
};

#[path = "../../../crates/adsum-tracker/tests/it/stranger.rs"]
#[expect(clippy::redundant_pub_crate, reason = "it is a module of another crate's tests, too")]
mod stranger;

use self::stranger::Stranger;

/// Few ticks make a long time.
fn options() -> ClusterOptions {
    ClusterOptions::default()
        .heartbeat(Duration::from_mins(1))
        .down_after(Duration::from_mins(2))
        .forget_after(Duration::from_mins(4))
        .sync_timeout(Duration::from_mins(2))
}

/// Input: steps, each a byte that says which and its operand: how long a message is, and the message; how many
/// seconds pass; which key is tracked; whether the network is there; how many choices a stranger has, who makes whole
/// messages of them, with any values.
pub(crate) fn run(mut data: &[u8]) {
    // Its refs begin with this: no other node makes the same.
    let incarnation = Incarnation { started: 5, random: u64::from_be_bytes(*b"my refs!") };
    let replica = Replica { name: "me".into(), incarnation };
    let tracker =
        Tracker::<Bare>::with_cluster(replica, Limits::default(), true, |_| Windows::Net, |_| {}, || {});
    let mut node = Node {
        now: Time::ZERO,
        cluster: Cluster::start(Time::ZERO, tracker.clone(), None, options(), 1),
        ticks: 0,
    };
    let mut owner = tracker.owner();
    while let Some((&[step, operand], rest)) = data.split_first_chunk() {
        data = rest;
        match step {
            0 => {
                let (message, rest) = data.split_at(data.len().min(operand.into()));
                data = rest;
                if let Ok(message) = ClusterMessage::decode(message) {
                    node.cluster.handle(node.now, message);
                }
            }
            1 => node.pass(Duration::from_secs(operand.into())),
            2 => {
                let key = Key::from((operand as char).to_string());
                // Tracked already, it is untracked.
                if owner.track(&"room".into(), &key, Meta::from_encoded("{}")).is_err() {
                    owner.untrack("room", &key);
                }
            }
            3 => node.cluster.connected(node.now, operand > 0),
            4 => {
                let (choices, rest) = data.split_at(data.len().min(operand.into()));
                data = rest;
                let me = [tracker.replica().clone()];
                let mut stranger = Stranger { choices, nodes: &me, names: &[] };
                while let Some(message) = stranger.next() {
                    if let Ok(message) = ClusterMessage::decode(&message) {
                        node.cluster.handle(node.now, message);
                        node.settle();
                    }
                }
            }
            _ => {}
        }
        node.settle();
    }
    node.cluster.connected(node.now, true);
    drop(owner);
    node.pass(MAX_GRACE + Duration::from_mins(20));
    assert_eq!(node.cluster.usage(), Usage::default(), "something is kept of those long gone");
    assert_eq!(tracker.count("room"), 0);
}

struct Node {
    now: Time,
    cluster: Cluster<Bare>,
    ticks: usize,
}

impl Node {
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let wake_at = self.cluster.wake_at();
            self.now = wake_at.max(self.now + Duration::from_millis(1)).min(end);
            self.cluster.tick(self.now);
            self.ticks += 1;
            assert!(self.ticks < 20_000, "it is woken without end");
            self.settle();
        }
    }

    /// Checks that the messages that it would send can be read.
    fn settle(&mut self) {
        for effect in self.cluster.take_effects() {
            if let Effect::Broadcast(message) | Effect::Send(_, message) = effect {
                assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
            }
        }
    }
}
