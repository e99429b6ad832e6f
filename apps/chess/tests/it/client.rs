//! A client of the socket, as phoenix.js is one.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

/// Far longer than anything here takes: a test that gets there has failed.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Asks again and again until something is so.
pub(crate) async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, asked).await.expect("it comes about");
}

/// One tab.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    next_ref: u64,
    /// Messages that came while the test waited for others.
    heard: VecDeque<Heard>,
    /// Everyone in each topic: its last state, with the diffs since.
    people: HashMap<String, Value>,
}

struct Heard {
    reference: Value,
    topic: String,
    event: String,
    payload: Value,
}

impl Client {
    /// Connects somebody who is signed in.
    pub(crate) async fn connect(address: &str, cookie: &str) -> Self {
        Self::try_connect(address, cookie).await.unwrap()
    }

    /// The error is the status of the answer.
    pub(crate) async fn try_connect(address: &str, cookie: &str) -> Result<Self, u16> {
        let url = format!("ws://{address}/socket/websocket?vsn=2.0.0");
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => {
                Ok(Self { socket, next_ref: 1, heard: VecDeque::new(), people: HashMap::new() })
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Joins a topic. Its messages from then on are kept until the test waits for them.
    pub(crate) async fn join(&mut self, topic: &str, params: Value) -> Result<Value, Value> {
        self.heard.retain(|heard| heard.topic != topic);
        self.people.remove(topic);
        self.push(topic, "phx_join", params).await
    }

    /// Joins the lobby or a game, and waits until the server has this tab there: it replies to a join first.
    pub(crate) async fn enter(&mut self, topic: &str) -> Value {
        let joined = self.join(topic, json!({ "status": "here" })).await.unwrap();
        self.people_where(topic, |_| true).await;
        joined
    }

    pub(crate) async fn push(&mut self, topic: &str, event: &str, payload: Value) -> Result<Value, Value> {
        let reference = self.send(topic, event, payload).await;
        let reply =
            self.next(|heard| heard.event == "phx_reply" && heard.reference == json!(reference)).await;
        let response = reply.payload["response"].clone();
        if reply.payload["status"] == "ok" { Ok(response) } else { Err(response) }
    }

    /// Sends an event without waiting for its answer.
    pub(crate) async fn send(&mut self, topic: &str, event: &str, payload: Value) -> String {
        let reference = self.next_ref.to_string();
        self.next_ref += 1;
        // One channel a topic: its name serves as the ref of its join.
        let frame = json!([topic, reference, topic, event, payload]);
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
        reference
    }

    /// The next event of a topic, from those that came already.
    pub(crate) async fn event(&mut self, topic: &str, event: &str) -> Value {
        self.event_where(topic, event, |_| true).await
    }

    /// The next event of a topic that is as it should be; those before it are gone.
    pub(crate) async fn event_where(
        &mut self,
        topic: &str,
        event: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        loop {
            let heard = self.next(|heard| heard.topic == topic && heard.event == event).await;
            if wanted(&heard.payload) {
                return heard.payload;
            }
        }
    }

    /// Everyone in a topic, once they are as they should be. Takes no event from the test.
    pub(crate) async fn people_where(&mut self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(people) = self.people.get(topic).filter(|people| wanted(people)) {
                return people.clone();
            }
            let heard = self.read().await;
            self.heard.push_back(heard);
        }
    }

    /// Waits until an event has come that is as it should be, and leaves it for the test.
    pub(crate) async fn until_heard(&mut self, topic: &str, event: &str, wanted: impl Fn(&Value) -> bool) {
        let is_it = |heard: &Heard| heard.topic == topic && heard.event == event && wanted(&heard.payload);
        while !self.heard.iter().any(is_it) {
            let heard = self.read().await;
            self.heard.push_back(heard);
        }
    }

    /// Those of an event that have come so far.
    pub(crate) async fn all_heard(&mut self, topic: &str, event: &str) -> Vec<Value> {
        drop(self.push("phoenix", "heartbeat", json!({})).await);
        let heard = self.heard.iter().filter(|heard| heard.topic == topic && heard.event == event);
        heard.map(|heard| heard.payload.clone()).collect()
    }

    /// Waits until the server closes the socket. Returns the code of its close, if it sent one.
    pub(crate) async fn closed(mut self) -> Option<u16> {
        let closed = async {
            let mut code = None;
            while let Some(Ok(message)) = self.socket.next().await {
                if let Message::Close(Some(close)) = message {
                    code = Some(close.code.into());
                }
            }
            code
        };
        timeout(DEADLINE, closed).await.unwrap()
    }

    /// Closes the socket, as a page does that is left.
    pub(crate) async fn close(mut self) {
        drop(self.socket.close(None).await);
        self.closed().await;
    }

    async fn next(&mut self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        if let Some(index) = self.heard.iter().position(&wanted) {
            return self.heard.remove(index).unwrap();
        }
        loop {
            let heard = self.read().await;
            if wanted(&heard) {
                return heard;
            }
            self.heard.push_back(heard);
        }
    }

    /// The next message of the socket.
    async fn read(&mut self) -> Heard {
        loop {
            let message = timeout(DEADLINE, self.socket.next()).await.unwrap_or_else(|_| {
                let heard = self
                    .heard
                    .iter()
                    .map(|heard| format!("{} {} {}", heard.topic, heard.event, heard.payload));
                panic!("waited in vain; heard {:#?}", heard.collect::<Vec<_>>())
            });
            let message = message.expect("the socket is open").unwrap();
            let Message::Text(text) = message else { continue };
            let (_, reference, topic, event, payload): (Value, Value, String, String, Value) =
                serde_json::from_str(&text).unwrap();
            match &*event {
                "presence_state" => drop(self.people.insert(topic.clone(), payload.clone())),
                // A diff before the state is part of it.
                "presence_diff" => {
                    if let Some(people) = self.people.get_mut(&topic) {
                        apply(people, &payload);
                    }
                }
                _ => {}
            }
            return Heard { reference, topic, event, payload };
        }
    }
}

/// Applies a diff to everyone in a topic, by the refs of their metas.
fn apply(people: &mut Value, diff: &Value) {
    let people = people.as_object_mut().unwrap();
    let has_ref = |metas: &Value, meta: &Value| {
        metas.as_array().unwrap().iter().any(|other| other["phx_ref"] == meta["phx_ref"])
    };
    for (key, joined) in diff["joins"].as_object().unwrap() {
        let before = people.insert(key.clone(), joined.clone());
        let mut metas = before.map_or_else(Vec::new, |before| before["metas"].as_array().unwrap().clone());
        metas.retain(|meta| !has_ref(&joined["metas"], meta));
        metas.extend(joined["metas"].as_array().unwrap().iter().cloned());
        people[key]["metas"] = metas.into();
    }
    for (key, left) in diff["leaves"].as_object().unwrap() {
        let Some(metas) = people.get_mut(key).map(|person| person["metas"].as_array_mut().unwrap()) else {
            continue;
        };
        metas.retain(|meta| !has_ref(&left["metas"], meta));
        if metas.is_empty() {
            people.remove(key);
        }
    }
}
