//! The state that all clients of a run share: the clock, counters, latencies.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{connection::Connection, inflated::Inflated, view::Parsed};

/// How many complaints are printed; the rest is counted only.
const PRINTED: u64 = 10;

/// The longest time that is told from longer ones, in microseconds.
const LONGEST: u64 = 600_000_000;

#[derive(Default)]
pub(crate) struct Latency(RefCell<Option<Histogram<u64>>>);

impl Latency {
    /// Times are in nanoseconds here, and in microseconds in the results.
    pub(crate) fn record(&self, nanos: u64) {
        let mut histogram = self.0.borrow_mut();
        let histogram = histogram.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LONGEST, 3).expect("three digits are in its range")
        });
        histogram.saturating_record((nanos / 1000).max(1));
    }

    pub(crate) fn reset(&self) {
        *self.0.borrow_mut() = None;
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.borrow().as_ref().map_or(0, Histogram::len)
    }

    pub(crate) fn json(&self) -> Value {
        self.0.borrow().as_ref().map_or(Value::Null, |h| {
            json!({
                "n": h.len(),
                "p50": h.value_at_quantile(0.5),
                "p90": h.value_at_quantile(0.9),
                "p99": h.value_at_quantile(0.99),
                "max": h.max(),
            })
        })
    }
}

/// Broadcasts as their frames must look, one after the other, so that a client compares bytes and parses nothing.
#[derive(Default)]
pub(crate) struct Shouts {
    bytes: Vec<u8>,
    /// For each: its end in the bytes, when it was sent, and how many have it.
    sent: Vec<(usize, u64, usize)>,
}

impl Shouts {
    pub(crate) fn push(&mut self, frame: &[u8], now: u64) {
        self.bytes.extend_from_slice(frame);
        self.sent.push((self.bytes.len(), now, 0));
    }

    pub(crate) fn frame(&self, n: usize) -> Option<&[u8]> {
        let (end, ..) = *self.sent.get(n)?;
        let start = n.checked_sub(1).map_or(0, |before| self.sent[before].0);
        Some(&self.bytes[start..end])
    }

    /// Another client has it: when it was sent, and how many have it now.
    pub(crate) fn heard(&mut self, n: usize) -> (u64, usize) {
        let (_, sent, heard) = &mut self.sent[n];
        *heard += 1;
        (*sent, *heard)
    }

    pub(crate) fn has_heard(&self, n: usize) -> usize {
        self.sent[n].2
    }
}

#[derive(Default)]
pub(crate) struct Latencies {
    pub(crate) connect: Latency,
    pub(crate) reply: Latency,
    pub(crate) state: Latency,
    pub(crate) join: Latency,
    pub(crate) leave: Latency,
    pub(crate) update: Latency,
    pub(crate) deliver: Latency,
    pub(crate) echo: Latency,
    pub(crate) count: Latency,
}

impl Latencies {
    pub(crate) fn named(&self) -> [(&'static str, &Latency); 9] {
        [
            ("connect_us", &self.connect),
            ("reply_us", &self.reply),
            ("state_us", &self.state),
            ("join_seen_us", &self.join),
            ("leave_seen_us", &self.leave),
            ("update_seen_us", &self.update),
            ("deliver_us", &self.deliver),
            ("echo_us", &self.echo),
            ("count_us", &self.count),
        ]
    }
}

pub(crate) struct World {
    started: Instant,
    pub(crate) latencies: Latencies,
    /// Whether what clients see is measured, or only got ready.
    pub(crate) measuring: Cell<bool>,
    /// Whether clients go on asking.
    pub(crate) stopped: Cell<bool>,
    /// How many clients see all that they wait for.
    pub(crate) complete: Cell<usize>,
    pub(crate) errors: Cell<u64>,
    /// States that a client got after its first: it was too slow for diffs.
    pub(crate) resyncs: Cell<u64>,
    pub(crate) bytes: Cell<u64>,
    pub(crate) frames: Cell<u64>,
    pub(crate) deliveries: Cell<u64>,
    pub(crate) replies: Cell<u64>,
    /// When each user's last join or update, and leave, were sent.
    pub(crate) joined: RefCell<Vec<u64>>,
    /// When each user's last update was sent, where it is to be told from the join.
    pub(crate) updated: RefCell<Vec<u64>>,
    pub(crate) left: RefCell<Vec<u64>>,
    pub(crate) shouts: RefCell<Shouts>,
    pub(crate) inflated: RefCell<Inflated>,
    /// Woken when all who should have a broadcast have it.
    pub(crate) all_heard: Notify,
    pub(crate) listeners: Cell<usize>,
    pub(crate) parsed: RefCell<Parsed>,
    pub(crate) connections: RefCell<Vec<Weak<Connection>>>,
}

impl World {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            latencies: Latencies::default(),
            measuring: Cell::default(),
            stopped: Cell::default(),
            complete: Cell::default(),
            errors: Cell::default(),
            resyncs: Cell::default(),
            bytes: Cell::default(),
            frames: Cell::default(),
            deliveries: Cell::default(),
            replies: Cell::default(),
            joined: RefCell::default(),
            updated: RefCell::default(),
            left: RefCell::default(),
            shouts: RefCell::default(),
            inflated: RefCell::default(),
            all_heard: Notify::new(),
            listeners: Cell::default(),
            parsed: RefCell::default(),
            connections: RefCell::default(),
        })
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// The result isn't correct, for this reason.
    pub(crate) fn error(&self, what: impl std::fmt::Display) {
        add(&self.errors, 1);
        if self.errors.get() <= PRINTED {
            eprintln!("load: {what}");
        }
    }

    /// From now on the run counts.
    pub(crate) fn measure(&self) {
        for (_, latency) in self.latencies.named() {
            latency.reset();
        }
        self.measuring.set(true);
    }

    /// When a user last did something: 0 for never.
    pub(crate) fn note(times: &RefCell<Vec<u64>>, user: u32, now: u64) {
        let mut times = times.borrow_mut();
        let user = user as usize;
        if times.len() <= user {
            times.resize(user + 1, 0);
        }
        times[user] = now;
    }

    pub(crate) fn noted(times: &RefCell<Vec<u64>>, user: u32) -> u64 {
        times.borrow().get(user as usize).copied().unwrap_or(0)
    }
}

pub(crate) fn add(counter: &Cell<u64>, n: u64) {
    counter.set(counter.get() + n);
}

/// Looks every 2 ms whether it holds; false if it doesn't within so many seconds.
pub(crate) async fn wait_for(seconds: f64, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}
