//! The ready server, over TCP: timeouts, limits and shutdown.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};

use adsum_channels::{Drain, PubSub, Serve, SocketBuilder, Sockets, serve};
use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, Request},
    middleware::{self, Next},
    routing::{get, post},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::client_async;

use crate::{
    client::{Client, Stream},
    room::{App, Room, connect},
};

/// A timeout that passes only in a failing test.
const PATIENCE: Duration = Duration::from_secs(20);
/// The timeouts of a test's server.
const SHORT: Duration = Duration::from_millis(100);
const WEBSOCKET: &str = "GET /socket/websocket?vsn=2.0.0&user_id=u HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

struct Server {
    address: SocketAddr,
    /// Requests of `/slow` and sockets wait here.
    gate: Arc<Semaphore>,
    entered: mpsc::UnboundedReceiver<()>,
    signal: Option<oneshot::Sender<()>>,
    served: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start(configure: impl FnOnce(Serve) -> Serve) -> Self {
        Self::start_with(|socket| socket, configure).await
    }

    async fn start_with(
        socket: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
        configure: impl FnOnce(Serve) -> Serve,
    ) -> Self {
        let app = App {
            log: mpsc::unbounded_channel().0,
            gate: Semaphore::new(0),
            senders: Mutex::new(HashMap::new()),
        };
        let builder = SocketBuilder::new(Arc::new(app)).connect(connect).channel::<Room>("room:*");
        let builder = socket(builder.longpoll("a secret that is long enough").unwrap());
        let gate = Arc::new(Semaphore::new(0));
        let (enter, entered) = mpsc::unbounded_channel();
        let wait = {
            let gate = gate.clone();
            move || {
                let (gate, enter) = (gate.clone(), enter.clone());
                async move {
                    enter.send(()).unwrap();
                    gate.acquire().await.unwrap().forget();
                }
            }
        };
        let waiting = wait.clone();
        let late = middleware::from_fn(move |request: Request, next: Next| {
            let wait = waiting.clone();
            async move {
                wait().await;
                next.run(request).await
            }
        });
        let sockets: Router = builder.into_router(PubSub::local());
        let site = Router::new()
            .route("/", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
            .route("/length", post(async |body: Bytes| body.len().to_string()))
            .route("/slow", get(async move || wait().await))
            .nest("/late", sockets.clone().layer(late))
            .nest("/socket", sockets);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (signal, signalled) = oneshot::channel();
        let until = async { signalled.await.unwrap_or_default() };
        let served = tokio::spawn(configure(serve(listener, site)).until(until).into_future());
        Self { address, gate, entered, signal: Some(signal), served }
    }

    async fn stream(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends something over a new connection.
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.stream().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn client(&self) -> Client {
        let stream: Box<dyn Stream> = Box::new(self.stream().await);
        let url = "ws://localhost/socket/websocket?vsn=2.0.0&user_id=u";
        let mut client = Client(client_async(url, stream).await.unwrap().0);
        client.expect_nothing().await;
        client
    }

    /// Tells the server to shut down, and waits until it stops listening.
    async fn end(&mut self) {
        self.signal.take().unwrap().send(()).unwrap();
        let refused = async { while TcpStream::connect(self.address).await.is_ok() {} };
        timeout(PATIENCE, refused).await.expect("the server stops listening");
    }

    async fn ended(self) {
        timeout(PATIENCE, self.served).await.expect("the server ends").unwrap().unwrap();
    }
}

/// Everything that the server sends until it closes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    if let Err(error) = read {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(bytes).unwrap()
}

/// The head and the body of the next response, with a `content-length`.
async fn answer(stream: &mut TcpStream) -> (String, String) {
    let read = async {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap().into());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    };
    timeout(PATIENCE, read).await.expect("the server answers")
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off_however_it_trickles() {
    let server = Server::start(|serve| serve.head_timeout(SHORT)).await;
    assert_eq!(until_closed(&mut server.stream().await).await, "", "nothing was sent");
    assert_eq!(until_closed(&mut server.send("GET / HTTP/1.1\r\n").await).await, "", "half a head was sent");
    let (mut reader, mut writer) = server.send("GET / HTTP/1.1\r\nX: ").await.into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let read = async { while reader.read_u8().await.is_ok() {} };
    timeout(PATIENCE, read).await.expect("the server closes");
    trickle.abort();
}

#[tokio::test]
async fn a_body_that_does_not_come_is_cut_off_however_it_trickles() {
    let server = Server::start(|serve| serve.body_timeout(SHORT)).await;
    let (mut reader, mut writer) = server
        .send("POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nx")
        .await
        .into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let mut text = Vec::new();
    let _ = timeout(PATIENCE, reader.read_to_end(&mut text)).await.expect("the server closes");
    let text = String::from_utf8(text).unwrap();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    trickle.abort();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let server = Server::start(|serve| serve.idle_timeout(SHORT).head_timeout(PATIENCE)).await;
    let mut stream = server.send(&request("/")).await;
    let peer = stream.local_addr().unwrap();
    assert_eq!(answer(&mut stream).await.1, peer.to_string(), "a handler gets the peer's address");
    stream.write_all(request("/").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.1, peer.to_string());
    assert_eq!(until_closed(&mut stream).await, "");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let server = Server::start(|serve| serve.idle_timeout(SHORT)).await;
    // More responses than all buffers on the way hold, of which the client reads none.
    let (mut reader, mut writer) = server.stream().await.into_split();
    let asked = async { while writer.write_all(request("/").repeat(100).as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, asked).await.expect("the server closes");
    while reader.read_u8().await.is_ok() {}
}

#[tokio::test]
async fn a_held_poll_and_a_socket_live_on() {
    let window = 10 * SHORT;
    let server = Server::start_with(
        |socket| socket.longpoll_window(window),
        |serve| serve.head_timeout(SHORT).body_timeout(SHORT).idle_timeout(SHORT),
    )
    .await;
    let mut client = server.client().await;
    let mut poll = server.send(&request("/socket/longpoll?vsn=2.0.0&user_id=u")).await;
    let (_, opened) = answer(&mut poll).await;
    let token = opened.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap();
    let started = tokio::time::Instant::now();
    let text = request(&format!("/socket/longpoll?vsn=2.0.0&token={token}"));
    let mut poll = server.send(&text).await;
    let (_, held) = answer(&mut poll).await;
    assert!(held.contains("204"), "{held}");
    assert!(started.elapsed() >= window, "it is held for its window");
    // The socket has sent nothing for all this time.
    client.expect_nothing().await;
}

#[tokio::test]
async fn heads_have_bounds_and_name_one_host() {
    let server = Server::start(|serve| serve).await;
    let status = async |text: String| {
        let answered = answer(&mut server.send(&text).await).await;
        answered.0["HTTP/1.x ".len()..].split(' ').next().unwrap().to_owned()
    };
    let with = |headers: &str| format!("GET / HTTP/1.1\r\n{headers}\r\n");
    assert_eq!(status(with("Host: h\r\n")).await, "200");
    assert_eq!(status(with("")).await, "400");
    assert_eq!(status(with("Host: a\r\nHost: b\r\n")).await, "400");
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n".to_owned()).await, "200");
    let headers = |number: usize| "X: x\r\n".repeat(number - 1);
    assert_eq!(status(with(&format!("Host: h\r\n{}", headers(100)))).await, "200");
    assert_eq!(status(with(&format!("Host: h\r\n{}", headers(101)))).await, "431");
    assert_eq!(status(with(&format!("Host: h\r\nX: {}\r\n", "x".repeat(15 * 1024)))).await, "200");
    assert_eq!(status(with(&format!("Host: h\r\nX: {}\r\n", "x".repeat(16 * 1024)))).await, "431");
    // Refused before it has arrived completely.
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(16 * 1024))).await, "431");
}

#[tokio::test]
async fn connections_have_a_limit_and_sockets_count() {
    let server = Server::start(|serve| serve.max_connections(2)).await;
    let client = server.client().await;
    let mut rests = server.send(&request("/")).await;
    answer(&mut rests).await;
    assert_eq!(until_closed(&mut server.stream().await).await, "");
    client.close().await;
    // Its permit is free once the server has seen it close.
    let has_place = async {
        loop {
            let mut stream = server.stream().await;
            let mut byte = [0];
            if stream.write_all(request("/").as_bytes()).await.is_ok()
                && matches!(stream.read(&mut byte).await, Ok(1))
            {
                return;
            }
        }
    };
    timeout(PATIENCE, has_place).await.expect("there is a free permit");
}

#[tokio::test]
async fn requests_in_flight_at_the_signal_are_answered_and_sockets_are_sent_away() {
    let sockets = Sockets::new();
    let mut server = Server::start(|serve| serve.sockets(&sockets).drain(Drain::default())).await;
    let mut client = server.client().await;
    let mut rests = server.send(&request("/")).await;
    answer(&mut rests).await;
    let mut poll = server.send(&request("/socket/longpoll?vsn=2.0.0&user_id=u")).await;
    let (_, opened) = answer(&mut poll).await;
    let token = opened.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(sockets.len(), 2, "the server knows its sockets without being given the set");
    let mut poll = server.send(&request(&format!("/socket/longpoll?vsn=2.0.0&token={token}"))).await;
    let mut slow = server.send(&request("/slow")).await;
    server.entered.recv().await.unwrap();
    server.end().await;
    client.expect_close(1012).await;
    drop(client);
    let (head, gone) = answer(&mut poll).await;
    assert!(gone.contains("410"), "{gone}");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(until_closed(&mut rests).await, "");
    assert!(!server.served.is_finished(), "a request is in flight");
    server.gate.add_permits(1);
    assert!(until_closed(&mut slow).await.starts_with("HTTP/1.1 200"));
    server.ended().await;
}

#[tokio::test]
async fn a_request_in_flight_too_long_is_cut_off() {
    let mut server = Server::start(|serve| serve.request_grace(SHORT)).await;
    let mut slow = server.send(&request("/slow")).await;
    server.entered.recv().await.unwrap();
    server.end().await;
    assert_eq!(until_closed(&mut slow).await, "");
    server.ended().await;
}

#[tokio::test]
async fn a_new_socket_at_the_end_gets_no_answer() {
    for path in ["websocket", "longpoll"] {
        let mut server = Server::start(|serve| serve).await;
        let mut late = server.send(&WEBSOCKET.replace("/socket/websocket", &format!("/late/{path}"))).await;
        server.entered.recv().await.unwrap();
        server.end().await;
        server.gate.add_permits(1);
        assert_eq!(until_closed(&mut late).await, "", "{path}");
        server.ended().await;
    }
}

#[tokio::test]
async fn options_out_of_their_bounds_are_named() {
    type Configure = fn(Serve) -> Serve;
    let bad: [(&str, Configure); 4] = [
        ("head_timeout", |serve| serve.head_timeout(Duration::MAX)),
        ("max_head_bytes", |serve| serve.max_head_bytes(1)),
        ("max_connections", |serve| serve.max_connections(0)),
        ("timeout", |serve| serve.drain(Drain::default().timeout(Duration::MAX))),
    ];
    for (option, configure) in bad {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serve = configure(serve(listener, Router::new()));
        assert_eq!(serve.check().unwrap_err().option(), option);
        assert_eq!(serve.await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
