//! The topics whose messages this node wants from the others.
//!
//! A topic is wanted from its first subscriber until some time after its last. So a page reload, or a game that is left
//! and joined again, costs the engine nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::topic::Topic;

/// Maximum number of topics without subscribers. Beyond it the oldest are unsubscribed early, so that topics that come
/// and go within seconds can't pile up in the engine.
const MAX_LINGERING: usize = 10_000;

/// The wanted topics, and the changes that the driver has not taken yet.
pub(crate) struct Interest {
    linger: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Every wanted topic, and if its last subscriber has left, until when it is wanted.
    topics: HashMap<Topic, Option<Instant>>,
    /// The topics that were left, in order. A topic that was joined again may still be in it.
    lingering: VecDeque<(Instant, Topic)>,
    /// New topics. Bounded by the number of wanted topics.
    added: Vec<Topic>,
    /// Whether the driver has stopped. Then no topics are kept.
    is_closed: bool,
}

/// The changes since the last call.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) added: Vec<Topic>,
    pub(crate) removed: Vec<Topic>,
}

impl Interest {
    pub(crate) fn new(linger: Duration) -> Self {
        Self { linger, state: Mutex::default(), changed: Notify::new() }
    }

    pub(crate) fn join(&self, topic: &Topic) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        if state.topics.insert(topic.clone(), None).is_none() {
            state.added.push(topic.clone());
            self.changed.notify_one();
        }
    }

    pub(crate) fn leave(&self, topic: &Topic) {
        let until = Instant::now() + self.linger;
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.topics.insert(topic.clone(), Some(until));
        state.lingering.push_back((until, topic.clone()));
        self.changed.notify_one();
    }

    /// Forgets all topics, and ignores later ones: no driver takes the changes any more.
    pub(crate) fn close(&self) {
        *self.state.lock() = State { is_closed: true, ..State::default() };
    }

    /// Waits until there may be changes to take.
    ///
    /// Cancel safe. Only one task may wait at a time.
    pub(crate) async fn changed(&self) {
        let due = {
            let state = self.state.lock();
            if !state.added.is_empty() || state.lingering.len() > MAX_LINGERING {
                return;
            }
            state.lingering.front().map(|(due, _)| *due)
        };
        match due {
            Some(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = self.changed.notified() => {}
            },
            None => self.changed.notified().await,
        }
    }

    /// Takes the changes until now.
    pub(crate) fn take(&self, now: Instant) -> Changes {
        let mut state = self.state.lock();
        let mut removed = Vec::new();
        while let Some((due, _)) = state.lingering.front()
            && (*due <= now || state.lingering.len() > MAX_LINGERING)
        {
            let Some((due, topic)) = state.lingering.pop_front() else { break };
            // A topic that was joined again is wanted. If it was then left again, it has a later entry as well.
            if state.topics.get(&topic) == Some(&Some(due)) {
                state.topics.remove(&topic);
                removed.push(topic);
            }
        }
        let mut added = std::mem::take(&mut state.added);
        added.retain(|topic| state.topics.contains_key(topic));
        if state.topics.capacity() > 64 && state.topics.capacity() / 4 > state.topics.len() {
            let room = 2 * state.topics.len();
            state.topics.shrink_to(room);
        }
        Changes { added, removed }
    }

    /// The number of wanted topics.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state.lock().topics.len()
    }

    /// Returns all topics that are wanted now, and clears the changes until now.
    pub(crate) fn take_all(&self) -> Vec<Topic> {
        let mut state = self.state.lock();
        state.added.clear();
        state.topics.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LINGER: Duration = Duration::from_secs(10);

    fn topics(names: &[&str]) -> Vec<Topic> {
        names.iter().map(|name| Topic::from(*name)).collect()
    }

    fn changes(added: &[&str], removed: &[&str]) -> Changes {
        Changes { added: topics(added), removed: topics(removed) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_is_wanted_until_a_while_after_its_last_subscriber() {
        let interest = Interest::new(LINGER);
        interest.join(&"a".into());
        interest.changed().await;
        assert_eq!(interest.take(Instant::now()), changes(&["a"], &[]));
        interest.leave(&"a".into());
        assert_eq!(interest.take(Instant::now()), Changes::default());

        let left = Instant::now();
        while interest.take(Instant::now()) == Changes::default() {
            interest.changed().await;
        }
        assert_eq!(left.elapsed().as_secs(), LINGER.as_secs());
        assert!(interest.take_all().is_empty());
        assert!(interest.changed().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_joined_again_in_time_is_no_change() {
        let interest = Interest::new(LINGER);
        interest.join(&"a".into());
        interest.take(Instant::now());
        interest.leave(&"a".into());
        tokio::time::advance(LINGER / 2).await;
        interest.join(&"a".into());
        tokio::time::advance(LINGER).await;
        assert_eq!(interest.take(Instant::now()), Changes::default());
        assert_eq!(interest.take_all(), topics(&["a"]));

        interest.leave(&"a".into());
        tokio::time::advance(LINGER / 2).await;
        interest.join(&"a".into());
        interest.leave(&"a".into());
        tokio::time::advance(LINGER / 2).await;
        assert_eq!(interest.take(Instant::now()), Changes::default());
        tokio::time::advance(LINGER / 2).await;
        assert_eq!(interest.take(Instant::now()), changes(&[], &["a"]));
    }

    #[test]
    fn topics_taken_with_all_are_not_taken_again() {
        let interest = Interest::new(LINGER);
        interest.join(&"a".into());
        assert_eq!(interest.take_all(), topics(&["a"]));
        assert_eq!(interest.take(Instant::now()), Changes::default());
        interest.join(&"b".into());
        assert_eq!(interest.take(Instant::now()), changes(&["b"], &[]));
    }

    #[tokio::test(start_paused = true)]
    async fn topics_that_come_and_go_are_kept_in_bounds() {
        let interest = Interest::new(LINGER);
        for n in 0..2 * MAX_LINGERING {
            let topic = Topic::from(format!("t:{n}"));
            interest.join(&topic);
            interest.leave(&topic);
            interest.take(Instant::now());
        }
        assert_eq!(interest.take_all().len(), MAX_LINGERING);
    }
}
