//! Following presences from Rust.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use adsum::{
    Change, Inbox, Key, LeaveReason, Presence, PresenceChange, PresenceHandler, Presences, Tracked,
    WATCH_CAPACITY, Watch,
};
use futures_util::StreamExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::{advance, sleep, timeout};

use crate::support::{Does, INTERVAL, Log, Script, meta, plain, scripted, settle};

/// The refs of each key of each topic.
type View = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn fold<H: PresenceHandler>(view: &mut View, change: Change<H>) {
    let refs = |presences: &Presences<H>| -> Vec<(String, String)> {
        let of_key = |(key, entry): (&Key, &adsum::Entry<H>)| {
            entry.metas.iter().map(|meta| (key.to_string(), meta.reference.to_string())).collect::<Vec<_>>()
        };
        presences.iter().flat_map(of_key).collect()
    };
    match change {
        Change::State(topics) => {
            view.clear();
            for (topic, presences) in &topics {
                for (key, phx_ref) in refs(presences) {
                    view.entry(topic.to_string()).or_default().entry(key).or_default().insert(phx_ref);
                }
            }
        }
        Change::Diff(diff) => {
            let topic = view.entry(diff.topic.to_string()).or_default();
            for (key, phx_ref) in refs(&diff.joins) {
                topic.entry(key).or_default().insert(phx_ref);
            }
            for (key, phx_ref) in refs(&diff.leaves) {
                topic.entry(key).or_default().remove(&phx_ref);
            }
        }
    }
    forget_empty(view);
}

/// The changes of a diff agree with what was known of each presence.
fn check_changes<H: PresenceHandler>(view: &View, change: &Change<H>) {
    let Change::Diff(diff) = change else { return };
    let is_known = |key: &Key, meta: &Tracked<H::Meta>| {
        let topic = view.get(diff.topic.as_str());
        let refs = topic.and_then(|topic| topic.get(key.as_str()));
        refs.is_some_and(|refs| refs.contains(&meta.reference.to_string()))
    };
    for change in diff.changes() {
        match change {
            PresenceChange::Joined { key, meta, .. } => assert!(!is_known(key, meta), "joins once"),
            PresenceChange::Updated { key, from, to, .. } => {
                assert!(is_known(key, from) && !is_known(key, to), "one is in the place of the other");
            }
            PresenceChange::Refreshed { key, meta, .. } => assert!(is_known(key, meta), "is there"),
            PresenceChange::Left { key, meta, .. } => assert!(is_known(key, meta), "was there"),
            _ => panic!("nothing else happens"),
        }
    }
}

fn forget_empty(view: &mut View) {
    for topic in view.values_mut() {
        topic.retain(|_, refs| !refs.is_empty());
    }
    view.retain(|_, topic| !topic.is_empty());
}

/// Waits for the next change.
async fn soon<H: PresenceHandler>(watch: &mut Watch<H>) -> Change<H> {
    timeout(Duration::from_mins(1), watch.next()).await.expect("a change comes").expect("it goes on")
}

/// Reads all changes that are there now.
async fn catch_up<H: PresenceHandler>(watch: &mut Watch<H>, view: &mut View) {
    while let Ok(Some(change)) = timeout(Duration::ZERO, watch.next()).await {
        check_changes(view, &change);
        fold(view, change);
    }
}

async fn listed<H: PresenceHandler>(presence: &Presence<H>, topics: &[&str]) -> View {
    let mut view = View::new();
    for topic in topics {
        let state = [((*topic).into(), presence.list(*topic).await)].into();
        let mut one = View::new();
        fold::<H>(&mut one, Change::State(state));
        view.extend(one);
    }
    view
}

#[tokio::test(start_paused = true)]
async fn a_state_comes_first_and_then_each_diff_once() {
    let (presence, _) = plain(|builder| builder);
    let (mut one, mut two) = (presence.owner(), presence.owner());
    one.track("t", "a", meta(1)).unwrap();
    let mut watch = presence.watch("t");
    let Some(Change::State(state)) = watch.next().await else { panic!("a state is first") };
    assert_eq!(state["t"]["a"].metas[0].meta, meta(1));
    two.track("u", "x", meta(9)).unwrap();
    let joined = two.track("t", "b", meta(2)).unwrap();
    let Some(Change::Diff(diff)) = watch.next().await else { panic!("then a diff") };
    assert_eq!((diff.topic.as_str(), diff.joins.len(), diff.leaves.len()), ("t", 1, 0));
    assert_eq!(diff.joins["b"].metas[0].reference, joined);
    drop(two);
    let Some(Change::Diff(diff)) = watch.next().await else { panic!("then a diff") };
    assert_eq!(diff.leaves["b"].metas[0].reason.unwrap().as_str(), "cancelled");
    assert!(diff.joins.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watch_begun_while_a_diff_is_on_its_way_is_told_of_it_once() {
    let script = Script::new(Does::AnswersAfter(Duration::from_millis(500), json!({"name": "Ann"})));
    let (presence, _pubsub) = scripted(&script, |builder| builder);
    let mut first = presence.watch("t");
    first.next().await;
    let mut owner = presence.owner();
    let joined = owner.track("t", "a", meta(1)).unwrap();
    settle().await;
    let mut watch = presence.watch("t");
    let Some(Change::State(state)) = watch.next().await else { panic!("a state is first") };
    assert!(state["t"].is_empty(), "no diff has told of it yet");
    let Some(Change::Diff(diff)) = watch.next().await else { panic!("then a diff") };
    assert_eq!(diff.joins["a"].metas[0].reference, joined);
    assert_eq!(diff.joins["a"].info.as_deref(), Some(&json!({"name": "Ann"})));
    sleep(INTERVAL * 2).await;
    owner.track("t", "b", meta(2)).unwrap();
    let mut late = presence.watch("t");
    let mut all = presence.watch_all();
    let Some(Change::State(state)) = late.next().await else { panic!("a state is first") };
    assert!(state["t"].contains_key("a") && !state["t"].contains_key("b"));
    let Some(Change::State(_)) = all.next().await else { panic!("a state is first") };
    for watch in [&mut watch, &mut late, &mut all] {
        let Some(Change::Diff(diff)) = watch.next().await else { panic!("then a diff") };
        assert!(diff.joins.contains_key("b") && !diff.joins.contains_key("a"));
    }
    owner.untrack("t", "a");
    let Some(Change::Diff(diff)) = watch.next().await else { panic!("then a diff") };
    assert!(diff.joins.is_empty() && diff.leaves.contains_key("a"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_behind_gets_a_state_again() {
    let (presence, _) = plain(|builder| builder.diff_interval(Duration::ZERO));
    let mut owner = presence.owner();
    let (mut one, mut all) = (presence.watch("t"), presence.watch_all());
    let (mut of_one, mut of_all) = (View::new(), View::new());
    catch_up(&mut one, &mut of_one).await;
    catch_up(&mut all, &mut of_all).await;
    owner.track("t", "a", meta(0)).unwrap();
    for n in 0..=WATCH_CAPACITY {
        owner.update("t", "a", meta(n)).unwrap();
    }
    owner.track("u", "b", meta(1)).unwrap();
    assert!(
        matches!(one.next().await, Some(Change::State(state)) if state["t"]["a"].metas[0].meta == meta(WATCH_CAPACITY))
    );
    catch_up(&mut one, &mut of_one).await;
    owner.untrack("t", "a");
    catch_up(&mut all, &mut of_all).await;
    assert_eq!(of_all, listed(&presence, &["t", "u"]).await);
    assert!(of_all.contains_key("u"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_all_that_keeps_a_topic_told() {
    let script = Script::answering(json!({}));
    let (presence, _) = scripted(&script, |builder| builder);
    let mut owner = presence.owner();
    let mut watch = presence.watch("t");
    watch.next().await;
    owner.track("t", "a", meta(1)).unwrap();
    watch.next().await;
    assert_eq!(script.asked().len(), 1);
    drop(watch);
    sleep(INTERVAL * 2).await;
    owner.track("t", "b", meta(2)).unwrap();
    sleep(INTERVAL * 2).await;
    assert!(script.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_all_topics_gets_diffs_that_have_no_other_listener() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    let mut watch = presence.watch_all();
    watch.next().await;
    let joined = owner.track("t", "a", meta(1)).unwrap();
    let Change::Diff(diff) = soon(&mut watch).await else { panic!("then a diff") };
    assert_eq!((diff.topic.as_str(), diff.joins["a"].metas[0].reference), ("t", joined));
    owner.untrack("t", "a");
    let Change::Diff(diff) = soon(&mut watch).await else { panic!("then a diff") };
    assert!(diff.leaves.contains_key("a"));
}

#[tokio::test(start_paused = true)]
async fn nobody_in_a_watchs_state_leaves_without_a_word_within_the_window() {
    let (presence, pubsub) = plain(|builder| builder);
    let _listens = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    owner.track("t", "b", meta(2)).unwrap();
    for mut watch in [presence.watch("t"), presence.watch_all()] {
        let mut view = View::new();
        owner.track("t", "c", meta(3)).unwrap();
        catch_up(&mut watch, &mut view).await;
        owner.untrack("t", "b");
        owner.untrack("t", "c");
        sleep(INTERVAL * 2).await;
        catch_up(&mut watch, &mut view).await;
        assert_eq!(view, listed(&presence, &["t"]).await);
        owner.track("t", "b", meta(2)).unwrap();
    }
}

/// Describes the changes.
fn said<H: PresenceHandler<Meta = crate::support::Meta>>(change: &PresenceChange<'_, H>) -> String {
    match change {
        PresenceChange::Joined { key, meta, .. } => format!("{key} joined with {}", meta.meta["n"]),
        PresenceChange::Updated { key, from, to, .. } => {
            format!("{key}: {} to {}", from.meta["n"], to.meta["n"])
        }
        PresenceChange::Refreshed { key, .. } => format!("{key} refreshed"),
        PresenceChange::Left { key, meta, reason, .. } => {
            format!("{key} left with {}: {reason}", meta.meta["n"])
        }
        _ => panic!("nothing else happens"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_diff_says_what_happened_to_each_presence() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    let mut watch = presence.watch("t");
    watch.next().await;
    let mut told = Vec::new();
    for step in 0..6 {
        match step {
            0 => drop(owner.track("t", "a", meta(1)).unwrap()),
            1 => drop(owner.update("t", "a", meta(2)).unwrap()),
            2 => presence.refresh("t", "a"),
            3 => drop(owner.untrack("t", "a")),
            4 => drop(owner.track("t", "b", meta(3)).unwrap()),
            _ => std::mem::replace(&mut owner, presence.owner()).finish(),
        }
        sleep(INTERVAL * 2).await;
        let Change::Diff(diff) = soon(&mut watch).await else { panic!("then diffs") };
        told.extend(diff.changes().iter().map(said));
    }
    let expected = ["a joined with 1", "a: 1 to 2", "a refreshed", "a left with 2: left", "b joined with 3"];
    assert_eq!(told[..5], expected);
    assert_eq!(told[5..], ["b left with 3: finished"]);

    // Several changes at once, one of them listed before a diff had it.
    owner.track("t", "c", meta(4)).unwrap();
    owner.track("t", "d", meta(5)).unwrap();
    let _ = presence.list("t").await;
    owner.update("t", "d", meta(6)).unwrap();
    owner.update("t", "c", meta(7)).unwrap();
    owner.update("t", "c", meta(8)).unwrap();
    let mut told = Vec::new();
    sleep(INTERVAL * 2).await;
    while let Ok(Some(Change::Diff(diff))) = timeout(Duration::ZERO, watch.next()).await {
        told.extend(diff.changes().iter().map(said));
    }
    told.sort();
    assert_eq!(told, ["c joined with 4", "c: 4 to 8", "d joined with 6"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_pattern_follows_its_topics_only() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    owner.track("room:1", "a", meta(1)).unwrap();
    owner.track("hall:1", "a", meta(1)).unwrap();
    let (mut rooms, one) = (presence.watch_matching("room:*"), presence.watch("room:1"));
    let Some(Change::State(topics)) = rooms.next().await else { panic!("a state is first") };
    assert!(topics.keys().map(adsum::Topic::as_str).eq(["room:1"]));
    owner.track("hall:2", "a", meta(1)).unwrap();
    owner.track("room:2", "a", meta(1)).unwrap();
    let Change::Diff(diff) = soon(&mut rooms).await else { panic!("then a diff") };
    assert_eq!(diff.topic.as_str(), "room:2");
    assert_eq!(presence.totals().watches, 2);
    drop((rooms, one));
    assert_eq!(presence.totals().watches, 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_one_topic_refuses_a_pattern() {
    let (presence, _) = plain(|builder| builder);
    let (log, _guard) = Log::capture();
    let mut owner = presence.owner();
    owner.track("room:*", "a", meta(1)).unwrap();
    let mut watch = presence.watch("room:*");
    assert!(log.text().contains("use `watch_matching`"), "{}", log.text());
    for _ in 0..2 {
        let end = timeout(Duration::from_mins(1), watch.next()).await.expect("it ends at once");
        assert!(end.is_none());
    }
    assert_eq!(presence.totals().watches, 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_a_stream_that_ends_with_its_presence() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    let watches = [presence.watch("t"), presence.watch_all(), presence.watch("elsewhere")];
    let tasks = watches.map(|watch| {
        tokio::spawn(async move {
            let changes: Vec<_> = StreamExt::collect(watch).await;
            changes.iter().filter(|change| matches!(change, Change::Diff(_))).count()
        })
    });
    settle().await;
    let unread = presence.watch("t");
    owner.track("t", "a", meta(1)).unwrap();
    sleep(INTERVAL * 2).await;
    assert!(tasks.iter().all(|task| !task.is_finished()), "the presence is there");
    // The owner is the last handle.
    drop(presence);
    settle().await;
    assert!(tasks.iter().all(|task| !task.is_finished()), "the presence is there");
    drop(owner);
    let mut diffs = Vec::new();
    for task in tasks {
        diffs.push(timeout(Duration::from_secs(5), task).await.expect("it ends").unwrap());
    }
    assert_eq!(diffs, [2, 2, 0]);
    assert_eq!(StreamExt::count(unread).await, 0, "there is no state any more");
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_of_each_diff_even_without_listeners() {
    let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let told = seen.clone();
    let (presence, pubsub) = plain(|builder| {
        builder.observe(move |diff| {
            told.lock().push((diff.topic.to_string(), diff.joins, diff.leaves));
            assert!(diff.joins < 2, "an observer that panics, as the test wants it");
        })
    });
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    let _listens = pubsub.subscribe("t");
    owner.update("t", "a", meta(2)).unwrap();
    sleep(INTERVAL * 2).await;
    presence.refresh("t", "a");
    sleep(INTERVAL * 2).await;
    owner.track("t", "b", meta(1)).unwrap();
    owner.track("t", "c", meta(1)).unwrap();
    sleep(INTERVAL * 2).await;
    owner.track("t", "d", meta(1)).unwrap();
    sleep(INTERVAL * 2).await;
    let t = |joins, leaves| ("t".to_owned(), joins, leaves);
    let mut seen = std::mem::take(&mut *seen.lock());
    seen.retain(|(_, joins, leaves)| joins + leaves > 0);
    assert_eq!(seen[..2], [t(1, 0), t(1, 1)]);
    assert_eq!(seen[2..].iter().map(|(_, joins, _)| joins).sum::<usize>(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_diff_is_read_from_its_message_by_the_presence_that_sent_it() {
    let pubsub = adsum::PubSub::local();
    let [presence, other] = ["one", "other"].map(|name| Presence::builder(pubsub.clone()).name(name).start());
    let mut inbox = pubsub.subscribe("t");
    presence.owner().track("t", "a", meta(1)).unwrap();
    let message = inbox.recv().await.unwrap();
    let diff = presence.read_diff(&message).expect("it is a diff");
    assert_eq!(diff.joins["a"].metas[0].meta, meta(1));
    assert!(other.read_diff(&message).is_none(), "another presence has sent it");
    pubsub.broadcast("t", "said", json!({})).unwrap();
    let said = loop {
        let message = inbox.recv().await.unwrap();
        if message.event() == "said" {
            break message;
        }
    };
    assert!(presence.read_diff(&said).is_none());
}

#[tokio::test(start_paused = true)]
async fn each_end_of_an_owner_has_its_reason() {
    type Ends = fn(adsum::Owner<adsum::NoFetch>);
    let (presence, _) = plain(|builder| builder);
    let mut watch = presence.watch("t");
    watch.next().await;
    let track = || {
        let mut owner = presence.owner();
        owner.track("t", "a", meta(1)).unwrap();
        owner
    };
    let ends: [(Ends, LeaveReason); 3] = [
        (adsum::Owner::finish, LeaveReason::Finished),
        (drop, LeaveReason::Cancelled),
        (
            |owner| {
                let panics = std::panic::AssertUnwindSafe(move || {
                    let _owner = owner;
                    std::panic::resume_unwind(Box::new(()));
                });
                assert!(std::panic::catch_unwind(panics).is_err());
            },
            LeaveReason::Crashed,
        ),
    ];
    for (end, reason) in ends {
        let owner = track();
        let Change::Diff(_) = soon(&mut watch).await else { panic!("it joins") };
        end(owner);
        let Change::Diff(left) = soon(&mut watch).await else { panic!("it leaves") };
        assert_eq!(left.leaves["a"].metas[0].reason, Some(reason));
        sleep(INTERVAL * 2).await;
    }
}

#[derive(Clone, Debug)]
enum Op {
    Track(usize, usize, usize),
    Update(usize, usize, usize),
    Untrack(usize, usize, usize),
    End(usize),
    Refresh(usize, usize),
    Pass(u64),
    WatchAll,
    Watch(usize),
    Read,
}

const TOPICS: [&str; 2] = ["t", "u"];
const KEYS: [&str; 3] = ["a", "b", "c"];

fn op() -> impl Strategy<Value = Op> {
    let place = (0..3usize, 0..TOPICS.len(), 0..KEYS.len());
    prop_oneof![
        4 => place.clone().prop_map(|(o, t, k)| Op::Track(o, t, k)),
        4 => place.clone().prop_map(|(o, t, k)| Op::Update(o, t, k)),
        3 => place.prop_map(|(o, t, k)| Op::Untrack(o, t, k)),
        1 => (0..3usize).prop_map(Op::End),
        1 => (0..TOPICS.len(), 0..KEYS.len()).prop_map(|(t, k)| Op::Refresh(t, k)),
        4 => (0..120u64).prop_map(Op::Pass),
        1 => Just(Op::WatchAll),
        1 => (0..TOPICS.len()).prop_map(Op::Watch),
        2 => Just(Op::Read),
    ]
}

/// Folds what sockets get as phoenix.js does: joins, merged by ref, then leaves.
fn fold_messages(inbox: &mut Inbox, view: &mut View) {
    while let Some(message) = inbox.try_recv() {
        let message = message.expect("the inbox is large enough");
        let diff: Value = message.payload().decode().expect("a diff is JSON");
        let topic = view.entry(message.topic().to_string()).or_default();
        let mut told = BTreeSet::new();
        for half in ["joins", "leaves"] {
            for (key, entry) in diff[half].as_object().expect("a half is an object") {
                for meta in entry["metas"].as_array().expect("metas are an array") {
                    let phx_ref = meta["phx_ref"].as_str().expect("every meta has a ref").to_owned();
                    assert!(told.insert(phx_ref.clone()), "a ref is told of twice: {diff}");
                    let refs = topic.entry(key.clone()).or_default();
                    if half == "joins" {
                        refs.insert(phx_ref)
                    } else {
                        refs.remove(&phx_ref)
                    };
                }
            }
        }
    }
    forget_empty(view);
}

async fn run(ops: Vec<Op>, interval: Duration, fetch: Duration) {
    let script = Script::new(Does::AnswersAfter(fetch, json!({"name": "Ann"})));
    let (presence, pubsub) = scripted(&script, |builder| builder.diff_interval(interval));
    let mut inbox = pubsub.inbox(100_000);
    for topic in TOPICS {
        inbox.subscribe(topic);
    }
    let mut owners: Vec<_> = (0..3).map(|_| presence.owner()).collect();
    let mut watches = vec![(presence.watch_all(), &TOPICS[..], View::new())];
    for (n, op) in ops.into_iter().enumerate() {
        match op {
            Op::Track(o, t, k) => drop(owners[o].track(TOPICS[t], KEYS[k], meta(n))),
            Op::Update(o, t, k) => drop(owners[o].update(TOPICS[t], KEYS[k], meta(n))),
            Op::Untrack(o, t, k) => drop(owners[o].untrack(TOPICS[t], KEYS[k])),
            Op::End(o) => owners[o] = presence.owner(),
            Op::Refresh(t, k) => presence.refresh(TOPICS[t], KEYS[k]),
            Op::Pass(millis) => advance(Duration::from_millis(millis)).await,
            Op::WatchAll => watches.push((presence.watch_all(), &TOPICS, View::new())),
            Op::Watch(t) => watches.push((presence.watch(TOPICS[t]), &TOPICS[t..=t], View::new())),
            Op::Read => {
                for (watch, _, view) in &mut watches {
                    catch_up(watch, view).await;
                }
            }
        }
        settle().await;
    }
    sleep(Duration::from_secs(10)).await;
    let all = listed(&presence, &TOPICS).await;
    let mut told = View::new();
    fold_messages(&mut inbox, &mut told);
    assert_eq!(told, all, "what sockets were told");
    for (mut watch, topics, mut view) in watches {
        catch_up(&mut watch, &mut view).await;
        assert_eq!(view, listed(&presence, topics).await, "what a watch was told");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_followers_end_with_the_list(
        ops in prop::collection::vec(op(), 1..60),
        interval in prop_oneof![Just(0u64), Just(50)],
        fetch in prop_oneof![Just(0u64), Just(30), Just(5000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(ops, Duration::from_millis(interval), Duration::from_millis(fetch)));
    }
}
