use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const A: Origin = [1; 16];
const NONCE: Nonce = [9; 16];

type Guard = ReplayGuard<u64>;

fn start() -> Instant {
    Instant::now()
}

/// Receives a small message that carries its own number.
fn receive(guard: &mut Guard, now: Instant, origin: Origin, number: u64) -> Received<u64> {
    guard.receive(now, origin, number, 100, number, || NONCE)
}

/// Has the guard admit an origin that has just sent these numbers.
fn admit(guard: &mut Guard, now: Instant, origin: Origin, numbers: Numbers) {
    assert_eq!(receive(guard, now, origin, numbers.last), Received::Kept(Some(NONCE)));
    guard.answered(now, &origin, &NONCE, numbers).unwrap();
    assert_eq!(guard.behind(&origin), None);
}

#[test]
fn the_messages_of_one_unknown_wait_for_its_answer_and_are_delivered_in_order() {
    let (mut guard, now) = (Guard::default(), start());
    assert_eq!(receive(&mut guard, now, A, 12), Received::Kept(Some(NONCE)));
    assert_eq!(receive(&mut guard, now, A, 11), Received::Kept(None));
    assert_eq!(receive(&mut guard, now, A, 5), Received::Kept(None));
    assert_eq!(receive(&mut guard, now, A, 12), Received::Replayed);
    let numbers = Numbers { last: 12, stale: 10 };
    assert_eq!(guard.answered(now, &A, &[8; 16], numbers), None, "an answer to nothing");
    assert_eq!(guard.answered(now, &[2; 16], &NONCE, numbers), None, "an answer of another");
    assert_eq!(guard.answered(now, &A, &NONCE, numbers), Some((vec![11, 12], 1)));
    assert_eq!(guard.answered(now, &A, &NONCE, numbers), None, "an answer twice");

    // While these are delivered, another comes.
    assert_eq!(receive(&mut guard, now, A, 13), Received::Kept(None));
    assert_eq!(receive(&mut guard, now, A, 12), Received::Replayed);
    assert_eq!(guard.behind(&A), Some(13));
    assert_eq!(guard.behind(&A), None);
    assert_eq!(receive(&mut guard, now, A, 14), Received::Deliver(14));
    for old in [1, 5, 10, 11, 12, 13, 14] {
        assert_eq!(receive(&mut guard, now, A, old), Received::Replayed, "{old}");
    }
}

#[test]
fn one_that_does_not_answer_is_asked_now_and_then_and_nothing_of_it_is_delivered() {
    let (mut guard, began) = (Guard::default(), start());
    let mut asked = Vec::new();
    for n in 0..400 {
        let now = began + n * 10 * MS;
        match receive(&mut guard, now, A, u64::from(n)) {
            Received::Kept(Some(_)) => asked.push(now),
            other => assert_eq!(other, Received::Kept(None)),
        }
        if n % 50 == 0 {
            guard.tidy(now);
        }
    }
    assert_eq!(asked.len(), 16, "4 s");
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 250 * MS));
    assert!(guard.unknown[&A].kept.len() <= 225, "{}", guard.unknown[&A].kept.len());

    guard.tidy(began + 10 * SECOND);
    assert_eq!((guard.unknown.len(), guard.kept_bytes), (0, 0));
}

#[test]
fn all_nodes_that_start_at_once_are_heard() {
    let (mut guard, now) = (Guard::default(), start());
    let origins: Vec<Origin> = (0..200_u8).map(|n| [n; 16]).collect();
    for origin in &origins {
        assert_eq!(receive(&mut guard, now, *origin, 1), Received::Kept(Some(NONCE)));
    }
    for origin in &origins {
        let answered = guard.answered(now, origin, &NONCE, Numbers { last: 1, stale: 0 });
        assert_eq!(answered, Some((vec![1], 0)));
    }
    assert_eq!(guard.tidy(now), 0);
}

#[test]
fn messages_kept_in_vain_are_counted() {
    let (mut guard, now) = (Guard::default(), start());
    for n in 0..7 {
        receive(&mut guard, now, A, n);
    }
    assert_eq!(guard.tidy(now + SECOND), 0);
    assert_eq!(guard.tidy(now + 2 * SECOND), 7);
    assert_eq!(guard.tidy(now + 3 * SECOND), 0);
}

#[test]
fn an_answer_to_an_earlier_challenge_counts() {
    let (mut guard, now) = (Guard::default(), start());
    for (n, nonce) in (0_u8..).zip([[1; 16], [2; 16], [3; 16]]) {
        let at = now + u32::from(n) * 300 * MS;
        let kept = guard.receive(at, A, n.into(), 100, n.into(), || nonce);
        assert_eq!(kept, Received::Kept(Some(nonce)));
    }
    let answered = guard.answered(now + SECOND, &A, &[1; 16], Numbers { last: 0, stale: 0 });
    assert_eq!(answered, Some((vec![1, 2], 1)), "number 0 is never given");
}

#[test]
fn a_flood_of_unknown_origins_is_bounded_and_keeps_no_living_one_out() {
    let (mut guard, began) = (Guard::default(), start());
    let mut heard = 0;
    for n in 0_u32..2_000 {
        let now = began + n * MS;
        let mut dead = [7; 16];
        dead[..4].copy_from_slice(&n.to_le_bytes());
        for number in 0..3 {
            guard.receive(now, dead, number, 100_000, 0, || NONCE);
        }
        assert!(guard.unknown.len() <= MAX_UNKNOWN && guard.kept_bytes <= MAX_KEPT_BYTES_IN_ALL);
        let bytes: usize = guard.unknown.values().map(|unknown| unknown.bytes).sum();
        assert_eq!(guard.kept_bytes, bytes);
        // A living one starts every 100 ms, and answers within 10 ms.
        let mut living = [8; 16];
        living[..4].copy_from_slice(&(n / 100).to_le_bytes());
        match n % 100 {
            0 => assert_eq!(receive(&mut guard, now, living, 1), Received::Kept(Some(NONCE))),
            10 => {
                let answered = guard.answered(now, &living, &NONCE, Numbers { last: 1, stale: 0 });
                assert_eq!(answered, Some((vec![1], 0)));
                heard += 1;
            }
            _ => {}
        }
    }
    assert_eq!((heard, guard.admitted.len()), (20, 20));
    for living in guard.admitted.keys().copied().collect::<Vec<_>>() {
        assert_eq!(guard.behind(&living), None);
    }
    guard.tidy(began + 60 * SECOND);
    assert_eq!((guard.unknown.len(), guard.kept_bytes, guard.admitted.len()), (0, 0, 0));
}

#[test]
fn of_one_unknown_the_newest_is_kept_and_a_large_message_is_kept_alone() {
    let (mut guard, now) = (Guard::default(), start());
    for n in 1..=10 {
        guard.receive(now, A, n, 100_000, n, || NONCE);
    }
    assert_eq!(guard.unknown[&A].kept.keys().copied().collect::<Vec<_>>(), [9, 10]);
    guard.receive(now, A, 11, 512 * 1024, 11, || NONCE);
    assert_eq!(guard.answered(now, &A, &NONCE, Numbers { last: 11, stale: 0 }), Some((vec![11], 0)));
    assert_eq!(guard.kept_bytes, 0);
    assert_eq!(guard.tidy(now), 10);
}

#[test]
fn ten_thousand_that_are_overtaken_by_heartbeats_lose_nothing() {
    let (mut guard, began) = (Guard::default(), start());
    admit(&mut guard, began, A, Numbers { last: 1, stale: 0 });
    // The backlog has the numbers from 2 on. Nine heartbeats arrive before any of it.
    for second in 1..=9_u32 {
        let number = 10_001 + u64::from(second);
        assert_eq!(receive(&mut guard, began + second * SECOND, A, number), Received::Deliver(number));
    }
    for number in 2..=10_001 {
        let now = began + 9 * SECOND + u32::try_from(number).unwrap() * MS / 10;
        assert_eq!(receive(&mut guard, now, A, number), Received::Deliver(number));
        assert_eq!(receive(&mut guard, now, A, number), Received::Replayed);
    }
}

#[test]
fn an_answer_that_comes_too_late_admits_nobody() {
    for (after, fresh) in [(1, Some((vec![1], 0))), (3, None)] {
        let (mut guard, now) = (Guard::default(), start());
        assert_eq!(receive(&mut guard, now, A, 1), Received::Kept(Some(NONCE)));
        // Nothing was done meanwhile, as the process was stopped.
        let answered = guard.answered(now + after * SECOND, &A, &NONCE, Numbers { last: 1, stale: 0 });
        assert_eq!(answered, fresh, "after {after} s");
    }
}

#[test]
fn a_message_that_was_overtaken_for_longer_than_the_window_is_refused() {
    let (mut guard, began) = (Guard::default(), start());
    admit(&mut guard, began, A, Numbers { last: 1, stale: 0 });
    assert_eq!(receive(&mut guard, began, A, 10), Received::Deliver(10));
    assert_eq!(receive(&mut guard, began + 9 * SECOND, A, 11), Received::Deliver(11));
    assert_eq!(receive(&mut guard, began + 9 * SECOND, A, 5), Received::Deliver(5));
    assert_eq!(receive(&mut guard, began + 10 * SECOND, A, 6), Received::Replayed);
    assert_eq!(receive(&mut guard, began + 10 * SECOND, A, 12), Received::Deliver(12));
}

#[test]
fn one_that_is_quiet_is_asked_again_and_its_old_words_stay_old() {
    let (mut guard, began) = (Guard::default(), start());
    admit(&mut guard, began, A, Numbers { last: 5, stale: 0 });
    assert_eq!(receive(&mut guard, began, A, 6), Received::Deliver(6));
    let now = began + 30 * SECOND;
    assert_eq!(receive(&mut guard, now, A, 6), Received::Kept(Some(NONCE)));
    assert_eq!(receive(&mut guard, now, A, 7), Received::Kept(None));
    assert_eq!(guard.answered(now, &A, &NONCE, Numbers { last: 7, stale: 6 }), Some((vec![7], 1)));
}

#[test]
fn a_replay_is_no_sign_of_life() {
    let (mut guard, began) = (Guard::default(), start());
    admit(&mut guard, began, A, Numbers { last: 5, stale: 0 });
    for second in 1..30 {
        assert_eq!(receive(&mut guard, began + second * SECOND, A, 5), Received::Replayed);
    }
    guard.tidy(began + 30 * SECOND);
    assert!(guard.admitted.is_empty());
}

#[test]
fn messages_kept_of_an_origin_are_bounded() {
    let (mut guard, began) = (Guard::default(), start());
    admit(&mut guard, began, A, Numbers { last: 0, stale: 0 });
    // A node that sends very much, of which this one gets little.
    for n in 1..=100_000_u64 {
        let now = began + u32::try_from(n).unwrap() * MS;
        receive(&mut guard, now, A, n * 1_000);
    }
    let window = &guard.admitted[&A].window;
    assert!(window.taken.len() as u64 <= MAX_SPAN / NUMBERS_PER_CHUNK + 1, "{}", window.taken.len());
    assert!(window.highest.buckets.len() <= 102, "{}", window.highest.buckets.len());
    assert!(window.highest.last - window.floor <= MAX_SPAN);
    // Even if a holder of the secret sends the highest number.
    assert_eq!(receive(&mut guard, began + 101 * SECOND, A, u64::MAX), Received::Deliver(u64::MAX));
    assert_eq!(receive(&mut guard, began + 101 * SECOND, A, u64::MAX), Received::Replayed);
    assert!(guard.admitted[&A].window.taken.len() <= 2);
}

#[test]
fn messages_that_wait_behind_are_bounded() {
    let (mut guard, now) = (Guard::default(), start());
    receive(&mut guard, now, A, 1);
    guard.answered(now, &A, &NONCE, Numbers { last: 1, stale: 0 }).unwrap();
    let half = MAX_KEPT_BYTES_IN_ALL / 2;
    let mut say = |number| guard.receive(now, A, number, half, number, || NONCE);
    assert_eq!([say(2), say(3), say(4)], [Received::Kept(None), Received::Kept(None), Received::Overflow]);
    assert_eq!(guard.behind(&A), Some(2));
    assert_eq!(guard.receive(now, A, 5, half, 5, || NONCE), Received::Kept(None));
    assert_eq!([guard.behind(&A), guard.behind(&A), guard.behind(&A)], [Some(3), Some(5), None]);
}

#[test]
fn a_timeline_knows_the_number_of_a_while_ago() {
    let (mut timeline, began) = (Timeline::default(), start());
    assert_eq!(timeline.before(began, FRESH), 0);
    // A burst, then silence: all of it is old once its last message is.
    for n in 1..=50 {
        timeline.note(began + u32::try_from(n).unwrap() * MS, n);
    }
    assert_eq!(timeline.before(began + 5 * SECOND, FRESH), 0);
    assert_eq!(timeline.before(began + 5 * SECOND + 50 * MS, FRESH), 50);
    assert_eq!(timeline.before(began + 60 * SECOND, FRESH), 50);
    for n in 51..=100_u64 {
        timeline.note(began + 60 * SECOND + u32::try_from(n - 51).unwrap() * SECOND, n);
    }
    // Number 100 was noted at 109 s, number 95 at 104 s.
    assert_eq!(timeline.before(began + 109 * SECOND, FRESH), 95);
    assert_eq!(timeline.before(began + 109 * SECOND, WINDOW), 90);
    assert!(timeline.buckets.len() <= 11);
}

proptest! {
    /// Numbers in any order and any number of times, within the time in which all are taken.
    #[test]
    fn each_number_is_taken_once(numbers in prop::collection::vec(1..3_000_u64, 0..400)) {
        let (mut guard, began) = (Guard::default(), start());
        admit(&mut guard, began, A, Numbers { last: 3_000, stale: 0 });
        let mut taken = HashSet::new();
        for (n, number) in (0_u32..).zip(numbers) {
            let received = receive(&mut guard, began + n * 20 * MS, A, number);
            if taken.insert(number) {
                prop_assert_eq!(received, Received::Deliver(number));
            } else {
                prop_assert_eq!(received, Received::Replayed);
            }
        }
    }

    /// Any numbers at any times: never twice.
    #[test]
    fn no_number_is_delivered_twice(
        steps in prop::collection::vec((any::<u64>(), 0..3_000_u64, any::<bool>()), 0..200),
        small in any::<bool>(),
    ) {
        let (mut guard, mut now) = (Guard::default(), start());
        let mut delivered = HashSet::new();
        let mut once = |number| delivered.insert(number);
        for (number, pause, answers) in steps {
            let number = if small { number % 50 } else { number };
            now += Duration::from_millis(pause / 10);
            match receive(&mut guard, now, A, number) {
                Received::Deliver(number) => prop_assert!(once(number)),
                Received::Kept(_) if answers => {
                    // The origin's own numbers: all earlier ones are stale by now.
                    let numbers = Numbers { last: number, stale: number.saturating_sub(1) };
                    if let Some((fresh, _)) = guard.answered(now, &A, &NONCE, numbers) {
                        for number in fresh {
                            prop_assert!(number >= numbers.last);
                        }
                        while let Some(number) = guard.behind(&A) {
                            prop_assert!(once(number));
                        }
                        once(number);
                    }
                }
                _ => {}
            }
        }
    }
}
