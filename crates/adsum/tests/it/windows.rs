//! When diffs are sent, and what they contain.

use std::time::Duration;

use adsum::{Change, Presence, PubSub, Topic};
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep};

use crate::support::{INTERVAL, diff, diff_now, expect, meta, nothing, plain, settle};

#[tokio::test(start_paused = true)]
async fn the_first_change_goes_out_at_once_and_the_next_ones_together() {
    let (presence, pubsub) = plain(|builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    let start = Instant::now();
    owner.track("t", "a", meta(1)).unwrap();
    expect(&diff_now(&mut inbox), json!({"a": [1]}), nothing());
    owner.track("t", "b", meta(2)).unwrap();
    sleep(Duration::from_millis(20)).await;
    owner.track("t", "c", meta(3)).unwrap();
    assert!(inbox.is_empty());
    expect(&diff(&mut inbox).await, json!({"b": [2], "c": [3]}), nothing());
    assert_eq!(start.elapsed(), INTERVAL);
    // After a quiet window the next change is a first one again.
    sleep(INTERVAL * 2).await;
    owner.untrack("t", "a");
    expect(&diff_now(&mut inbox), nothing(), json!({"a": [1]}));
}

#[tokio::test(start_paused = true)]
async fn windows_follow_each_other_while_changes_come_and_topics_have_their_own() {
    let (presence, pubsub) = plain(|builder| builder);
    let (mut t, mut u) = (pubsub.subscribe("t"), pubsub.subscribe("u"));
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    diff_now(&mut t);
    for n in 0..5 {
        owner.update("t", "a", meta(n)).unwrap();
        sleep(INTERVAL).await;
        settle().await;
        assert_eq!(diff_now(&mut t)["joins"]["a"]["metas"][0]["n"], n);
        assert!(t.is_empty());
    }
    owner.track("u", "a", meta(9)).unwrap();
    expect(&diff_now(&mut u), json!({"a": [9]}), nothing());
}

#[tokio::test(start_paused = true)]
async fn a_presence_that_comes_and_goes_unseen_is_not_told() {
    let (presence, pubsub) = plain(|builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    diff_now(&mut inbox);
    owner.track("t", "b", meta(2)).unwrap();
    owner.untrack("t", "b");
    advance(INTERVAL * 3).await;
    settle().await;
    assert!(inbox.is_empty());

    // Of three versions the last joins, and the one that was told leaves.
    let first = owner.update("t", "a", meta(2)).unwrap();
    diff(&mut inbox).await;
    owner.update("t", "a", meta(3)).unwrap();
    let second = owner.update("t", "a", meta(4)).unwrap();
    let told = diff(&mut inbox).await;
    expect(&told, json!({"a": [4]}), json!({"a": [2]}));
    assert_eq!(told["joins"]["a"]["metas"][0]["phx_ref"], second.to_string());
    assert_eq!(told["joins"]["a"]["metas"][0]["phx_ref_prev"], first.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_presence_that_a_list_has_shown_is_told_to_leave() {
    let (presence, pubsub) = plain(|builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    diff_now(&mut inbox);
    owner.track("t", "b", meta(2)).unwrap();
    assert!(presence.list("t").await.contains_key("b"));
    owner.untrack("t", "b");
    expect(&diff(&mut inbox).await, nothing(), json!({"b": [2]}));
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_zero_sends_each_change_by_itself() {
    let (presence, pubsub) = plain(|builder| builder.diff_interval(Duration::ZERO));
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    owner.update("t", "a", meta(2)).unwrap();
    owner.track("t", "b", meta(3)).unwrap();
    owner.untrack_all();
    expect(&diff_now(&mut inbox), json!({"a": [1]}), nothing());
    expect(&diff_now(&mut inbox), json!({"a": [2]}), json!({"a": [1]}));
    expect(&diff_now(&mut inbox), json!({"b": [3]}), nothing());
    expect(&diff_now(&mut inbox), nothing(), json!({"a": [2], "b": [3]}));
    assert!(inbox.is_empty());
}

#[tokio::test(start_paused = true)]
async fn changes_go_out_at_once_until_the_rate_is_used_up_and_then_as_it_allows() {
    let pubsub = PubSub::local();
    // One subscriber: a diff costs 125 ms of the rate. The credit is a quarter of a second, and so is the debt.
    let presence = Presence::builder(pubsub.clone()).diff_rate(8).start();
    let (mut t, mut u) = (pubsub.subscribe("t"), pubsub.subscribe("u"));
    let mut owner = presence.owner();
    let start = Instant::now();
    for n in 0..5 {
        owner.track("t", format!("{n}"), meta(n)).unwrap();
        expect(&diff_now(&mut t), json!({n.to_string(): [n]}), nothing());
    }
    for n in 5..8 {
        owner.track("t", format!("{n}"), meta(n)).unwrap();
        owner.track("u", format!("{n}"), meta(n)).unwrap();
        sleep(Duration::from_millis(40)).await;
    }
    assert!(t.is_empty() && u.is_empty());
    // The topic that has waited longest goes first.
    expect(&diff(&mut t).await, json!({"5": [5], "6": [6], "7": [7]}), nothing());
    assert_eq!(start.elapsed(), Duration::from_millis(125));
    assert!(u.is_empty());
    expect(&diff(&mut u).await, json!({"5": [5], "6": [6], "7": [7]}), nothing());
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    sleep(Duration::from_secs(1)).await;
    owner.track("u", "8", meta(8)).unwrap();
    expect(&diff_now(&mut u), json!({"8": [8]}), nothing());
}

/// In a room of 200 a thousand changes a second are more than twice what the default rate lets a node send.
#[tokio::test(start_paused = true)]
async fn a_storm_gathers_and_what_follows_it_does_not() {
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).start();
    let mut inbox = pubsub.inbox(2000);
    inbox.subscribe("t");
    let _others: Vec<_> = (1..200).map(|_| pubsub.subscribe("t")).collect();
    let mut owner = presence.owner();
    for n in 0..1000 {
        owner.track("t", format!("{n}"), meta(n)).unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(200)).await;
    let diffs: Vec<Value> = std::iter::from_fn(|| inbox.try_recv())
        .map(|message| message.expect("the inbox is large enough").payload().decode().unwrap())
        .collect();
    let told: usize = diffs.iter().map(|diff| diff["joins"].as_object().unwrap().len()).sum();
    assert_eq!(told, 1000);
    assert!(diffs.len() < 150, "{} diffs: as many as the rate allows, and no fewer", diffs.len());
    // Its debt ends with the first change after it is paid.
    owner.update("t", "0", meta("first")).unwrap();
    diff(&mut inbox).await;
    sleep(Duration::from_millis(5)).await;
    for n in 0..10 {
        for key in ["0", "1"] {
            owner.update("t", key, meta(n)).unwrap();
            diff_now(&mut inbox);
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_no_longer_than_the_longest_delay() {
    let pubsub = PubSub::local();
    let delay = Duration::from_millis(70);
    let presence = Presence::builder(pubsub.clone()).diff_rate(1).max_diff_delay(delay).start();
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(0)).unwrap();
    diff_now(&mut inbox);
    owner.update("t", "a", meta(1)).unwrap();
    diff_now(&mut inbox);
    sleep(Duration::from_millis(1)).await;
    for n in 2..20 {
        let start = Instant::now();
        owner.update("t", "a", meta(n)).unwrap();
        if inbox.is_empty() {
            diff(&mut inbox).await;
        } else {
            diff_now(&mut inbox);
        }
        assert!(start.elapsed() <= delay);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_without_listeners_do_not_wait_for_the_rate() {
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).diff_rate(1).start();
    let mut owner = presence.owner();
    for n in 0..1000 {
        owner.track("t", format!("{n}"), meta(n)).unwrap();
    }
    let Some(Change::State(state)) = presence.watch("t").next().await else { panic!("a state is first") };
    assert_eq!(state["t"].len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn topics_without_diffs_are_listed_and_counted_only() {
    let (presence, pubsub) = plain(|builder| builder.without_diffs("quiet:*"));
    let mut inbox = pubsub.subscribe("quiet:1");
    let (mut one, mut two) = (presence.owner(), presence.owner());
    one.track("quiet:1", "a", meta(1)).unwrap();
    two.track("quiet:1", "a", meta(2)).unwrap();
    two.track("quiet:1", "b", meta(3)).unwrap();
    assert_eq!((presence.count("quiet:1"), presence.key_count("quiet:1")), (3, 2));
    assert_eq!(presence.list("quiet:1").await["a"].metas.len(), 2);
    drop((one, two));
    sleep(INTERVAL * 3).await;
    assert!(inbox.try_recv().is_none());
    assert_eq!((presence.count("quiet:1"), presence.key_count("quiet:1")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn many_topics_that_change_at_once_are_all_told() {
    let (presence, pubsub) = plain(|builder| builder);
    let topics: Vec<String> = (0..2000).map(|n| format!("t:{n}")).collect();
    let mut inbox = pubsub.inbox(10_000);
    for topic in &topics {
        inbox.subscribe(topic.as_str());
    }
    let mut owner = presence.owner();
    for topic in topics.iter().take(1000) {
        owner.track(topic.as_str(), "a", meta(1)).unwrap();
        owner.update(topic.as_str(), "a", meta(2)).unwrap();
    }
    sleep(INTERVAL * 2).await;
    assert_eq!(inbox.len(), 2000);
    drop(owner);
    sleep(INTERVAL * 2).await;
    assert_eq!(inbox.len(), 3000);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_all_topics_shows_only_those_it_will_be_told_of() {
    let (presence, _) = plain(|builder| builder.without_diffs("users:*"));
    let mut owner = presence.owner();
    owner.track("users:online", "a", meta(1)).unwrap();
    owner.track("t", "a", meta(1)).unwrap();
    let _empty = presence.watch("nobody");
    let Some(Change::State(state)) = presence.watch_all().next().await else { panic!("a state comes first") };
    assert_eq!(state.keys().map(Topic::as_str).collect::<Vec<_>>(), ["t"]);
}
