//! Several nodes in one test.

use std::{collections::BTreeMap, fmt, marker::PhantomData, ops::Index, sync::Arc, time::Duration};

use adsum_channels::SocketBuilder;
use adsum_pubsub::PubSub;

use super::{client_log::Shared, network::Network, server, server::TestServer};
use crate::{handler::PresenceHandler, presence::Presence};

/// Nodes that reach each other without a network, as long as the test lets them. `cluster["a"]` is the [`TestServer`]
/// of the node of that name.
///
/// ```
/// # use std::time::Duration;
/// # use adsum::{Channel, JoinError, Joined, NoParams, Presence, PubSub, Socket, SocketBuilder, Stop, Topic};
/// use adsum::testing::TestCluster;
/// # use serde_json::json;
/// # struct Room(Presence);
/// # impl Channel for Room {
/// #     type App = Presence;
/// #     type Params = NoParams;
/// #     type Info = ();
/// #     async fn join(app: &Presence, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
/// #         Ok(Joined::new(Self(app.clone())))
/// #     }
/// #     async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
/// #         let key = socket.pubsub().node().to_owned();
/// #         self.0.track(socket, key, serde_json::Map::new())?;
/// #         Ok(self.0.push_state(socket).await?)
/// #     }
/// # }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let mut cluster = TestCluster::start(["a", "b"], |pubsub: PubSub| {
///     let presence = Presence::builder(pubsub).start();
///     (SocketBuilder::new(presence.clone()).channel::<Room>("room:*"), presence)
/// })
/// .await;
/// let ann = cluster["a"].connect("").await.unwrap().join("room:1", json!({})).await.unwrap();
/// let bob = cluster["b"].connect("").await.unwrap().join("room:1", json!({})).await.unwrap();
/// ann.until_present("b").await;
///
/// cluster.kill("b");
/// assert_eq!(ann.expect_leave("b").await.reason, "unreachable");
/// assert_eq!(bob.client().expect_close().await, 1006);
/// # });
/// ```
pub struct TestCluster<App, H: PresenceHandler> {
    network: Network,
    shared: Arc<Shared>,
    program: Program<H>,
    nodes: BTreeMap<String, (TestServer, Presence<H>)>,
    allows_failed_fetches: bool,
    /// The state of the program's channels.
    app: PhantomData<fn() -> App>,
}

type Program<H> = Box<dyn Fn(PubSub) -> (TestServer, Presence<H>) + Send + Sync>;

impl<H: PresenceHandler> TestCluster<(), H> {
    /// As [`start`](TestCluster::start), for a program that makes the server of each node itself, such as one with
    /// [a further presence](TestServer::presence).
    ///
    /// ```
    /// # use adsum::{Presence, PubSub, SocketBuilder, testing::{TestCluster, TestServer}};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let cluster = TestCluster::start_servers(["a", "b"], |pubsub: PubSub| {
    ///     let rooms = Presence::builder(pubsub.clone()).start();
    ///     let users = Presence::builder(pubsub).name("users").start();
    ///     (TestServer::new(SocketBuilder::new(()), &rooms).presence(&users), rooms)
    /// })
    /// .await;
    /// # assert!(cluster.presence("b").health().is_ok());
    /// # });
    /// ```
    ///
    /// The patience is that of the [cluster](TestCluster::patience).
    ///
    /// # Panics
    /// A node isn't ready in time.
    pub async fn start_servers<'n>(
        names: impl IntoIterator<Item = &'n str>,
        program: impl Fn(PubSub) -> (TestServer, Presence<H>) + Send + Sync + 'static,
    ) -> Self {
        Self::start_program(names, Box::new(program)).await
    }
}

impl<App: Clone + Send + Sync + 'static, H: PresenceHandler> TestCluster<App, H> {
    /// Starts a node for each name by the program's own function, and waits until all are
    /// [ready](Presence::ready): two heartbeats, which in real time are two seconds.
    ///
    /// # Panics
    /// A node isn't ready in time.
    pub async fn start<'n>(
        names: impl IntoIterator<Item = &'n str>,
        program: impl Fn(PubSub) -> (SocketBuilder<App>, Presence<H>) + Send + Sync + 'static,
    ) -> Self {
        let program = move |pubsub| {
            let (socket, presence) = program(pubsub);
            (TestServer::new(socket, &presence), presence)
        };
        Self::start_program(names, Box::new(program)).await
    }

    /// Has a `fetch` that fails on any node not fail the test.
    #[must_use]
    pub fn allow_failed_fetches(mut self) -> Self {
        self.allows_failed_fetches = true;
        for (server, _) in self.nodes.values_mut() {
            server.allowing_failed_fetches();
        }
        self
    }

    /// As [`TestServer::patience`], for the clients of all nodes.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        *self.shared.patience.lock() = patience;
        self
    }

    async fn start_program<'n>(names: impl IntoIterator<Item = &'n str>, program: Program<H>) -> Self {
        let mut cluster = Self {
            network: Network::default(),
            shared: Arc::default(),
            program,
            nodes: BTreeMap::new(),
            allows_failed_fetches: false,
            app: PhantomData,
        };
        for name in names {
            cluster.add(name);
        }
        for (name, (_, presence)) in &cluster.nodes {
            presence.ready().await.unwrap_or_else(|error| panic!("{name} isn't ready: {error}"));
        }
        cluster
    }

    /// Starts one more node, or one anew that was killed or drained. It is [ready](Presence::ready) once it has heard
    /// of the others.
    pub fn add(&mut self, name: &str) -> &Presence<H> {
        let (server, presence) = (self.program)(self.network.node(name));
        let mut server = server.sharing(&self.shared);
        if self.allows_failed_fetches {
            server.allowing_failed_fetches();
        }
        &self.nodes.entry(name.to_owned()).insert_entry((server, presence)).into_mut().1
    }

    /// The presence of a node.
    ///
    /// # Panics
    /// There is no such node.
    pub fn presence(&self, name: &str) -> &Presence<H> {
        &self.node(name).1
    }

    /// Lets nothing through between nodes of different groups. A node in no group is cut off from all.
    pub fn partition(&self, groups: &[&[&str]]) {
        self.network.partition(groups);
    }

    /// Loses the next messages from one node to another.
    pub fn lose(&self, from: &str, to: &str, messages: usize) {
        self.network.lose(from, to, messages);
    }

    /// Ends all partitions and losses.
    pub fn heal(&self) {
        self.network.heal();
    }

    /// Ends a node without a word, as a power cut does: the others hear nothing more from it, and its clients lose
    /// their connections (1006).
    ///
    /// # Panics
    /// There is no such node.
    pub fn kill(&mut self, name: &str) {
        self.network.remove(name);
        let (server, _presence) =
            self.nodes.remove(name).unwrap_or_else(|| panic!("there is no node {name}"));
        server.lose_clients();
    }

    /// Drains a node as at a deploy, and ends it: its clients' sockets are closed with 1012, and its presences stay
    /// for the handoff.
    ///
    /// # Panics
    /// There is no such node.
    pub async fn drain(&mut self, name: &str) {
        self.node(name).0.drain().await;
        self.network.remove(name);
        self.nodes.remove(name);
    }

    /// As [`TestServer::settle`], for the clients of all nodes.
    pub async fn settle(&self, quiet: Duration) {
        server::settle(&self.shared, quiet).await;
    }

    fn node(&self, name: &str) -> &(TestServer, Presence<H>) {
        self.nodes.get(name).unwrap_or_else(|| panic!("there is no node {name}"))
    }
}

impl<App: Clone + Send + Sync + 'static, H: PresenceHandler> Index<&str> for TestCluster<App, H> {
    type Output = TestServer;

    /// # Panics
    /// There is no such node.
    fn index(&self, name: &str) -> &TestServer {
        &self.node(name).0
    }
}

impl<App, H: PresenceHandler> fmt::Debug for TestCluster<App, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.nodes.keys()).finish()
    }
}
