//! A topic's diffs on their way to clients and watches.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use adsum_pubsub::{Json, JsonPart, Payload, Topic};
use adsum_tracker::{Diff, JoinedRow, Key, Ref};
use bytes::Bytes;

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
    /// How long the first of the changes has waited.
    pub(crate) waited: Duration,
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
        let cuts = self.cuts(known);
        let mut to = 0;
        let parts: Vec<JsonPart> = json
            .json_parts()
            .map(|part| {
                let from = to;
                to += part.text().len();
                let inside = |cut: &&Cut| cut.place.start < to && cut.place.end > from;
                let mut inside = cuts.iter().filter(inside).peekable();
                if inside.peek().is_none() { part } else { cut_from(part.text(), from, inside) }
            })
            .collect();
        Some(match &parts[..] {
            [whole] => Json::from_encoded(whole.text().clone()),
            _ => Json::from_encoded_parts(parts),
        })
    }

    /// Returns what is cut out of the payload, in its order: the keys whose rows are all known, each with a comma, and of
    /// other keys all, in favor of the rest of their rows.
    fn cuts(&self, known: &[Ref]) -> Vec<Cut> {
        let joins = &self.published.diff().joins;
        let is_known = |joined: &&JoinedRow| known.contains(&joined.reference);
        let keys: Vec<&Key> = joins.iter().filter(is_known).map(|joined| &joined.row.key).collect();
        let mut cuts: Vec<Cut> = Vec::new();
        // Whether no key before this one is left.
        let mut is_first = true;
        for (index, (key, place)) in self.places.iter().enumerate() {
            if !keys.contains(&key) {
                is_first = false;
                continue;
            }
            let mut rest = joins.iter().filter(|joined| joined.key == *key && !is_known(joined)).peekable();
            if rest.peek().is_some() {
                let mut instead = Vec::new();
                let info = self.published.info(key).map(|info| &**info);
                encode::join_entry(&mut instead, key, rest, info);
                cuts.push(Cut { place: place.clone(), instead });
                is_first = false;
            } else if is_first {
                let end = self.places.get(index + 1).map_or(place.end, |(_, next)| next.start);
                cuts.push(Cut { place: place.start..end, instead: Vec::new() });
            } else {
                cuts.push(Cut { place: place.start - 1..place.end, instead: Vec::new() });
            }
        }
        cuts
    }
}

/// A range of a payload, and the text that replaces it.
struct Cut {
    place: Range<usize>,
    instead: Vec<u8>,
}

/// Cuts a text, which begins at `from` of its payload.
fn cut_from<'c>(text: &[u8], from: usize, cuts: impl Iterator<Item = &'c Cut>) -> JsonPart {
    let mut out = Vec::with_capacity(text.len());
    let mut copied = 0;
    for Cut { place, instead } in cuts {
        if place.start >= from {
            out.extend_from_slice(&text[copied..place.start - from]);
            out.extend_from_slice(instead);
        }
        copied = (place.end - from).min(text.len());
    }
    out.extend_from_slice(&text[copied..]);
    Bytes::from(out).into()
}
