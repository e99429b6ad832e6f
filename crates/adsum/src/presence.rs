//! The face of the crate.

use std::{fmt, sync::Arc};

use adsum_pubsub::{PubSub, Topic};
use adsum_tracker::Key;
use tokio::task::JoinHandle;

use crate::{
    Builder, Entry, Owner, Presences, Watch,
    core::Core,
    entry::Snapshot,
    flusher::{self, Ending},
    handler::{NoFetch, PresenceHandler},
};

/// Knows who is in a topic, and tells everyone in it as it changes. Clones share everything.
///
/// Presences are tracked for a channel ([`track`](Self::track)) or for any task ([`owner`](Self::owner)), and
/// leave with it.
pub struct Presence<H: PresenceHandler = NoFetch> {
    pub(crate) core: Arc<Core<H>>,
    flusher: Arc<Flusher<H>>,
}

impl Presence {
    /// A presence that tells the subscribers of `pubsub`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use adsum::{Presence, PubSub};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Meta {
    ///     status: String,
    /// }
    ///
    /// let presence = Presence::builder(PubSub::local()).meta::<Meta>().start();
    /// let mut owner = presence.owner();
    /// owner.track("room:1", "7", Meta { status: "here".into() })?;
    /// assert_eq!(presence.list("room:1").await["7"].metas[0].meta.status, "here");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(pubsub: PubSub) -> Builder<NoFetch> {
        Builder::new(pubsub)
    }
}

impl<H: PresenceHandler> Presence<H> {
    pub(crate) fn start(core: Core<H>) -> Self {
        let core = Arc::new(core);
        let task = tokio::spawn(flusher::run(Ending(core.clone())));
        Self { flusher: Arc::new(Flusher { task, _ending: Ending(core.clone()) }), core }
    }

    /// An owner for the calling task: what it tracks leaves when it is dropped.
    pub fn owner(&self) -> Owner<H> {
        Owner::new(self.clone())
    }

    /// Who is in a topic, with what `fetch` adds. Asks `fetch` for keys of which nothing fresh is held.
    ///
    /// Never fails: where `fetch` does, the last known infos are used, or none.
    pub async fn list(&self, topic: impl Into<Topic>) -> Presences<H> {
        let topic = topic.into();
        self.core.fetch_for_list(&topic).await;
        let snapshot = self.core.tracker.lock(&topic).topic_mut(&topic).map(|set| {
            // The program may hand it on as a state, so what is in it has to be told to leave.
            set.mark_shown();
            Snapshot::of::<H>(set)
        });
        snapshot.map_or_else(Presences::new, Snapshot::decode)
    }

    /// One key's presences in a topic, as [`list`](Self::list) has them; none where it isn't there.
    pub async fn get_by_key(&self, topic: impl Into<Topic>, key: &str) -> Option<Entry<H>> {
        let topic = topic.into();
        self.core.fetch_for_key(&topic, key).await;
        let (info, rows) = {
            let shard = self.core.tracker.lock(&topic);
            let group = shard.topic(&topic)?.group(key)?;
            (group.layer().value(), group.rows().to_vec())
        };
        let mut entry = Entry::new(info);
        for row in rows {
            entry.push(&row, None);
        }
        Some(entry)
    }

    /// The number of presences in a topic.
    pub fn count(&self, topic: &str) -> usize {
        self.core.tracker.count(topic)
    }

    /// The number of keys in a topic: of users, where a key is a user.
    pub fn keys(&self, topic: &str) -> usize {
        self.core.tracker.keys(topic)
    }

    /// What `fetch` says of a key has changed: asks it anew, and sends a diff in which the key's metas join
    /// once more, under the same refs, with the new info beside them.
    ///
    /// Nothing happens where the key isn't in the topic.
    pub fn refresh(&self, topic: impl Into<Topic>, key: impl Into<Key>) {
        self.core.refresh(&topic.into(), &key.into());
    }

    /// Follows a topic from Rust: a state, then diffs without a gap.
    pub fn watch(&self, topic: impl Into<Topic>) -> Watch<H> {
        Watch::new(self.clone(), Some(topic.into()))
    }

    /// Follows all topics that are tracked with diffs: a state, then diffs without a gap.
    pub fn watch_all(&self) -> Watch<H> {
        Watch::new(self.clone(), None)
    }
}

impl<H: PresenceHandler> Clone for Presence<H> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), flusher: self.flusher.clone() }
    }
}

impl<H: PresenceHandler> fmt::Debug for Presence<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("replica", self.core.tracker.replica()).finish_non_exhaustive()
    }
}

/// Ends the flusher with the last handle.
struct Flusher<H: PresenceHandler> {
    task: JoinHandle<()>,
    _ending: Ending<H>,
}

impl<H: PresenceHandler> Drop for Flusher<H> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
