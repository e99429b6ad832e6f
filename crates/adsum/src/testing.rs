//! Tests of a program's channels and presences, without a network.
//!
//! A [`TestServer`] takes a program's own [`SocketBuilder`](crate::SocketBuilder) and [`Presence`](crate::Presence),
//! and connects clients to them that join, push, expect and leave. They speak the protocol, so what such a test sees is
//! what phoenix.js sees. A [`TestCluster`] has several nodes, and takes them apart.
//!
//! ```
//! # use adsum::{Channel, JoinError, Joined, Payload, Presence, PubSub, Reply, Socket, SocketBuilder, Stop, Topic};
//! use adsum::testing::TestServer;
//! use serde_json::json;
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Meta {
//! #     status: String,
//! # }
//! # #[derive(serde::Deserialize)]
//! # struct Params {
//! #     name: String,
//! # }
//! # struct Room(Presence<adsum::NoFetch<Meta>>, String);
//! # impl Channel for Room {
//! #     type App = Presence<adsum::NoFetch<Meta>>;
//! #     type Params = Params;
//! #     type Info = ();
//! #     async fn join(app: &Self::App, _: &Topic, params: Params, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
//! #         Ok(Joined::new(Self(app.clone(), params.name)))
//! #     }
//! #     async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
//! #         self.0.track(socket, self.1.as_str(), Meta { status: "here".into() })?;
//! #         Ok(self.0.push_state(socket).await?)
//! #     }
//! #     async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
//! #         socket.broadcast(if event == "say" { "said" } else { "other" }, payload)?;
//! #         Ok(Reply::ok(json!({})))
//! #     }
//! # }
//!
//! // In a program: #[tokio::test(start_paused = true)]
//! async fn a_client_that_leaves_is_seen_to_leave() {
//!     let presence = Presence::builder(PubSub::local()).meta::<Meta>().start();
//!     let server = TestServer::new(SocketBuilder::new(presence.clone()).channel::<Room>("room:*"), &presence);
//!     let ann = server.connect("").await.unwrap().join("room:1", json!({"name": "Ann"})).await.unwrap();
//!     let bob = server.connect("").await.unwrap().join("room:1", json!({"name": "Bob"})).await.unwrap();
//!
//!     let metas: Vec<Meta> = ann.until_present("Bob").await.metas();
//!     assert_eq!(metas[0].status, "here");
//!     bob.push("say", json!({"text": "hello"})).ok::<serde_json::Value>().await;
//!     assert_eq!(ann.expect::<serde_json::Value>("said").await["text"], "hello");
//!     ann.refute("other").await;
//!
//!     bob.leave().await;
//!     assert_eq!(ann.expect_leave("Bob").await.reason, "left");
//! }
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
//! #     .block_on(a_client_that_leaves_is_seen_to_leave());
//! ```
//!
//! A failed expectation ends the test with a panic that says where in the test, and prints every frame that the client
//! has sent and got.
//!
//! # Paused time, real time
//!
//! In paused time (`#[tokio::test(start_paused = true)]`, tokio's feature `test-util`) a test waits for nothing: as
//! soon as no task can run, time jumps to the next timer. Take it where it works: [`refute`](TestChannel::refute) costs
//! nothing, and a presence that is unreachable after three seconds is so at once.
//!
//! It doesn't work where something outside of tokio has to happen: a database that works in a thread of its own or over
//! a network, a file, a subprocess. While such a `fetch` waits, no task can run, so time jumps to its
//! [`fetch_timeout`](crate::Builder::fetch_timeout) at once, and the presences are sent without its infos.
//! Run such a test in real time, `#[tokio::test]`. A [`TestServer`] fails a test in which a `fetch` has failed or timed
//! out, and says so; [`allow_failed_fetches`](TestServer::allow_failed_fetches) is for tests of just that.

mod channel;
mod client;
mod client_log;
mod cluster;
mod frame;
mod network;
mod roster;
mod server;

use std::time::Duration;

pub use self::{
    channel::{ChannelEnd, PushReply, Pushed, TestChannel},
    client::{JoinRefused, TestClient},
    cluster::TestCluster,
    roster::{PresenceLeave, PresentKey},
    server::{Connecting, TestServer},
};

/// How long a test waits for what it expects before it fails, unless told otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);
