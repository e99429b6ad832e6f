//! The topics of a presence, and what is in one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use adsum_pubsub::{Json, Payload, Topic};
use adsum_tracker::{OwnerId, Row};
use serde::Serialize;
use tokio::task::yield_now;

use super::Board;
use crate::handler::PresenceHandler;

/// How many topics are listed.
const MAX_TOPICS: usize = 100;
/// How many keys stand on a page.
const PAGE: usize = 50;
/// How many presences of a key are shown.
const MAX_SHOWN: usize = 20;

/// The largest topics.
#[derive(Serialize)]
pub(super) struct LargestTopics {
    topics: Vec<TopicSize>,
    /// How many topics the search finds.
    found: usize,
    /// How many there are.
    all: usize,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct TopicSize {
    presences: usize,
    keys: usize,
    topic: Reverse<Topic>,
}

/// A part of a topic.
#[derive(Serialize)]
pub(super) struct TopicPage {
    keys: Vec<KeyRows>,
    /// The key after which the next page begins, if there is one.
    next: Option<String>,
    key_count: usize,
    presences: usize,
}

#[derive(Serialize)]
struct KeyRows {
    key: String,
    presences: Vec<ShownRow>,
    /// How many of them aren't shown.
    left_out: usize,
}

#[derive(Serialize)]
struct ShownRow {
    reference: String,
    node: Option<String>,
    meta: String,
}

impl<H: PresenceHandler> Board<H> {
    /// The largest topics whose names contain a text. Looks at all topics, a part of them after another.
    pub(super) async fn topics(&self, search: &str) -> LargestTopics {
        let search = search.to_lowercase();
        let (mut largest, mut found, mut all) = (BinaryHeap::new(), 0, 0);
        let mut shards = self.presence.core.tracker.shards();
        loop {
            // Lets other tasks run, while no shard is locked.
            yield_now().await;
            let Some(shard) = shards.next() else { break };
            for set in shard.topics().filter(|set| set.count() > 0) {
                all += 1;
                if !search.is_empty() && !set.topic().to_lowercase().contains(&search) {
                    continue;
                }
                found += 1;
                let topic = Reverse(set.topic().clone());
                largest.push(Reverse(TopicSize { presences: set.count(), keys: set.key_count(), topic }));
                if largest.len() > MAX_TOPICS {
                    largest.pop();
                }
            }
        }
        let topics = largest.into_sorted_vec().into_iter().map(|Reverse(topic)| topic).collect();
        LargestTopics { topics, found, all }
    }

    /// The keys of a topic after one, or from the first on.
    pub(super) fn page(&self, topic: &str, after: Option<&str>) -> TopicPage {
        let core = &self.presence.core;
        let mut taken = Vec::new();
        let (mut key_count, mut presences, mut has_more) = (0, 0, false);
        if let Some(set) = core.tracker.lock(topic).topic(topic) {
            (key_count, presences) = (set.key_count(), set.count());
            let mut groups = set.groups_after(after);
            for (key, group) in groups.by_ref().take(PAGE) {
                let rows: Vec<_> = group.rows().iter().take(MAX_SHOWN).cloned().collect();
                taken.push((key.clone(), rows, group.rows().len().saturating_sub(MAX_SHOWN)));
            }
            has_more = groups.next().is_some();
        }
        let next = taken.last().filter(|_| has_more).map(|(key, ..)| key.to_string());
        let keys = taken.into_iter().map(|(key, rows, left_out)| KeyRows {
            key: key.to_string(),
            presences: rows.iter().map(|row| self.shown(row)).collect(),
            left_out,
        });
        TopicPage { keys: keys.collect(), next, key_count, presences }
    }

    fn shown(&self, row: &Row) -> ShownRow {
        let core = &self.presence.core;
        let node = if row.owner == OwnerId::REMOTE {
            core.leaves.node_of(row.reference).map(|node| node.to_string())
        } else {
            Some(core.pubsub.node().to_owned())
        };
        let meta = Payload::Json(Json::from_encoded(row.meta.as_str().to_owned()));
        ShownRow { reference: row.reference.to_string(), node, meta: self.filter.show(&meta) }
    }
}
