//! A part of the set: the unit of locking, versioning and replication.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use adsum_pubsub::Topic;

use crate::{
    Key, Layer, Meta, OwnerId, LeaveReason, Ref, Row, Time, TopicSet, Windows,
    log::{Departed, Log},
    topics::Topics,
};

/// The number of shards, a constant of the protocol: all nodes must agree on a topic's shard.
pub const SHARDS: usize = 64;

/// The shard of a topic.
///
/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>) in 64 bits, folded, since all nodes must agree on it
/// and a standard hasher promises nothing across builds. A topic chosen to hit one shard costs its own shard
/// only: the maps inside are seeded by chance.
pub fn shard_of(topic: &str) -> usize {
    let hash = topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % SHARDS as u64) as usize
}

/// The presences of the topics of one shard.
pub struct Shard<X: Layer> {
    index: usize,
    topics: Topics<X>,
    windows_of: WindowsOf,
    pub(crate) log: Log,
    /// Versions of other nodes' presences that are never to be shown again: another has taken their place, or
    /// their grace has ended. Kept until their origin has removed them too, with the time since when, once
    /// somebody has noted it.
    hidden: HashMap<Ref, Option<Time>>,
    /// Rows of other nodes that are shown and that no [`Cluster`](crate::Cluster) answers for: it has failed, and the
    /// next one hasn't heard of them yet.
    orphans: HashMap<Ref, Arc<Row>>,
    /// How many presences of this node's own there are.
    own: usize,
}

/// Says for each topic how its changes are put together. Called under the shard's lock, when a topic is added.
pub type WindowsOf = Arc<dyn Fn(&str) -> Windows + Send + Sync>;

impl<X: Layer> Shard<X> {
    /// An empty shard. Where its changes are `published`, they are kept for [`Cluster`](crate::Cluster) to take.
    pub(crate) fn new(index: usize, published: bool, windows_of: WindowsOf) -> Self {
        Self {
            index,
            topics: Topics::new(),
            windows_of,
            log: Log::new(published),
            hidden: HashMap::new(),
            orphans: HashMap::new(),
            own: 0,
        }
    }

    /// A topic that somebody is in, or that somebody listens to.
    pub fn topic(&self, topic: &str) -> Option<&TopicSet<X>> {
        self.topics.get(topic)
    }

    /// As [`topic`](Self::topic), to be changed.
    pub fn topic_mut(&mut self, topic: &str) -> Option<&mut TopicSet<X>> {
        self.topics.get_mut(topic)
    }

    /// A topic, added where it is new. One that stays idle is dropped by the next [`tidy`](Self::tidy).
    pub fn entry(&mut self, topic: &Topic) -> &mut TopicSet<X> {
        self.topics.get_or_insert_with(topic, || TopicSet::new(topic.clone(), (self.windows_of)(topic)))
    }

    /// All topics.
    pub fn topics(&self) -> impl Iterator<Item = &TopicSet<X>> {
        self.topics.iter()
    }

    /// All topics, to be changed.
    pub fn topics_mut(&mut self) -> impl Iterator<Item = &mut TopicSet<X>> {
        self.topics.iter_mut()
    }

    /// Drops a topic that nobody is in, with nothing to tell and nothing kept beside it.
    pub fn tidy(&mut self, topic: &str) {
        if self.topics.get(topic).is_some_and(TopicSet::is_idle) {
            self.topics.remove(topic);
        }
    }

    /// Adds a presence. False, and nothing is changed, where the owner has one of this topic and key already.
    ///
    /// Where one of the key is about to leave, the new one takes its place.
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
        set.insert(row.clone());
        self.log.join(self.index, &row);
        self.own += 1;
        if let Some(departing) = departing {
            self.supersede(topic, key, departing.reference);
        }
        true
    }

    /// The meta that an owner tracks.
    pub fn find(&self, owner: OwnerId, topic: &str, key: &str) -> Option<&Meta> {
        Some(&self.topic(topic)?.find(owner, key)?.meta)
    }

    /// Puts a new version in the place of a presence. False where there is none.
    pub fn update(&mut self, owner: OwnerId, topic: &Topic, key: &Key, meta: Meta, reference: Ref) -> bool {
        let Self { index, topics, log, .. } = self;
        let Some(set) = topics.get_mut(topic) else { return false };
        if set.find(owner, key).is_none() {
            return false;
        }
        set.begin();
        let new = |old: &Row| {
            let row = Row::new(reference, owner, old.topic.clone(), old.key.clone(), meta);
            row.after(Some(old.reference), old.replaces())
        };
        let Some((old, new)) = set.replace(owner, key, new) else { return false };
        log.leave(*index, &old, None);
        log.join(*index, &new);
        true
    }

    /// Removes presences of one owner in one topic, as one change. How many there were.
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
        self.own -= removed;
        // Where changes are noted, whoever takes them tidies up after; where they are not, nobody would.
        self.tidy(topic);
        removed
    }

    /// Has presences of one owner in one topic leave after a grace, unless others of their keys take their
    /// places. They stay until [`Cluster`](crate::Cluster), which keeps the time, removes them.
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

/// What other nodes have to say.
impl<X: Layer> Shard<X> {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Begins an operation of another node on a topic; [`tidy`](Self::tidy) ends it.
    pub(crate) fn begin(&mut self, topic: &Topic) {
        self.entry(topic).begin();
    }

    /// A topic's name, shared with the set where it is in it.
    pub(crate) fn shared_name(&self, topic: &Topic) -> Topic {
        self.topics.get(topic).map_or(topic, TopicSet::topic).clone()
    }

    /// Shows a row of another node, unless it is never to be shown again.
    pub(crate) fn show(&mut self, row: &Arc<Row>, departing: bool) {
        self.orphans.remove(&row.reference);
        if self.hidden.contains_key(&row.reference) {
            return;
        }
        let set = self.entry(&row.topic);
        set.insert(row.clone());
        if departing && set.has(row) {
            set.depart(row, None);
        }
    }

    /// Takes a row of another node out of a topic.
    pub(crate) fn take_out(&mut self, row: &Arc<Row>, reason: Option<LeaveReason>) {
        if let Some(set) = self.topics.get_mut(&row.topic)
            && set.has(row)
        {
            set.remove_ref(&row.key, row.reference, reason);
        }
    }

    pub(crate) fn mark_departing(&mut self, row: &Arc<Row>) {
        if let Some(set) = self.topics.get_mut(&row.topic)
            && set.has(row)
        {
            set.depart(row, None);
        }
    }

    /// Another presence has taken a departing one's place, which may be of this node, of another, or of one not
    /// heard of yet.
    pub(crate) fn supersede(&mut self, topic: &Topic, key: &str, reference: Ref) {
        let removed = self.topics.get_mut(topic).and_then(|set| set.remove_ref(key, reference, None));
        match removed {
            Some(row) if row.owner != OwnerId::REMOTE => {
                self.log.leave(self.index, &row, None);
                self.own -= 1;
            }
            _ => self.hide(reference),
        }
    }

    /// Has a row of another node never shown again.
    pub(crate) fn hide(&mut self, reference: Ref) {
        self.hidden.entry(reference).or_default();
    }

    /// The origin has removed the row too.
    pub(crate) fn unhide(&mut self, reference: Ref) {
        self.hidden.remove(&reference);
        give_back(&mut self.hidden);
    }

    pub(crate) fn is_hidden(&self, reference: Ref) -> bool {
        self.hidden.contains_key(&reference)
    }

    /// Forgets the hidden rows that are hidden for longer than `age` and not `known` any more.
    pub(crate) fn purge_hidden(&mut self, now: Time, age: Duration, known: impl Fn(Ref) -> bool) {
        self.hidden.retain(|reference, since| {
            let since = *since.get_or_insert(now);
            now.since(since) < age || known(*reference)
        });
        give_back(&mut self.hidden);
    }

    /// Begins anew after a failure of what has kept this shard in step: its own rows are as they are, those of other
    /// nodes stay until somebody answers for them.
    pub(crate) fn recover(&mut self) {
        self.log.forget();
        let rows = self.topics.iter().flat_map(TopicSet::groups).flat_map(|(_, group)| group.rows().iter());
        let others = rows.filter(|row| row.owner == OwnerId::REMOTE);
        self.orphans = others.map(|row| (row.reference, row.clone())).collect();
        let own = self.topics.iter().flat_map(TopicSet::own_departing);
        let departed = own.map(|(row, reason, grace)| Departed { row: row.clone(), reason, grace }).collect();
        self.log.departed_again(departed);
    }

    /// A row that is shown and that nobody has answered for yet.
    pub(crate) fn orphan(&self, reference: Ref) -> Option<Arc<Row>> {
        self.orphans.get(&reference).cloned()
    }

    /// The rows that nobody has answered for.
    pub(crate) fn take_orphans(&mut self) -> Vec<Arc<Row>> {
        std::mem::take(&mut self.orphans).into_values().collect()
    }

    pub(crate) fn own(&self) -> usize {
        self.own
    }

    pub(crate) fn hidden(&self) -> usize {
        self.hidden.len()
    }

    /// Removes a departing row of this node, whose grace has ended. Whether it was there.
    pub(crate) fn end_departing(&mut self, row: &Row, reason: LeaveReason) -> bool {
        let Some(set) = self.topics.get_mut(&row.topic) else { return false };
        set.begin();
        let removed = set.remove_ref(&row.key, row.reference, Some(reason));
        if let Some(row) = &removed {
            self.log.leave(self.index, row, Some(reason));
            self.own -= 1;
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

/// A table that has seen a crowd gives its memory back when the crowd has gone.
fn give_back(table: &mut HashMap<Ref, Option<Time>>) {
    if table.capacity() > 16 && table.capacity() > 4 * table.len() {
        table.shrink_to(2 * table.len());
    }
}
