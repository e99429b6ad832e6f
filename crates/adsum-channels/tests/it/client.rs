//! A client that sends and expects frames.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

/// The timeout for a frame. Not a measure of speed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Client(pub(crate) WebSocketStream<Box<dyn Stream>>);

impl Client {
    pub(crate) async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.0.send(message).await.expect("the socket is open");
    }

    /// The next message of any kind.
    pub(crate) async fn message(&mut self) -> Message {
        let message = timeout(PATIENCE, self.0.next()).await.expect("a message arrives");
        message.expect("the socket is open").expect("the stream is sound")
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).expect("a frame is JSON"),
            other => panic!("no text but {other:?}"),
        }
    }

    /// Fails unless this is the next frame. The order of keys doesn't matter, as in JavaScript.
    #[track_caller]
    pub(crate) fn expect(&mut self, frame: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        let expected: Value = serde_json::from_str(frame).expect("the test expects JSON");
        async move {
            let got = self.frame().await;
            assert_eq!(got, expected, "\nexpected at {at}");
        }
    }

    /// Fails unless the server closes now, with this code.
    pub(crate) async fn expect_close(&mut self, code: u16) {
        match self.message().await {
            Message::Close(Some(close)) => assert_eq!(u16::from(close.code), code),
            other => panic!("no close but {other:?}"),
        }
    }

    /// Fails if the server has sent anything.
    pub(crate) async fn expect_nothing(&mut self) {
        self.send(r#"[null,"beat","phoenix","heartbeat",{}]"#).await;
        self.expect(r#"[null,"beat","phoenix","phx_reply",{"response":{},"status":"ok"}]"#).await;
    }

    /// Joins a topic with a ref successfully.
    pub(crate) async fn join(&mut self, topic: &str, reference: &str) {
        self.send(&json!([reference, reference, topic, "phx_join", {}]).to_string()).await;
        let reply = json!([reference, reference, topic, "phx_reply", {"response": {}, "status": "ok"}]);
        assert_eq!(self.frame().await, reply);
    }

    /// Closes normally.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.expect("the socket is open");
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("the server closes") {
                Some(Ok(Message::Close(close))) => {
                    assert_eq!(close.map(|close| close.code), Some(CloseCode::Normal));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}
