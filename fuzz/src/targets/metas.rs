//! Metas, infos and keys on their way to clients. Whatever a program tracks, a client reads the fields that are
//! ours as they are, and the rest as it was tracked.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use adsum::{Entries, FetchError, Json, Key, Payload, Presence, PresenceHandler, PubSub};
use adsum_pubsub::Inbox;
use serde_json::{Map, Value, json, value::RawValue};
use tokio::runtime::{Builder, Runtime};

const OURS: [&str; 3] = ["phx_ref", "phx_ref_prev", "phx_reason"];
const TOPIC: &str = "room:1";

/// Input: a key, a meta, an info, a line each.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (Some(key), Some(meta), Some(info)) = (lines.next(), lines.next(), lines.next()) else { return };
    let Some(meta) = raw(meta) else { return };
    let info = raw(info);
    thread_local!(static WORLD: RefCell<World> = RefCell::new(World::new()));
    WORLD.with_borrow_mut(|world| world.track(key, meta, info));
}

fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}

/// A runtime, and in it a presence whose `fetch` says what it is told to.
struct World {
    runtime: Runtime,
    presence: Presence<Told>,
    inbox: Inbox,
}

#[derive(Default)]
struct Told;

thread_local!(static INFO: RefCell<Option<Box<RawValue>>> = const { RefCell::new(None) });

impl PresenceHandler for Told {
    type Meta = Box<RawValue>;
    type Info = Box<RawValue>;

    async fn fetch(
        &self,
        _: &str,
        entries: &Entries<Self::Meta>,
    ) -> Result<HashMap<Key, Self::Info>, FetchError> {
        let info = INFO.with_borrow(Clone::clone).ok_or("nothing to say")?;
        Ok(entries.keys().map(|key| (key.clone(), info.clone())).collect())
    }
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime of one thread");
        let inside = runtime.enter();
        let pubsub = PubSub::local();
        let inbox = pubsub.subscribe(TOPIC);
        let presence = Presence::builder(pubsub).handler(Told).diff_interval(Duration::ZERO).start();
        drop(inside);
        Self { runtime, presence, inbox }
    }

    fn track(&mut self, key: &str, meta: Box<RawValue>, info: Option<Box<RawValue>>) {
        INFO.set(info.clone());
        let _inside = self.runtime.enter();
        let mut owner = self.presence.owner();
        let Ok(reference) = owner.track(TOPIC, key, meta.clone()) else { return };
        let joined = self.runtime.block_on(self.inbox.recv()).expect("the inbox is large enough");
        owner.untrack(TOPIC, key);
        let left = self.runtime.block_on(self.inbox.recv()).expect("the inbox is large enough");
        let [joins, leaves] = [("joins", joined), ("leaves", left)].map(|(half, diff)| {
            let Payload::Json(diff) = diff.payload() else { panic!("a diff is JSON") };
            serde_json::from_slice::<&RawValue>(diff.as_bytes()).expect("a diff is JSON");
            entry(diff, half, key)
        });
        // A meta that nests deeper than a reader goes was only checked to be JSON.
        let (Some(mut joins), Some(mut leaves)) = (joins, leaves) else { return };
        let ours = |reason: Option<&str>| [Some(reference.to_string().into()), None, reason.map(Value::from)];
        check(&mut joins, &meta, info.as_deref(), ours(None));
        check(&mut leaves, &meta, info.as_deref(), ours(Some("left")));
    }
}

/// The entry of the key in one half of a diff, as a client reads it.
fn entry(diff: &Json, half: &str, key: &str) -> Option<Map<String, Value>> {
    let mut diff: Value = diff.decode().ok()?;
    let mut entries =
        diff.get_mut(half).and_then(Value::as_object_mut).expect("a diff has both halves").clone();
    assert_eq!(entries.len(), 1);
    match entries.remove(key) {
        Some(Value::Object(entry)) => Some(entry),
        other => panic!("under the key is {other:?}"),
    }
}

fn check(entry: &mut Map<String, Value>, meta: &RawValue, info: Option<&RawValue>, ours: [Option<Value>; 3]) {
    let mut metas = entry.remove("metas").expect("an entry has metas");
    let shown = metas.get_mut(0).and_then(Value::as_object_mut).expect("a meta is an object");
    assert_eq!(OURS.map(|field| shown.remove(field)), ours, "the fields that are ours");
    let mut meta: Map<String, Value> = serde_json::from_str(meta.get()).expect("it was accepted");
    meta.retain(|field, _| !OURS.contains(&field.as_str()));
    assert_eq!(metas, json!([meta]));
    // An info that is no object is left out, and logged.
    let info = info.and_then(|info| serde_json::from_str::<Map<String, Value>>(info.get()).ok());
    let mut info = info.unwrap_or_default();
    info.remove("metas");
    assert_eq!(*entry, info);
}
