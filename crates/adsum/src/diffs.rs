//! A topic's diffs on their way to clients and watches.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use adsum_pubsub::{Json, Payload, Topic};
use adsum_tracker::{Diff, JoinedRow, Key, Ref};

use crate::{
    encode,
    key_cache::{FetchedInfo, KeyCache},
};

/// The infos of keys.
pub(crate) type Infos<I> = HashMap<Key, Arc<FetchedInfo<I>>>;

/// Diffs that were taken from a topic, and are to be sent. Whatever holds them must hand them to
/// [`Core::send`](crate::core::Core::send): the topic has no other flush until then.
#[must_use = "the topic stands still until they are sent"]
pub(crate) struct TakenDiffs<I> {
    pub(crate) topic: Topic,
    pub(crate) diffs: Vec<Diff<KeyCache<I>>>,
    /// The keys that join and have no fresh info.
    pub(crate) missing: Vec<Key>,
    /// How long the first of the changes has waited, if the budget decided.
    pub(crate) waited: Option<Duration>,
}

/// A diff as it was sent, shared by all watches and decoded by each in its own task.
pub(crate) struct PublishedDiff<I> {
    topic: Topic,
    number: u64,
    diff: Diff<KeyCache<I>>,
    infos: Infos<I>,
}

impl<I> PublishedDiff<I> {
    pub(crate) fn new(topic: Topic, number: u64, diff: Diff<KeyCache<I>>, infos: Infos<I>) -> Self {
        Self { topic, number, diff, infos }
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn diff(&self) -> &Diff<KeyCache<I>> {
        &self.diff
    }

    /// Returns the info of a key that joins, as it was when the diff was sent.
    pub(crate) fn info(&self, key: &Key) -> Option<&Arc<FetchedInfo<I>>> {
        self.infos.get(key)
    }
}

/// Goes with a `presence_diff`: the diff, and the position in the payload of each key that joins.
pub(crate) struct DiffSource<I> {
    pub(crate) published: Arc<PublishedDiff<I>>,
    pub(crate) places: Vec<(Key, Range<usize>)>,
}

/// Goes with a `presence_diff` for a client that already has some of the rows: the whole diff, and those rows.
pub(crate) struct PartialDiff<I> {
    pub(crate) published: Arc<PublishedDiff<I>>,
    pub(crate) known: Vec<Ref>,
}

impl<I> DiffSource<I> {
    /// Returns the payload without some of the rows that join.
    pub(crate) fn without(&self, known: &[Ref], payload: &Payload) -> Option<Json> {
        let Payload::Json(json) = payload else { return None };
        let (text, joins) = (json.as_bytes(), &self.published.diff().joins);
        let is_known = |joined: &&JoinedRow| known.contains(&joined.reference);
        let cut: Vec<&Key> = joins.iter().filter(is_known).map(|joined| &joined.row.key).collect();
        let (first, last) = (&self.places.first()?.1, &self.places.last()?.1);
        let mut out = Vec::with_capacity(text.len());
        out.extend_from_slice(&text[..first.start]);
        for (key, place) in &self.places {
            let start = out.len();
            if start > first.start {
                out.push(b',');
            }
            if !cut.contains(&key) {
                out.extend_from_slice(&text[place.clone()]);
                continue;
            }
            let mut rest = joins.iter().filter(|joined| joined.key == *key && !is_known(joined)).peekable();
            if rest.peek().is_some() {
                let info = self.published.info(key).map(|info| &**info);
                encode::join_entry(&mut out, key, rest, info);
            } else {
                out.truncate(start);
            }
        }
        out.extend_from_slice(&text[last.end..]);
        Some(Json::from_encoded(out))
    }
}
