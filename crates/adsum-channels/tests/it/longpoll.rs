//! Long poll, request by request, in paused time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use adsum_channels::{Assigns, Connect, DEFAULT_LONGPOLL_WINDOW, Drain, PubSub, SocketBuilder, Sockets};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Path,
};
use http::{HeaderMap, Request, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tower::ServiceExt;

use crate::room::{App, Room, Typed, connect};

pub(crate) const SECRET: &str = "a secret that is long enough";

pub(crate) struct Server {
    app: Arc<App>,
    router: Router,
    pub(crate) pubsub: PubSub,
    log: mpsc::UnboundedReceiver<String>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(|socket| socket)
    }

    pub(crate) fn start_with(
        configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
    ) -> Self {
        Self::start_on(PubSub::local(), configure)
    }

    pub(crate) fn start_on(
        pubsub: PubSub,
        configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
    ) -> Self {
        let (sender, log) = mpsc::unbounded_channel();
        let app = App { log: sender, gate: Semaphore::new(0), senders: Mutex::new(HashMap::new()) };
        let app = Arc::new(app);
        let socket = SocketBuilder::new(app.clone())
            .connect(connect)
            .channel::<Room>("room:*")
            .channel::<Typed>("typed:*");
        let socket = configure(socket.longpoll(SECRET).unwrap());
        Self { app, router: Router::new().nest("/socket", socket.into_router(pubsub.clone())), pubsub, log }
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(format!("/socket/longpoll?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers["access-control-allow-origin"], "*");
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    /// The JSON of a response with the HTTP status 200.
    pub(crate) async fn json(
        &self,
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Value {
        let (status, headers, body) = self.request(method, query, headers, body).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        assert_eq!(headers["cache-control"], "no-store");
        serde_json::from_slice(&body).unwrap()
    }

    /// Serves the socket at another path.
    pub(crate) fn start_at(pubsub: PubSub, path: &str) -> Self {
        let server = Self::start_on(pubsub, |socket| socket);
        server.below(path)
    }

    /// Serves the socket below another path, which may contain a parameter. The socket's path is `/socket` below it.
    fn below(self, path: &str) -> Self {
        Self { router: Router::new().nest(path, self.router), ..self }
    }

    /// As [`json`](Self::json), for a server at another path.
    pub(crate) async fn json_at(&self, path: &str, method: &str, query: &str, body: &'static str) -> Value {
        let uri = format!("{path}/socket/longpoll?{query}");
        let request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap()
    }

    pub(crate) async fn open(&self, vsn: &str) -> Client<'_> {
        let query = format!("user_id=u&vsn={vsn}");
        let answer = self.json("GET", &query, &[], "").await;
        assert_eq!((&answer["status"], &answer["messages"]), (&json!(410), &json!([])));
        let token = answer["token"].as_str().unwrap().to_owned();
        Client { server: self, query: format!("{query}&token={token}"), token }
    }

    pub(crate) async fn logged(&mut self) -> String {
        self.log.recv().await.unwrap()
    }
}

pub(crate) struct Client<'s> {
    server: &'s Server,
    pub(crate) query: String,
    pub(crate) token: String,
}

impl Client<'_> {
    /// The same client, whose requests reach another server.
    pub(crate) fn at<'s>(&self, server: &'s Server) -> Client<'s> {
        Client { server, query: self.query.clone(), token: self.token.clone() }
    }

    pub(crate) async fn poll(&self) -> Value {
        self.server.json("GET", &self.query, &[], "").await
    }

    /// The parsed messages of the next non-empty poll.
    pub(crate) async fn messages(&self) -> Vec<Value> {
        let answer = self.poll().await;
        assert_eq!((&answer["status"], &answer["token"]), (&json!(200), &json!(self.token)));
        let texts = answer["messages"].as_array().unwrap().iter();
        texts.map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect()
    }

    pub(crate) async fn post(&self, body: impl Into<Body>) -> Value {
        let headers = [("content-type", "application/x-ndjson")];
        self.server.json("POST", &self.query, &headers, body).await
    }

    pub(crate) async fn join(&self) {
        assert_eq!(self.post(r#"["1","1","room:a","phx_join",{}]"#).await, json!({"status": 200}));
        let ok = json!({"response": {}, "status": "ok"});
        assert_eq!(self.messages().await, [json!(["1", "1", "room:a", "phx_reply", ok])]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_answered_by_the_next_poll() {
    let server = Server::start();
    let client = server.open("2.0.0").await;
    client.join().await;
    let two = "[\"1\",\"2\",\"room:a\",\"echo\",{\"a\":1}]\n[\"1\",\"3\",\"room:a\",\"echo\",{\"b\":2}]";
    assert_eq!(client.post(two).await, json!({"status": 200}));
    let reply =
        |n: &str, response| json!(["1", n, "room:a", "phx_reply", {"response": response, "status": "ok"}]);
    assert_eq!(client.messages().await, [reply("2", json!({"a": 1})), reply("3", json!({"b": 2}))]);
    // One message, without a content type of its own, and the token in a header.
    let headers = [("x-phoenix-longpoll-token", &*client.token)];
    let posted = server.json("POST", "vsn=2.0.0", &headers, r#"["1","4","room:a","echo",[]]"#).await;
    assert_eq!(posted, json!({"status": 200}));
    assert_eq!(client.messages().await, [reply("4", json!([]))]);
    // The token in the header has precedence.
    let stale = r#"["1","5","room:a","echo",{}]"#;
    assert_eq!(server.json("POST", "vsn=2.0.0&token=stale", &headers, stale).await, json!({"status": 200}));
    assert_eq!(client.messages().await, [reply("5", json!({}))]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_held_open_until_something_comes_or_the_window_has_passed() {
    let server = Server::start();
    let client = server.open("2.0.0").await;
    client.join().await;
    let start = Instant::now();
    let answer = client.poll().await;
    assert_eq!(answer, json!({"status": 204, "token": client.token, "messages": []}));
    assert_eq!(start.elapsed(), DEFAULT_LONGPOLL_WINDOW);

    let said = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.pubsub.broadcast("room:a", "said", json!({"n": 1})).unwrap();
    };
    let (messages, ()) = tokio::join!(client.messages(), said);
    assert_eq!(messages, [json!([null, null, "room:a", "said", {"n": 1}])]);
    assert_eq!(start.elapsed(), DEFAULT_LONGPOLL_WINDOW + Duration::from_secs(3));

    // A second poll replaces the first.
    let (first, second) = tokio::join!(client.poll(), async {
        tokio::task::yield_now().await;
        client.poll().await
    });
    assert_eq!((&first["status"], &second["status"]), (&json!(204), &json!(204)));
}

/// phoenix.js adds the session's token after the program's own parameters.
#[tokio::test(start_paused = true)]
async fn a_program_may_have_a_parameter_of_the_name_token() {
    let server = Server::start();
    let query = "user_id=u&token=abc&vsn=2.0.0";
    let answer = server.json("GET", query, &[], "").await;
    let token = answer["token"].as_str().unwrap().to_owned();
    let client = Client { server: &server, query: format!("{query}&token={token}"), token };
    client.join().await;
}

#[tokio::test(start_paused = true)]
async fn a_query_that_can_not_be_read_is_a_bad_request() {
    let server = Server::start();
    for (method, query) in [("GET", "user_id=%FF"), ("GET", "user_id=u&x=%ZZ"), ("POST", "user_id=%2")] {
        let (status, ..) = server.request(method, &format!("{query}&vsn=2.0.0"), &[], "[]").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slash_too_many_does_no_harm() {
    let server = Server::start();
    for path in ["/longpoll", "//longpoll", "/longpoll/", "//longpoll/"] {
        let request = Request::get(format!("/socket{path}?user_id=u&vsn=2.0.0")).body(Body::empty()).unwrap();
        let response = server.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn its_path_may_have_variables() {
    let server = Server::start_with(|socket| {
        socket.connect(async |_, mut request: Connect| {
            let Path(variables) = request.extract::<Path<HashMap<String, String>>>().await?;
            assert_eq!((&*variables["tenant"], &*variables["room"]), ("blue", "4 2"));
            Ok(Assigns::new())
        })
    })
    .below("/app/{tenant}/rooms/{room}");
    let path = "/app/blue/rooms/4%202";
    let opened = server.json_at(path, "GET", "vsn=2.0.0", "").await;
    let query = format!("vsn=2.0.0&token={}", opened["token"].as_str().unwrap());
    let posted = server.json_at(path, "POST", &query, r#"["1","1","room:a","phx_join",{}]"#).await;
    assert_eq!(posted, json!({"status": 200}));
    let polled = server.json_at(path, "GET", &query, "").await;
    assert_eq!(polled["messages"].as_array().unwrap().len(), 1, "{polled}");
}

/// If a channel's mailbox is full, an event waits for room, and so do those behind it.
#[tokio::test(start_paused = true)]
async fn a_post_that_is_not_taken_within_a_window_is_late_and_not_lost() {
    const WINDOW: Duration = Duration::from_secs(1);
    let server = Server::start_with(|socket| {
        socket.longpoll_window(WINDOW).max_mailbox(1).mailbox_timeout(2 * WINDOW)
    });
    let client = server.open("2.0.0").await;
    client.join().await;
    let start = Instant::now();
    // One is handled, one is in the mailbox, and one waits for room.
    let three: Vec<_> =
        (2..5).map(|n| json!(["1", n.to_string(), "room:a", "slow", n]).to_string()).collect();
    assert_eq!(client.post(three.join("\n")).await, json!({"status": 408}));
    assert_eq!(start.elapsed(), WINDOW);

    server.app.gate.add_permits(3);
    let mut replies = Vec::new();
    while replies.len() < 3 {
        replies.extend(client.messages().await.into_iter().map(|message| message[4]["response"].clone()));
    }
    assert_eq!(replies, [2, 3, 4]);
    assert_eq!(client.post(r#"["1","5","room:a","echo",{}]"#).await, json!({"status": 200}));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_its_client_is_silent() {
    let mut server = Server::start();
    let (query, token) = {
        let client = server.open("2.0.0").await;
        client.join().await;
        (client.query.clone(), client.token.clone())
    };
    assert_eq!(server.logged().await, "join room:a");
    let start = Instant::now();
    let ended = loop {
        let line = server.logged().await;
        if line.contains("terminate") {
            break line;
        }
    };
    assert!(ended.contains("Closed"), "{ended}");
    assert_eq!(start.elapsed(), DEFAULT_LONGPOLL_WINDOW.mul_f32(1.5));
    assert_eq!(server.json("POST", &query, &[], "[]").await, json!({"status": 410}));
    let answer = server.json("GET", &query, &[], "").await;
    assert_eq!(answer["status"], 410);
    assert_ne!(answer["token"], json!(token), "a new session");
}

/// Waits until the session's channel ends, and returns the paused time since `start`.
async fn ended(server: &mut Server, start: Instant) -> Duration {
    while !server.logged().await.contains("terminate") {}
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_given_up_keeps_no_session_alive() {
    let mut server = Server::start();
    let start = {
        let client = server.open("2.0.0").await;
        client.join().await;
        let start = Instant::now();
        // A tab that is closed while its poll is held open.
        assert!(tokio::time::timeout(Duration::from_secs(3), client.poll()).await.is_err());
        start
    };
    assert_eq!(ended(&mut server, start).await, DEFAULT_LONGPOLL_WINDOW.mul_f32(1.5));
}

#[tokio::test(start_paused = true)]
async fn a_post_and_the_end_of_a_window_are_signs_of_life() {
    let mut server = Server::start();
    let start = {
        let client = server.open("2.0.0").await;
        client.join().await;
        // Each of these comes more than one and a half windows after the previous poll, or after its start.
        let nearly = DEFAULT_LONGPOLL_WINDOW.mul_f32(1.4);
        tokio::time::sleep(nearly).await;
        assert_eq!(client.post(r#"["1","2","room:a","echo",1]"#).await, json!({"status": 200}));
        tokio::time::sleep(nearly).await;
        assert_eq!(client.messages().await.len(), 1);
        assert_eq!(client.poll().await["status"], 204);
        tokio::time::sleep(nearly).await;
        assert_eq!(client.post(r#"["1","3","room:a","echo",1]"#).await, json!({"status": 200}));
        Instant::now()
    };
    assert_eq!(ended(&mut server, start).await, DEFAULT_LONGPOLL_WINDOW.mul_f32(1.5));
}

#[tokio::test(start_paused = true)]
async fn if_the_host_is_not_passed_on_a_page_is_refused_at_once_or_served() {
    let server = Server::start();
    let query = "user_id=u&vsn=2.0.0";
    let host = ("host", "127.0.0.1:4100");
    // A page's GET to its own origin has no `Origin`; its POST has one.
    let page = ("referer", "https://example.org/page");
    assert_eq!(server.json("GET", query, &[host, page], "").await, json!({"status": 403}));
    // Pages can't forge the browser's `Sec-Fetch-Site`.
    let same = ("sec-fetch-site", "same-origin");
    let answer = server.json("GET", query, &[host, page, same], "").await;
    let query = format!("{query}&token={}", answer["token"].as_str().unwrap());
    let origin = ("origin", "https://example.org");
    let join = r#"["1","1","room:a","phx_join",{}]"#;
    assert_eq!(server.json("POST", &query, &[host, origin, same], join).await, json!({"status": 200}));
    assert_eq!(server.json("POST", &query, &[host, origin], join).await, json!({"status": 403}));
    assert_eq!(server.json("GET", &query, &[host, page], "").await, json!({"status": 403}));
    assert_eq!(server.json("GET", &query, &[host, page, same], "").await["status"], 200);
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_ends_a_session_and_its_channels() {
    let mut server = Server::start();
    {
        let client = server.open("2.0.0").await;
        client.join().await;
        let (answer, ()) = tokio::join!(client.poll(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            server.pubsub.broadcast("user:u", "disconnect", ()).unwrap();
        });
        assert_eq!(answer, json!({"status": 410}));
    }
    let start = Instant::now();
    assert_eq!(ended(&mut server, start).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn unread_messages_wait_for_the_next_poll() {
    let server = Server::start();
    let client = server.open("2.0.0").await;
    client.join().await;
    // The client cancels its poll; messages that come meanwhile are not lost.
    assert!(tokio::time::timeout(Duration::from_secs(1), client.poll()).await.is_err());
    server.pubsub.broadcast("room:a", "said", json!(1)).unwrap();
    assert_eq!(client.messages().await, [json!([null, null, "room:a", "said", 1])]);
}

#[tokio::test(start_paused = true)]
async fn version_one_and_binary_messages_are_posted_too() {
    let server = Server::start();
    let one = server.open("1.0.0").await;
    one.post(r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#).await;
    assert_eq!(one.messages().await[0]["payload"], json!({"response": {}, "status": "ok"}));
    let two = server.open("2.0.0").await;
    two.join().await;
    // 0, the lengths of "1", "2", "room:a" and "size", these, and three bytes; in base64.
    let posted = two.post("AAEBBgQxMnJvb206YWVjaG8AAf8=").await;
    assert_eq!(posted, json!({"status": 200}));
    assert_eq!(two.poll().await["status"], 204, "binary messages are not in a response");
}

#[tokio::test(start_paused = true)]
async fn a_post_that_makes_no_sense_is_a_bad_request_and_the_session_goes_on() {
    let server = Server::start_with(|socket| socket.max_message_bytes(1000));
    let client = server.open("2.0.0").await;
    client.join().await;
    let ndjson = [("content-type", "application/x-ndjson")];
    let long = format!(r#"["1","2","room:a","echo","{}"]"#, "x".repeat(1000));
    let too_many = "[\"1\",\"2\",\"room:a\",\"echo\",0]\n".repeat(101);
    for (headers, body) in [
        (&ndjson[..], "not json"),
        (&[], "not json"),
        (&[], "[1,2]"),
        (&ndjson[..], "[1]"),
        (&[], &long),
        (&ndjson[..], &too_many),
    ] {
        let (status, _, said) = server.request("POST", &client.query, headers, body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(!said.is_empty(), "it says why");
    }
    let (status, ..) = server.request("PUT", &client.query, &[], "x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(client.post(r#"["1","2","room:a","echo",1]"#).await, json!({"status": 200}));
    assert_eq!(client.messages().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_unknown_client_hears_it_in_the_answer() {
    let server = Server::start();
    assert_eq!(server.json("GET", "vsn=2.0.0", &[], "").await, json!({"status": 403}));
    assert_eq!(server.json("GET", "user_id=u&vsn=9.0.0", &[], "").await, json!({"status": 403}));
    let elsewhere = [("origin", "http://elsewhere"), ("host", "here")];
    assert_eq!(server.json("GET", "user_id=u&vsn=2.0.0", &elsewhere, "").await, json!({"status": 403}));
    for token in ["", "&token=bogus", "&token=SFMyNTY.g2gD.x"] {
        let query = format!("user_id=u&vsn=2.0.0{token}");
        assert_eq!(server.json("POST", &query, &[], "[]").await, json!({"status": 410}));
        assert_eq!(server.json("GET", &query, &[], "").await["status"], 410);
    }
    let asked = [("origin", "http://elsewhere"), ("access-control-request-headers", "content-type")];
    let (status, headers, _) = server.request("OPTIONS", "", &asked, "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["access-control-allow-headers"], "content-type");
    assert_eq!(headers["access-control-max-age"], "3600");
    assert!(SocketBuilder::new(()).longpoll("short").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_sessions_and_refuses_new_ones() {
    let sockets = Sockets::new();
    let server = Server::start_with(|socket| socket.sockets(&sockets));
    let client = server.open("2.0.0").await;
    client.join().await;
    let (left, answer) = tokio::join!(sockets.drain(Drain::default()), client.poll());
    assert_eq!((left, answer), (0, json!({"status": 410})));
    let (status, ..) = server.request("GET", &client.query, &[], "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn the_server_takes_its_sessions_along() {
    let mut server = Server::start();
    server.open("2.0.0").await.join().await;
    server.router = Router::new();
    loop {
        if server.logged().await.contains("terminate") {
            break;
        }
    }
}
