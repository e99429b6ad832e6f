//! Starting a node that reaches others through an engine.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    MAX_REGION_BYTES, OptionsError, PubSub,
    bounds::{MAX_TIME, within},
    driver::{Driver, Engine, Failure},
    envelope::{Envelopes, MAX_ENVELOPE_BYTES, MAX_NODE_BYTES, Origin},
    link::{Link, Node, QueueLimits},
    tasks,
};

/// The namespace of a node that is given no other.
pub const DEFAULT_NAMESPACE: &str = "adsum";

/// How many messages may wait to be sent to the engine.
pub const DEFAULT_QUEUE_MESSAGES: usize = 16 * 1024;

/// How many bytes the messages that wait to be sent may have, together.
pub const DEFAULT_QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// For how long a topic is still listened to after its last subscriber on this node has left.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(10);

/// How long one attempt to connect to one server may take.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest pause between two attempts to connect.
pub const DEFAULT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often a silent engine is asked whether it is still there. It counts as lost when two questions in a row stay
/// without an answer.
pub const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(1);

/// The fewest bytes of a secret.
const MIN_SECRET_BYTES: usize = 20;

/// The most messages that a queue can be made for.
const MAX_QUEUE_MESSAGES: usize = 1 << 24;

/// The most bytes that may wait: 64 GiB, or what the machine can address.
const MAX_QUEUE_BYTES: usize = if usize::BITS > 36 { 1 << 36 } else { usize::MAX };

/// The shortest time of an option for which zero makes no sense.
const MIN_TIME: Duration = Duration::from_millis(1);

/// The longest namespace.
const MAX_NAMESPACE_BYTES: usize = 64;

/// A node of a cluster, before it is started: made by [`PubSub::nats`] or [`PubSub::redis`].
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[cfg(feature = "nats")] {
/// # use adsum_pubsub as adsum;
/// use adsum::PubSub;
///
/// let pubsub = PubSub::nats("nats://user:password@a.example,nats://b.example")
///     .node("web-1")
///     .secret(std::env::var("CLUSTER_SECRET")?)
///     .start()
///     .await?;
/// # }
/// # Ok(())
/// # }
/// ```
///
/// All nodes of a cluster have one namespace and one secret, and each has a name of its own. What a node without
/// the secret sends is refused, counted (`adsum_refused_messages_total`) and logged once, and so is what another
/// version of adsum sends that this one can't read.
///
/// While the engine is not reached, [`broadcast`](PubSub::broadcast) serves this node alone and fails with
/// [`BroadcastError::Disconnected`](crate::BroadcastError::Disconnected); nothing is kept for later. The node tries to connect again at least once a
/// second, and [`connected`](PubSub::connected) tells when all is as before.
#[must_use = "a node does nothing until it is started"]
pub struct NodeBuilder {
    kind: Kind,
    node: String,
    namespace: String,
    region: Option<String>,
    secret: Option<Vec<u8>>,
    also_accepted: Vec<Vec<u8>>,
    limits: QueueLimits,
    linger: Duration,
    retry_interval: Duration,
    settings: Settings,
}

#[derive(Clone, Copy)]
enum Kind {
    #[cfg(feature = "nats")]
    Nats,
    #[cfg(feature = "redis")]
    Redis,
}

/// How to reach an engine.
pub(crate) struct Settings {
    pub(crate) servers: Vec<String>,
    pub(crate) user: Option<(String, String)>,
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) connect_timeout: Duration,
    pub(crate) ping_interval: Duration,
}

impl Settings {
    /// Reads one of the files that are named here.
    pub(crate) fn read(file: &Path) -> Result<Vec<u8>, StartError> {
        Ok(std::fs::read(file).map_err(|error| ConfigError::File { file: file.to_owned(), error })?)
    }
}

impl PubSub {
    /// A node that reaches others through NATS.
    ///
    /// `servers` are one or more URLs with commas between, `nats://` or `tls://`; each may have a user and a
    /// password, or a token, in it. They are servers of one NATS cluster: the node uses one of them at a time.
    /// The account needs no more than the subjects under the namespace, such as `adsum.>`.
    ///
    /// Each topic that has subscribers on this node takes about 5 KiB of memory for its queue.
    #[cfg(feature = "nats")]
    pub fn nats(servers: impl AsRef<str>) -> NodeBuilder {
        NodeBuilder::new(Kind::Nats, servers.as_ref())
    }

    /// A node that reaches others through Redis, from version 6 on.
    ///
    /// `server` is a URL, `redis://` or `rediss://` (TLS), that may have a user and a password in it. The account
    /// needs the channels under the namespace, such as `adsum.*`, and no keys.
    #[cfg(feature = "redis")]
    pub fn redis(server: impl AsRef<str>) -> NodeBuilder {
        NodeBuilder::new(Kind::Redis, server.as_ref())
    }
}

impl NodeBuilder {
    fn new(kind: Kind, servers: &str) -> Self {
        Self {
            kind,
            node: String::new(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            region: None,
            secret: None,
            also_accepted: Vec::new(),
            limits: QueueLimits { messages: DEFAULT_QUEUE_MESSAGES, bytes: DEFAULT_QUEUE_BYTES },
            linger: DEFAULT_LINGER,
            retry_interval: DEFAULT_RETRY_INTERVAL,
            settings: Settings {
                servers: servers.split(',').map(|server| server.trim().to_owned()).collect(),
                user: None,
                credentials_file: None,
                ca_file: None,
                client_certificate: None,
                connect_timeout: DEFAULT_CONNECT_TIMEOUT,
                ping_interval: DEFAULT_PING_INTERVAL,
            },
        }
    }

    /// This node's name, unlike that of all others in the cluster, and the same after a restart. It must be given.
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = name.into();
        self
    }

    /// What the cluster's nodes know and nobody else does, of 20 bytes or more. Without one, whoever can write to
    /// the engine can send messages in the name of any node.
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// Another secret that is accepted as well, for a change of the cluster's secret without a split: first all nodes
    /// accept the new one, then all use it and accept the old one, then the old one is taken out. In between, each node
    /// is restarted in turn.
    pub fn also_accept(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.also_accepted.push(secret.into());
        self
    }

    /// Keeps this cluster apart from others on the same engine. Letters, digits, `-` and `_`; the default is
    /// [`DEFAULT_NAMESPACE`].
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The region that this node is in, such as `eu`, where nodes in several places have one link between them: NATS
    /// clusters joined by a leaf node or a gateway, say. The same for all nodes that are on one side of the link.
    ///
    /// When the link breaks, all nodes of the other region fall silent at once, and count as unreachable only after the
    /// cluster's `engine_grace`: until then no client sees anybody leave. A region needs two nodes for that.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The user to log in as, in place of those in the URLs.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.user = Some((name.into(), password.into()));
        self
    }

    /// A file with a JWT and a seed to log in with, as the tools of NATS write it. For NATS only.
    pub fn credentials_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.settings.credentials_file = Some(file.into());
        self
    }

    /// A file with the certificates of authorities to trust, in place of those of the system. It asks for TLS.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.settings.ca_file = Some(file.into());
        self
    }

    /// Files with a certificate to show to the engine, and its key. It asks for TLS.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.settings.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// How many messages and bytes may wait to be sent. What is more fails with [`BroadcastError::Full`](crate::BroadcastError::Full). With
    /// NATS as many bytes may wait to be delivered; what is more is lost and counted (`adsum_lagged_messages_total`). The
    /// defaults are [`DEFAULT_QUEUE_MESSAGES`] and [`DEFAULT_QUEUE_BYTES`]; a single message of any size that is
    /// allowed always needs to fit.
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.limits = QueueLimits { messages, bytes };
        self
    }

    /// For how long a topic is listened to after its last subscriber has left; the default is [`DEFAULT_LINGER`].
    /// Whoever comes back in that time misses nothing, and costs the engine nothing.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long one attempt to connect may take; the default is [`DEFAULT_CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// The longest pause between two attempts to connect; the default is [`DEFAULT_RETRY_INTERVAL`]. A part of it
    /// is left to chance, so that not all nodes come back at once.
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.retry_interval = interval;
        self
    }

    /// How often the engine is asked whether it is still there; the default is [`DEFAULT_PING_INTERVAL`]. One that
    /// is silent for about three of these counts as lost.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.settings.ping_interval = interval;
        self
    }

    /// Starts the node. If the engine is there, it can be heard by others once this returns.
    ///
    /// An engine that isn't reached is no error: the node starts by itself, warns, and goes on trying. The node
    /// ends when its last `PubSub`, inbox and attachment are dropped.
    ///
    /// # Errors
    /// An option is out of its bounds, the configuration can't be right, or the engine refuses it.
    pub async fn start(self) -> Result<PubSub, StartError> {
        self.check()?;
        match self.kind {
            #[cfg(feature = "nats")]
            Kind::Nats => Box::pin(self.launch("NATS", crate::nats::Nats::new)).await,
            #[cfg(feature = "redis")]
            Kind::Redis => Box::pin(self.launch("Redis", crate::redis::Redis::new)).await,
        }
    }

    /// Checks all options that need no engine: [`start`](Self::start) does so first.
    ///
    /// # Errors
    /// An option is out of its bounds. The error names it, and says what is allowed.
    pub fn check(&self) -> Result<(), OptionsError> {
        within("node (bytes)", self.node.len(), 1, MAX_NODE_BYTES)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let len = self.namespace.len();
        if !(1..=MAX_NAMESPACE_BYTES).contains(&len) || !self.namespace.chars().all(is_plain) {
            let is =
                format!("{:?}", self.namespace.chars().take(2 * MAX_NAMESPACE_BYTES).collect::<String>());
            let allowed = format!("1 to {MAX_NAMESPACE_BYTES} letters, digits, `-` and `_`");
            return Err(OptionsError::new("namespace", is, allowed));
        }
        if let Some(region) = &self.region {
            within("region (bytes)", region.len(), 1, MAX_REGION_BYTES)?;
        }
        for (option, mut secrets) in
            [("secret", self.secret.as_slice().iter()), ("also_accept", self.also_accepted.iter())]
        {
            if secrets.any(|secret| secret.len() < MIN_SECRET_BYTES) {
                let (is, allowed) = ("shorter", format!("{MIN_SECRET_BYTES} bytes or longer"));
                return Err(OptionsError::new(option, is, allowed));
            }
        }
        if self.secret.is_none() && !self.also_accepted.is_empty() {
            return Err(OptionsError::new("secret", "missing", "given where others are accepted"));
        }
        within("queue (messages)", self.limits.messages, 1, MAX_QUEUE_MESSAGES)?;
        within("queue (bytes)", self.limits.bytes, MAX_ENVELOPE_BYTES, MAX_QUEUE_BYTES)?;
        within("linger", self.linger, Duration::ZERO, MAX_TIME)?;
        within("retry_interval", self.retry_interval, MIN_TIME, MAX_TIME)?;
        within("connect_timeout", self.settings.connect_timeout, MIN_TIME, MAX_TIME)?;
        within("ping_interval", self.settings.ping_interval, MIN_TIME, MAX_TIME)
    }

    pub(crate) async fn launch<E: Engine>(
        self,
        name: &'static str,
        engine: impl FnOnce(Settings) -> Result<E, StartError>,
    ) -> Result<PubSub, StartError> {
        let mut origin = Origin::default();
        getrandom::fill(&mut origin).map_err(|error| ConfigError::Randomness(error.to_string()))?;
        let engine = engine(self.settings)?;
        let secrets = self.secret.iter().chain(&self.also_accepted).map(Vec::as_slice);
        let envelopes = Envelopes::new(&self.namespace, &self.node, origin, secrets);
        let region = self.region.map(String::into_boxed_str);
        let (link, outgoing) = Link::new(name, &self.namespace, region, envelopes, self.linger, self.limits);

        if self.secret.is_none() {
            tracing::warn!(
                engine = name,
                node = self.node,
                "the cluster has no secret: whoever can write to the engine can speak for any node"
            );
        }
        use_some_cryptography();
        let driver = Driver { engine, link: link.clone(), outgoing, retry_interval: self.retry_interval };
        let session = match driver.open().await {
            Ok(session) => Some(session),
            Err(Failure::Refused(reason)) => return Err(StartError::Refused { engine: name, reason }),
            Err(Failure::Away(reason)) => {
                tracing::warn!(
                    engine = name,
                    node = self.node,
                    reason,
                    "the engine can't be reached: this node starts by itself, and goes on trying"
                );
                None
            }
        };
        link.connected.send_replace(session.is_some());
        // The node tells it to end when it is closed or dropped.
        tasks::spawn("engine driver", driver.run(session)).detach();
        Ok(PubSub::new(Node::new(link)))
    }
}

/// The TLS of either client takes the process's choice of cryptography. Where the program has made none, and
/// its crates offer several, they would panic.
fn use_some_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may just have made the choice, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No more than this: URLs have passwords in them.
        f.debug_struct("NodeBuilder")
            .field("node", &self.node)
            .field("namespace", &self.namespace)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// A node can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option is out of its bounds: see [`NodeBuilder::check`].
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The configuration can't be right, whatever the engine says.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine is there, and refuses the node: its user or password is wrong, say, or a limit is too low.
    #[error("{engine} refuses this node: {reason}")]
    Refused {
        /// The engine: `NATS` or `Redis`.
        engine: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A configuration that can't be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address of the engine can't be read.
    #[error("the engine's address can't be used: {0}")]
    Address(String),
    /// The address is of something else.
    #[error("{scheme}:// can't be used; {instead}")]
    Scheme {
        /// What the address begins with.
        scheme: String,
        /// What to give instead.
        instead: &'static str,
    },
    /// Redis takes one server.
    #[error(
        "Redis takes the address of one server, and these are several; a list of the nodes of a Redis Cluster can't be \
         used"
    )]
    SeveralServers,
    /// An option is of use with NATS only.
    #[error("{0} is for NATS only")]
    NatsOnly(&'static str),
    /// Certificates were given, and the connection is without TLS.
    #[error("certificates are of use with rediss:// only")]
    WithoutTls,
    /// A file can't be read.
    #[error("{} can't be read: {error}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system has no randomness for this node's name among its runs.
    #[error("no randomness: {0}")]
    Randomness(String),
}
