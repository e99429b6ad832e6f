//! The sources of a node, and what they have counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::{readings::Source, series::Series};

type Counters = BTreeMap<Series, u64>;

/// The sources, each with its counters when they were read last, and the last counters of those that have ended: a counter
/// never falls, whichever of its sources ends.
#[derive(Default)]
pub(super) struct Sources {
    known: Vec<(Weak<dyn Source>, Counters)>,
    ended: Counters,
}

impl Sources {
    /// Adds a source, unless it is known.
    pub(super) fn register(&mut self, source: Weak<dyn Source>) {
        self.tidy();
        if !self.known.iter().any(|(known, _)| std::ptr::addr_eq(known.as_ptr(), source.as_ptr())) {
            self.known.push((source, Counters::new()));
        }
    }

    pub(super) fn alive(&self) -> Vec<Arc<dyn Source>> {
        self.known.iter().filter_map(|(source, _)| source.upgrade()).collect()
    }

    /// Notes what a source has counted. If two read it at once, the later values stay.
    pub(super) fn note(&mut self, source: &Arc<dyn Source>, counters: Counters) {
        let is_it = |known: &Weak<dyn Source>| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(source));
        if let Some((_, last)) = self.known.iter_mut().find(|(known, _)| is_it(known)) {
            for (series, count) in counters {
                let last = last.entry(series).or_default();
                *last = count.max(*last);
            }
        }
    }

    /// Returns the sums of all sources that there are and were.
    pub(super) fn counters(&mut self) -> Counters {
        self.tidy();
        let mut sums = self.ended.clone();
        for (_, last) in &self.known {
            add(&mut sums, last.clone());
        }
        sums
    }

    fn tidy(&mut self) {
        let Self { known, ended } = self;
        known.retain_mut(|(source, last)| {
            let is_alive = source.strong_count() > 0;
            if !is_alive {
                add(ended, std::mem::take(last));
            }
            is_alive
        });
    }
}

fn add(sums: &mut Counters, counters: Counters) {
    for (series, count) in counters {
        *sums.entry(series).or_default() += count;
    }
}
