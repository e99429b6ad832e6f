//! Values of the program are dropped outside our locks, since their `Drop` may list the topic.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adsum::{Entries, FetchError, Key, NoFetch, Owner, Presence, PresenceHandler, PubSub};
use serde_json::{Map, Value};
use tokio::time::sleep;

#[derive(Clone, Default)]
struct Nosy {
    presence: Arc<OnceLock<Presence<Nosy>>>,
    drops: Arc<AtomicUsize>,
}

/// An info that lists the topic when it is dropped.
#[derive(serde::Serialize)]
struct Info {
    name: &'static str,
    #[serde(skip)]
    of: Nosy,
}

impl Drop for Info {
    fn drop(&mut self) {
        // Deadlocks if this thread has locked the topic's shard.
        self.of.presence.get().map(|presence| presence.count("room"));
        self.of.drops.fetch_add(1, Ordering::Relaxed);
    }
}

impl PresenceHandler for Nosy {
    type Meta = Map<String, Value>;
    type Info = Info;

    async fn fetch(&self, _: &str, entries: &Entries<Self::Meta>) -> Result<HashMap<Key, Info>, FetchError> {
        Ok(entries.keys().map(|key| (key.clone(), Info { name: "Ann", of: self.clone() })).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn an_info_is_dropped_while_nothing_is_locked() {
    let nosy = Nosy::default();
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).handler(nosy.clone()).fetch_ttl(Duration::ZERO).start();
    assert!(nosy.presence.set(presence.clone()).is_ok());
    let drops = || nosy.drops.load(Ordering::Relaxed);

    // One diff with a listener, and one without.
    for subscribed in [true, false] {
        let before = drops();
        let mut inbox = pubsub.inbox(64);
        if subscribed {
            inbox.subscribe("room");
        }
        let mut owner = presence.owner();
        owner.track("room", "7", Map::new()).unwrap();
        sleep(Duration::from_secs(1)).await;
        // Another info replaces the first.
        assert_eq!(presence.list("room").await.len(), 1);
        assert_eq!(presence.list("room").await.len(), 1);
        assert!(drops() > before, "nothing was forgotten");
        presence.refresh("room", "7");
        drop(owner);
        sleep(Duration::from_secs(2)).await;
        drop(inbox);
    }
    // None is kept, and all found the topic unlocked.
    assert_eq!(presence.count("room"), 0);
}

/// Thread-locals end in the reverse order of their first use, ours before this one.
#[test]
fn an_owner_is_kept_until_its_thread_ends() {
    thread_local!(static KEPT: RefCell<Option<Owner<NoFetch>>> = const { RefCell::new(None) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let presence = Presence::builder(PubSub::local()).start();
    let of_thread = presence.clone();
    let thread = std::thread::spawn(move || {
        KEPT.set(None);
        let mut owner = of_thread.owner();
        owner.track("room", "ann", Map::new()).unwrap();
        KEPT.set(Some(owner));
        of_thread.count("room")
    });
    assert_eq!(thread.join().unwrap(), 1);
    assert_eq!(presence.count("room"), 0);
}
