//! Invalid options are refused when a presence starts, all with the same kind of error.

use std::{panic, time::Duration};

use adsum::{
    Builder, ClusterOptions, Key, Limits, LocalNetwork, MAX_GRACE, MAX_META_BYTES, NoFetch, OptionsError,
    Presence, PresenceHandler, PubSub,
};
use tokio::time::sleep;

use crate::support::{Script, meta, plain, scripted};

fn builder() -> Builder<NoFetch> {
    Presence::builder(PubSub::local())
}

#[tokio::test(start_paused = true)]
async fn options_out_of_their_bounds_are_refused_by_name() {
    type Set = fn(Builder<NoFetch>) -> Builder<NoFetch>;
    let wrong: [(&str, Set); 19] = [
        ("diff_interval", |builder| builder.diff_interval(Duration::MAX)),
        ("diff_rate", |builder| builder.diff_rate(0)),
        ("max_diff_delay", |builder| builder.max_diff_delay(Duration::MAX)),
        ("max_diff_delay", |builder| builder.max_diff_delay(Duration::ZERO)),
        ("fetch_ttl", |builder| builder.fetch_ttl(Duration::MAX)),
        ("fetch_timeout", |builder| builder.fetch_timeout(Duration::MAX)),
        ("fetch_timeout", |builder| builder.fetch_timeout(Duration::ZERO)),
        ("refresh_memory", |builder| builder.refresh_memory(Duration::MAX)),
        ("linger", |builder| builder.linger(Duration::MAX)),
        ("linger", |builder| builder.linger(MAX_GRACE + Duration::from_nanos(1))),
        ("handoff", |builder| builder.handoff(Duration::MAX)),
        ("count_interval", |builder| builder.count_interval(Duration::MAX)),
        ("heartbeat", |builder| builder.cluster(ClusterOptions::default().heartbeat(Duration::MAX))),
        ("engine_grace", |builder| builder.cluster(ClusterOptions::default().engine_grace(Duration::MAX))),
        ("Limits::meta_bytes", |builder| builder.limits(Limits::default().meta_bytes(usize::MAX))),
        ("Limits::key_bytes", |builder| builder.limits(Limits::default().key_bytes(0))),
        ("Limits::presences_per_key", |builder| builder.limits(Limits::default().presences_per_key(0))),
        ("name (bytes)", |builder| builder.name("")),
        ("name (bytes)", |builder| builder.name("x".repeat(256))),
    ];
    for (option, set) in wrong {
        let error = set(builder()).check().unwrap_err();
        assert_eq!(error.option(), option);
        let panic = panic::catch_unwind(|| set(builder()).start()).expect_err("it doesn't start");
        let said = panic.downcast_ref::<String>().expect("it says why");
        assert_eq!((said, said.contains("it must be between")), (&error.to_string(), true));
    }
    assert_eq!(builder().check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn infos_that_can_never_stand_beside_metas_are_refused_as_a_presence_starts() {
    struct Of<I>(std::marker::PhantomData<fn() -> I>);
    impl<I: serde::Serialize + Send + Sync + 'static> PresenceHandler for Of<I> {
        type Meta = serde_json::Value;
        type Info = I;
    }
    fn check<I: serde::Serialize + Send + Sync + 'static>() -> Result<(), OptionsError> {
        builder().handler(Of::<I>(std::marker::PhantomData)).check()
    }
    for refused in
        [check::<String>(), check::<u64>(), check::<Vec<u8>>(), check::<(u8, String)>(), check::<Key>()]
    {
        let error = refused.unwrap_err();
        assert_eq!(error.option(), "PresenceHandler::Info");
        assert!(error.to_string().contains("a struct or a map"), "{error}");
    }
    for allowed in
        [check::<()>(), check::<serde_json::Value>(), check::<std::collections::HashMap<String, u8>>()]
    {
        assert_eq!(allowed, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_times_that_are_allowed_do_no_harm() {
    let day = Duration::from_hours(24);
    let network = LocalNetwork::new();
    let node = |name| {
        let builder =
            Presence::builder(network.node(name)).diff_interval(day).fetch_ttl(day).fetch_timeout(day);
        builder.refresh_memory(day).linger(MAX_GRACE).handoff(MAX_GRACE).count_interval(day).start()
    };
    let (a, b) = (node("a"), node("b"));
    let _ = tokio::join!(a.ready(), b.ready());
    let mut owner = a.owner();
    owner.track("room", "7", meta(1)).unwrap();
    a.drain(&adsum::Sockets::new(), adsum::Drain::default()).await;
    drop(owner);
    sleep(MAX_GRACE / 2).await;
    assert_eq!(b.count("room"), 1);
    sleep(MAX_GRACE).await;
    assert_eq!(b.count("room"), 0);
}

#[tokio::test(start_paused = true)]
async fn limits_on_a_node_with_others_are_what_a_message_carries() {
    let of = |pubsub: PubSub, meta_bytes| {
        Presence::builder(pubsub).limits(Limits::default().meta_bytes(meta_bytes)).check()
    };
    let network = LocalNetwork::new();
    assert_eq!(of(network.node("a"), MAX_META_BYTES), Ok(()));
    let error = of(network.node("a"), 1 << 20).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`Limits::meta_bytes` is 1048576; it must be between 2 and {MAX_META_BYTES}")
    );
    assert_eq!(of(PubSub::local(), 1 << 20), Ok(()), "there is nobody to tell");
}

#[tokio::test(start_paused = true)]
async fn an_info_is_good_for_ever_if_nothing_says_otherwise() {
    let script = Script::answering(serde_json::json!({"name": "Ann"}));
    let (presence, _pubsub) = scripted(&script, |builder| builder.fetch_ttl(None));
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    presence.list("t").await;
    assert_eq!(script.asked().len(), 1);
    sleep(Duration::from_hours(24 * 30)).await;
    presence.list("t").await;
    assert!(script.asked().is_empty());
    presence.refresh("t", "a");
    presence.list("t").await;
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn presences_of_one_key_are_limited() {
    let limits = Limits::default().presences_per_key(2);
    let (presence, _) = plain(|builder| builder.limits(limits));
    let mut owners: Vec<_> = (0..3).map(|_| presence.owner()).collect();
    let tracked: Vec<_> = owners.iter_mut().map(|owner| owner.track("room", "guest", meta(1))).collect();
    assert!(tracked[0].is_ok() && tracked[1].is_ok());
    let error = tracked[2].as_ref().unwrap_err();
    assert!(error.to_string().contains("Limits::presences_per_key"), "{error}");
}
