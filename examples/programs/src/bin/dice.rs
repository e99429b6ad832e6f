//! A channel and its test: `cargo test -p programs --bin dice`.

use adsum::{
    Channel, JoinError, JoinResult, Joined, NoParams, Payload, PubSub, Reply, Socket, SocketBuilder, Stop,
    Topic,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct Roll {
    dice: u8,
}

/// A table at which everybody sees what is rolled.
struct Table;

impl Channel for Table {
    type App = ();
    type Params = NoParams;
    type Info = ();

    async fn join(_: &(), topic: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
        if topic.as_str() == "table:full" { Err(JoinError::reason("full")) } else { Ok(Joined::new(Self)) }
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        if event != "roll" {
            return Err(Stop::unhandled(event));
        }
        let Roll { dice } = payload.decode_or_refuse()?;
        let rolled: Vec<u8> = (0..dice.min(10)).map(|die| die % 6 + 1).collect(); // in a real program, by chance
        socket.broadcast_from("rolled", json!({"rolled": rolled}))?;
        Ok(Reply::ok(rolled))
    }
}

fn socket() -> SocketBuilder<()> {
    SocketBuilder::new(()).channel::<Table>("table:*")
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    let site = axum::Router::new().nest("/socket", socket().into_router(PubSub::local()));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    adsum::serve(listener, site).await
}

#[cfg(test)]
mod tests {
    use adsum::testing::TestServer;
    use serde_json::Value;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_others_see_what_is_rolled() -> Result<(), Box<dyn std::error::Error>> {
        let server = TestServer::without_presence(socket(), PubSub::local());
        let ann = server.connect("").await.unwrap();
        assert_eq!(ann.join("table:full", json!({})).await.unwrap_err().response["reason"], "full");
        let ann = ann.join("table:1", json!({})).await?;
        let bob = server.connect("").await.unwrap().join("table:1", json!({})).await?;

        assert_eq!(ann.push("roll", Roll { dice: 2 }).ok::<Vec<u8>>().await, [1, 2]);
        assert_eq!(bob.expect::<Value>("rolled").await, json!({"rolled": [1, 2]}));
        ann.refute("rolled").await;
        ann.push("roll", json!({"dice": "many"})).error::<Value>().await;
        Ok(())
    }
}
