//! A server with the channels under test.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use adsum_channels::{PubSub, SocketBuilder};
use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, client::IntoClientRequest, http::Response},
};
use tower::ServiceExt;

use crate::{
    client::{Client, Stream},
    deflating::{self, Inflater},
    room::{App, Lenient, Room, Typed, connect},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Duplex,
    /// TCP, with all messages compressed.
    Compressed,
}

pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    pub(crate) pubsub: PubSub,
    log: mpsc::UnboundedReceiver<String>,
    listening: Listening,
    compresses: bool,
}

enum Listening {
    Tcp(SocketAddr, JoinHandle<()>),
    Duplex(Router),
}

impl Server {
    pub(crate) async fn start(transport: Transport) -> Self {
        Self::start_with(transport, |socket| socket).await
    }

    pub(crate) async fn start_with(
        transport: Transport,
        configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
    ) -> Self {
        Self::start_on(PubSub::local(), transport, configure).await
    }

    pub(crate) async fn start_on(
        pubsub: PubSub,
        transport: Transport,
        configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
    ) -> Self {
        Self::start_within(pubsub, transport, configure, |router| router).await
    }

    /// With layers around the router.
    pub(crate) async fn start_within(
        pubsub: PubSub,
        transport: Transport,
        configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
        layers: impl FnOnce(Router) -> Router,
    ) -> Self {
        let (sender, log) = mpsc::unbounded_channel();
        let app = App { log: sender, gate: Semaphore::new(0), senders: Mutex::new(HashMap::new()) };
        let app = Arc::new(app);
        let socket = SocketBuilder::new(app.clone())
            .connect(connect)
            .channel::<Typed>("typed:*")
            .channel::<Lenient>("lenient:*")
            .channel::<Room>("room:*")
            .channel::<Room>("lobby");
        let mut socket = configure(socket);
        let compresses = transport == Transport::Compressed;
        if compresses {
            socket = socket.compress_over(0);
        }
        let router = layers(Router::new().nest("/socket", socket.into_router(pubsub.clone())));
        let listening = match transport {
            Transport::Tcp | Transport::Compressed => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let site = router.into_make_service_with_connect_info::<SocketAddr>();
                let serve = async move { axum::serve(listener, site).await.unwrap() };
                Listening::Tcp(address, tokio::spawn(serve))
            }
            Transport::Duplex => Listening::Duplex(router),
        };
        Self { app, pubsub, log, listening, compresses }
    }

    /// Connects a client that is accepted.
    pub(crate) async fn client(&self) -> Client {
        self.connect("vsn=2.0.0&user_id=u", &[]).await.expect("the client is accepted")
    }

    /// Connects a client, or returns the status and the body of the refusal.
    pub(crate) async fn connect(
        &self,
        query: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Client, (u16, Vec<u8>)> {
        let uri = format!("ws://localhost/socket/websocket?{query}");
        let mut request = uri.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match client_async(request, self.stream().await).await {
            Ok((stream, _)) => Ok(Client(stream)),
            Err(Error::Http(response)) => Err(refusal(&response)),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends the text of a request, and returns the first line of the response.
    pub(crate) async fn request(&self, text: &str) -> String {
        let mut stream = self.stream().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.contains("\r\n") {
            answer.push(stream.read_u8().await.unwrap().into());
        }
        answer.trim_end().to_owned()
    }

    /// The address of a server over TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        match &self.listening {
            Listening::Tcp(address, _) => *address,
            Listening::Duplex(_) => panic!("a server without an address"),
        }
    }

    /// Serves a stream as a new connection. Only for a server that isn't over TCP.
    pub(crate) async fn serve(&self, stream: impl Stream + 'static) {
        match &self.listening {
            Listening::Tcp(..) => panic!("a server that accepts its streams itself"),
            Listening::Duplex(router) => serve(stream, router.clone()).await,
        }
    }

    /// Opens a new connection to the server.
    pub(crate) async fn stream(&self) -> Box<dyn Stream> {
        match &self.listening {
            Listening::Tcp(address, _) => {
                let stream = Box::new(TcpStream::connect(address).await.unwrap());
                if self.compresses {
                    Box::new(deflating::translate(*stream, Inflater::new(true)))
                } else {
                    stream
                }
            }
            Listening::Duplex(router) => {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                tokio::spawn(serve(theirs, router.clone()));
                Box::new(ours)
            }
        }
    }

    /// Stops the server, as a program does.
    pub(crate) fn stop(&mut self) {
        match std::mem::replace(&mut self.listening, Listening::Duplex(Router::new())) {
            Listening::Tcp(_, task) => task.abort(),
            Listening::Duplex(router) => drop(router),
        }
    }

    /// Fails unless a channel logs this next.
    pub(crate) async fn logged(&mut self, line: &str) {
        let next = timeout(Duration::from_secs(20), self.log.recv()).await;
        assert_eq!(next.expect("a channel logs something").as_deref(), Some(line));
    }

    /// Fails unless a channel logs this eventually.
    pub(crate) async fn logged_at_last(&mut self, line: &str) {
        let found = async { while self.log.recv().await.expect("the app is there") != line {} };
        timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("no channel logs {line:?}"));
    }
}

async fn serve(stream: impl Stream + 'static, router: Router) {
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
        router.clone().oneshot(request)
    });
    // Ignore a client that goes away during its request.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn refusal(response: &Response<Option<Vec<u8>>>) -> (u16, Vec<u8>) {
    (response.status().as_u16(), response.body().clone().unwrap_or_default())
}
