//! A presence whose `fetch` follows a script, and a subscriber of a topic.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use adsum::{Builder, Entries, FetchError, Inbox, Key, Presence, PresenceHandler, PubSub};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber},
};

/// How long the presences made here collect changes, so that a test can look at those that wait.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

pub(crate) type Meta = Map<String, Value>;

/// A meta with one field.
pub(crate) fn meta(n: impl Into<Value>) -> Meta {
    Map::from_iter([("n".to_owned(), n.into())])
}

/// The next behaviour of `fetch`.
#[derive(Clone)]
pub(crate) enum Does {
    Answers(Value),
    AnswersAfter(Duration, Value),
    Fails,
    FailsAfter(Duration),
    Panics,
    PanicsAtOnce,
    Hangs,
}

/// Handed to the presence; the test keeps another handle.
#[derive(Clone)]
pub(crate) struct Script {
    does: Arc<Mutex<Does>>,
    asked: Arc<Mutex<Vec<BTreeSet<String>>>>,
}

impl Script {
    pub(crate) fn new(does: Does) -> Self {
        Self { does: Arc::new(Mutex::new(does)), asked: Arc::default() }
    }

    pub(crate) fn answering(info: Value) -> Self {
        Self::new(Does::Answers(info))
    }

    pub(crate) fn then(&self, does: Does) {
        *self.does.lock() = does;
    }

    /// Takes the keys of each call so far.
    pub(crate) fn asked(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *self.asked.lock()).into_iter().map(|keys| keys.into_iter().collect()).collect()
    }
}

impl PresenceHandler for Script {
    type Meta = Meta;
    type Info = Value;

    fn fetch(
        &self,
        _topic: &str,
        entries: &Entries<Meta>,
    ) -> impl Future<Output = Result<HashMap<Key, Value>, FetchError>> + Send {
        let keys: Vec<Key> = entries.keys().cloned().collect();
        for key in &keys {
            assert!(!entries.metas(key).is_empty(), "a key comes with its metas");
        }
        self.asked.lock().push(keys.iter().map(|key| key.as_str().to_owned()).collect());
        let does = self.does.lock().clone();
        assert!(!matches!(does, Does::PanicsAtOnce), "as the script says");
        async move {
            let info = match does {
                Does::Answers(info) => info,
                Does::AnswersAfter(time, info) => {
                    tokio::time::sleep(time).await;
                    info
                }
                Does::Fails => return Err("as the script says".into()),
                Does::FailsAfter(time) => {
                    tokio::time::sleep(time).await;
                    return Err("as the script says".into());
                }
                Does::Panics | Does::PanicsAtOnce => panic!("as the script says"),
                Does::Hangs => std::future::pending().await,
            };
            Ok(keys.into_iter().map(|key| (key, info.clone())).collect())
        }
    }
}

/// Keeps the lines of the log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Log {
    /// Captures what this thread logs until the guard is dropped.
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        // While a process has one subscriber, tracing asks only that of the current thread about a new span or event.
        // The thread of another test has none, and so would disable it for this one. With two it asks all.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().push_str(&String::from_utf8_lossy(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A presence without `fetch`, and its topics.
pub(crate) fn plain(
    options: impl FnOnce(Builder<adsum::NoFetch>) -> Builder<adsum::NoFetch>,
) -> (Presence, PubSub) {
    let pubsub = PubSub::local();
    (options(Presence::builder(pubsub.clone()).diff_interval(INTERVAL)).start(), pubsub)
}

/// A presence whose `fetch` follows a script, and its topics.
pub(crate) fn scripted(
    script: &Script,
    options: impl FnOnce(Builder<Script>) -> Builder<Script>,
) -> (Presence<Script>, PubSub) {
    let pubsub = PubSub::local();
    let builder = Presence::builder(pubsub.clone()).diff_interval(INTERVAL).handler(script.clone());
    (options(builder).start(), pubsub)
}

/// Waits for the next diff.
pub(crate) async fn diff(inbox: &mut Inbox) -> Value {
    // In paused time this ends at once if nothing is left to happen, so that a missing diff is a failure.
    let message = tokio::time::timeout(Duration::from_mins(1), inbox.recv()).await.expect("a diff comes");
    let message = message.expect("the inbox is large enough");
    assert_eq!(message.event(), "presence_diff");
    message.payload().decode().expect("a diff is JSON")
}

/// Takes the diff that is there already.
pub(crate) fn diff_now(inbox: &mut Inbox) -> Value {
    let message = inbox.try_recv().expect("a diff is there").expect("the inbox is large enough");
    message.payload().decode().expect("a diff is JSON")
}

/// Returns the keys of one half of a diff, with the `n` of each of their metas.
pub(crate) fn half(diff: &Value, half: &str) -> Value {
    let keys = diff[half].as_object().expect("a half is an object");
    let ns = |entry: &Value| {
        entry["metas"].as_array().expect("metas are an array").iter().map(|m| m["n"].clone()).collect()
    };
    keys.iter().map(|(key, entry)| (key.clone(), Value::Array(ns(entry)))).collect::<Map<_, _>>().into()
}

#[track_caller]
pub(crate) fn expect(diff: &Value, joins: Value, leaves: Value) {
    assert_eq!((half(diff, "joins"), half(diff, "leaves")), (joins, leaves), "{diff}");
}

pub(crate) fn nothing() -> Value {
    json!({})
}

/// Lets all tasks run as far as they can, without time passing.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
