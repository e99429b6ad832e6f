//! A channel: who has a document open, and where in it they are.
//!
//! `cargo run -p programs --bin channel`, then in a page with the `phoenix` package:
//!
//! ```js
//! const socket = new Socket("ws://127.0.0.1:4100/socket")
//! socket.connect()
//! const channel = socket.channel("document:7", { name: "Ada" })
//! const presence = new Presence(channel)
//! presence.onSync(() => console.log(presence.list((name, { metas }) => [name, metas[0].line])))
//! channel.join()
//! channel.push("move", { line: 12 })
//! ```

use adsum::{
    Channel, JoinError, JoinResult, Joined, NoFetch, Payload, Presence, PubSub, Reply, Socket, SocketBuilder,
    Stop, Topic,
};
use serde::{Deserialize, Serialize};

/// The part of a reader that everybody sees.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(test, derive(adsum::typescript::TS), ts(crate = "adsum::typescript::ts_rs"))]
struct Position {
    line: u32,
}

type Readers = Presence<NoFetch<Position>>;

/// The parameters of a join.
#[derive(Deserialize)]
#[cfg_attr(test, derive(adsum::typescript::TS), ts(crate = "adsum::typescript::ts_rs"))]
struct Reader {
    name: String,
}

/// The answer to a join.
#[derive(Serialize)]
#[cfg_attr(test, derive(adsum::typescript::TS), ts(crate = "adsum::typescript::ts_rs"))]
struct Opened {
    lines: u32,
}

/// A line that somebody points out to all readers.
#[derive(Serialize)]
#[cfg_attr(test, derive(adsum::typescript::TS), ts(crate = "adsum::typescript::ts_rs"))]
struct Mark<'a> {
    by: &'a str,
    position: Position,
}

/// The length of every document here.
const LINES: u32 = 100;

/// One client that has one document open.
struct Document {
    readers: Readers,
    name: String,
}

impl Channel for Document {
    type App = Readers;
    type Params = Reader;
    type Info = ();

    async fn join(readers: &Readers, _: &Topic, reader: Reader, _: &mut Socket) -> JoinResult<Self> {
        if reader.name.is_empty() {
            return Err(JoinError::reason("a name, please"));
        }
        readers.check_key(&reader.name).map_err(JoinError::reason)?;
        Ok(Joined::new(Self { readers: readers.clone(), name: reader.name }).reply(Opened { lines: LINES }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        // Gone again by itself, however this channel ends.
        self.readers.track(socket, self.name.as_str(), Position { line: 1 })?;
        self.readers.push_state(socket).await?;
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "move" => {
                let position = Position { line: payload.decode_or_refuse::<Position>()?.line.min(LINES) };
                self.readers.update(socket, self.name.as_str(), position)?;
                Ok(Reply::ok(position))
            }
            "mark" => {
                socket.broadcast("marked", Mark { by: &self.name, position: payload.decode_or_refuse()? })?;
                Ok(Reply::none())
            }
            other => Err(Stop::unhandled(other)),
        }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    let readers: Readers = Presence::builder(PubSub::local()).meta::<Position>().start();
    // The page comes from elsewhere, such as a bundler's server.
    let socket = SocketBuilder::new(readers.clone())
        .channel::<Document>("document:*")
        .origins(["http://localhost:5173"]);
    let site = axum::Router::new().nest("/socket", socket.into_router(&readers));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    adsum::serve(listener, site).presence(&readers).await
}

#[cfg(test)]
mod tests {
    use adsum::typescript::Contract;

    use super::*;

    /// The page in tests/conformance/typed is compiled with these types.
    #[test]
    fn the_types_of_pages_are_those_of_the_channel() {
        let contract = Contract::new().channel("document:*", |document| {
            let document = document.params::<Reader>().joined::<Opened>().presence::<Position, ()>();
            document
                .event::<Position, Position>("move")
                .event::<Position, ()>("mark")
                .push::<Mark<'_>>("marked")
        });
        contract.check(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/typed")).unwrap();
    }
}
