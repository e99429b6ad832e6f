//! A listener for operators: metrics for Prometheus, and health.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use adsum::{Health, Presence, PubSub, operations::Operations};
//! use tokio::net::TcpListener;
//!
//! let presence = Presence::builder(PubSub::local()).start();
//! let listener = TcpListener::bind("127.0.0.1:9100").await?;
//! let operations = Operations::start(listener, Health::new(&presence))?;
//! // .. serve the site; what is dropped last answers last
//! drop(operations);
//! # Ok(())
//! # }
//! ```
//!
//! It answers `/metrics`, `/health/live` and `/health/ready`. A listener of its own keeps these from the site's clients:
//! bind it to loopback, or to an address that only the machines of the operator reach.

use std::{
    fmt, io,
    net::{AddrParseError, Ipv4Addr, SocketAddr},
    time::Duration,
};

use adsum_channels::serve;
use adsum_pubsub::{
    PubSub, metrics,
    tasks::{self, Task},
};
use axum::{Router, middleware, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, time::interval};

use crate::{health::Health, loopback};

/// How often the exporter puts the values of the program's own histograms into their buckets, whether or not anybody
/// scrapes. Until then it keeps each value.
const UPKEEP: Duration = Duration::from_secs(5);
/// How many connections the listener takes.
const MAX_CONNECTIONS: usize = 64;

/// The recorder of the process, installed with the buckets and descriptions of adsum's metrics.
#[derive(Clone)]
pub struct Prometheus(PrometheusHandle);

impl Prometheus {
    /// Installs it.
    ///
    /// # Errors
    /// The process has a recorder already.
    pub fn install() -> Result<Self, InstallError> {
        let failed = |error: &dyn fmt::Display| InstallError(error.to_string());
        let mut builder = PrometheusBuilder::new();
        for (name, bounds) in metrics::buckets() {
            let matcher = Matcher::Full(name.to_owned());
            builder = builder.set_buckets_for_metric(matcher, bounds).map_err(|error| failed(&error))?;
        }
        let handle = builder.install_recorder().map_err(|error| failed(&error))?;
        metrics::describe();
        Ok(Self(handle))
    }

    /// All metrics of a node in Prometheus' text format, and what else the program has recorded.
    pub fn render(&self, pubsub: &PubSub) -> String {
        pubsub.record_metrics();
        self.0.render()
    }

    /// The routes `/metrics`, `/health/live` and `/health/ready`.
    pub fn router<S: Clone + Send + Sync + 'static>(&self, health: &Health) -> Router<S> {
        let (prometheus, pubsub) = (self.clone(), health.pubsub().clone());
        let render = move || std::future::ready(prometheus.render(&pubsub));
        health.router().route("/metrics", get(render))
    }

    /// Does what the exporter has to do from time to time, for as long as it is polled.
    async fn keep_up(self) {
        let mut times = interval(UPKEEP);
        loop {
            times.tick().await;
            self.0.run_upkeep();
        }
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prometheus")
    }
}

/// The process has a recorder already.
#[derive(Debug, thiserror::Error)]
#[error("metrics can't be recorded for Prometheus: {0}")]
pub struct InstallError(String);

/// A running listener. Dropped, it ends.
#[derive(Debug)]
#[must_use = "the listener ends when this is dropped"]
pub struct Operations {
    _serving: Task,
    _upkeep: Task,
}

impl Operations {
    /// Installs the recorder, and answers on a listener.
    ///
    /// On a loopback address only requests for a loopback name are answered, so that no page can point its own name here
    /// (DNS rebinding).
    ///
    /// # Errors
    /// The process has a recorder already, or the listener has no address.
    ///
    /// # Panics
    /// Called outside of a tokio runtime.
    pub fn start(listener: TcpListener, health: Health) -> Result<Self, OperationsError> {
        let address = listener.local_addr()?;
        let prometheus = Prometheus::install()?;
        let router = guarded(prometheus.router(&health), address);
        let upkeep = tasks::spawn("operations", prometheus.keep_up());
        let serving = tasks::spawn("operations", async move {
            let forever = std::future::pending();
            let server = serve(listener, router).uncounted().max_connections(MAX_CONNECTIONS).until(forever);
            if let Err(error) = server.await {
                tracing::error!(%error, "the listener of metrics and health has ended");
            }
        });
        Ok(Self { _serving: serving, _upkeep: upkeep })
    }
}

/// Reads the address of the listener, as an option of a program: `9100` is a port of this machine alone, and
/// `0.0.0.0:9100` one that others reach.
///
/// # Errors
/// It is neither.
pub fn address(text: &str) -> Result<SocketAddr, AddrParseError> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => text.parse(),
    }
}

/// Why the listener doesn't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationsError {
    /// The recorder can't be installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The listener has no address.
    #[error(transparent)]
    Address(#[from] io::Error),
}

fn guarded(router: Router, address: SocketAddr) -> Router {
    if address.ip().is_loopback() { router.layer(middleware::from_fn(loopback::check)) } else { router }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        assert_eq!(address("9100").unwrap().to_string(), "127.0.0.1:9100");
        assert_eq!(address("[::]:9100").unwrap().to_string(), "[::]:9100");
        assert!(address("localhost").is_err() && address("70000").is_err());
    }
}
