//! The end of a server.

use std::{future::IntoFuture, pin::Pin, sync::Arc};

use adsum::{Adapter, BroadcastError, Inbound, Message, Presence, PubSub, Topic};
use axum::{Router, routing::get};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Records what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Adapter for Told {
    fn node(&self) -> &'static str {
        "a"
    }

    fn start(&self, _: Inbound) {}

    fn is_networked(&self) -> bool {
        false
    }

    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.0.lock().push(message.event().to_owned());
        Ok(())
    }

    fn direct_broadcast(&self, _: &str, _: &Arc<Message>) -> Result<(), BroadcastError> {
        Ok(())
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async { self.0.lock().push("closed".to_owned()) })
    }

    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}

#[tokio::test]
async fn the_pubsub_is_closed_once_the_last_request_is_answered() {
    let told = Told::default();
    let pubsub = PubSub::new(told.clone());
    let presence = Presence::builder(pubsub.clone()).start();
    let [begun, told_to_end, stopped_listening] = [(); 3].map(|()| Arc::new(Notify::new()));
    let (in_handler, until, goes_on) = (begun.clone(), told_to_end.clone(), stopped_listening.clone());
    let answer = async move || {
        in_handler.notify_one();
        goes_on.notified().await;
        pubsub.broadcast("t", "last word", ()).unwrap();
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = Router::new().route("/", get(answer));
    let server =
        adsum::serve(listener, site).presence(&presence).until(async move { until.notified().await });
    let end = tokio::spawn(server.into_future());

    let mut request = TcpStream::connect(address).await.unwrap();
    request.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    begun.notified().await;
    told_to_end.notify_one();
    while TcpStream::connect(address).await.is_ok() {}
    stopped_listening.notify_one();
    request.read_to_end(&mut Vec::new()).await.unwrap();
    end.await.unwrap().unwrap();
    assert_eq!(*told.0.lock(), ["last word", "closed"]);
}
