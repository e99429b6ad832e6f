//! The channels under test, and their log for the test.

use std::{collections::HashMap, future, sync::Arc, time::Duration};

use adsum_channels::{
    Assigns, Channel, Connect, EndReason, JoinError, Joined, Json, Level, Message, NoParams, Payload,
    Refused, Reply, Sender, Socket, SocketExtension, Stop, Topic,
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

pub(crate) struct App {
    pub(crate) log: mpsc::UnboundedSender<String>,
    /// The gate that slow channels wait for.
    pub(crate) gate: Semaphore,
    /// A sender for the last joined channel of each room.
    pub(crate) senders: Mutex<HashMap<String, Sender<Info>>>,
}

impl App {
    fn log(&self, line: impl Into<String>) {
        let _ = self.log.send(line.into());
    }
}

#[derive(Clone, Deserialize)]
pub(crate) struct User {
    user_id: String,
}

pub(crate) async fn connect(_: Arc<App>, request: Connect) -> Result<Assigns, Refused> {
    let user: User = request.params()?;
    if request.headers().contains_key("x-unwanted") {
        return Err(Refused::new("unwanted"));
    }
    let id = format!("user:{}", user.user_id);
    let key = user.user_id.clone();
    Ok(Assigns::new().with(user).with(Token(request.auth_token())).id(id).limit_key(key))
}

#[derive(Clone)]
struct Token(Option<String>);

/// A value that a route assigns.
#[derive(Clone)]
pub(crate) struct Greeting(pub(crate) &'static str);

#[derive(Debug)]
pub(crate) enum Info {
    Say(String),
    Shout(String),
    Stop,
}

pub(crate) struct Room {
    app: Arc<App>,
}

impl Channel for Room {
    type App = Arc<App>;
    type Params = NoParams;
    type Info = Info;
    const INTERCEPT: &'static [&'static str] = &["as_it_is", "changed", "kept_back", "ends"];

    async fn handle_out(&mut self, message: Arc<Message>, socket: &mut Socket) -> Result<(), Stop> {
        match message.event() {
            "changed" => socket.push("other", json!({"was": message.payload().decode::<u8>()?}))?,
            "kept_back" => {}
            "ends" => return Err(Stop::shutdown()),
            event => socket.push(event, message.payload().clone())?,
        }
        Ok(())
    }

    async fn join(
        app: &Arc<App>,
        topic: &Topic,
        _: NoParams,
        socket: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        app.log(format!("join {topic}"));
        match topic.as_str() {
            "room:denied" => return Err(JoinError::new(json!({"reason": "unauthorized"}))),
            "room:panic" => panic!("a join that panics, as the test wants it"),
            "room:fails" => {
                "x".parse::<u8>()?;
            }
            "room:early" => socket.push("too", json!({"soon": true}))?,
            "room:hangs" => future::pending().await,
            "room:slow" => app.gate.acquire().await?.forget(),
            _ => {}
        }
        socket.extension_or_insert_with(
            |_: &Witness| true,
            || Witness { app: app.clone(), topic: topic.clone() },
        );
        app.senders.lock().insert(topic.to_string(), socket.sender::<Self>());
        let joined = Joined::new(Self { app: app.clone() });
        Ok(match topic.as_str() {
            "room:welcome" => joined.reply(json!({"hello": "there"})),
            _ if socket.assigns().get::<User>().is_some_and(|user| user.user_id == "deaf") => {
                joined.without("shout").without("as_it_is")
            }
            _ => joined,
        })
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        if socket.topic().as_str() == "room:welcome" {
            assert!(socket.reply_ref().is_none(), "no event is being handled");
            socket.push("after_join", json!({}))?;
        }
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        Ok(match event {
            "echo" => Reply::ok(payload),
            "fail" => Reply::error(payload),
            "so_so" => Reply::with_status("so so", payload),
            "whoami" => Reply::ok(&socket.assigns().get::<User>().expect("assigned at connect").user_id),
            "typed" => Reply::ok(payload.decode::<Count>()?.count),
            "typed_or_refused" => Reply::ok(payload.decode_or_refuse::<Count>()?.count),
            "greeting" => Reply::ok(socket.assigns().get::<Greeting>().map(|greeting| greeting.0)),
            "shout" => {
                socket.broadcast("shout", payload)?;
                Reply::none()
            }
            "storm" => {
                for n in 0..payload.decode::<u32>()? {
                    socket.broadcast("as_it_is", n)?;
                }
                Reply::none()
            }
            "shout_from" => {
                socket.broadcast_from("shout", payload)?;
                Reply::ok(Json::empty_object())
            }
            // The client chooses the event's name, which a program should not allow.
            "broadcast_as" => refusal(socket.broadcast(&payload.decode::<String>()?, json!({}))),
            "broadcast_from_as" => refusal(socket.broadcast_from(&payload.decode::<String>()?, json!({}))),
            "push_as" => refusal(socket.push(&payload.decode::<String>()?, json!({}))),
            "push_with_as" => refusal(socket.push_with(&payload.decode::<String>()?, || json!({}))),
            "push_to" => refusal(socket.push_to(&payload.decode::<String>()?, "pushed", json!({}))),
            "push" => {
                socket.push("pushed", payload)?;
                socket.push_with("pushed_with", || json!({"n": 1}))?;
                Reply::none()
            }
            "binary" => Reply::ok(Payload::Binary(Bytes::from_static(b"\x01"))),
            "binary_push" => {
                socket.push("x", Payload::Binary(Bytes::new()))?;
                Reply::ok(Json::empty_object())
            }
            "later" => {
                let reply = socket.reply_ref().expect("an event is being handled");
                let app = self.app.clone();
                tokio::spawn(async move {
                    app.gate.acquire().await.expect("the gate is never closed").forget();
                    reply.reply(Reply::ok(payload))
                });
                Reply::none()
            }
            "token" => Reply::ok(socket.assigns().get::<Token>().and_then(|token| token.0.clone())),
            "subscribe" => {
                socket.subscribe(payload.decode::<String>()?);
                Reply::ok(Json::empty_object())
            }
            "unsubscribe" => {
                socket.unsubscribe(&payload.decode::<String>()?);
                Reply::ok(Json::empty_object())
            }
            "extension" => {
                let found = socket.extension(|witness: &Witness| witness.topic.starts_with("room:"));
                Reply::ok(found.is_some())
            }
            "wrong_sender" => {
                socket.sender::<Typed>();
                Reply::none()
            }
            "slow" => {
                self.app.log("slow");
                self.app.gate.acquire().await?.forget();
                Reply::ok(payload)
            }
            "note" => {
                tracing::info!("noted");
                Reply::none()
            }
            "hang" => {
                self.app.log("hangs");
                future::pending().await
            }
            "crash" => panic!("a handler that panics, as the test wants it"),
            "stop" => return Err(Stop::normal()),
            "stop_reply" => return Err(Stop::shutdown().reply(Reply::ok(payload))),
            "crash_reply" => return Err(Stop::crash("wanted").reply(Reply::ok(payload))),
            other => return Err(Stop::unhandled(other)),
        })
    }

    async fn handle_info(&mut self, info: Info, socket: &mut Socket) -> Result<(), Stop> {
        match info {
            Info::Say(text) => socket.push("said", json!({"text": text}))?,
            Info::Shout(text) => socket.broadcast("said", json!({"text": text}))?,
            Info::Stop => return Err(Stop::normal()),
        }
        Ok(())
    }

    async fn handle_message(&mut self, message: Arc<Message>, socket: &mut Socket) -> Result<(), Stop> {
        socket.push("news", json!({"of": message.topic().as_str(), "event": message.event()}))?;
        Ok(())
    }

    async fn terminate(&mut self, reason: &EndReason, socket: &mut Socket) {
        if socket.topic().as_str() == "room:slow_end" {
            future::pending::<()>().await;
        }
        self.app.log(format!("terminate {} {reason:?}", socket.topic()));
    }
}

/// Replies with an error's text.
fn refusal(sent: Result<(), impl std::fmt::Display>) -> Reply {
    match sent {
        Ok(()) => Reply::ok(json!({})),
        Err(error) => Reply::error(error.to_string()),
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.app.log("channel dropped");
    }
}

/// Logs the calls of an extension. The frames show what handlers do.
struct Witness {
    app: Arc<App>,
    topic: Topic,
}

impl SocketExtension for Witness {
    fn handler_returned(&mut self) {
        if self.topic.as_str() == "room:witness" {
            self.app.log("handler returned");
        }
    }

    fn channel_ended(&mut self, reason: &EndReason) {
        self.app.log(format!("ended {} {reason:?}", self.topic));
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.app.log(format!("extension dropped {}", self.topic));
    }
}

/// A channel with typed params, which handles no events.
pub(crate) struct Typed;

#[derive(Deserialize)]
pub(crate) struct Count {
    count: u32,
    #[serde(default)]
    #[expect(dead_code, reason = "read, and looked at by nobody")]
    password: u32,
}

impl Channel for Typed {
    type App = Arc<App>;
    type Params = Count;
    type Info = ();
    const LOG_JOIN: Option<Level> = Some(Level::INFO);
    const SHUTDOWN_GRACE: Option<Duration> = Some(Duration::from_millis(50));

    async fn join(_: &Arc<App>, _: &Topic, params: Count, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self).reply(json!({"next": params.count + 1})))
    }

    async fn terminate(&mut self, _: &EndReason, _: &mut Socket) {
        future::pending::<()>().await;
    }
}

/// A channel with typed params, and a default for invalid ones.
pub(crate) struct Lenient;

impl Channel for Lenient {
    type App = Arc<App>;
    type Params = Count;
    type Info = ();

    fn invalid_params(error: serde_json::Error) -> Result<Count, JoinError> {
        if error.to_string().contains("binary") {
            return Err(JoinError::reason("bytes"));
        }
        Ok(Count { count: 41, password: 0 })
    }

    async fn join(_: &Arc<App>, _: &Topic, params: Count, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self).reply(json!({"next": params.count + 1})))
    }
}
