//! Presences as a program reads them.

use std::{collections::HashMap, fmt, sync::Arc};

use adsum_tracker::{Key, Reason, Ref, Row};

use crate::{encode::decode_meta, flow::Topics, handler::PresenceHandler};

/// The presences of a topic, by key.
pub type Presences<H> = HashMap<Key, Entry<H>>;

/// One key's presences.
pub struct Entry<H: PresenceHandler> {
    /// What was tracked under the key, in that order. An update moves its meta to the end.
    pub metas: Vec<Tracked<H::Meta>>,
    /// What `fetch` has added; none where it had nothing to say, or hasn't answered yet.
    pub info: Option<Arc<H::Info>>,
}

/// One version of a presence's meta.
#[derive(Clone, Debug)]
pub struct Tracked<M> {
    /// Its name.
    pub reference: Ref,
    /// After an update, the name of the version before. Among the joins of a diff, the version that leaves with it, of
    /// which this is an update; `None` if there is none in the diff.
    pub previous: Option<Ref>,
    /// Where it has left: why. None where an update put another version in its place, and where it is there.
    pub reason: Option<Reason>,
    /// What was tracked.
    pub meta: M,
}

impl<H: PresenceHandler> Entry<H> {
    pub(crate) fn new(info: Option<Arc<H::Info>>) -> Self {
        Self { metas: Vec::new(), info }
    }

    pub(crate) fn push(&mut self, row: &Row, previous: Option<Ref>, reason: Option<Reason>) {
        if let Some(meta) = decode_meta(row) {
            let reference = row.reference;
            self.metas.push(Tracked { reference, previous, reason, meta });
        }
    }
}

impl<H: PresenceHandler<Meta: fmt::Debug, Info: fmt::Debug>> fmt::Debug for Entry<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("metas", &self.metas).field("info", &self.info).finish()
    }
}

/// What a list reads under the lock, to be decoded without it.
pub(crate) struct Snapshot<I>(Vec<Group<I>>);

struct Group<I> {
    key: Key,
    rows: Vec<Arc<Row>>,
    info: Option<Arc<I>>,
}

impl<I> Snapshot<I> {
    pub(crate) fn of<H: PresenceHandler<Info = I>>(set: &Topics<H>) -> Self {
        let groups = set.groups().map(|(key, group)| Group {
            key: key.clone(),
            rows: group.rows().to_vec(),
            info: group.layer().value(),
        });
        Self(groups.collect())
    }

    /// What was told, instead of what is there.
    pub(crate) fn told<H: PresenceHandler<Info = I>>(set: &Topics<H>) -> Self {
        let mut groups = Vec::new();
        set.told_groups(None, None, |key, card, rows| {
            let rows = rows.iter().map(|row| Arc::clone(row)).collect();
            groups.push(Group { key: key.clone(), rows, info: card.value() });
        });
        Self(groups)
    }

    /// At most so many keys after one.
    pub(crate) fn page<H: PresenceHandler<Info = I>>(
        set: &Topics<H>,
        after: Option<&str>,
        limit: usize,
    ) -> Self {
        let groups = set.groups_after(after).take(limit).map(|(key, group)| Group {
            key: key.clone(),
            rows: group.rows().to_vec(),
            info: group.layer().value(),
        });
        Self(groups.collect())
    }

    /// As [`decode`](Self::decode), in the order of the keys.
    pub(crate) fn decode_in_order<H: PresenceHandler<Info = I>>(self) -> Vec<(Key, Entry<H>)> {
        self.0.into_iter().map(|group| (group.key.clone(), group.decode())).collect()
    }

    pub(crate) fn decode<H: PresenceHandler<Info = I>>(self) -> Presences<H> {
        self.0.into_iter().map(|group| (group.key.clone(), group.decode())).collect()
    }
}

impl<I> Group<I> {
    fn decode<H: PresenceHandler<Info = I>>(self) -> Entry<H> {
        let mut entry = Entry::new(self.info);
        for row in self.rows {
            entry.push(&row, row.previous(), None);
        }
        entry
    }
}
