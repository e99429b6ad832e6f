//! A client that writes bytes and reads frames, without the rest of the protocol.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

pub(crate) use crate::frames::*;
use crate::{client::Stream, server::Server};

/// The timeout for a frame. Not a measure of speed.
const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    /// The server's response to the upgrade request.
    pub(crate) answer: String,
}

impl Raw {
    /// Connects with a version of the protocol and additional header lines.
    pub(crate) async fn connect(server: &Server, vsn: &str, headers: &str) -> Self {
        let mut stream = server.stream().await;
        let request = format!(
            "GET /socket/websocket?vsn={vsn}&user_id=u HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\
             connection: upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap().into());
        }
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self { stream, answer }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The first byte and the payload of the next frame. `None` at the end of the stream.
    pub(crate) async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let frame = timeout(PATIENCE, read_frame(&mut self.stream, false)).await;
        frame.expect("a frame or the end arrives")
    }
}
