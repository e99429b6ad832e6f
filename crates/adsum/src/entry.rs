//! Presences as a program reads them.

use std::{collections::HashMap, fmt, sync::Arc};

use adsum_tracker::{Key, LeaveReason, Ref, Row};
use serde::{Serialize, Serializer};

use crate::{encode::decode_meta, handler::PresenceHandler, layer::PresenceSet};

/// The presences of a topic, by key. They serialize to the payload of `presence_state`.
pub type Presences<H> = HashMap<Key, Entry<H>>;

/// The presences of one key. They serialize to the key's value in `presence_state`.
pub struct Entry<H: PresenceHandler> {
    /// The metas tracked under the key, in that order. An update moves its meta to the end.
    pub metas: Vec<Tracked<H::Meta>>,
    /// The info from `fetch`. `None` if it returned none, or hasn't answered yet.
    pub info: Option<Arc<H::Info>>,
}

/// One version of a presence's meta. It serializes to the meta with `phx_ref`, `phx_ref_prev` and `phx_reason` in it.
#[derive(Clone, Debug)]
pub struct Tracked<M> {
    /// The name of this version.
    pub reference: Ref,
    /// After an update, the name of the version before. In the joins of a diff, the version that leaves in the same
    /// diff; `None` if there is none.
    pub previous: Option<Ref>,
    /// Why it left. `None` if an update put another version in its place, or if it hasn't left.
    pub reason: Option<LeaveReason>,
    /// The meta that was tracked.
    pub meta: M,
}

impl<H: PresenceHandler> Entry<H> {
    /// Returns the metas alone, in the order in which they were tracked.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use adsum::{Presence, PubSub};
    /// # let presence = Presence::builder(PubSub::local()).start();
    /// # let mut owner = presence.owner();
    /// # owner.track("room:1", 7, serde_json::Map::new())?;
    /// let list = presence.list("room:1").await;
    /// assert_eq!(list["7"].metas().count(), 1);
    /// // As JSON for a page of one's own, in the form of `presence_state`:
    /// let response = axum::Json(&list);
    /// # assert!(serde_json::to_string(&list)?.starts_with(r#"{"7":{"metas":[{"phx_ref":""#));
    /// # Ok(())
    /// # }
    /// ```
    pub fn metas(&self) -> impl DoubleEndedIterator<Item = &H::Meta> + ExactSizeIterator {
        self.metas.iter().map(|tracked| &tracked.meta)
    }

    pub(crate) fn new(info: Option<Arc<H::Info>>) -> Self {
        Self { metas: Vec::new(), info }
    }

    pub(crate) fn push(&mut self, row: &Row, previous: Option<Ref>, reason: Option<LeaveReason>) {
        if let Some(meta) = decode_meta(&row.meta) {
            let reference = row.reference;
            self.metas.push(Tracked { reference, previous, reason, meta });
        }
    }
}

impl<H: PresenceHandler<Meta: Clone>> Clone for Entry<H> {
    fn clone(&self) -> Self {
        Self { metas: self.metas.clone(), info: self.info.clone() }
    }
}

impl<H: PresenceHandler> Serialize for Entry<H> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'e, M, I> {
            metas: &'e [Tracked<M>],
            #[serde(flatten)]
            info: Option<&'e I>,
        }
        Wire { metas: &self.metas, info: self.info.as_deref() }.serialize(serializer)
    }
}

impl<M: Serialize> Serialize for Tracked<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'t, M> {
            #[serde(flatten)]
            meta: &'t M,
            phx_ref: Ref,
            #[serde(skip_serializing_if = "Option::is_none")]
            phx_ref_prev: Option<Ref>,
            #[serde(skip_serializing_if = "Option::is_none")]
            phx_reason: Option<&'static str>,
        }
        let Self { reference, previous, reason, meta } = self;
        let phx_reason = reason.map(LeaveReason::as_str);
        Wire { meta, phx_ref: *reference, phx_ref_prev: *previous, phx_reason }.serialize(serializer)
    }
}

impl<H: PresenceHandler<Meta: fmt::Debug, Info: fmt::Debug>> fmt::Debug for Entry<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("metas", &self.metas).field("info", &self.info).finish()
    }
}

/// The rows and infos of a list, read under the lock and decoded without it.
pub(crate) struct Snapshot<I>(Vec<ListedKey<I>>);

struct ListedKey<I> {
    key: Key,
    rows: Vec<Arc<Row>>,
    info: Option<Arc<I>>,
}

impl<I> Snapshot<I> {
    pub(crate) fn of<H: PresenceHandler<Info = I>>(set: &PresenceSet<H>) -> Self {
        let groups = set.groups().map(|(key, group)| ListedKey {
            key: key.clone(),
            rows: group.rows().to_vec(),
            info: group.layer().value(),
        });
        Self(groups.collect())
    }

    /// Reads what was told, instead of what the set has.
    pub(crate) fn told<H: PresenceHandler<Info = I>>(set: &PresenceSet<H>) -> Self {
        let mut groups = Vec::new();
        set.told_groups(None, None, |key, cache, rows| {
            let rows = rows.iter().map(|row| Arc::clone(row)).collect();
            groups.push(ListedKey { key: key.clone(), rows, info: cache.value() });
        });
        Self(groups)
    }

    /// Reads at most `limit` keys after one.
    pub(crate) fn page<H: PresenceHandler<Info = I>>(
        set: &PresenceSet<H>,
        after: Option<&str>,
        limit: usize,
    ) -> Self {
        let groups = set.groups_after(after).take(limit).map(|(key, group)| ListedKey {
            key: key.clone(),
            rows: group.rows().to_vec(),
            info: group.layer().value(),
        });
        Self(groups.collect())
    }

    /// Decodes like [`decode`](Self::decode), in the order of the keys.
    pub(crate) fn decode_in_order<H: PresenceHandler<Info = I>>(self) -> Vec<(Key, Entry<H>)> {
        self.0.into_iter().map(|group| (group.key.clone(), group.decode())).collect()
    }

    pub(crate) fn decode<H: PresenceHandler<Info = I>>(self) -> Presences<H> {
        self.0.into_iter().map(|group| (group.key.clone(), group.decode())).collect()
    }
}

impl<I> ListedKey<I> {
    fn decode<H: PresenceHandler<Info = I>>(self) -> Entry<H> {
        let mut entry = Entry::new(self.info);
        for row in self.rows {
            entry.push(&row, row.previous(), None);
        }
        entry
    }
}
