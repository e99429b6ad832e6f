//! A transport: lines over TCP. The first line is the parameters, each further one a message of the protocol.
//!
//! `cargo run -p programs --bin transport`, then in a terminal:
//!
//! ```text
//! $ nc 127.0.0.1 4100
//! vsn=2.0.0
//! ["1","1","chat:a","phx_join",{}]
//! ["1","1","chat:a","phx_reply",{"response":{},"status":"ok"}]
//! ```

use std::{error::Error, time::Duration};

use adsum::{
    Acceptor, Channel, JoinResult, Joined, NoParams, Outgoing, Payload, PubSub, Reply, Socket, SocketBuilder,
    Stop, Topic, Wire,
};
use axum::{extract::ConnectInfo, http::Request};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::codec::{Framed, LinesCodec};

/// The longest line of a client, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// How long a client has for its first line, and to take what is sent.
const PATIENCE: Duration = Duration::from_secs(10);

async fn serve(acceptor: Acceptor, stream: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    let peer = ConnectInfo(stream.peer_addr()?);
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    let Some(params) = timeout(PATIENCE, lines.next()).await?.transpose()? else { return Ok(()) };
    let request = Request::get(format!("/?{params}")).extension(peer).body(())?;
    let mut client = match acceptor.accept("lines", request.into_parts().0).await {
        Ok(client) => client,
        Err(refusal) => return Ok(lines.send(format!("refused: {refusal}")).await?),
    };
    loop {
        tokio::select! {
            line = lines.next() => match line {
                Some(Ok(line)) if client.receive(Wire::Text(line.as_bytes())).is_ok() => {}
                _ => break,
            },
            outgoing = client.next() => {
                let (line, last) = match outgoing {
                    // A line break in JSON is white space.
                    Outgoing::Text(text) => (String::from_utf8_lossy(&text).replace(['\r', '\n'], " "), false),
                    Outgoing::Binary(bytes) => (format!("{} bytes, which are no line", bytes.len()), false),
                    Outgoing::Nothing => continue,
                    Outgoing::Close(code) => (format!("closed: {code}"), true),
                };
                let sent = timeout(PATIENCE, lines.send(line)).await;
                if last || !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
        }
    }
    client.end().await;
    Ok(())
}

/// Passes on what a client says to everybody.
struct Chat;

impl Channel for Chat {
    type App = ();
    type Params = NoParams;
    type Info = ();

    async fn join(_: &(), _: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
        Ok(Joined::new(Self))
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "say" => socket.broadcast("say", payload)?,
            _ => return Err(Stop::unhandled(event)),
        }
        Ok(Reply::ok(json!({})))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    let acceptor = SocketBuilder::new(()).channel::<Chat>("chat:*").into_acceptor(PubSub::local());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        // Each ends with its connection, by its patience, or when the acceptor is gone.
        tokio::spawn(serve(acceptor.clone(), listener.accept().await?.0));
    }
}
