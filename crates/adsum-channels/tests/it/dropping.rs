//! Values that panic when they are dropped, and runtimes that shut down.

use std::{collections::HashMap, future, sync::Arc, time::Duration};

use adsum_channels::{
    Acceptor, Assigns, Channel, Client, EndReason, JoinError, Joined, NoParams, Outgoing, Payload, PubSub,
    Refused, Reply, Sender, Socket, SocketBuilder, SocketExtension, Stop, Topic, Wire,
};
use http::Request;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a drop that panics, as the test wants it");
    }
}

#[derive(Default)]
struct App {
    ended: Mutex<Vec<EndReason>>,
    sender: Mutex<Option<Sender<Bomb>>>,
}

struct Brittle {
    _bomb: Option<Bomb>,
}

struct Witness(Arc<App>);

impl SocketExtension for Witness {
    fn channel_ended(&mut self, reason: &EndReason) {
        self.0.ended.lock().push(reason.clone());
    }
}

impl Channel for Brittle {
    type App = Arc<App>;
    type Params = NoParams;
    type Info = Bomb;

    async fn join(
        app: &Arc<App>,
        topic: &Topic,
        _: NoParams,
        socket: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        let bomb = (topic.as_str() != "room:whole").then(|| Bomb);
        if topic.as_str() == "room:hangs" {
            future::pending::<()>().await;
        }
        *app.sender.lock() = Some(socket.sender::<Self>());
        let app = app.clone();
        socket.extension_or_insert_with(|_: &Witness| true, || Witness(app));
        let joined = Joined::new(Self { _bomb: bomb });
        if topic.as_str() == "room:unsayable" {
            // JSON has only string keys.
            return Ok(joined.reply(HashMap::from([((1, 2), 3)])));
        }
        Ok(joined)
    }

    async fn handle_in(&mut self, _: &str, _: Payload, _: &mut Socket) -> Result<Reply, Stop> {
        let _bomb = Bomb;
        future::pending().await
    }
}

fn start() -> (Acceptor, Arc<App>) {
    let app = Arc::new(App::default());
    let socket = SocketBuilder::new(app.clone()).channel::<Brittle>("room:*");
    (socket.into_acceptor(PubSub::local()), app)
}

async fn accept(acceptor: &Acceptor) -> Client {
    let request = Request::get("/?vsn=2.0.0").body(()).unwrap().into_parts().0;
    acceptor.accept("test", request).await.unwrap()
}

fn send(client: &mut Client, frame: &Value) {
    client.receive(Wire::Text(frame.to_string().as_bytes())).unwrap();
}

async fn expect(client: &mut Client, frame: Value) {
    match timeout(Duration::from_hours(1), client.next()).await.expect("something comes") {
        Outgoing::Text(text) => assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), frame),
        other => panic!("no text but {other:?}"),
    }
}

async fn join(client: &mut Client, topic: &str) {
    send(client, &json!(["1", "1", topic, "phx_join", {}]));
    expect(client, json!(["1", "1", topic, "phx_reply", {"response": {}, "status": "ok"}])).await;
}

/// Leaves, and receives all frames of the leave.
async fn leave(client: &mut Client, topic: &str) {
    send(client, &json!(["1", "9", topic, "phx_leave", {}]));
    expect(client, json!(["1", "9", topic, "phx_reply", {"response": {}, "status": "ok"}])).await;
    expect(client, json!(["1", "1", topic, "phx_close", {}])).await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_drop_panics_ends_in_good_order_and_can_be_joined_again() {
    let (acceptor, app) = start();
    let mut client = accept(&acceptor).await;
    for n in 1..=3 {
        join(&mut client, "room:a").await;
        leave(&mut client, "room:a").await;
        assert_eq!(*app.ended.lock(), vec![EndReason::Left; n]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_cut_off_and_panics_in_its_drop_does_not_keep_the_channel_from_its_end() {
    let (acceptor, app) = start();
    let mut client = accept(&acceptor).await;
    join(&mut client, "room:whole").await;
    send(&mut client, &json!(["1", "2", "room:whole", "hang", {}]));
    leave(&mut client, "room:whole").await;
    assert_eq!(*app.ended.lock(), [EndReason::Left]);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_given_up_and_panics_in_its_drop_is_answered() {
    let (acceptor, _) = start();
    let mut client = accept(&acceptor).await;
    send(&mut client, &json!(["1", "1", "room:hangs", "phx_join", {}]));
    let error = |reason| json!({"response": {"reason": reason}, "status": "error"});
    expect(&mut client, json!(["1", "1", "room:hangs", "phx_reply", error("join timeout")])).await;
    send(&mut client, &json!(["2", "2", "room:unsayable", "phx_join", {}]));
    expect(&mut client, json!(["2", "2", "room:unsayable", "phx_reply", error("join crashed")])).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waits_and_panics_in_its_drop_does_not_keep_the_channel_from_its_end() {
    let (acceptor, app) = start();
    let mut client = accept(&acceptor).await;
    join(&mut client, "room:whole").await;
    send(&mut client, &json!(["1", "2", "room:whole", "hang", {}]));
    let sender = app.sender.lock().clone().unwrap();
    sender.send(Bomb).unwrap();
    leave(&mut client, "room:whole").await;
    assert_eq!(*app.ended.lock(), [EndReason::Left]);
}

/// A future that is dropped inside a spawn, as by a runtime that shuts down, must find no lock held.
#[test]
fn a_runtime_ends_while_a_long_poll_session_opens() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (connecting, is_connecting) = std::sync::mpsc::channel();
    let connect = move |_, _| {
        let connecting = connecting.clone();
        async move {
            connecting.send(()).unwrap();
            // Waits until the runtime shuts down: a task that is spawned then is dropped at once.
            loop {
                let task = tokio::spawn(future::pending::<()>());
                if task.is_finished() {
                    break;
                }
                task.abort();
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok::<_, Refused>(Assigns::new())
        }
    };
    let socket = SocketBuilder::new(()).longpoll("a secret that is long enough").unwrap().connect(connect);
    let router: axum::Router = socket.into_router(PubSub::local());
    runtime
        .spawn(router.oneshot(Request::get("/longpoll?vsn=2.0.0").body(axum::body::Body::empty()).unwrap()));
    is_connecting.recv().unwrap();
    let (ended, has_ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(runtime);
        ended.send(()).unwrap();
    });
    has_ended.recv_timeout(Duration::from_secs(20)).expect("the runtime ends");
}
