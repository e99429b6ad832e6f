//! What a Presence holds in all.

use adsum_pubsub::Topic;

use crate::{Presence, handler::PresenceHandler};

/// What a [`Presence`] holds on this node; from [`Presence::totals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// The presences of all nodes.
    pub presences: usize,
    /// The topics that are kept: with presences in them, watched, or with something that is still to be told of them.
    pub topics: usize,
    /// The watches, of a topic, a pattern and all topics.
    pub watches: usize,
}

impl<H: PresenceHandler> Presence<H> {
    /// Counts what this Presence holds, for a metric or a page of the operator's. Takes time with the number of topics,
    /// and locks a part of them after another.
    ///
    /// ```
    /// # use adsum::{Presence, PubSub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let presence = Presence::builder(PubSub::local()).start();
    /// let mut owner = presence.owner();
    /// owner.track("room:1", "7", serde_json::Map::new())?;
    /// assert_eq!(presence.totals().presences, 1);
    /// assert_eq!(presence.topics(), [("room:1".into(), 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { watches: self.core.watchers.len(), ..Totals::default() };
        for shard in self.core.tracker.shards() {
            for set in shard.topics() {
                totals.topics += 1;
                totals.presences += set.count();
                totals.watches += set.layer.watchers.len();
            }
        }
        totals
    }

    /// The topics that somebody is in, in no order, with the number of presences in each. Takes time with the number of
    /// topics, as [`totals`](Self::totals) does.
    pub fn topics(&self) -> Vec<(Topic, usize)> {
        let mut topics = Vec::new();
        for shard in self.core.tracker.shards() {
            let counted = shard.topics().map(|set| (set.topic().clone(), set.count()));
            topics.extend(counted.filter(|(_, presences)| *presences > 0));
        }
        topics
    }
}
