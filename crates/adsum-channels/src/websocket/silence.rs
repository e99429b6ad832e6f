//! Judges a client by its silence: when to ping it, and when it is gone.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::{Options, Ping};

/// A timer that fires this much too late says that this process was stopped, or had too much to do. What clients sent
/// meanwhile may wait to be read, so none of it is their silence.
const LATE: Duration = Duration::from_secs(1);

/// When a client was heard, and asked whether it is still there.
pub(super) struct Silence {
    /// When the client has last sent something.
    heard: Instant,
    asked: Asked,
    /// Random. Spreads the pings of sockets that opened together, and tells the pongs of ours from others.
    seed: u32,
}

#[derive(Clone, Copy)]
enum Asked {
    Never,
    /// It was sent a ping at this time, whose pong has not come.
    At(Instant),
    /// At this time a ping was due, but other messages still waited to be sent.
    PutOff(Instant),
}

/// What to do about a client's silence.
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

    /// Something has come from the client.
    pub(super) fn end(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The payload of this socket's pings.
    pub(super) fn payload(&self) -> [u8; 4] {
        self.seed.to_be_bytes()
    }

    /// How long the client took to answer, if this is the answer to a ping.
    pub(super) fn round_trip(&mut self, pong: &[u8], now: Instant) -> Option<Duration> {
        let Asked::At(asked) = self.asked else { return None };
        if pong != self.payload() {
            return None;
        }
        self.asked = Asked::Never;
        Some(now - asked)
    }

    /// When there is something to be done if the client stays silent; `None`: never.
    pub(super) fn due(&self, options: &Options) -> Option<Instant> {
        let timeout = options.timeout.map(|timeout| self.heard + timeout);
        let ping = options.ping.map(|ping| match self.outstanding() {
            Some(asked) => asked + ping.close,
            None => self.ping_at(ping),
        });
        timeout.into_iter().chain(ping).min()
    }

    /// Judges the silence. `due` is when this was to be called; `is_sent` whether nothing waits to be sent to the client.
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
            // Behind what waits, the ping would reach a slow client too late to be answered in time.
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

    /// When the ping was sent after which nothing has come.
    fn outstanding(&self) -> Option<Instant> {
        match self.asked {
            Asked::At(asked) if asked > self.heard => Some(asked),
            _ => None,
        }
    }

    /// When to ping a client that stays silent: up to a quarter earlier than the option says, by the seed.
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
        // The timer fires long after: the answer may wait to be read.
        let late = due + 10 * LATE;
        assert_eq!(silence.judge(late, due, &options, || true), Verdict::Wait);
        assert!(silence.due(&options).unwrap() > late);
        // Nothing came after all.
        let due = silence.due(&options).unwrap();
        assert_eq!(silence.judge(due, due, &options, || true), Verdict::Ping);
        let due = silence.due(&options).unwrap();
        assert_eq!(silence.judge(due, due, &options, || true), Verdict::Gone);
    }
}
