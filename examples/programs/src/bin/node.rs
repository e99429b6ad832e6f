//! A node of a cluster over NATS. Whoever joins on one node is seen on all.
//!
//! ```sh
//! nats-server &
//! export SECRET=a-long-random-secret
//! cargo run -p programs --bin node -- 127.0.0.1:4101 nats://127.0.0.1:4222 a &
//! cargo run -p programs --bin node -- 127.0.0.1:4102 nats://127.0.0.1:4222 b
//! ```

use adsum::{Channel, JoinError, JoinResult, Joined, Presence, PubSub, Socket, SocketBuilder, Stop, Topic};
use serde::Deserialize;
use serde_json::Map;

#[derive(Deserialize)]
struct Params {
    name: String,
}

struct Room {
    presence: Presence,
    name: String,
}

impl Channel for Room {
    type App = Presence;
    type Params = Params;
    type Info = ();

    async fn join(app: &Presence, _: &Topic, params: Params, _: &mut Socket) -> JoinResult<Self> {
        app.check_key(&params.name).map_err(JoinError::reason)?;
        Ok(Joined::new(Self { presence: app.clone(), name: params.name }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.presence.track(socket, self.name.as_str(), Map::new())?;
        Ok(self.presence.push_state(socket).await?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [address, nats, name] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: node <address> <nats url> <name>".into());
    };
    let secret = std::env::var("SECRET").map_err(|_| "set SECRET to what all nodes share")?;
    let pubsub = PubSub::nats(nats).node(name).secret(secret).start().await?;
    let presence = Presence::builder(pubsub).start();
    let socket = SocketBuilder::new(presence.clone()).channel::<Room>("room:*");
    let site = axum::Router::new().nest("/socket", socket.into_router(&presence));

    // Clients that came before would see the others leave.
    if let Err(not_ready) = presence.ready().await {
        eprintln!("{not_ready}"); // served nonetheless: it comes right by itself
    }
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    // At SIGTERM the sockets are drained, and whoever comes back on the other node was never gone.
    Ok(adsum::serve(listener, site).presence(&presence).await?)
}
