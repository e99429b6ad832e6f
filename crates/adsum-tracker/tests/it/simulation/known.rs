//! Every version that an owner ever had, and what became of it.

use std::collections::HashMap;

use adsum_tracker::{Key, Meta, Reason, Ref};

#[derive(Default)]
pub(super) struct Known(HashMap<Ref, Version>);

pub(super) struct Version {
    pub(super) topic: usize,
    pub(super) key: Key,
    pub(super) meta: Meta,
    fate: Option<Fate>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Replaced(Ref),
    Departs(Reason),
    Ended(Reason),
}

impl Known {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, reference: Ref) -> &Version {
        self.0.get(&reference).unwrap_or_else(|| panic!("nobody ever had {reference}"))
    }

    pub(super) fn came(&mut self, reference: Ref, topic: usize, key: Key, meta: Meta) {
        let before = self.0.insert(reference, Version { topic, key, meta, fate: None });
        assert!(before.is_none(), "{reference} was made twice");
    }

    pub(super) fn replaced(&mut self, reference: Ref, by: Ref) {
        self.set(reference, Fate::Replaced(by));
    }

    pub(super) fn ended(&mut self, reference: Ref, reason: Reason) {
        self.set(reference, Fate::Ended(reason));
    }

    pub(super) fn departs(&mut self, reference: Ref, reason: Reason) {
        self.set(reference, Fate::Departs(reason));
    }

    fn set(&mut self, reference: Ref, fate: Fate) {
        let version = self.0.get_mut(&reference).unwrap();
        assert!(version.fate.is_none(), "{reference} ends twice");
        version.fate = Some(fate);
    }

    /// Whether somebody may be told that a version left for this reason.
    pub(super) fn check_left(&self, reference: Ref, told: Option<Reason>) {
        let fate = self.get(reference).fate;
        let is_true = match told {
            Some(Reason::Unreachable) => true,
            // A node that was told of nothing but the result can't know better.
            None | Some(Reason::Gone | Reason::Draining) => fate.is_some(),
            Some(reason) => self.end_of(reference) == Some(reason),
        };
        assert!(is_true, "{reference} leaves for {told:?}, and it is {fate:?}");
    }

    fn end_of(&self, reference: Ref) -> Option<Reason> {
        match self.get(reference).fate? {
            Fate::Replaced(by) => self.end_of(by),
            Fate::Departs(reason) | Fate::Ended(reason) => Some(reason),
        }
    }
}
