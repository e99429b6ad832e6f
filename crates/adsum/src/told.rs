//! The payload of `presence_state`: the state that was told of a topic, encoded in pieces.
//!
//! A piece has about 64 adjacent keys. The member of a key is encoded once, until something in it changes; then its
//! piece is written again, with the other members copied. A state is made of the pieces as they are, so all clients
//! that join meanwhile share them, and a client's own keys are spliced in between.

use std::{
    collections::BTreeMap,
    mem::{replace, take},
    ops::Range,
    sync::Arc,
};

use adsum_pubsub::{Json, JsonPart};
use adsum_tracker::{Key, Layer, Row, TopicSet};
use bytes::{Buf as _, Bytes};

use crate::{encode, key_cache::KeyCache};

/// The number of keys in a new piece.
const KEYS: usize = 64;
/// Maximum number of keys in a piece. A longer one is cut.
const MAX_KEYS: usize = KEYS + KEYS / 2;
/// The pieces of up to this number of keys aren't kept unless they are long: most topics are small, and many are idle.
const FEW: usize = 8;
/// A state up to this size is copied into one part, which is cheaper than sharing.
const COPIED: usize = 4096;

/// The state that was told of a topic, as far as it is encoded.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// In the order of the keys; together they have all keys. Empty until a state is needed.
    all: Vec<Piece>,
    /// Whether any piece has to be written again.
    is_stale: bool,
    /// All pieces in one.
    whole: Option<Json>,
}

#[derive(Debug)]
struct Piece {
    /// The first key that belongs into it; `None` in the first piece.
    from: Option<Key>,
    text: Members,
    /// Its keys in their order, each with the position where its member begins.
    places: Vec<(Key, usize)>,
    stale: Stale,
}

/// The members of the state's object that a piece has, each with a comma before it. States share them, and their
/// compressed form.
#[derive(Debug)]
struct Members {
    all: JsonPart,
    /// As the first of a state: without the first comma. `None` until there is such a state.
    first: Option<JsonPart>,
}

impl Members {
    fn new(text: impl Into<Bytes>) -> Self {
        Self { all: JsonPart::shared(text.into()), first: None }
    }

    fn first(&mut self) -> &JsonPart {
        self.first.get_or_insert_with(|| JsonPart::shared(self.all.text().slice(1..)))
    }
}

impl std::ops::Deref for Members {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        self.all.text()
    }
}

/// The parts of a piece that have changed since it was written.
#[derive(Debug)]
enum Stale {
    Keys(Vec<Key>),
    All,
}

/// The rows of some keys that one client is shown instead of those that were told.
pub(crate) type Own = BTreeMap<Key, Vec<Arc<Row>>>;

impl Pieces {
    /// Notes that the told rows or the info of a key have changed.
    pub(crate) fn forget(&mut self, key: &Key) {
        let after = self.all.partition_point(|piece| piece.from.as_ref().is_none_or(|from| from <= key));
        if let Some(piece) = after.checked_sub(1).and_then(|index| self.all.get_mut(index)) {
            self.whole = None;
            self.is_stale = true;
            piece.forget(key);
        }
    }

    /// Returns the state: what was told, and for the keys of `own` those rows.
    pub(crate) fn state<X: Layer<Key = KeyCache<I>>, I: Send + Sync>(
        &mut self,
        set: &TopicSet<X>,
        own: &Own,
    ) -> Json {
        if own.is_empty()
            && let Some(whole) = &self.whole
        {
            return whole.clone();
        }
        self.write_stale(set);
        let mut object = StateObject::new();
        let mut own_keys = own.iter().peekable();
        let write = |object: &mut StateObject, (key, rows): (&Key, &Vec<Arc<Row>>)| {
            let info = set.group(key).and_then(|group| group.layer().info());
            let rows = rows.iter().map(|row| &**row);
            object.write(|out| encode::state_entry(out, key, rows, info.map(|info| &**info)));
        };
        let mut pieces = self.all.iter_mut().peekable();
        while let Some(piece) = pieces.next() {
            let before = pieces.peek().and_then(|next| next.from.as_ref());
            let mut copied = 0;
            // Own keys that weren't told follow their piece, which stays whole.
            let mut after = Vec::new();
            while let Some(own) = own_keys.next_if(|(key, _)| before.is_none_or(|before| *key < before)) {
                let place = piece.place(own.0);
                if place.is_empty() {
                    after.push(own);
                } else {
                    object.share(piece.text.slice(copied..place.start));
                    copied = place.end;
                    write(&mut object, own);
                }
            }
            if copied == 0 {
                object.share_piece(&mut piece.text);
            } else {
                object.share(piece.text.slice(copied..));
            }
            for own in after {
                write(&mut object, own);
            }
        }
        let state = object.finish();
        if set.key_count() <= FEW && state.len() <= COPIED {
            *self = Self::default();
        } else if own.is_empty() {
            self.whole = Some(state.clone());
        }
        state
    }

    /// Writes the pieces that have changed.
    fn write_stale<X: Layer<Key = KeyCache<I>>, I: Send + Sync>(&mut self, set: &TopicSet<X>) {
        if self.all.is_empty() {
            self.all.push(Piece::unwritten());
        } else if !self.is_stale {
            return;
        }
        self.is_stale = false;
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.all.len() + 1);
        let mut old = take(&mut self.all).into_iter().peekable();
        while let Some(mut piece) = old.next() {
            piece.renew(set, old.peek().and_then(|next| next.from.as_ref()));
            match pieces.last_mut() {
                Some(last) if last.places.len() + piece.places.len() <= KEYS / 2 => last.append(piece),
                _ => piece.cut_into(&mut pieces),
            }
        }
        self.all = pieces;
    }
}

impl Piece {
    fn unwritten() -> Self {
        Self { from: None, text: Members::new(Bytes::new()), places: Vec::new(), stale: Stale::All }
    }

    fn forget(&mut self, key: &Key) {
        match &mut self.stale {
            Stale::All => {}
            Stale::Keys(keys) if keys.last() == Some(key) => {}
            Stale::Keys(keys) if keys.len() < KEYS => keys.push(key.clone()),
            Stale::Keys(_) => {
                self.stale = Stale::All;
                (self.text, self.places) = (Members::new(Bytes::new()), Vec::new());
            }
        }
    }

    /// Returns the position of a key's member, or the empty position where it would be.
    fn place(&self, key: &Key) -> Range<usize> {
        let index = self.places.partition_point(|(other, _)| other < key);
        let is_there = self.places.get(index).is_some_and(|(other, _)| other == key);
        self.start(index)..self.start(index + usize::from(is_there))
    }

    fn start(&self, index: usize) -> usize {
        self.places.get(index).map_or(self.text.len(), |(_, start)| *start)
    }

    /// Writes the members that have changed. The piece has the keys before `before`.
    fn renew<X: Layer<Key = KeyCache<I>>, I: Send + Sync>(
        &mut self,
        set: &TopicSet<X>,
        before: Option<&Key>,
    ) {
        match &mut self.stale {
            Stale::Keys(keys) if keys.is_empty() => {}
            Stale::Keys(keys) => {
                let mut keys = take(keys);
                keys.sort_unstable();
                keys.dedup();
                self.write_keys(set, keys);
            }
            Stale::All => {
                let (mut text, mut places) = (Vec::new(), Vec::new());
                set.told_groups(self.from.as_deref(), before.map(|key| &**key), |key, cache, rows| {
                    places.push((key.clone(), text.len()));
                    text.push(b',');
                    let rows = rows.iter().map(|row| &***row);
                    encode::state_entry(&mut text, key, rows, cache.info().map(|info| &**info));
                });
                (self.text, self.places, self.stale) = (Members::new(text), places, Stale::Keys(Vec::new()));
            }
        }
    }

    /// Encodes some keys again, and copies the others.
    fn write_keys<X: Layer<Key = KeyCache<I>>, I: Send + Sync>(&mut self, set: &TopicSet<X>, keys: Vec<Key>) {
        let mut text = Vec::with_capacity(self.text.len() + self.text.len() / 8 + 160 * keys.len());
        let mut places = Vec::with_capacity(self.places.len() + keys.len());
        let mut done = 0;
        for key in keys {
            let index = done + self.places[done..].partition_point(|(other, _)| *other < key);
            self.copy(done..index, &mut text, &mut places);
            let is_there = self.places.get(index).is_some_and(|(other, _)| *other == key);
            done = index + usize::from(is_there);
            let (cache, rows) = set.told_key(&key);
            let mut rows = rows.map(|row| &**row).peekable();
            if rows.peek().is_some() {
                let start = text.len();
                text.push(b',');
                let info = cache.and_then(|cache| cache.info());
                encode::state_entry(&mut text, &key, rows, info.map(|info| &**info));
                places.push((key, start));
            }
        }
        self.copy(done..self.places.len(), &mut text, &mut places);
        (self.text, self.places) = (Members::new(text), places);
    }

    fn copy(&self, keys: Range<usize>, text: &mut Vec<u8>, places: &mut Vec<(Key, usize)>) {
        let (from, to) = (self.start(keys.start)..self.start(keys.end), text.len());
        places.extend(self.places[keys].iter().map(|(key, start)| (key.clone(), start - from.start + to)));
        text.extend_from_slice(&self.text[from]);
    }

    /// Appends the next piece.
    fn append(&mut self, next: Self) {
        let mut text = Vec::with_capacity(self.text.len() + next.text.len());
        let mut places = Vec::with_capacity(self.places.len() + next.places.len());
        for piece in [&*self, &next] {
            piece.copy(0..piece.places.len(), &mut text, &mut places);
        }
        (self.text, self.places) = (Members::new(text), places);
    }

    /// Adds the piece to others: several pieces if it is too long, none if it is empty.
    fn cut_into(mut self, pieces: &mut Vec<Self>) {
        while self.places.len() > MAX_KEYS {
            let cut = self.start(KEYS);
            let mut rest = self.places.split_off(KEYS);
            for (_, start) in &mut rest {
                *start -= cut;
            }
            let rest = Self {
                from: Some(rest[0].0.clone()),
                text: Members::new(self.text.slice(cut..)),
                places: rest,
                stale: Stale::Keys(Vec::new()),
            };
            self.text = Members::new(self.text.slice(..cut));
            pieces.push(replace(&mut self, rest));
        }
        if self.from.is_none() || !self.places.is_empty() {
            pieces.push(self);
        }
    }
}

/// The text of a state, as it is put together from members with a comma before each.
struct StateObject {
    parts: Vec<JsonPart>,
    /// The members that were written since the last part.
    own: Vec<u8>,
    len: usize,
}

impl StateObject {
    fn new() -> Self {
        Self { parts: Vec::new(), own: Vec::new(), len: 0 }
    }

    /// Adds the members of a piece.
    fn share_piece(&mut self, members: &mut Members) {
        if !members.is_empty() {
            self.end_own();
            let part = if self.parts.is_empty() { members.first() } else { &members.all };
            self.len += part.text().len();
            self.parts.push(part.clone());
        }
    }

    /// Adds some members of a piece.
    fn share(&mut self, members: Bytes) {
        if !members.is_empty() {
            self.end_own();
            self.push(members);
        }
    }

    /// Adds a member.
    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.own.push(b',');
        write(&mut self.own);
    }

    fn end_own(&mut self) {
        if !self.own.is_empty() {
            let own = take(&mut self.own);
            self.push(own.into());
        }
    }

    fn push(&mut self, mut members: Bytes) {
        if self.parts.is_empty() {
            members.advance(1);
        }
        self.len += members.len();
        self.parts.push(members.into());
    }

    fn finish(mut self) -> Json {
        const OPEN: Bytes = Bytes::from_static(b"{");
        const CLOSE: Bytes = Bytes::from_static(b"}");
        self.end_own();
        let parts = [OPEN.into()].into_iter().chain(self.parts).chain([CLOSE.into()]);
        if self.len > COPIED {
            return Json::from_encoded_parts(parts);
        }
        let mut text = Vec::with_capacity(self.len + 2);
        parts.for_each(|part: JsonPart| text.extend_from_slice(part.text()));
        Json::from_encoded(text)
    }
}
