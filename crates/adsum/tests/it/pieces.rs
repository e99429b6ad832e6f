//! The state as it is kept in pieces, with a client's own rows beside those that were told.

use std::time::Duration;

use adsum::PubSub;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    support::{Does, Script, meta, settle},
    told::{Person, check, listed, paces, sorted, start_with_queues},
};

/// Random numbers by xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// A state of several pieces, which grow, shrink, are cut and merged, with a client's own key anywhere.
#[tokio::test(start_paused = true)]
async fn a_state_of_many_keys_is_right_whatever_changes_in_it() {
    for (what, pace) in paces() {
        let script = Script::answering(json!({"name": "Ann"}));
        let (presence, acceptor) = start_with_queues(PubSub::local(), &script, 1 << 20, pace);
        let mut owner = presence.owner();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let key = |n: usize| format!("u{n:03}");
        for n in (0..300).rev() {
            owner.track("hall", key(n), meta(n)).unwrap();
        }
        let mut people = Vec::new();
        for round in 0..20 {
            let (from, is_in_a_row) = (random.below(300), round % 4 == 0);
            for n in 0..if is_in_a_row { 100 } else { 20 } {
                let n = if is_in_a_row { (from + n) % 300 } else { random.below(300) };
                match if is_in_a_row { round / 4 % 2 } else { random.below(3) } {
                    0 => drop(owner.untrack("hall", key(n))),
                    1 => drop(owner.track("hall", key(n), meta(n))),
                    _ => drop(owner.update("hall", key(n), meta(round))),
                }
            }
            sleep(Duration::from_millis([0, 3, 70][random.below(3)])).await;
            let mut person = Person::connect(&acceptor).await;
            // A key of the others, or one before, between or after them.
            let own = random.below(302);
            person.join(&if own < 300 { key(own) } else { ["a", "z"][own - 300].to_owned() });
            people.push(person);
            settle().await;
            for person in &mut people {
                person.read().await;
            }
            if people.len() > 4 {
                people.remove(1).client.end().await;
            }
            let mut state = Person::connect(&acceptor).await;
            sleep(Duration::from_secs(2)).await;
            state.join("reader");
            settle().await;
            state.read().await;
            let list = listed(&presence.list("hall").await);
            assert_eq!(sorted(&state.view), sorted(&list), "{what}, round {round}");
            state.client.end().await;
        }
        // So few are left that pieces are merged.
        for n in (0..300).filter(|n| n % 20 != 0) {
            owner.untrack("hall", key(n));
        }
        sleep(Duration::from_secs(2)).await;
        for person in &mut people {
            person.send("state", &json!({}));
        }
        check(&presence, &mut people, what).await;
    }
}

/// When it is first written, a piece begins at each 64th key; the test tries all keys.
#[tokio::test(start_paused = true)]
async fn an_own_key_is_shown_once_wherever_in_a_piece_it_stands() {
    let script = Script::answering(json!({}));
    let (presence, acceptor) = start_with_queues(PubSub::local(), &script, 1 << 20, |builder| {
        builder.diff_interval(Duration::from_secs(1))
    });
    let mut owner = presence.owner();
    for n in 0..200 {
        owner.track("hall", format!("u{n:03}"), meta(n)).unwrap();
    }
    let mut reader = Person::connect(&acceptor).await;
    reader.join("zoe");
    settle().await;
    // No diff has the joins from here on.
    for n in 0..200 {
        let mut person = Person::connect(&acceptor).await;
        person.join(&format!("u{n:03}"));
        settle().await;
        person.read().await;
        let shown: usize = person.view.values().map(Vec::len).sum();
        assert_eq!((person.view.len(), shown), (201, 202), "{n}");
        person.client.end().await;
    }
}

/// A diff of many parts, of which each of those who joined in its window gets all but its own row, wherever that is.
#[tokio::test(start_paused = true)]
async fn a_large_diff_comes_without_what_its_client_was_shown() {
    let script = Script::answering(json!({"name": "Ann"}));
    let (presence, acceptor) = start_with_queues(PubSub::local(), &script, 1 << 20, |builder| {
        builder.diff_interval(Duration::from_secs(1))
    });
    let mut owner = presence.owner();
    let mut people = vec![Person::connect(&acceptor).await];
    people[0].join("opens the window");
    settle().await;
    for round in 0..6 {
        if round > 0 {
            for n in 0..150 {
                owner.track("hall", format!("{round}-{n}"), meta(n)).unwrap();
            }
        }
        // One is first of the diff, one is last, and two have one key.
        for key in ["own", "both", "both"] {
            let mut person = Person::connect(&acceptor).await;
            person.join(&format!("{round}-{key}"));
            settle().await;
            people.push(person);
        }
    }
    sleep(Duration::from_secs(2)).await;
    for person in &mut people {
        person.read().await;
        assert_eq!(person.twice, [""; 0]);
    }
    check(&presence, &mut people, "a large diff").await;
}

/// Once a diff has joined a client's own rows, they are like all others.
#[tokio::test(start_paused = true)]
async fn a_refresh_of_an_own_key_is_told() {
    let script = Script::answering(json!({"name": "old"}));
    let interval = Duration::from_millis(50);
    let (presence, acceptor) =
        start_with_queues(PubSub::local(), &script, 1 << 20, |builder| builder.diff_interval(interval));
    let mut owner = presence.owner();
    let mut ann = Person::connect(&acceptor).await;
    ann.join("ann");
    settle().await;
    // The window is open, so this client is shown its row before a diff joins it.
    owner.track("hall", "other", meta(1)).unwrap();
    let mut bob = Person::connect(&acceptor).await;
    bob.join("bob");
    sleep(interval * 4).await;
    bob.read().await;
    assert_eq!(bob.twice, [""; 0]);
    script.then(Does::Answers(json!({"name": "new"})));
    presence.refresh("hall", "bob");
    sleep(interval * 4).await;
    bob.read().await;
    assert_eq!(bob.twice, bob.view["bob"], "the same ref joins with the new info");
}
