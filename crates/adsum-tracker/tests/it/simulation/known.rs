//! Every version that an owner ever had, and how it ended.

use std::{collections::HashMap, time::Duration};

use adsum_tracker::{Key, LeaveReason, Meta, Ref, Time};

/// How precisely graces are kept.
const MOMENT: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Known {
    versions: HashMap<Ref, Version>,
    /// Whether reasons are exact, whether graces end in time, and whether a heartbeat makes up for what was lost.
    pub(super) tells_reasons: bool,
    pub(super) is_prompt: bool,
    pub(super) only_loses: bool,
}

pub(super) struct Version {
    pub(super) topic: usize,
    pub(super) key: Key,
    pub(super) meta: Meta,
    fate: Option<Fate>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Replaced(Ref),
    Departs(LeaveReason, Time),
    Ended(LeaveReason),
}

impl Known {
    pub(super) fn len(&self) -> usize {
        self.versions.len()
    }

    pub(super) fn get(&self, reference: Ref) -> &Version {
        self.versions.get(&reference).unwrap_or_else(|| panic!("nobody ever had {reference}"))
    }

    pub(super) fn came(&mut self, reference: Ref, topic: usize, key: Key, meta: Meta) {
        let before = self.versions.insert(reference, Version { topic, key, meta, fate: None });
        assert!(before.is_none(), "{reference} was made twice");
    }

    pub(super) fn replaced(&mut self, reference: Ref, by: Ref) {
        self.set(reference, Fate::Replaced(by));
    }

    pub(super) fn ended(&mut self, reference: Ref, reason: LeaveReason) {
        self.set(reference, Fate::Ended(reason));
    }

    pub(super) fn departs(&mut self, reference: Ref, reason: LeaveReason, end: Time) {
        self.set(reference, Fate::Departs(reason, end));
    }

    fn set(&mut self, reference: Ref, fate: Fate) {
        let version = self.versions.get_mut(&reference).unwrap();
        assert!(version.fate.is_none(), "{reference} ends twice");
        version.fate = Some(fate);
    }

    /// Checks that a client may be told at this time that a version left for this reason. `is_followed`: others of its
    /// key join in the same diff.
    pub(super) fn check_left(&self, now: Time, reference: Ref, told: Option<LeaveReason>, is_followed: bool) {
        let fate = self.get(reference).fate;
        let is_true = match (told, fate) {
            // Another has taken its place.
            (Some(LeaveReason::Unreachable), _) | (None, Some(Fate::Departs(..))) => true,
            (None, Some(Fate::Replaced(by))) => {
                // Or another has taken the place of a later version, and is gone too.
                is_followed || !self.tells_reasons || self.departs_in_the_end(by)
            }
            (None, fate) => fate.is_some() && !self.tells_reasons,
            // A node that got only the result, in a snapshot, can't know better, but that the presence has ended.
            (Some(LeaveReason::Gone | LeaveReason::Draining), _) if !self.tells_reasons => {
                self.end_of(reference).is_some()
            }
            (Some(told), Some(Fate::Departs(reason, end))) => {
                let is_in_time = !self.is_prompt || !self.tells_reasons || now + MOMENT >= end;
                told == reason && is_in_time
            }
            (Some(told), _) => self.end_of(reference) == Some(told),
        };
        assert!(is_true, "{reference} leaves for {told:?} at {now:?}, and it is {fate:?}");
    }

    /// Whether a version may be listed at this time.
    pub(super) fn check_listed(&self, now: Time, reference: Ref) {
        if let Some(Fate::Departs(_, end)) = self.get(reference).fate {
            let is_in_time = !self.is_prompt || now <= end + Duration::from_secs(1);
            assert!(is_in_time, "{reference} is listed at {now:?}, and its grace ended at {end:?}");
        }
    }

    fn departs_in_the_end(&self, reference: Ref) -> bool {
        match self.get(reference).fate {
            Some(Fate::Replaced(by)) => self.departs_in_the_end(by),
            fate => matches!(fate, Some(Fate::Departs(..))),
        }
    }

    fn end_of(&self, reference: Ref) -> Option<LeaveReason> {
        match self.get(reference).fate? {
            Fate::Replaced(by) => self.end_of(by),
            Fate::Departs(reason, _) | Fate::Ended(reason) => Some(reason),
        }
    }
}
