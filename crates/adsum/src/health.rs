//! Whether a node is to be sent clients, for balancers and orchestrators.

use std::{fmt, sync::Arc};

use adsum_pubsub::PubSub;
use axum::{Router, http::StatusCode, routing::get};

use crate::{
    core::Core,
    handler::PresenceHandler,
    presence::Presence,
    sync_status::{NotReady, SyncStatus},
};

/// Answers whether a node is alive and ready, for all presences that it is given.
///
/// A node is *ready*, to be sent clients, if it has reached the engine once since it started, is in sync with the other
/// nodes or has heard nothing of them for the `sync_timeout`, keeps in step with them, has a name of its own, and isn't
/// about to end.
///
/// It stays ready if the engine is lost later: all nodes lose it together, each goes on for its own clients, and a
/// balancer that took out all of them would end the service. The metric `adsum_engine_connected` tells of it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # use adsum::{Health, Presence, PubSub};
/// let presence = Presence::builder(PubSub::local()).start();
/// let health = Health::new(&presence);
/// # presence.ready().await.unwrap();
/// assert_eq!(health.ready(), Ok(()));
///
/// // `GET /health/live` and `GET /health/ready`: 200, or 503 with the reason.
/// let operations: axum::Router = health.router();
/// # }
/// ```
#[derive(Clone)]
pub struct Health {
    pubsub: PubSub,
    presences: Vec<Arc<dyn Readiness>>,
    needs_engine: bool,
}

trait Readiness: Send + Sync {
    fn ready(&self) -> Result<(), NotReady>;
}

impl<H: PresenceHandler> Readiness for Presence<H> {
    fn ready(&self) -> Result<(), NotReady> {
        self.core.ready()
    }
}

impl<H: PresenceHandler> Core<H> {
    /// Whether the node is to be sent clients.
    pub(crate) fn ready(&self) -> Result<(), NotReady> {
        if self.metrics.is_ending() {
            return Err(NotReady::Ending);
        }
        match &*self.status.borrow() {
            SyncStatus::NotSynced => Ok(()),
            status => status.health(),
        }
    }
}

impl Health {
    /// The health of a node with one presence.
    pub fn new<H: PresenceHandler>(presence: &Presence<H>) -> Self {
        Self { pubsub: PubSub::from(presence), presences: Vec::new(), needs_engine: false }.presence(presence)
    }

    /// Has a further presence be ready, too.
    #[must_use]
    pub fn presence<H: PresenceHandler>(mut self, presence: &Presence<H>) -> Self {
        self.presences.push(Arc::new(presence.clone()));
        self
    }

    /// Whether a node is ready only while the engine is reached. Default no.
    #[must_use]
    pub fn needs_engine(mut self, needs_engine: bool) -> Self {
        self.needs_engine = needs_engine;
        self
    }

    /// Whether the node is to be sent clients now.
    ///
    /// # Errors
    /// It isn't, for this reason.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.presences.iter().try_for_each(|presence| presence.ready())?;
        if self.needs_engine && !*self.pubsub.connected().borrow() {
            return Err(NotReady::EngineAway);
        }
        Ok(())
    }

    /// The node's topics, whose [metrics](PubSub::record_metrics) are those of the node.
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// The routes `/health/live`, which is answered with 200 as long as the program answers at all, and `/health/ready`,
    /// which is answered with 200 or 503. Restart a node for the first, and send it no clients for the second.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let health = self.clone();
        let ready = move || {
            let answer = match health.ready() {
                Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                Err(not_ready) => (StatusCode::SERVICE_UNAVAILABLE, format!("{not_ready}\n")),
            };
            std::future::ready(answer)
        };
        let live = || std::future::ready("alive\n");
        Router::new().route("/health/live", get(live)).route("/health/ready", get(ready))
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("needs_engine", &self.needs_engine).finish_non_exhaustive()
    }
}
