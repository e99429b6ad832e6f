//! Decides by a client's silence when to ping it, and when it counts as gone.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::{Options, Ping};

/// If a timer fires this much too late, this process was paused or overloaded. Bytes that clients sent meanwhile may
/// not be read yet, so the time doesn't count as silence.
const LATE: Duration = Duration::from_secs(1);

/// When a client last sent something, and when it was pinged.
pub(super) struct Silence {
    /// When the client last sent something.
    heard: Instant,
    asked: Asked,
    /// Random, so that sockets that opened together are pinged at different times, and to recognize our pongs.
    seed: u32,
}

#[derive(Clone, Copy)]
enum Asked {
    Never,
    /// A ping was sent at this time, and has no pong yet.
    At(Instant),
    /// A ping was due at this time, but other messages were still queued.
    PutOff(Instant),
}

/// The decision about a client's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// Send it a ping.
    Ping,
    /// It is gone.
    Gone,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, asked: Asked::Never, seed: getrandom::u32().unwrap_or(0) }
    }

    /// Resets the silence, since the client has sent something.
    pub(super) fn end(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The payload of this socket's pings.
    pub(super) fn payload(&self) -> [u8; 4] {
        self.seed.to_be_bytes()
    }

    /// The round-trip time, if this is the answer to a ping.
    pub(super) fn round_trip(&mut self, pong: &[u8], now: Instant) -> Option<Duration> {
        let Asked::At(asked) = self.asked else { return None };
        if pong != self.payload() {
            return None;
        }
        self.asked = Asked::Never;
        Some(now - asked)
    }

    /// When to act if the client stays silent. `None` for never.
    pub(super) fn due(&self, options: &Options) -> Option<Instant> {
        let timeout = options.timeout.map(|timeout| self.heard + timeout);
        let ping = options.ping.map(|ping| match self.outstanding() {
            Some(asked) => asked + ping.close,
            None => self.ping_at(ping),
        });
        timeout.into_iter().chain(ping).min()
    }

    /// Decides what to do. `due` is when this should have been called; `is_sent` returns whether the outbound queue is
    /// empty.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        due: Instant,
        options: &Options,
        is_sent: impl FnOnce() -> bool,
    ) -> Verdict {
        if now >= due + LATE {
            self.end(now);
            return Verdict::Wait;
        }
        if options.timeout.is_some_and(|timeout| now >= self.heard + timeout) {
            return Verdict::Gone;
        }
        let Some(ping) = options.ping else { return Verdict::Wait };
        match self.outstanding() {
            Some(asked) if now >= asked + ping.close => Verdict::Gone,
            Some(_) => Verdict::Wait,
            None if now < self.ping_at(ping) => Verdict::Wait,
            // Behind queued messages the ping would reach a slow client too late for an answer in time.
            None if !is_sent() => {
                self.asked = Asked::PutOff(now);
                Verdict::Wait
            }
            None => {
                self.asked = Asked::At(now);
                Verdict::Ping
            }
        }
    }

    /// When the last ping was sent, if nothing has arrived since.
    fn outstanding(&self) -> Option<Instant> {
        match self.asked {
            Asked::At(asked) if asked > self.heard => Some(asked),
            _ => None,
        }
    }

    /// When to ping a client that stays silent: up to a quarter earlier than the option, depending on the seed.
    fn ping_at(&self, ping: Ping) -> Instant {
        let since = match self.asked {
            Asked::PutOff(at) => at.max(self.heard),
            Asked::Never | Asked::At(_) => self.heard,
        };
        let earlier = ping.after / 4 * (self.seed >> 16) / (1 << 16);
        since + ping.after.saturating_sub(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_this_process_stood_still_is_not_the_clients_silence() {
        let options = Options::default();
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let due = silence.due(&options).unwrap();
        assert_eq!(silence.judge(due, due, &options, || true), Verdict::Ping);
        let due = silence.due(&options).unwrap();
        // The timer fires much too late: the answer may not be read yet.
        let late = due + 10 * LATE;
        assert_eq!(silence.judge(late, due, &options, || true), Verdict::Wait);
        assert!(silence.due(&options).unwrap() > late);
        // Nothing has arrived.
        let due = silence.due(&options).unwrap();
        assert_eq!(silence.judge(due, due, &options, || true), Verdict::Ping);
        let due = silence.due(&options).unwrap();
        assert_eq!(silence.judge(due, due, &options, || true), Verdict::Gone);
    }
}
