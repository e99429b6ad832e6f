//! Totals of a presence.

use adsum_pubsub::Topic;

use crate::{handler::PresenceHandler, presence::Presence};

/// The totals of a [`Presence`] on this node; from [`Presence::totals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// The number of presences on all nodes.
    pub presences: usize,
    /// The number of topics that are kept: they have presences, watches or changes to send.
    pub topics: usize,
    /// The number of watches of a topic, of a pattern, and of all topics.
    pub watches: usize,
}

impl<H: PresenceHandler> Presence<H> {
    /// Counts the presences, topics and watches, for an operator's page or metric. Takes time in proportion to the
    /// number of topics, and locks one part of them after the other.
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

    /// Returns the topics that have presences, in no order, with the number of presences in each. Takes time in
    /// proportion to the number of topics, as [`totals`](Self::totals) does.
    pub fn topics(&self) -> Vec<(Topic, usize)> {
        let mut topics = Vec::new();
        for shard in self.core.tracker.shards() {
            let counted = shard.topics().map(|set| (set.topic().clone(), set.count()));
            topics.extend(counted.filter(|(_, presences)| *presences > 0));
        }
        topics
    }
}
