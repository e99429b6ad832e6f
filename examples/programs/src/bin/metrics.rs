//! A server for its operators: metrics for Prometheus, health and readiness.

use adsum::{Channel, JoinError, Joined, NoParams, Presence, PubSub, Socket, SocketBuilder, Stop, Topic};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::Map;

struct Room(Presence);

impl Channel for Room {
    type App = Presence;
    type Params = NoParams;
    type Info = ();

    async fn join(
        presence: &Presence,
        _: &Topic,
        _: NoParams,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(presence.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.0.track(socket, "somebody", Map::new())?;
        Ok(self.0.push_state(socket).await?)
    }
}

/// Counted when asked for, so it costs nothing in between.
async fn all_metrics(State((presence, prometheus)): State<(Presence, PrometheusHandle)>) -> String {
    let totals = presence.totals();
    metrics::gauge!("presences").set(u32::try_from(totals.presences).unwrap_or(u32::MAX));
    metrics::gauge!("topics").set(u32::try_from(totals.topics).unwrap_or(u32::MAX));
    prometheus.render()
}

/// For a balancer: whether this node knows who is on the others. Not to be restarted for.
async fn ready(State((presence, _)): State<(Presence, PrometheusHandle)>) -> (StatusCode, String) {
    match presence.health() {
        Ok(()) => (StatusCode::OK, "ready".to_owned()),
        Err(not_ready) => (StatusCode::SERVICE_UNAVAILABLE, not_ready.to_string()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    // Before all else: what was counted without a recorder is nowhere.
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    let presence = Presence::builder(PubSub::local()).start();
    let socket = SocketBuilder::new(presence.clone()).channel::<Room>("room:*");
    let site = Router::new()
        .route("/metrics", get(all_metrics))
        .route("/healthz", get(|| async { "alive" }))
        .route("/readyz", get(ready))
        .nest("/socket", socket.into_router(&presence))
        .with_state((presence.clone(), prometheus));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(adsum::serve(listener, site).presence(&presence).await?)
}
