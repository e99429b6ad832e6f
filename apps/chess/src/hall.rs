//! The live side of a site: everyone who is online, their games, and the bots.

use std::{pin::Pin, sync::Arc, time::Duration};

use adsum::{NotReady, PubSub, Sockets};
use axum::Router;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    Db, Origin, Sessions, Settings, bots,
    channels::{self, App},
    ids::{hex, random_bytes},
    node::Node,
    tasks::keep,
};

/// How long requests that are under way may take once the program is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The work of one of the hall's tasks.
type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everyone who is online, here and on the other nodes of the site, and their games. Clones share it; with the last one its tasks
/// end.
#[derive(Debug, Clone)]
pub struct Hall {
    pub(crate) node: Arc<Node>,
    sockets: Sockets,
    _tasks: Arc<JoinSet<()>>,
}

impl Hall {
    /// Opens a hall. `pubsub` connects the nodes of the site; all have one database.
    ///
    /// # Errors
    ///
    /// The database failed.
    ///
    /// # Panics
    ///
    /// Called outside of a tokio runtime, in which it lives.
    pub async fn open(pubsub: PubSub, db: Db, settings: Settings) -> Result<Self, sqlx::Error> {
        // With other nodes the time since the last sign of life is some of their silence, too.
        let unless_ms = if pubsub.is_networked() { 2 * settings.sweep_ms.cast_signed() } else { 0 };
        let down_ms = db.alive(unless_ms).await?;
        if down_ms > 0 {
            tracing::info!(down_ms, "no node was up: the time isn't charged to the players");
        }
        let bots = if settings.bots { bots::enlist(&db).await? } else { Vec::new() };
        let node = Arc::new(Node::new(db, pubsub, settings));
        let mut tasks = JoinSet::new();
        let mut start = |name, run: fn(Arc<Node>) -> BoxFuture| {
            let node = node.clone();
            keep(&mut tasks, name, move || run(node.clone()));
        };
        start("presence", |node| Box::pin(async move { node.follow_presence().await }));
        start("lists", |node| Box::pin(async move { node.keep_lists().await }));
        start("flags", |node| Box::pin(async move { node.watch_flags().await }));
        start("sweep", |node| Box::pin(async move { node.sweep().await }));
        start("lost broadcasts", |node| Box::pin(async move { node.make_up().await }));
        for bot in bots {
            let node = node.clone();
            keep(&mut tasks, "bot", move || bot.clone().stand_by(node.clone()));
        }
        Ok(Self { node, sockets: Sockets::new(), _tasks: Arc::new(tasks) })
    }

    /// A new secret for the nodes of a site.
    pub fn random_secret() -> String {
        hex(&random_bytes::<32>())
    }

    /// Waits until this node knows who is on the others.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.node.presence.ready().await
    }

    /// Serves a site with this hall in it until the program is told to stop. Then everyone is sent to the other nodes,
    /// or to whoever listens here next, and nobody is seen to leave.
    pub async fn serve(&self, listener: TcpListener, site: Router) -> std::io::Result<()> {
        let drain_delay = self.node.settings.drain_delay();
        let server = adsum::serve(listener, site).presence(&self.node.presence).request_grace(STOP_GRACE);
        server.drain_delay(drain_delay).await
    }

    /// Serves a page for operators, which shows everyone who is online and may end their connections, for as long as the
    /// future is polled. Only this machine reaches it.
    pub async fn serve_dashboard(&self, listener: TcpListener) -> std::io::Result<()> {
        let page = adsum::dashboard(&self.node.presence).sockets(&self.sockets);
        let page = page.allow_disconnect().loopback_only().into_router();
        adsum::serve(listener, page).until(std::future::pending()).await
    }

    /// The socket that browsers connect to.
    pub(crate) fn socket(&self, sessions: Sessions, origin: Option<&Origin>, hosts: &[String]) -> Router {
        channels::socket(App { node: self.node.clone(), sessions }, &self.sockets, origin, hosts)
    }
}
