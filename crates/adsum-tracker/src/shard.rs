//! A part of the set: the unit of locking, versioning and replication.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use adsum_pubsub::Topic;

use crate::{
    counts::Counts,
    layer::Layer,
    leave_reason::LeaveReason,
    log::{Departed, Log},
    meta::{Key, Meta},
    reference::Ref,
    row::{OwnerId, Row},
    time::Time,
    topic_set::TopicSet,
    topics::Topics,
    window::Windows,
};

/// The presences of the topics of one shard.
pub struct Shard<X: Layer> {
    index: usize,
    topics: Topics<X>,
    windows_of: WindowsOf,
    pub(crate) log: Log,
    /// Rows of other nodes that are never shown again: another presence has taken their place, or their grace has
    /// ended. Kept until their origin has removed them too, with the time of the first purge that saw them.
    hidden: HashMap<Ref, Option<Time>>,
    /// Rows of other nodes that are shown, though no [`Cluster`](crate::Cluster) keeps them: the last one has failed,
    /// and the next one hasn't heard of them yet.
    orphans: HashMap<Ref, Arc<Row>>,
    /// Its presences and changes, in numbers; the topics are counted when asked for.
    counts: Counts,
}

/// Returns how the changes of a topic are put together. Called under the shard's lock, when a topic is added.
pub type WindowsOf = Arc<dyn Fn(&str) -> Windows + Send + Sync>;

impl<X: Layer> Shard<X> {
    /// Makes an empty shard. If its changes are `published`, they are kept for [`Cluster`](crate::Cluster) to take.
    pub(crate) fn new(index: usize, published: bool, windows_of: WindowsOf) -> Self {
        Self {
            index,
            topics: Topics::new(),
            windows_of,
            log: Log::new(published),
            hidden: HashMap::new(),
            orphans: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Returns a topic, if it is kept: it has presences, or the layer above keeps something beside it.
    pub fn topic(&self, topic: &str) -> Option<&TopicSet<X>> {
        self.topics.get(topic)
    }

    /// Returns a topic for a change, if it is kept.
    pub fn topic_mut(&mut self, topic: &str) -> Option<&mut TopicSet<X>> {
        self.topics.get_mut(topic)
    }

    /// Returns a topic, which is added if it is new. One that stays idle is dropped by the next [`tidy`](Self::tidy).
    pub fn entry(&mut self, topic: &Topic) -> &mut TopicSet<X> {
        self.topics.get_or_insert_with(topic, || TopicSet::new(topic.clone(), (self.windows_of)(topic)))
    }

    /// Returns all topics.
    pub fn topics(&self) -> impl Iterator<Item = &TopicSet<X>> {
        self.topics.iter()
    }

    /// Returns all topics for changes.
    pub fn topics_mut(&mut self) -> impl Iterator<Item = &mut TopicSet<X>> {
        self.topics.iter_mut()
    }

    /// Drops a topic that has no presences and no changes to tell, if the layer above keeps nothing beside it.
    pub fn tidy(&mut self, topic: &str) {
        if self.topics.get(topic).is_some_and(TopicSet::is_idle) {
            self.topics.remove(topic);
        }
    }

    /// Adds a presence. Returns false, and changes nothing, if the owner has one of this topic and key already.
    ///
    /// If a presence of the key is about to leave, the new one takes its place.
    pub fn track(&mut self, owner: OwnerId, topic: &Topic, key: &Key, meta: Meta, reference: Ref) -> bool {
        let set = self.entry(topic);
        if set.find(owner, key).is_some() {
            return false;
        }
        let departing = set.departing(key).cloned();
        set.begin();
        let replaces = departing.as_ref().filter(|row| row.owner == OwnerId::REMOTE).map(|row| row.reference);
        let row = Row::new(reference, owner, topic.clone(), key.clone(), meta).after(None, replaces);
        let row = Arc::new(row);
        let before = set.count();
        set.insert(row.clone());
        let now = set.count();
        self.note_count(before, now);
        self.log.join(self.index, &row);
        self.counts.own += 1;
        self.counts.joined += 1;
        if let Some(departing) = departing {
            self.supersede(topic, key, departing.reference);
        }
        true
    }

    /// Returns the meta that an owner tracks.
    pub fn find(&self, owner: OwnerId, topic: &str, key: &str) -> Option<&Meta> {
        Some(&self.topic(topic)?.find(owner, key)?.meta)
    }

    /// Puts a new version in the place of a presence. Returns false if there is none.
    pub fn update(&mut self, owner: OwnerId, topic: &Topic, key: &Key, meta: Meta, reference: Ref) -> bool {
        let Self { index, topics, log, counts, .. } = self;
        let Some(set) = topics.get_mut(topic) else { return false };
        if set.find(owner, key).is_none() {
            return false;
        }
        set.begin();
        let new = |old: &Row| {
            let row = Row::new(reference, owner, old.topic.clone(), old.key.clone(), meta);
            row.after(Some(old.reference), old.replaces())
        };
        let before = set.count();
        let Some((old, new)) = set.replace(owner, key, new) else { return false };
        counts.updated += 1;
        counts.presences = counts.presences + set.count() - before;
        log.replace(*index, &old, &new);
        true
    }

    /// Removes presences of one owner in one topic, as one change. Returns how many there were.
    pub fn untrack<'k>(
        &mut self,
        owner: OwnerId,
        topic: &Topic,
        keys: impl IntoIterator<Item = &'k Key>,
        reason: LeaveReason,
    ) -> usize {
        let Self { index, topics, log, .. } = self;
        let mut removed = 0;
        if let Some(set) = topics.get_mut(topic) {
            for key in keys {
                if set.find(owner, key).is_none() {
                    continue;
                }
                if removed == 0 {
                    set.begin();
                }
                if let Some(row) = set.remove(owner, key, reason) {
                    log.leave(*index, &row, Some(reason));
                    removed += 1;
                }
            }
        }
        self.counts.own -= removed;
        self.counts.presences -= removed;
        self.counts.left(reason, removed);
        // If the topic has a window, whatever takes its diffs tidies it. Otherwise nothing else would.
        self.tidy(topic);
        removed
    }

    /// Lets presences of one owner in one topic leave after a grace, unless others of their keys take their places
    /// first. They stay until [`Cluster`](crate::Cluster), which keeps the time, removes them.
    pub fn depart<'k>(
        &mut self,
        owner: OwnerId,
        topic: &Topic,
        keys: impl IntoIterator<Item = &'k Key>,
        reason: LeaveReason,
        grace: Duration,
    ) {
        let Self { index, topics, log, .. } = self;
        let Some(set) = topics.get_mut(topic) else { return };
        for key in keys {
            let Some(row) = set.find(owner, key).cloned() else { continue };
            set.depart(&row, Some((reason, grace)));
            log.depart(*index, Departed { row, reason, grace });
        }
    }
}

/// Changes from other nodes, and from the [`Cluster`](crate::Cluster) that keeps the time.
impl<X: Layer> Shard<X> {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns a topic's name, shared with the set if the set has the topic.
    pub(crate) fn shared_name(&self, topic: &Topic) -> Topic {
        self.topics.get(topic).map_or(topic, TopicSet::topic).clone()
    }

    /// Shows a row of another node, unless it is hidden for good.
    pub(crate) fn show(&mut self, row: &Arc<Row>, departing: bool) {
        self.orphans.remove(&row.reference);
        if self.hidden.contains_key(&row.reference) {
            return;
        }
        let set = self.entry(&row.topic);
        let before = set.count();
        set.insert(row.clone());
        let now = set.count();
        if departing && set.has(row) {
            set.depart(row, None);
        }
        self.note_count(before, now);
        if now > before {
            let shown =
                if row.previous().is_some() { &mut self.counts.updated } else { &mut self.counts.joined };
            *shown += 1;
        }
    }

    /// Takes a row of another node out of a topic.
    pub(crate) fn take_out(&mut self, row: &Arc<Row>, reason: Option<LeaveReason>) {
        if let Some(set) = self.topics.get_mut(&row.topic)
            && set.has(row)
        {
            set.remove_ref(&row.key, row.reference, reason);
            self.counts.presences -= 1;
            if let Some(reason) = reason {
                self.counts.left(reason, 1);
            }
        }
    }

    /// Whether the set has this very row.
    pub(crate) fn is_shown(&self, row: &Arc<Row>) -> bool {
        self.topics.get(&row.topic).is_some_and(|set| set.has(row))
    }

    pub(crate) fn mark_departing(&mut self, row: &Arc<Row>) {
        if let Some(set) = self.topics.get_mut(&row.topic)
            && set.has(row)
        {
            set.depart(row, None);
        }
    }

    /// Removes a departing row whose place another presence has taken. The row may be of this node, of another, or one
    /// that this node hasn't heard of yet.
    pub(crate) fn supersede(&mut self, topic: &Topic, key: &str, reference: Ref) {
        let removed = self.topics.get_mut(topic).and_then(|set| set.remove_ref(key, reference, None));
        self.counts.presences -= usize::from(removed.is_some());
        match removed {
            Some(row) if row.owner != OwnerId::REMOTE => {
                self.log.leave(self.index, &row, None);
                self.counts.own -= 1;
            }
            _ => self.hide(reference),
        }
    }

    /// Hides a row of another node for good.
    pub(crate) fn hide(&mut self, reference: Ref) {
        self.hidden.entry(reference).or_default();
    }

    /// Forgets a hidden row, as its origin has removed it too.
    pub(crate) fn unhide(&mut self, reference: Ref) {
        self.hidden.remove(&reference);
        give_back(&mut self.hidden);
    }

    pub(crate) fn is_hidden(&self, reference: Ref) -> bool {
        self.hidden.contains_key(&reference)
    }

    /// Forgets the rows that have been hidden for longer than `age` and aren't `known` any more.
    pub(crate) fn purge_hidden(&mut self, now: Time, age: Duration, known: impl Fn(Ref) -> bool) {
        self.hidden.retain(|reference, since| {
            let since = *since.get_or_insert(now);
            now.since(since) < age || known(*reference)
        });
        give_back(&mut self.hidden);
    }

    /// Prepares for a new [`Cluster`](crate::Cluster) after the last one has failed: own rows stay as they are, rows of
    /// other nodes stay until the new one knows them or drops them.
    pub(crate) fn recover(&mut self) {
        self.log.forget();
        let rows = self.topics.iter().flat_map(TopicSet::groups).flat_map(|(_, group)| group.rows().iter());
        let others = rows.filter(|row| row.owner == OwnerId::REMOTE);
        self.orphans = others.map(|row| (row.reference, row.clone())).collect();
        let own = self.topics.iter().flat_map(TopicSet::own_departing);
        let departed = own.map(|(row, reason, grace)| Departed { row: row.clone(), reason, grace }).collect();
        self.log.departed_again(departed);
    }

    /// Returns a row that is shown, though no node has confirmed it since the last failure.
    pub(crate) fn orphan(&self, reference: Ref) -> Option<Arc<Row>> {
        self.orphans.get(&reference).cloned()
    }

    /// Takes the rows that no node has confirmed since the last failure.
    pub(crate) fn take_orphans(&mut self) -> Vec<Arc<Row>> {
        std::mem::take(&mut self.orphans).into_values().collect()
    }

    pub(crate) fn own(&self) -> usize {
        self.counts.own
    }

    fn note_count(&mut self, before: usize, now: usize) {
        self.counts.presences = self.counts.presences + now - before;
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { topics: self.topics.len(), ..self.counts }
    }

    pub(crate) fn hidden(&self) -> usize {
        self.hidden.len()
    }

    /// Removes a departing row of this node whose grace has ended. Returns whether it was there.
    pub(crate) fn end_departing(&mut self, row: &Row, reason: LeaveReason) -> bool {
        let Some(set) = self.topics.get_mut(&row.topic) else { return false };
        set.begin();
        let removed = set.remove_ref(&row.key, row.reference, Some(reason));
        if let Some(row) = &removed {
            self.log.leave(self.index, row, Some(reason));
            self.counts.own -= 1;
            self.counts.presences -= 1;
            self.counts.left(reason, 1);
        }
        self.tidy(&row.topic);
        removed.is_some()
    }
}

impl<X: Layer> fmt::Debug for Shard<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.topics()).finish()
    }
}

/// Shrinks a table that has become much smaller than its capacity.
fn give_back(table: &mut HashMap<Ref, Option<Time>>) {
    if table.capacity() > 16 && table.capacity() > 4 * table.len() {
        table.shrink_to(2 * table.len());
    }
}
