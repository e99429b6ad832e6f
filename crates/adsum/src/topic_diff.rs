//! The joins and leaves of one topic, as a program reads them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use adsum_pubsub::Topic;
use adsum_tracker::{Key, LeaveReason, Ref, Row};

use crate::{
    diffs::PublishedDiff,
    entry::{Entry, Presences, Tracked},
    handler::PresenceHandler,
};

/// The joins and leaves of one topic. No ref is in both halves.
///
/// [`changes`](Self::changes) returns what happened to each presence. To keep a list of your own, fold by ref: a join
/// whose ref is known already changes only its info; the leave of an unknown ref changes nothing. An update is the join
/// of the new version and the leave of the old one, which the new one names as its
/// [`previous`](crate::Tracked::previous).
pub struct TopicDiff<H: PresenceHandler> {
    /// The topic.
    pub topic: Topic,
    /// The metas that joined.
    pub joins: Presences<H>,
    /// The metas that left, each with its reason.
    pub leaves: Presences<H>,
    /// The refs that join once more.
    again: HashSet<Ref>,
    /// The refs that leave and never joined.
    unknown: HashSet<Ref>,
}

/// A change of one presence; from [`TopicDiff::changes`].
#[non_exhaustive]
pub enum PresenceChange<'d, H: PresenceHandler> {
    /// It joined.
    Joined {
        /// Its key.
        key: &'d Key,
        /// Its meta.
        meta: &'d Tracked<H::Meta>,
        /// The info of the key.
        info: Option<&'d H::Info>,
    },
    /// Its meta has changed. Also for a presence that takes the place of one that was about to leave, as after a reload
    /// under [`linger`](crate::Builder::linger).
    Updated {
        /// Its key.
        key: &'d Key,
        /// The meta before.
        from: &'d Tracked<H::Meta>,
        /// The meta from now on.
        to: &'d Tracked<H::Meta>,
        /// The info of the key.
        info: Option<&'d H::Info>,
    },
    /// Its info was fetched again, by [`Presence::refresh`](crate::Presence::refresh).
    Refreshed {
        /// Its key.
        key: &'d Key,
        /// Its meta, as before.
        meta: &'d Tracked<H::Meta>,
        /// The new info of the key.
        info: Option<&'d H::Info>,
    },
    /// It left.
    Left {
        /// Its key.
        key: &'d Key,
        /// Its meta.
        meta: &'d Tracked<H::Meta>,
        /// Why it left.
        reason: LeaveReason,
        /// The last known info of the key.
        info: Option<&'d H::Info>,
    },
}

impl<H: PresenceHandler> TopicDiff<H> {
    /// Returns the change of each presence: joins, updates and refreshes first, then leaves. A presence that came and
    /// went since the last diff isn't in it.
    ///
    /// ```
    /// # use adsum::{Change, Presence, PresenceChange, PubSub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let jobs = Presence::builder(PubSub::local()).start();
    /// # let mut watch = jobs.watch("jobs");
    /// # watch.next().await;
    /// # jobs.owner().track("jobs", 7, serde_json::Map::new())?;
    /// while let Some(change) = watch.next().await {
    ///     let Change::Diff(diff) = change else { continue };
    ///     for change in diff.changes() {
    ///         match change {
    ///             PresenceChange::Joined { key, .. } => println!("job {key} has begun"),
    ///             PresenceChange::Updated { key, to, .. } => println!("job {key} is at {:?}", to.meta),
    ///             PresenceChange::Left { key, reason, .. } => println!("job {key} has {reason}"),
    ///             _ => {}
    ///         }
    ///     }
    /// #   break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn changes(&self) -> Vec<PresenceChange<'_, H>> {
        let mut left: HashMap<Ref, &Tracked<H::Meta>> = HashMap::new();
        for tracked in self.leaves.values().flat_map(|entry| &entry.metas) {
            if !self.unknown.contains(&tracked.reference) {
                left.insert(tracked.reference, tracked);
            }
        }
        let mut changes = Vec::with_capacity(left.len());
        for (key, entry) in &self.joins {
            let info = entry.info.as_deref();
            let previous: HashSet<Ref> = entry.metas.iter().filter_map(|joined| joined.previous).collect();
            // Rows whose places others have taken without naming them.
            let mut replaced: VecDeque<Ref> = self.leaves.get(key).map_or_else(VecDeque::new, |entry| {
                let replaced =
                    entry.metas.iter().filter(|meta| meta.reason.is_none()).map(|meta| meta.reference);
                replaced.filter(|meta| left.contains_key(meta) && !previous.contains(meta)).collect()
            });
            for meta in &entry.metas {
                if self.again.contains(&meta.reference) {
                    changes.push(PresenceChange::Refreshed { key, meta, info });
                    continue;
                }
                let before = meta.previous.or_else(|| replaced.pop_front());
                changes.push(match before.and_then(|before| left.remove(&before)) {
                    Some(from) => PresenceChange::Updated { key, from, to: meta, info },
                    None => PresenceChange::Joined { key, meta, info },
                });
            }
        }
        for (key, entry) in &self.leaves {
            let info = entry.info.as_deref();
            for meta in entry.metas.iter().filter(|meta| left.contains_key(&meta.reference)) {
                let reason = meta.reason.unwrap_or(LeaveReason::Gone);
                changes.push(PresenceChange::Left { key, meta, reason, info });
            }
        }
        changes
    }

    /// Removes some of the rows that join.
    pub(crate) fn without(mut self, known: &[Ref]) -> Self {
        self.joins.retain(|_, entry| {
            entry.metas.retain(|meta| !known.contains(&meta.reference));
            !entry.metas.is_empty()
        });
        self
    }

    pub(crate) fn of(published: &PublishedDiff<H::Info>) -> Self {
        let (mut joins, mut again) = (Presences::new(), HashSet::new());
        for joined in &published.diff().joins {
            let info = || published.info(&joined.key)?.value().cloned();
            add(&mut joins, &joined.row, joined.previous, None, info);
            if joined.is_known {
                again.insert(joined.reference);
            }
        }
        let (mut leaves, mut unknown) = (Presences::new(), HashSet::new());
        for left in &published.diff().leaves {
            if !left.is_known {
                unknown.insert(left.row.reference);
            }
            add(&mut leaves, &left.row, left.row.previous(), left.reason, || left.layer.value());
        }
        Self { topic: published.topic().clone(), joins, leaves, again, unknown }
    }
}

fn add<H: PresenceHandler>(
    presences: &mut Presences<H>,
    row: &Row,
    previous: Option<Ref>,
    reason: Option<LeaveReason>,
    info: impl FnOnce() -> Option<Arc<H::Info>>,
) {
    let entry = presences.entry(row.key.clone()).or_insert_with(|| Entry::new(info()));
    entry.push(row, previous, reason);
}

impl<H: PresenceHandler<Meta: fmt::Debug, Info: fmt::Debug>> fmt::Debug for TopicDiff<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicDiff")
            .field("topic", &self.topic)
            .field("joins", &self.joins)
            .field("leaves", &self.leaves)
            .finish_non_exhaustive()
    }
}

impl<H: PresenceHandler<Meta: fmt::Debug, Info: fmt::Debug>> fmt::Debug for PresenceChange<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, key, info) = match self {
            Self::Joined { key, info, .. } => ("Joined", key, info),
            Self::Updated { key, info, .. } => ("Updated", key, info),
            Self::Refreshed { key, info, .. } => ("Refreshed", key, info),
            Self::Left { key, info, .. } => ("Left", key, info),
        };
        let mut shown = f.debug_struct(name);
        shown.field("key", key);
        match self {
            Self::Joined { meta, .. } | Self::Refreshed { meta, .. } => shown.field("meta", meta),
            Self::Updated { from, to, .. } => shown.field("from", from).field("to", to),
            Self::Left { meta, reason, .. } => shown.field("meta", meta).field("reason", reason),
        };
        shown.field("info", info).finish()
    }
}
