//! A channel that a client of a test has joined.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, IntoFuture},
    panic::Location,
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    client::{JoinRefused, TestClient},
    client_log::{ClientState, JoinState},
    frame::{self, Body},
    roster::{PresenceLeave, PresentKey},
};
use crate::paused::quiet;

/// A topic that a client has joined, from [`TestClient::join`].
///
/// Events wait until a test asks for them by their names, in whatever order it likes.
pub struct TestChannel {
    client: TestClient,
    topic: String,
    joined: Value,
}

/// How a channel has ended, from [`TestChannel::expect_end`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ChannelEnd {
    /// `phx_close`: it was left, or it has stopped. phoenix.js stays away.
    Closed,
    /// `phx_error`, with its payload: it has crashed, for example. phoenix.js joins again.
    Error(Value),
}

impl TestClient {
    /// Joins a topic, with parameters that are serialized to JSON. Joined already, it joins anew, and the channel of
    /// before gets nothing more.
    ///
    /// # Errors
    /// The channel has refused the client.
    #[track_caller]
    pub fn join(
        &self,
        topic: &str,
        params: impl Serialize,
    ) -> impl Future<Output = Result<TestChannel, JoinRefused>> {
        let at = Location::caller();
        let params = serde_json::to_value(params).expect("parameters can be written as JSON");
        let (client, topic) = (self.clone(), topic.to_owned());
        async move {
            let (roster, left) = {
                let mut state = client.0.log.state.lock();
                let before = state.topics.remove(&topic);
                before.map_or_else(Default::default, |before| (before.roster, before.inbox))
            };
            drop(left);
            let joined = client.0.join(&topic, params, roster, at).await?;
            Ok(TestChannel { client, topic, joined })
        }
    }
}

impl TestChannel {
    /// The response of the join.
    ///
    /// # Panics
    /// It isn't of type `T`.
    #[track_caller]
    pub fn joined<T: DeserializeOwned>(&self) -> T {
        self.decode("the reply to the join", &self.joined, Location::caller())
    }

    /// Sends an event, at once. Its reply is what the returned value resolves to; a test that doesn't want it drops it.
    ///
    /// ```
    /// # use adsum::testing::{PushReply, TestChannel};
    /// # use serde_json::{Value, json};
    /// # async fn test(room: TestChannel) {
    /// let reply: PushReply = room.push("roll", json!({"dice": 2})).await;
    /// assert_eq!(reply.status, "ok");
    /// let rolled: Vec<u8> = room.push("roll", json!({"dice": 2})).ok().await; // fails unless it is "ok"
    /// room.push("say", json!({"text": "hello"})); // answered or not
    /// # }
    /// ```
    #[track_caller]
    pub fn push(&self, event: &str, payload: impl Serialize) -> Pushed<'_> {
        let payload = serde_json::to_value(payload).expect("a payload can be written as JSON");
        let (join_ref, reference) = self.refs();
        let text = frame::text(Some(&join_ref), &reference, &self.topic, event, &payload);
        self.client.0.send_text(text);
        Pushed { channel: self, event: event.to_owned(), reference, at: Location::caller() }
    }

    /// Sends an event with a binary payload.
    ///
    /// # Panics
    /// The topic or the event has more than 255 bytes.
    #[track_caller]
    pub fn push_binary(&self, event: &str, payload: &[u8]) -> Pushed<'_> {
        let (join_ref, reference) = self.refs();
        self.client.0.send_binary(frame::binary(&join_ref, &reference, &self.topic, event, payload));
        Pushed { channel: self, event: event.to_owned(), reference, at: Location::caller() }
    }

    /// Waits for a push or a broadcast of this name, and takes it. Those before it that have other names stay.
    ///
    /// # Panics
    /// None comes, or its payload isn't of type `T`.
    #[track_caller]
    pub fn expect<T: DeserializeOwned>(&self, event: &str) -> impl Future<Output = T> {
        let (at, event) = (Location::caller(), event.to_owned());
        async move {
            match self.next(&event, at).await {
                Body::Json(payload) => self.decode(&format!("{event:?}"), &payload, at),
                Body::Binary(_) => self.fail(&format!("{event:?} has a binary payload"), at),
            }
        }
    }

    /// As [`expect`](Self::expect), for a binary payload.
    #[track_caller]
    pub fn expect_binary(&self, event: &str) -> impl Future<Output = Bytes> {
        let (at, event) = (Location::caller(), event.to_owned());
        async move {
            match self.next(&event, at).await {
                Body::Binary(bytes) => bytes,
                Body::Json(_) => self.fail(&format!("{event:?} has a payload of JSON"), at),
            }
        }
    }

    /// Checks that no event of this name comes, nor waits to be asked for: in paused time for a second, which takes no
    /// time at all and is longer than diffs are ever held back by default; in real time for 100 ms.
    #[track_caller]
    pub fn refute(&self, event: &str) -> impl Future<Output = ()> {
        self.refute_for(event, quiet())
    }

    /// As [`refute`](Self::refute), for a time of one's own.
    #[track_caller]
    pub fn refute_for(&self, event: &str, time: Duration) -> impl Future<Output = ()> {
        let (at, event) = (Location::caller(), event.to_owned());
        async move {
            sleep(time).await;
            let waits = |topic: &JoinState| topic.inbox.iter().any(|(name, _)| *name == event);
            let came = self.client.0.log.state.lock().topics.get(&self.topic).is_some_and(waits);
            if came {
                self.fail(&format!("{event:?} came on {}", self.topic), at);
            }
        }
    }

    /// Leaves the topic, and returns once the server has said so.
    #[track_caller]
    pub fn leave(self) -> impl Future<Output = ()> {
        let pushed = self.push("phx_leave", json!({}));
        let (reference, at) = (pushed.reference, pushed.at);
        async move {
            let (client, log) = (&self.client, &self.client.0.log);
            log.until("the reply to the leave", at, |state| state.replies.remove(&reference)).await;
            client.0.log.state.lock().topics.remove(&self.topic);
        }
    }

    /// Waits until the server says that the channel has ended.
    #[track_caller]
    pub fn expect_end(&self) -> impl Future<Output = ChannelEnd> {
        let at = Location::caller();
        async move {
            let expected = format!("the end of {}", self.topic);
            let ended = |state: &mut ClientState| state.topics.get_mut(&self.topic)?.end.take();
            let (event, payload) = self.client.0.log.until(&expected, at, ended).await;
            if event == "phx_close" { ChannelEnd::Closed } else { ChannelEnd::Error(payload) }
        }
    }

    /// Lists the presences of the topic, as `Presence` of phoenix.js would now.
    pub fn present(&self) -> BTreeMap<String, PresentKey> {
        let state = self.client.0.log.state.lock();
        state.topics.get(&self.topic).map(|topic| topic.roster.list()).unwrap_or_default()
    }

    /// Waits until a key is present.
    #[track_caller]
    pub fn until_present(&self, key: &str) -> impl Future<Output = PresentKey> {
        let (at, key) = (Location::caller(), key.to_owned());
        async move {
            let expected = format!("{key:?} among the present of {}", self.topic);
            let look = |state: &mut ClientState| state.topics.get(&self.topic)?.roster.get(&key);
            self.client.0.log.until(&expected, at, look).await
        }
    }

    /// Waits until those who are present are as `are` wants them.
    #[track_caller]
    pub fn until(
        &self,
        are: impl Fn(&BTreeMap<String, PresentKey>) -> bool,
    ) -> impl Future<Output = BTreeMap<String, PresentKey>> {
        let at = Location::caller();
        async move {
            let expected = format!("the awaited list of {}", self.topic);
            let look = |state: &mut ClientState| {
                let list = state.topics.get(&self.topic)?.roster.list();
                are(&list).then_some(list)
            };
            self.client.0.log.until(&expected, at, look).await
        }
    }

    /// Waits until a meta of the key leaves, and takes the leave, with its reason. If several metas leave in one diff,
    /// each is expected by a call of its own. An update is no leave.
    #[track_caller]
    pub fn expect_leave(&self, key: &str) -> impl Future<Output = PresenceLeave> {
        let (at, key) = (Location::caller(), key.to_owned());
        async move {
            let expected = format!("a leave of {key:?} from {}", self.topic);
            let look = |state: &mut ClientState| {
                let left = &mut state.topics.get_mut(&self.topic)?.roster.left;
                let place = left.iter().position(|left| left.key == key)?;
                left.remove(place)
            };
            self.client.0.log.until(&expected, at, look).await
        }
    }

    /// Checks that no meta of the key leaves, nor has left without being asked for, for as long as
    /// [`refute`](Self::refute) waits.
    #[track_caller]
    pub fn refute_leave(&self, key: &str) -> impl Future<Output = ()> {
        let (at, key) = (Location::caller(), key.to_owned());
        async move {
            sleep(quiet()).await;
            let left = |topic: &JoinState| topic.roster.left.iter().any(|left| left.key == key);
            let has_left = self.client.0.log.state.lock().topics.get(&self.topic).is_some_and(left);
            if has_left {
                self.fail(&format!("{key:?} has left {}", self.topic), at);
            }
        }
    }

    /// The client that has joined.
    pub fn client(&self) -> &TestClient {
        &self.client
    }

    fn refs(&self) -> (String, String) {
        let log = &self.client.0.log;
        let reference = log.next_ref();
        let state = log.state.lock();
        let join_ref = state.topics.get(&self.topic).map_or_else(String::new, |topic| topic.join_ref.clone());
        (join_ref, reference)
    }

    async fn next(&self, event: &str, at: &'static Location<'static>) -> Body {
        let expected = format!("{event:?} on {}", self.topic);
        let look = |state: &mut ClientState| {
            let inbox = &mut state.topics.get_mut(&self.topic)?.inbox;
            let place = inbox.iter().position(|(name, _)| name == event)?;
            Some(inbox.remove(place)?.1)
        };
        self.client.0.log.until(&expected, at, look).await
    }

    fn decode<T: DeserializeOwned>(&self, what: &str, value: &Value, at: &Location<'_>) -> T {
        T::deserialize(value).unwrap_or_else(|error| {
            self.fail(&format!("{what} is no {}: {error}", std::any::type_name::<T>()), at)
        })
    }

    fn fail(&self, why: &str, at: &Location<'_>) -> ! {
        self.client.0.log.fail(why, at)
    }
}

impl fmt::Debug for TestChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestChannel").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// An event that was sent, from [`TestChannel::push`]. Awaited, it is its reply.
pub struct Pushed<'c> {
    channel: &'c TestChannel,
    event: String,
    reference: String,
    at: &'static Location<'static>,
}

/// The reply to an event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PushReply {
    /// `ok`, `error`, or what else the channel says.
    pub status: String,
    /// Its payload.
    pub response: Value,
    /// Set instead of `response` if the reply was binary.
    pub binary: Option<Bytes>,
}

impl Pushed<'_> {
    /// Waits for a reply with the status `ok`, and returns what it says.
    ///
    /// # Panics
    /// None comes, it has another status, or isn't of type `T`.
    pub async fn ok<T: DeserializeOwned>(self) -> T {
        self.expect("ok").await
    }

    /// Waits for a reply with the status `error`, and returns what it says.
    ///
    /// # Panics
    /// None comes, it has another status, or isn't of type `T`.
    pub async fn error<T: DeserializeOwned>(self) -> T {
        self.expect("error").await
    }

    async fn expect<T: DeserializeOwned>(self, status: &str) -> T {
        let (channel, at, what) = (self.channel, self.at, format!("the reply to {:?}", self.event));
        let reply = self.await;
        if reply.status != status {
            let PushReply { status, response, .. } = reply;
            channel.fail(&format!("{what} is {status:?}, with {response}"), at);
        }
        channel.decode(&what, &reply.response, at)
    }

    /// Checks that no reply comes, for as long as [`TestChannel::refute`] waits.
    pub async fn unanswered(self) {
        sleep(quiet()).await;
        let reply = self.channel.client.0.log.state.lock().replies.remove(&self.reference);
        if reply.is_some() {
            self.channel.fail(&format!("{:?} was answered", self.event), self.at);
        }
    }
}

impl<'c> IntoFuture for Pushed<'c> {
    type Output = PushReply;
    type IntoFuture = Pin<Box<dyn Future<Output = PushReply> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let expected = format!("the reply to {:?}", self.event);
            let log = &self.channel.client.0.log;
            let take = |state: &mut ClientState| state.replies.remove(&self.reference);
            let (status, body) = log.until(&expected, self.at, take).await;
            let (response, binary) = match body {
                Body::Json(response) => (response, None),
                Body::Binary(bytes) => (Value::Null, Some(bytes)),
            };
            PushReply { status, response, binary }
        })
    }
}

impl fmt::Debug for Pushed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushed").field("event", &self.event).finish_non_exhaustive()
    }
}
