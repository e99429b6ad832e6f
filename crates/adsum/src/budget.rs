//! A budget of deliveries, which decides when a diff may be sent, so that a node keeps up.
//!
//! Time and cost come in, decisions go out; nothing here reads a clock. The cost of a flush is the number of
//! subscribers that it reaches. The node and each topic have an account: the time until which the deliveries so far are
//! paid for, at the node's rate or at the topic's share of it. While a node owes nothing, every change is sent at once.
//! When it owes something, topics that owe collect their changes; when it owes more, all but small topics do.
//!
//! A further account counts what the changes would have cost if each were sent alone. If that is more than the node can
//! send, as when a thousand people join one room, topics over their share collect changes for at least [`GATHERING`].
//! Otherwise diffs would be sent as often as the rate allows, with a few changes each, and take the time from the
//! clients that join. This debt doesn't outlast the storm: it ends once less than three quarters of the node's rate was
//! asked for a [`LULL`], or nothing was.

use std::{collections::BTreeMap, time::Duration};

/// The credit that is saved up while little is sent.
const CREDIT: Duration = Duration::from_millis(250);
/// Up to this debt of the node, topics within their share are sent at once.
const LIGHT: Duration = Duration::from_millis(125);
/// Up to this debt of the node, small flushes are sent at once.
const HEAVY: Duration = Duration::from_millis(250);
/// How long a topic over its share collects changes at least, while more is asked of the node than it can send.
const GATHERING: Duration = Duration::from_millis(50);
/// How long little has to be asked until a storm is over.
const LULL: Duration = Duration::from_millis(100);
/// The cost up to which a flush is small.
const SMALL: u64 = 128;
/// A topic's share of the rate is one part in this many.
const SHARES: u32 = 8;
/// The cost of asking `fetch`, in addition to the deliveries of a flush.
pub(crate) const FETCH_COST: u64 = 100;

/// The time until which the deliveries of a topic, or of the node, are paid for; since the
/// [start](DeliveryBudget::START) of the budget's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account(Duration);

/// Decides for all topics of a node. `T` names a topic.
#[derive(Debug)]
pub(crate) struct DeliveryBudget<T> {
    /// Deliveries a second.
    rate: u64,
    max_delay: Duration,
    node: Account,
    /// Like `node`, but no single flush counts for more than [`LIGHT`]: one to a hundred thousand subscribers, which
    /// takes seconds of the node's rate, delays its own topic and no other.
    shared: Account,
    /// Like `node`, for what the changes would cost if each were sent alone.
    asked: Account,
    /// When something was asked last.
    asked_at: Duration,
    /// The time since which `asked_time` is counted.
    asked_since: Duration,
    /// How long it would take to send what was asked since then.
    asked_time: Duration,
    /// The topics whose changes wait, by the time of their first change.
    waiting: BTreeMap<(Duration, T), WaitingFlush>,
}

#[derive(Clone, Copy, Debug)]
struct WaitingFlush {
    account: Account,
    cost: u64,
}

impl<T: Ord + Clone> DeliveryBudget<T> {
    /// The first time that callers may pass. The credit lies before it.
    pub(crate) const START: Duration = CREDIT;

    /// Makes a budget of `rate` deliveries a second for each of `workers`, under which no change waits longer than
    /// `max_delay`.
    pub(crate) fn new(rate: u32, workers: usize, max_delay: Duration) -> Self {
        let rate = u64::from(rate.max(1)) * workers.max(1) as u64;
        Self {
            rate,
            max_delay,
            node: Account::default(),
            shared: Account::default(),
            asked: Account::default(),
            asked_at: Duration::ZERO,
            asked_since: Duration::ZERO,
            asked_time: Duration::ZERO,
            waiting: BTreeMap::new(),
        }
    }

    /// Whether a flush of this cost may go now, with changes since `since`.
    pub(crate) fn may_go(&self, now: Duration, topic: Account, since: Duration, cost: u64) -> bool {
        self.ready_at(WaitingFlush { account: topic, cost }, since) <= now
    }

    /// Returns when a flush may go, if nothing else goes before it.
    fn ready_at(&self, flush: WaitingFlush, since: Duration) -> Duration {
        let (Account(node), Account(shared), Account(topic)) = (self.node, self.shared, flush.account);
        let storm = if since > self.asked_at.saturating_add(LULL) { Duration::ZERO } else { self.asked.0 };
        let node = node.max(storm.min(since.saturating_add(GATHERING)));
        let within_share = shared.saturating_sub(LIGHT).max(topic);
        let ready = node.min(within_share).min(since.saturating_add(self.max_delay));
        if flush.cost <= SMALL { ready.min(shared.saturating_sub(HEAVY)) } else { ready }
    }

    /// Pays for a flush.
    pub(crate) fn pay(&mut self, now: Duration, topic: &mut Account, cost: u64) {
        let latest = now + self.max_delay;
        let time = self.time(cost);
        self.node.pay(now, latest, time);
        self.shared.pay(now, latest, time.min(LIGHT));
        topic.pay(now, latest, time.saturating_mul(SHARES));
    }

    /// Notes the number of changes in a flush, and what each would have cost alone.
    pub(crate) fn ask(&mut self, now: Duration, changes: usize, cost: u64) {
        let time = self.time(cost).min(LIGHT).saturating_mul(u32::try_from(changes).unwrap_or(u32::MAX));
        if now > self.asked_at.saturating_add(LULL) {
            self.asked = Account::default();
        }
        self.asked_at = now;
        self.asked_time = self.asked_time.saturating_add(time);
        let elapsed = now.saturating_sub(self.asked_since);
        if elapsed >= LULL {
            // More than this is asked of a server that was only delayed for a moment.
            if self.asked_time < elapsed * 3 / 4 {
                self.asked.0 = self.asked.0.min(now);
            }
            (self.asked_since, self.asked_time) = (now, Duration::ZERO);
        }
        // Half of the credit, as the changes that it lets go at once are work for the node too.
        self.asked.0 = self.asked.0.max(now.saturating_sub(CREDIT / 2));
        self.asked.pay(now, now + 2 * HEAVY, time);
    }

    /// Returns the time that pays for this number of deliveries.
    fn time(&self, cost: u64) -> Duration {
        let nanos = u128::from(cost) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Notes that a topic's changes wait. Returns whether they may go earlier than all others that wait.
    pub(crate) fn wait(&mut self, topic: T, account: Account, since: Duration, cost: u64) -> bool {
        let flush = WaitingFlush { account, cost };
        let ready = self.ready_at(flush, since);
        let is_first = self.waiting.iter().all(|((since, _), other)| ready < self.ready_at(*other, *since));
        self.waiting.insert((since, topic), flush);
        is_first
    }

    /// Takes the topic that has waited longest, of those that may go.
    pub(crate) fn next(&mut self, now: Duration) -> Option<T> {
        let may_go =
            |((since, _), flush): &(&(Duration, T), &WaitingFlush)| self.ready_at(**flush, *since) <= now;
        let key = self.waiting.iter().find(may_go)?.0.clone();
        self.waiting.remove(&key);
        Some(key.1)
    }

    /// Returns when the first waiting topic may go, if nothing else goes before it.
    pub(crate) fn earliest(&self) -> Option<Duration> {
        self.waiting.iter().map(|((since, _), flush)| self.ready_at(*flush, *since)).min()
    }

    /// Takes all topics that wait.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.waiting).into_keys().map(|(_, topic)| topic)
    }
}

impl Account {
    /// Whether deliveries aren't paid for yet.
    pub(crate) fn owes(self, now: Duration) -> bool {
        self.0 > now
    }

    /// Returns the time until which it owes.
    pub(crate) fn paid_until(self) -> Duration {
        self.0
    }

    fn pay(&mut self, now: Duration, latest: Duration, time: Duration) {
        self.0 = self.0.max(now.saturating_sub(CREDIT)).saturating_add(time).min(latest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unchecked_time_subtraction, reason = "the times here are chosen")]

    use super::*;

    fn ms(ms: u64) -> Duration {
        DeliveryBudget::<u32>::START + Duration::from_millis(ms)
    }

    /// One delivery a millisecond, so that a cost is a time; eight milliseconds for a topic.
    fn budget() -> DeliveryBudget<u32> {
        DeliveryBudget::new(500, 2, Duration::from_secs(1))
    }

    #[test]
    fn at_rest_all_goes_at_once_and_credit_is_for_a_quarter_of_a_second() {
        let mut budget = budget();
        let mut topic = Account::default();
        assert!(budget.may_go(ms(0), topic, ms(0), 1_000_000));
        budget.pay(ms(0), &mut topic, 200);
        assert_eq!((budget.node, topic), (Account(ms(0) - Duration::from_millis(50)), Account(ms(1000))));
        assert!(budget.may_go(ms(0), topic, ms(0), 1000), "the node owes nothing yet, though the topic does");
        budget.pay(ms(0), &mut topic, 60);
        assert!(!budget.may_go(ms(0), topic, ms(0), 129));
        assert!(budget.may_go(ms(10), topic, ms(0), 129), "it is paid");
        budget.pay(ms(100_000), &mut topic, 1);
        assert_eq!(
            budget.node,
            Account(ms(100_000) - CREDIT + Duration::from_millis(1)),
            "credit has an end"
        );
    }

    #[test]
    fn a_node_that_owes_lets_go_topics_within_their_share_then_small_ones_then_none() {
        let mut budget = budget();
        let (mut hot, quiet) = (Account::default(), Account::default());
        for cost in [100, 100, 100, 75] {
            budget.pay(ms(0), &mut hot, cost);
        }
        assert!(!budget.may_go(ms(0), hot, ms(0), 129) && budget.may_go(ms(0), hot, ms(0), 128));
        assert!(budget.may_go(ms(0), quiet, ms(0), 1000));
        budget.pay(ms(0), &mut hot, 1);
        assert!(!budget.may_go(ms(0), quiet, ms(0), 129) && budget.may_go(ms(0), quiet, ms(0), 128));
        budget.pay(ms(0), &mut hot, 124);
        assert!(budget.may_go(ms(0), quiet, ms(0), 1));
        budget.pay(ms(0), &mut hot, 1);
        assert!(!budget.may_go(ms(0), quiet, ms(0), 1));
        assert!(budget.may_go(ms(1), quiet, ms(0), 1));
    }

    #[test]
    fn while_more_is_asked_than_can_be_sent_a_topic_over_its_share_gathers() {
        let mut budget = budget();
        let mut topic = Account::default();
        budget.pay(ms(0), &mut topic, 200);
        assert!(budget.may_go(ms(0), topic, ms(0), 200));
        // A hundred changes of 10 ms each: they were sent together, but far more than the credit was asked.
        budget.ask(ms(0), 100, 10);
        assert!(!budget.may_go(ms(0), topic, ms(0), 200) && !budget.may_go(ms(49), topic, ms(0), 200));
        assert!(budget.may_go(ms(50), topic, ms(0), 200));
        assert!(budget.may_go(ms(0), topic, ms(0), 128), "a small topic doesn't gather");
        assert!(budget.may_go(ms(0), Account::default(), ms(0), 200), "nor does one within its share");
        for now in [100, 200, 300, 400, 460] {
            budget.ask(ms(now), 100, 10);
        }
        assert!(!budget.may_go(ms(499), topic, ms(490), 200), "half a second is owed");
        assert!(budget.may_go(ms(540), topic, ms(490), 200));
    }

    #[test]
    fn the_debt_of_a_storm_ends_with_it() {
        // Whether changes still wait, if this much is asked in the tenth of a second after the storm.
        let waits_after = |asked: usize| {
            let mut budget = budget();
            let mut topic = Account::default();
            budget.pay(ms(0), &mut topic, 200);
            budget.ask(ms(0), 100, 10);
            budget.ask(ms(50), asked / 2, 1);
            budget.ask(ms(100), asked - asked / 2, 1);
            !budget.may_go(ms(200), topic, ms(200), 200)
        };
        assert!(!waits_after(74));
        assert!(waits_after(76));
    }

    #[test]
    fn the_debt_of_a_storm_ends_when_nothing_comes_for_a_while() {
        let mut budget = budget();
        let mut topic = Account::default();
        budget.pay(ms(0), &mut topic, 200);
        budget.ask(ms(0), 100, 10);
        assert!(!budget.may_go(ms(100), topic, ms(100), 200));
        assert!(budget.may_go(ms(101), topic, ms(101), 200));
        budget.ask(ms(101), 1, 10);
        assert!(budget.may_go(ms(102), topic, ms(102), 200), "what comes after it is not of the storm");
    }

    #[test]
    fn nothing_waits_longer_than_the_longest_delay_and_no_debt_is_longer() {
        let mut budget = budget();
        let mut topic = Account::default();
        budget.pay(ms(0), &mut topic, u64::MAX);
        assert_eq!((budget.node, topic), (Account(ms(1000)), Account(ms(1000))));
        assert!(!budget.may_go(ms(499), topic, ms(0), 1 << 40));
        assert!(!budget.may_go(ms(499), topic, ms(400), 1 << 40));
        for now in [600, 700, 800] {
            budget.pay(ms(now), &mut topic, 1 << 20);
        }
        assert!(!budget.may_go(ms(999), topic, ms(0), 129));
        assert!(budget.may_go(ms(1000), topic, ms(0), 1 << 40));
    }

    #[test]
    fn a_flush_that_takes_seconds_of_the_rate_holds_up_its_own_topic_only() {
        let mut budget = budget();
        let (mut hall, quiet) = (Account::default(), Account::default());
        for now in [0, 1000, 2000] {
            assert!(budget.may_go(ms(now), hall, ms(now), 100_000));
            budget.pay(ms(now), &mut hall, 100_000);
            assert!(!budget.may_go(ms(now + 999), hall, ms(now), 100_000));
            assert!(budget.may_go(ms(now), quiet, ms(now), 500) && budget.may_go(ms(now), quiet, ms(now), 2));
        }
    }

    #[test]
    fn the_topic_that_has_waited_longest_goes_first_of_those_that_may() {
        let mut budget = budget();
        let (mut hot, quiet) = (Account::default(), Account::default());
        for _ in 0..9 {
            budget.pay(ms(0), &mut hot, 50);
        }
        assert!(budget.wait(7, hot, ms(3), 500));
        assert!(!budget.wait(8, hot, ms(2), 500), "the node must owe nothing for either");
        assert!(budget.wait(9, quiet, ms(4), 500), "its share allows it earlier");
        assert_eq!((budget.earliest(), budget.next(ms(74))), (Some(ms(75)), None));
        assert_eq!(budget.next(ms(75)), Some(9));
        assert_eq!((budget.earliest(), budget.next(ms(75))), (Some(ms(200)), None));
        assert_eq!(budget.next(ms(200)), Some(8));
        assert_eq!(budget.next(ms(200)), Some(7));
        assert_eq!((budget.earliest(), budget.next(ms(200))), (None, None));
    }
}
