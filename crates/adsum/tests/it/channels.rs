//! Presences of channels: over a real socket if the order of frames matters, else with the kit for tests.

use std::time::Duration;

use adsum::{
    Change, Channel, JoinError, Joined, LeaveReason, NoFetch, NoParams, Payload, Presence, PresenceHandler,
    PubSub, Reply, Socket, SocketBuilder, Stop, Topic,
    testing::{TestChannel, TestServer},
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::support::{Does, Script, meta};

/// How long a frame may take to arrive before a test fails. Not a measure of speed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Room<H: PresenceHandler>(Presence<H>);

impl<H: PresenceHandler<Meta = crate::support::Meta>> Channel for Room<H> {
    type App = Presence<H>;
    type Params = NoParams;
    type Info = ();

    async fn join(
        presence: &Presence<H>,
        _: &Topic,
        _: NoParams,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(presence.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.0.track(socket, "me", meta(1))?;
        self.0.push_state(socket).await?;
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "elsewhere" => drop(self.0.track_in(socket, payload.decode::<String>()?, "me", meta(2))?),
            "update" => drop(self.0.update_with(socket, "me", |mut old| {
                old.insert("n".into(), 3.into());
                old
            })?),
            "untrack_all" => self.0.untrack_all(socket),
            "state" => self.0.push_state(socket).await?,
            "crash" => panic!("as wanted"),
            "stop" => return Err(Stop::normal()),
            _ => return Err(Stop::unhandled(event)),
        }
        Ok(Reply::ok(json!({})))
    }
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) struct Client(WebSocketStream<Box<dyn Io>>);

impl Client {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn frame(&mut self) -> Value {
        let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame arrives");
        serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
    }

    /// Reads the events of the next frames.
    async fn events<const N: usize>(&mut self) -> [(String, Value); N] {
        let mut events = Vec::new();
        for _ in 0..N {
            events.push(self.event().await);
        }
        events.try_into().expect("as many as asked for")
    }

    /// Reads the event and payload of the next frame.
    pub(crate) async fn event(&mut self) -> (String, Value) {
        let frame = self.frame().await;
        (frame[3].as_str().unwrap().to_owned(), frame[4].clone())
    }
}

async fn serve<H: PresenceHandler<Meta = crate::support::Meta>>(
    presence: &Presence<H>,
    pubsub: &PubSub,
) -> std::net::SocketAddr {
    let socket = SocketBuilder::new(presence.clone()).channel::<Room<H>>("room:*");
    serve_socket(socket, pubsub).await
}

pub(crate) async fn serve_socket<A: Clone + Send + Sync + 'static>(
    socket: SocketBuilder<A>,
    pubsub: &PubSub,
) -> std::net::SocketAddr {
    let site = axum::Router::new().nest("/socket", socket.into_router(pubsub.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, site).await });
    address
}

pub(crate) async fn connect(address: std::net::SocketAddr) -> Client {
    connect_over(TcpStream::connect(address).await.unwrap()).await
}

pub(crate) async fn connect_over(stream: impl Io + 'static) -> Client {
    connect_to("/socket", stream).await
}

/// Connects to the socket that is mounted at a path.
pub(crate) async fn connect_to(path: &str, stream: impl Io + 'static) -> Client {
    let stream: Box<dyn Io> = Box::new(stream);
    let url = format!("ws://localhost{path}/websocket?vsn=2.0.0");
    Client(client_async(url, stream).await.unwrap().0)
}

pub(crate) async fn started() -> (Presence<NoFetch>, PubSub, Client) {
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).diff_interval(Duration::ZERO).start();
    let client = connect(serve(&presence, &pubsub).await).await;
    (presence, pubsub, client)
}

/// A server without a network, for tests that don't need one.
fn server<H: PresenceHandler<Meta = crate::support::Meta>>(presence: &Presence<H>) -> TestServer {
    TestServer::new(SocketBuilder::new(presence.clone()).channel::<Room<H>>("room:*"), presence)
}

async fn join(server: &TestServer) -> TestChannel {
    server.connect("").await.unwrap().join("room:a", json!({})).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_while_its_presences_linger_was_never_gone() {
    let linger = Duration::from_secs(3);
    let presence = Presence::builder(PubSub::local()).diff_interval(Duration::ZERO).linger(linger).start();
    let mut watch = presence.watch("room:a");
    let _ = watch.next().await;
    let server = server(&presence);
    let room = join(&server).await;
    let Some(Change::Diff(came)) = watch.next().await else { panic!("a diff") };
    let first = came.joins["me"].metas[0].reference;

    // A reload: the browser closes cleanly, and comes back.
    room.client().close().await;
    let room = join(&server).await;
    let Some(Change::Diff(replaced)) = watch.next().await else { panic!("a diff") };
    assert_eq!(replaced.joins["me"].metas.len(), 1);
    assert_eq!(replaced.leaves["me"].metas[0].reference, first);
    assert_eq!(replaced.leaves["me"].metas[0].reason, None, "another is in its place");

    // A leave doesn't linger.
    room.leave().await;
    let Some(Change::Diff(left)) = watch.next().await else { panic!("a diff") };
    assert_eq!(left.leaves["me"].metas[0].reason, Some(LeaveReason::Left));

    // A client that stays away is gone once the time is over.
    let room = join(&server).await;
    let Some(Change::Diff(_)) = watch.next().await else { panic!("a diff") };
    room.client().close().await;
    let began = tokio::time::Instant::now();
    let Some(Change::Diff(gone)) = watch.next().await else { panic!("a diff") };
    assert_eq!(gone.leaves["me"].metas[0].reason, Some(LeaveReason::Gone));
    assert_eq!(began.elapsed().as_secs(), linger.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_back_before_its_close_is_known_counts_twice_while_that_one_lingers() {
    let linger = Duration::from_secs(3);
    let presence = Presence::builder(PubSub::local()).diff_interval(Duration::ZERO).linger(linger).start();
    let server = server(&presence);
    let old = join(&server).await;
    let new = join(&server).await;
    new.until_present("me").await;
    old.client().close().await;
    assert_eq!(presence.count("room:a"), 2);
    tokio::time::sleep(linger * 9 / 10).await;
    assert_eq!(presence.count("room:a"), 2);
    tokio::time::sleep(linger / 5).await;
    assert_eq!(presence.count("room:a"), 1);
    // The one that stays takes the place of nobody, and its own is taken as ever.
    new.client().close().await;
    let newest = join(&server).await;
    newest.until_present("me").await;
    assert_eq!(presence.count("room:a"), 1);
}

pub(crate) const JOIN: &str = r#"["1","1","room:a","phx_join",{}]"#;

#[tokio::test]
async fn the_reply_is_first_then_the_own_diff_then_the_state() {
    let (_presence, _, mut client) = started().await;
    client.send(JOIN).await;
    let [reply, diff, state] = client.events().await;
    assert_eq!([&*reply.0, &*diff.0, &*state.0], ["phx_reply", "presence_diff", "presence_state"]);
    assert_eq!(diff.1["joins"], state.1);
    client.send(r#"["1","2","room:a","update",{}]"#).await;
    let [reply, diff] = client.events().await;
    assert_eq!([&*reply.0, &*diff.0], ["phx_reply", "presence_diff"]);
    assert_eq!(diff.1["joins"]["me"]["metas"][0]["phx_ref_prev"], state.1["me"]["metas"][0]["phx_ref"]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_may_be_present_elsewhere_too() {
    let presence = Presence::builder(PubSub::local()).diff_interval(Duration::ZERO).start();
    let mut inbox = PubSub::from(&presence).subscribe("users:online");
    let server = server(&presence);
    let room = join(&server).await;
    room.push("elsewhere", "users:online").ok::<Value>().await;
    assert_eq!(crate::support::diff(&mut inbox).await["joins"]["me"]["metas"][0]["n"], 2);
    room.push("untrack_all", json!({})).ok::<Value>().await;
    assert_eq!(room.expect_leave("me").await.reason, "left");
    assert_eq!(crate::support::diff(&mut inbox).await["leaves"]["me"]["metas"][0]["phx_reason"], "left");
    assert_eq!(presence.count("room:a") + presence.count("users:online"), 0);
}

#[tokio::test]
async fn how_a_channel_ends_is_the_reason_of_its_leave() {
    let (presence, pubsub, mut client) = started().await;
    let mut inbox = pubsub.subscribe("room:a");
    for (join_ref, event, reason) in
        [("1", "phx_leave", "left"), ("2", "crash", "crashed"), ("3", "stop", "finished"), ("4", "", "gone")]
    {
        client.send(&format!(r#"["{join_ref}","{join_ref}","room:a","phx_join",{{}}]"#)).await;
        crate::support::diff(&mut inbox).await;
        if event.is_empty() {
            drop(client);
            let left = crate::support::diff(&mut inbox).await;
            assert_eq!(left["leaves"]["me"]["metas"][0]["phx_reason"], reason);
            break;
        }
        client.send(&format!(r#"["{join_ref}","9","room:a","{event}",{{}}]"#)).await;
        let left = crate::support::diff(&mut inbox).await;
        assert_eq!(left["leaves"]["me"]["metas"][0]["phx_reason"], reason, "{event}");
    }
    assert_eq!(presence.count("room:a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_hangs_or_panics_costs_nobody_their_channel() {
    for failure in [Does::Fails, Does::Panics, Does::PanicsAtOnce, Does::Hangs] {
        let script = Script::new(failure);
        let presence = Presence::builder(PubSub::local()).handler(script.clone()).start();
        let server = server(&presence).allow_failed_fetches();
        let room = join(&server).await;
        let state: Value = room.expect("presence_state").await;
        assert_eq!(state["me"]["metas"][0]["n"], 1);
        script.then(Does::Answers(json!({"name": "Ann"})));
        room.push("state", json!({})).ok::<Value>().await;
        assert_eq!(room.expect::<Value>("presence_state").await["me"]["name"], "Ann");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_is_followed_by_the_keys_refreshed_lately() {
    let script = Script::answering(json!({"name": "Ann"}));
    let presence = Presence::builder(PubSub::local()).handler(script.clone());
    let presence = presence.diff_interval(Duration::ZERO).start();
    let server = server(&presence);
    let room = join(&server).await;
    assert_eq!(room.expect::<Value>("presence_diff").await["joins"]["me"]["name"], "Ann");
    room.expect::<Value>("presence_state").await;
    script.then(Does::Answers(json!({"name": "Anna"})));
    presence.refresh("room:a", "me");
    assert_eq!(room.expect::<Value>("presence_diff").await["joins"]["me"]["name"], "Anna");
    room.push("state", json!({})).ok::<Value>().await;
    let state: Value = room.expect("presence_state").await;
    assert_eq!(room.expect::<Value>("presence_diff").await["joins"], state);
}

/// Replies with the presence's error, where a program would use `?`.
struct Frank(Presence);

impl Channel for Frank {
    type App = Presence;
    type Params = NoParams;
    type Info = ();

    async fn join(
        presence: &Presence,
        _: &Topic,
        _: NoParams,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(presence.clone())))
    }

    async fn handle_in(&mut self, event: &str, _: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        let error = match event {
            "track" => self.0.track(socket, "me", meta(1)).map(drop).map_err(|error| error.to_string()),
            "track_in" => {
                self.0.track_in(socket, "room:b", "me", meta(1)).map(drop).map_err(|error| error.to_string())
            }
            "push_state" => self.0.push_state(socket).await.map_err(|error| error.to_string()),
            _ => return Err(Stop::unhandled(event)),
        };
        Ok(error.map_or_else(Reply::error, |()| Reply::ok(json!({}))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_of_another_pubsub_than_the_presence_is_refused_by_name() {
    let presence = Presence::builder(PubSub::local()).start();
    for (socket_is_of_the_presence, pubsub) in
        [(false, PubSub::local()), (true, PubSub::from(&presence)), (true, PubSub::from(&presence.clone()))]
    {
        let socket = SocketBuilder::new(presence.clone()).channel::<Frank>("room:*");
        let server = TestServer::without_presence(socket, pubsub);
        let room = join(&server).await;
        for event in ["push_state", "track", "track_in"] {
            if socket_is_of_the_presence {
                room.push(event, json!({})).ok::<Value>().await;
            } else {
                let said: String = room.push(event, json!({})).error().await;
                assert!(said.contains("into_router(&presence)"), "{event}: {said}");
                assert_eq!(presence.count("room:a") + presence.count("room:b"), 0);
            }
        }
    }
}
