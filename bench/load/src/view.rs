//! A client's view of a room, folded from states and diffs as phoenix.js does.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
    rc::Rc,
};

use serde::Deserialize;

/// The prefix of the keys of all users; a number follows.
pub(crate) const USER: char = 'u';

/// How many payloads are remembered.
const REMEMBERED: usize = 16;

/// Users are numbers that are spread well by a multiplication.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, user: u32) {
        self.0 = u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The ref of each user's presence, as a number. Each user has one.
pub(crate) type View = HashMap<u32, u64, BuildHasherDefault<Spread>>;

#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) joins: Vec<(u32, u64)>,
    pub(crate) leaves: Vec<(u32, u64)>,
}

impl Changes {
    pub(crate) fn apply(&self, view: &mut View) {
        view.extend(self.joins.iter().copied());
        for (user, tracked) in &self.leaves {
            if view.get(user) == Some(tracked) {
                view.remove(user);
            }
        }
    }
}

#[derive(Deserialize)]
struct Meta<'a> {
    phx_ref: &'a str,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    metas: Vec<Meta<'a>>,
}

type Entries<'a> = HashMap<&'a str, Entry<'a>>;

#[derive(Deserialize)]
struct Diff<'a> {
    #[serde(borrow)]
    joins: Entries<'a>,
    #[serde(borrow)]
    leaves: Entries<'a>,
}

/// The payloads that came last. All clients of a room get the same, of which the first parses it and the others
/// compare bytes; so this program isn't the limit.
#[derive(Default)]
pub(crate) struct Parsed(VecDeque<(bool, Vec<u8>, Rc<Changes>)>);

impl Parsed {
    pub(crate) fn state(&mut self, payload: &str) -> Result<Rc<Changes>, String> {
        self.find(true, payload, |payload| {
            let state =
                serde_json::from_str(payload).map_err(|error| format!("bad presence_state: {error}"))?;
            Ok(Changes { joins: changes(state)?, leaves: Vec::new() })
        })
    }

    pub(crate) fn diff(&mut self, payload: &str) -> Result<Rc<Changes>, String> {
        self.find(false, payload, |payload| {
            let diff: Diff<'_> =
                serde_json::from_str(payload).map_err(|error| format!("bad presence_diff: {error}"))?;
            Ok(Changes { joins: changes(diff.joins)?, leaves: changes(diff.leaves)? })
        })
    }

    fn find(
        &mut self,
        state: bool,
        payload: &str,
        parse: impl FnOnce(&str) -> Result<Changes, String>,
    ) -> Result<Rc<Changes>, String> {
        let known =
            self.0.iter().rev().find(|(kind, bytes, _)| *kind == state && bytes == payload.as_bytes());
        if let Some((.., changes)) = known {
            return Ok(changes.clone());
        }
        let changes = Rc::new(parse(payload)?);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((state, payload.into(), changes.clone()));
        Ok(changes)
    }
}

fn changes(entries: Entries<'_>) -> Result<Vec<(u32, u64)>, String> {
    let change = |(key, entry): (&str, Entry<'_>)| {
        let user = key.strip_prefix(USER).and_then(|user| user.parse().ok());
        let user = user.ok_or_else(|| format!("unknown key {key}"))?;
        let meta = entry.metas.last().ok_or_else(|| format!("no meta for {key}"))?;
        Ok((user, number(meta.phx_ref)))
    };
    entries.into_iter().map(change).collect()
}

fn number(tracked: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    tracked.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"u1":{"metas":[{"phx_ref":"a"}]},"u2":{"metas":[{"phx_ref":"b","x":1}]}}"#;

    #[test]
    fn a_view_is_a_state_and_the_diffs_after_it() {
        let mut parsed = Parsed::default();
        let mut view = View::default();
        parsed.state(STATE).unwrap().apply(&mut view);
        let update =
            r#"{"joins":{"u1":{"metas":[{"phx_ref":"c"}]}},"leaves":{"u1":{"metas":[{"phx_ref":"a"}]}}}"#;
        parsed.diff(update).unwrap().apply(&mut view);
        assert_eq!((view.len(), view[&1]), (2, number("c")));
        // A leave of what is known no more changes nothing.
        parsed.diff(r#"{"joins":{},"leaves":{"u1":{"metas":[{"phx_ref":"a"}]}}}"#).unwrap().apply(&mut view);
        assert_eq!(view.len(), 2);
        parsed.diff(r#"{"joins":{},"leaves":{"u1":{"metas":[{"phx_ref":"c"}]}}}"#).unwrap().apply(&mut view);
        assert_eq!(view.len(), 1);
    }

    #[test]
    fn a_payload_that_is_no_state_is_told() {
        for wrong in ["{}1", r#"{"x1":{"metas":[{"phx_ref":"a"}]}}"#, r#"{"u1":{"metas":[]}}"#, "[]"] {
            assert!(Parsed::default().state(wrong).is_err(), "{wrong}");
        }
    }
}
