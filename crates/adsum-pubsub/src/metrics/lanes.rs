//! Copies of a number that many cores add to.
//!
//! A core that adds to a number takes its cache line from the core before it, which costs ten times the addition and more.
//! With millions of messages a second, all cores would wait for the line of one counter. So each thread adds to one of
//! several copies, each in a cache line of its own, and whoever reads adds them up.

use std::{
    cell::Cell,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// One copy of a value for each core, up to a limit.
#[derive(Debug)]
pub(super) struct Lanes<T>(Box<[Lane<T>]>);

/// As large as two cache lines, since processors load them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Lane<T>(T);

/// Maximum number of copies: beyond it, few threads share each.
const MAX_LANES: usize = 32;

/// A power of two.
static LANES: LazyLock<usize> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.next_power_of_two().min(MAX_LANES)
});

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread, once it is needed.
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

fn thread_number() -> usize {
    THREAD.with(|number| {
        number.get().unwrap_or_else(|| {
            let next = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
            number.set(Some(next));
            next
        })
    })
}

impl<T> Lanes<T> {
    pub(super) fn new(value: impl Fn() -> T) -> Self {
        Self((0..*LANES).map(|_| Lane(value())).collect())
    }

    /// The copy of the current thread.
    pub(super) fn own(&self) -> &T {
        // The length is a power of two.
        &self.0[thread_number() & (self.0.len() - 1)].0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|lane| &lane.0)
    }
}
