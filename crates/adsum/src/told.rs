//! The payload of `presence_state`: what was told of a topic, encoded in pieces.
//!
//! A piece is some 64 keys in a row, written once until something in it changes; a state is made of the pieces. All
//! who join meanwhile share them, but for the piece with their own key.

use std::{collections::BTreeMap, sync::Arc};

use adsum_pubsub::Json;
use adsum_tracker::{Key, Row};
use bytes::Bytes;

use crate::{encode, flow::Topics, handler::PresenceHandler};

/// The number of keys in a new piece; the last one of several has up to half as many more.
const KEYS: usize = 64;

/// What was told of a topic, as far as it is encoded.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// In the order of the keys; together they have all. Empty until somebody asks.
    pieces: Vec<Piece>,
    /// All pieces in one.
    whole: Option<Json>,
}

#[derive(Debug)]
struct Piece {
    /// The first key that belongs into it; `None` in the first piece.
    from: Option<Key>,
    /// The members of the state's object, with commas in between. `None` once something in it has changed.
    text: Option<Bytes>,
}

/// Rows that one client is shown in the place of what was told of their keys.
pub(crate) type Own = BTreeMap<Key, Vec<Arc<Row>>>;

impl Pieces {
    /// Something that is told of a key has changed, or the info beside it.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.whole = None;
        let after = self.pieces.partition_point(|piece| piece.from.as_ref().is_none_or(|from| from <= key));
        if let Some(piece) = after.checked_sub(1).and_then(|index| self.pieces.get_mut(index)) {
            piece.text = None;
        }
    }

    /// The state: what was told, but for the keys of `own`.
    pub(crate) fn state<H: PresenceHandler>(&mut self, set: &Topics<H>, own: &Own) -> Json {
        if own.is_empty()
            && let Some(whole) = &self.whole
        {
            return whole.clone();
        }
        self.write_missing(set);
        let mut parts = Vec::with_capacity(self.pieces.len());
        for (index, piece) in self.pieces.iter().enumerate() {
            let before = self.pieces.get(index + 1).and_then(|next| next.from.as_ref());
            let is_in = |key: &&Key| {
                piece.from.as_ref().is_none_or(|from| from <= *key)
                    && before.is_none_or(|before| *key < before)
            };
            if own.keys().any(|key| is_in(&key)) {
                let mut text = Vec::new();
                write(set, piece.from.as_ref(), before, own, |_, entry| {
                    if !text.is_empty() {
                        text.push(b',');
                    }
                    entry(&mut text);
                });
                parts.push(Bytes::from(text));
            } else {
                parts.extend(piece.text.clone());
            }
        }
        parts.retain(|part| !part.is_empty());
        let mut out = Vec::with_capacity(2 + parts.iter().map(|part| part.len() + 1).sum::<usize>());
        encode::object(&mut out, parts, |out, part| out.extend_from_slice(&part));
        let state = Json::from_encoded(out);
        if own.is_empty() {
            self.whole = Some(state.clone());
        }
        state
    }

    /// Writes the pieces in which something has changed.
    fn write_missing<H: PresenceHandler>(&mut self, set: &Topics<H>) {
        if self.pieces.is_empty() {
            self.pieces.push(Piece { from: None, text: None });
        }
        let mut pieces = Vec::with_capacity(self.pieces.len());
        let mut old = std::mem::take(&mut self.pieces).into_iter().peekable();
        while let Some(piece) = old.next() {
            if piece.text.is_some() {
                pieces.push(piece);
                continue;
            }
            let before = old.peek().and_then(|next| next.from.as_ref());
            let mut written: Vec<(Option<Key>, Vec<u8>, usize)> = vec![(piece.from.clone(), Vec::new(), 0)];
            write(set, piece.from.as_ref(), before, &Own::new(), |key, entry| {
                if written.last().is_some_and(|(.., keys)| *keys == KEYS) {
                    written.push((Some(key.clone()), Vec::new(), 0));
                }
                let (_, text, keys) = written.last_mut().expect("it begins with one");
                if *keys > 0 {
                    text.push(b',');
                }
                *keys += 1;
                entry(text);
            });
            // One or two that are too short for a piece of their own stay with those before them.
            if let [.., (_, kept, _), (_, rest, keys)] = &mut written[..]
                && *keys < KEYS / 2
            {
                kept.push(b',');
                kept.append(rest);
                written.pop();
            }
            pieces.extend(
                written
                    .into_iter()
                    .filter(|(from, text, _)| from.is_none() || !text.is_empty())
                    .map(|(from, text, _)| Piece { from, text: Some(text.into()) }),
            );
        }
        self.pieces = pieces;
    }
}

/// Given a key, and what writes its member.
type Each<'e> = dyn FnMut(&Key, &mut dyn FnMut(&mut Vec<u8>)) + 'e;

/// Goes through what a client is shown of the keys from one on and before another. `each` is given what writes the
/// key's member.
fn write<H: PresenceHandler>(
    set: &Topics<H>,
    from: Option<&Key>,
    before: Option<&Key>,
    own: &Own,
    mut each: impl FnMut(&Key, &mut dyn FnMut(&mut Vec<u8>)),
) {
    let mut mine = own
        .iter()
        .skip_while(|(key, _)| from.is_some_and(|from| *key < from))
        .take_while(|(key, _)| before.is_none_or(|before| *key < before))
        .peekable();
    let write_mine = |(key, rows): (&Key, &Vec<Arc<Row>>), each: &mut Each<'_>| {
        let info = set.group(key).and_then(|group| group.layer().info());
        each(key, &mut |out| {
            encode::state_entry(out, key, rows.iter().map(|row| &**row), info.map(|info| &**info));
        });
    };
    set.told_groups(from.map(|key| &**key), before.map(|key| &**key), |key, card, rows| {
        while let Some(earlier) = mine.next_if(|(own, _)| *own < key) {
            write_mine(earlier, &mut each);
        }
        if let Some(same) = mine.next_if(|(own, _)| *own == key) {
            write_mine(same, &mut each);
        } else {
            let info = card.info().map(|info| &**info);
            each(key, &mut |out| encode::state_entry(out, key, rows.iter().map(|row| &***row), info));
        }
    });
    for last in mine {
        write_mine(last, &mut each);
    }
}
