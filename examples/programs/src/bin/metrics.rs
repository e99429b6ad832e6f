//! A server for its operators: metrics for Prometheus, health and readiness, on the port of the site.

use adsum::{
    Channel, Health, JoinResult, Joined, NoParams, Presence, PubSub, Socket, SocketBuilder, Stop, Topic,
    metrics,
};
use axum::{Router, extract::State, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::Map;
use tokio::time::{Duration, interval};

struct Room(Presence);

impl Channel for Room {
    type App = Presence;
    type Params = NoParams;
    type Info = ();

    async fn join(presence: &Presence, _: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
        Ok(Joined::new(Self(presence.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.0.track(socket, "somebody", Map::new())?;
        Ok(self.0.push_state(socket).await?)
    }
}

/// Hands the counts to the exporter when they are asked for, so they cost nothing in between.
async fn all_metrics(State((pubsub, prometheus)): State<(PubSub, PrometheusHandle)>) -> String {
    pubsub.record_metrics();
    prometheus.render()
}

/// Installs the recorder, with buckets that fit.
fn install() -> Result<PrometheusHandle, Box<dyn std::error::Error>> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in metrics::buckets() {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)?;
    }
    let prometheus = builder.install_recorder()?;
    metrics::describe();
    // It keeps each value of a histogram until it is scraped, or until this is called.
    let kept = prometheus.clone();
    tokio::spawn(async move {
        let mut times = interval(Duration::from_secs(5));
        loop {
            times.tick().await;
            kept.run_upkeep();
        }
    });
    Ok(prometheus)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    let prometheus = install()?;
    let presence = Presence::builder(PubSub::local()).start();
    let socket = SocketBuilder::new(presence.clone()).channel::<Room>("room:*");
    let site = Router::new()
        .route("/metrics", get(all_metrics))
        .merge(Health::new(&presence).router())
        .nest("/socket", socket.into_router(&presence))
        .with_state((PubSub::from(&presence), prometheus));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(adsum::serve(listener, site).presence(&presence).await?)
}
