//! The presences of a topic, folded from states and diffs as `Presence` of phoenix.js folds them.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The presences under one key, as a client holds them.
#[derive(Clone, Debug, PartialEq)]
pub struct PresentKey(Value);

impl PresentKey {
    /// The metas, in their order.
    ///
    /// # Panics
    /// One isn't of type `M`.
    pub fn metas<M: DeserializeOwned>(&self) -> Vec<M> {
        metas_of(&self.0).iter().map(decode).collect()
    }

    /// The info that `fetch` has added beside the metas.
    ///
    /// # Panics
    /// It isn't of type `I`.
    pub fn info<I: DeserializeOwned>(&self) -> I {
        let mut info = self.0.clone();
        if let Some(members) = info.as_object_mut() {
            members.remove("metas");
        }
        decode(&info)
    }

    /// All of it: an object with `metas`, and beside it what `fetch` has added.
    pub fn json(&self) -> &Value {
        &self.0
    }
}

/// A meta of a key has left. If several leave in one diff, each has a leave of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct PresenceLeave {
    /// The key.
    pub key: String,
    /// Why the meta left, as `phx_reason` says it: `left` or `gone`, for example.
    pub reason: String,
    /// Whether other metas of the key are present after the diff: the user has closed one tab of two.
    pub is_present: bool,
    left: Value,
}

impl PresenceLeave {
    /// The meta that has left, as a list of one.
    ///
    /// # Panics
    /// One isn't of type `M`.
    pub fn metas<M: DeserializeOwned>(&self) -> Vec<M> {
        metas_of(&self.left).iter().map(decode).collect()
    }
}

fn decode<T: DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value)
        .unwrap_or_else(|error| panic!("{value} is no {}: {error}", std::any::type_name::<T>()))
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    keys: BTreeMap<String, Value>,
    /// The join whose state has come.
    joined: Option<String>,
    /// Diffs that have come before it.
    pending: Vec<Value>,
    /// The leaves that no test has taken yet. Updates are none.
    pub(super) left: VecDeque<PresenceLeave>,
}

impl Roster {
    pub(super) fn state(&mut self, join_ref: &str, new: &Value) {
        self.joined = Some(join_ref.to_owned());
        let Some(new) = new.as_object() else { return };
        let (mut joins, mut leaves) = (Map::new(), Map::new());
        for (key, current) in &self.keys {
            let left = without(current, new.get(key));
            if !metas_of(&left).is_empty() {
                leaves.insert(key.clone(), left);
            }
        }
        for (key, entry) in new {
            let joined = without(entry, self.keys.get(key));
            if !metas_of(&joined).is_empty() {
                joins.insert(key.clone(), joined);
            }
        }
        self.apply(&joins, &leaves);
        for diff in mem::take(&mut self.pending) {
            self.diff(join_ref, &diff);
        }
    }

    pub(super) fn diff(&mut self, join_ref: &str, diff: &Value) {
        if self.joined.as_deref() != Some(join_ref) {
            return self.pending.push(diff.clone());
        }
        let none = Map::new();
        let half = |name: &str| diff[name].as_object().unwrap_or(&none);
        self.apply(half("joins"), half("leaves"));
    }

    fn apply(&mut self, joins: &Map<String, Value>, leaves: &Map<String, Value>) {
        for (key, joined) in joins {
            let mut entry = joined.clone();
            if let Some(current) = self.keys.get(key) {
                let mut metas = metas_of(&without(current, Some(joined))).to_vec();
                metas.extend_from_slice(metas_of(joined));
                entry["metas"] = metas.into();
            }
            self.keys.insert(key.clone(), entry);
        }
        for (key, left) in leaves {
            let Some(current) = self.keys.get_mut(key) else { continue };
            *current = without(current, Some(left));
            let is_present = !metas_of(current).is_empty();
            if !is_present {
                self.keys.remove(key);
            }
            for meta in metas_of(left) {
                // A state tells no reason of those who are missing in it. An update replaces a meta, and has none either.
                let reason = meta["phx_reason"].as_str().or_else(|| (!is_present).then_some(""));
                if let Some(reason) = reason {
                    let (key, reason) = (key.clone(), reason.to_owned());
                    self.left.push_back(PresenceLeave { key, reason, is_present, left: one(left, meta) });
                }
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<PresentKey> {
        self.keys.get(key).cloned().map(PresentKey)
    }

    pub(super) fn list(&self) -> BTreeMap<String, PresentKey> {
        self.keys.iter().map(|(key, entry)| (key.clone(), PresentKey(entry.clone()))).collect()
    }
}

fn metas_of(entry: &Value) -> &[Value] {
    entry["metas"].as_array().map_or(&[], Vec::as_slice)
}

/// The entry with one of its metas.
fn one(entry: &Value, meta: &Value) -> Value {
    let mut entry = entry.clone();
    entry["metas"] = vec![meta.clone()].into();
    entry
}

/// The entry without the metas that the other one has, by their refs.
fn without(entry: &Value, other: Option<&Value>) -> Value {
    let mut entry = entry.clone();
    let others = other.map_or(&[][..], metas_of);
    if let Some(metas) = entry["metas"].as_array_mut() {
        metas.retain(|meta| others.iter().all(|other| other["phx_ref"] != meta["phx_ref"]));
    }
    entry
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metas(refs: &[&str]) -> Value {
        let metas: Vec<Value> = refs.iter().map(|name| json!({"phx_ref": name})).collect();
        json!({"metas": metas})
    }

    fn refs(roster: &Roster, key: &str) -> Vec<String> {
        let refs = roster.get(key).map(|entry| entry.metas::<Value>());
        refs.into_iter()
            .flatten()
            .map(|meta| meta["phx_ref"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn diffs_that_come_before_the_state_of_their_join_are_folded_after_it() {
        let mut roster = Roster::default();
        roster.diff("1", &json!({"joins": {"b": metas(&["2"])}, "leaves": {}}));
        assert!(roster.list().is_empty());
        roster.state("1", &json!({"a": metas(&["1"])}));
        assert_eq!(roster.list().keys().collect::<Vec<_>>(), ["a", "b"]);
        // Joined again, it waits for the state of that join, which says that `a` is missing.
        roster.diff("5", &json!({"joins": {"c": metas(&["3"])}, "leaves": {}}));
        roster.state("5", &json!({"b": metas(&["2", "4"])}));
        assert_eq!(roster.list().keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(refs(&roster, "b"), ["2", "4"]);
        let left = roster.left.pop_front().expect("a is missing");
        assert_eq!((&*left.key, &*left.reason, left.is_present), ("a", "", false));
    }

    #[test]
    fn an_update_moves_a_meta_to_the_end_and_is_no_leave() {
        let mut roster = Roster::default();
        roster.state("1", &json!({"a": metas(&["1", "2"])}));
        roster.diff("1", &json!({"joins": {"a": metas(&["3"])}, "leaves": {"a": metas(&["1"])}}));
        assert_eq!(refs(&roster, "a"), ["2", "3"]);
        assert!(roster.left.is_empty());
        let left = json!({"metas": [{"phx_ref": "2", "phx_reason": "gone"}]});
        roster.diff("1", &json!({"joins": {}, "leaves": {"a": left, "nobody": metas(&["9"])}}));
        assert_eq!(refs(&roster, "a"), ["3"]);
        let left = roster.left.pop_front().expect("one of two has left");
        assert_eq!((&*left.reason, left.is_present, roster.left.len()), ("gone", true, 0));
    }
}
