//! Starts a node that reaches others through an engine.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{
    adapter::{MAX_REGION_BYTES, QueueLimits},
    bounds::{MAX_TIME, OptionsError, within},
    driver::{Driver, Engine, Failure},
    engine_link::{EngineLink, NodeAdapter},
    envelope::{Envelopes, MAX_ENVELOPE_BYTES, MAX_NODE_BYTES},
    pubsub::PubSub,
    replay::Origin,
    settings::{ConfigError, DEFAULT_CONNECT_TIMEOUT, DEFAULT_PING_INTERVAL, Settings, StartError},
    tasks,
};

/// Default namespace of a node.
pub const DEFAULT_NAMESPACE: &str = "adsum";

/// Default maximum of messages in the queue to the engine.
pub const DEFAULT_QUEUE_MESSAGES: usize = 16 * 1024;

/// Default maximum of bytes in the queue to the engine.
pub const DEFAULT_QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// Default time for which a node stays subscribed to a topic after its last local subscriber has left.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(10);

/// Default maximum pause between two attempts to connect.
pub const DEFAULT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum length of a secret.
const MIN_SECRET_BYTES: usize = 20;

/// Upper bound of the option for the number of queued messages.
const MAX_QUEUE_MESSAGES: usize = 1 << 24;

/// Upper bound of the option for the number of queued bytes: 64 GiB, or what the machine can address.
const MAX_QUEUE_BYTES: usize = if usize::BITS > 36 { 1 << 36 } else { usize::MAX };

/// Minimum of a time option for which zero makes no sense.
const MIN_TIME: Duration = Duration::from_millis(1);

/// Maximum length of a namespace.
const MAX_NAMESPACE_BYTES: usize = 64;

/// Builds a node of a cluster; from [`PubSub::nats`] or [`PubSub::redis`].
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
/// All nodes of a cluster share a namespace and a secret, and each has a unique name. Messages from a node without the
/// secret, or from an incompatible version of adsum, are refused, counted (`adsum_refused_messages_total`) and logged
/// once.
///
/// While the engine is unreachable, [`broadcast`](PubSub::broadcast) reaches this node alone and fails with
/// [`BroadcastError::Disconnected`](crate::BroadcastError::Disconnected); nothing is queued. The node retries at least
/// once a second, and [`connected`](PubSub::connected) changes once the connection is restored.
#[must_use = "a node does nothing until it is started"]
pub struct NodeBuilder {
    kind: EngineKind,
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
enum EngineKind {
    #[cfg(feature = "nats")]
    Nats,
    #[cfg(feature = "redis")]
    Redis,
}

impl PubSub {
    /// Builds a node that reaches others through NATS.
    ///
    /// `servers` is a comma-separated list of URLs, `nats://` or `tls://`; each may contain a user and a password, or a
    /// token. They are servers of one NATS cluster, of which the node uses one at a time. The account only needs the
    /// subjects under the namespace, such as `adsum.>`.
    ///
    /// Each topic with subscribers on this node takes about 7 KiB of memory for its queues.
    #[cfg(feature = "nats")]
    pub fn nats(servers: impl AsRef<str>) -> NodeBuilder {
        NodeBuilder::new(EngineKind::Nats, servers.as_ref())
    }

    /// Builds a node that reaches others through Redis 6 or newer.
    ///
    /// `server` is a URL, `redis://` or `rediss://` (TLS), that may contain a user and a password. The account needs
    /// the channels under the namespace, such as `adsum.*`, and no keys.
    ///
    /// The server may be a member of a Redis Cluster, whose members pass each message on to all others; if it dies, the
    /// node doesn't look for another member. A Sentinel is refused.
    #[cfg(feature = "redis")]
    pub fn redis(server: impl AsRef<str>) -> NodeBuilder {
        NodeBuilder::new(EngineKind::Redis, server.as_ref())
    }
}

impl NodeBuilder {
    fn new(kind: EngineKind, servers: &str) -> Self {
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

    /// Sets this node's name: unique in the cluster, and the same after a restart. Required.
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = name.into();
        self
    }

    /// Sets the secret that all nodes of the cluster share, of at least 20 bytes. Without one, anyone who can write to
    /// the engine can send messages in the name of any node.
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// Accepts another secret as well, to rotate the cluster's secret without a split: first all nodes accept the new
    /// one, then all use it and accept the old one, then the old one is removed. Each step is a rolling restart.
    pub fn also_accept(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.also_accepted.push(secret.into());
        self
    }

    /// Sets the namespace, which separates this cluster from others on the same engine. Letters, digits, `-` and `_`;
    /// the default is [`DEFAULT_NAMESPACE`].
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets this node's region, such as `eu`, if the nodes are in several places with one link in between, for example
    /// NATS clusters joined by a leaf node or a gateway. All nodes on one side of the link have the same region.
    ///
    /// When the link breaks, all nodes of the other region fall silent at once. They count as unreachable only after
    /// the cluster's `engine_grace`; until then no client sees their presences leave. A region needs two nodes for
    /// that.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the user to log in as, instead of those in the URLs.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.user = Some((name.into(), password.into()));
        self
    }

    /// Sets a credentials file with a JWT and a seed, as the NATS tools write it. For NATS only.
    pub fn credentials_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.settings.credentials_file = Some(file.into());
        self
    }

    /// Sets a file with the certificate authorities to trust, instead of the system's. Requires TLS.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.settings.ca_file = Some(file.into());
        self
    }

    /// Sets the files with a client certificate and its key. Requires TLS.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.settings.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Sets the maximum of messages and bytes in the queue to the engine. Broadcasts beyond it fail with
    /// [`BroadcastError::Full`](crate::BroadcastError::Full). With NATS the number of bytes also bounds incoming
    /// messages that are not delivered yet, each with 64 bytes more than its own; a single topic takes at most half of
    /// it. Those beyond it are lost and counted (`adsum_lagged_messages_total`). The defaults are
    /// [`DEFAULT_QUEUE_MESSAGES`] and [`DEFAULT_QUEUE_BYTES`]. The largest allowed message must fit.
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.limits = QueueLimits { messages, bytes };
        self
    }

    /// Sets for how long the node stays subscribed to a topic after its last subscriber has left; the default is
    /// [`DEFAULT_LINGER`]. A subscriber that returns within that time costs the engine nothing.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets the timeout of one attempt to connect; the default is [`DEFAULT_CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// Sets the maximum pause between two attempts to connect; the default is [`DEFAULT_RETRY_INTERVAL`]. Part of it is
    /// random, so that not all nodes reconnect at once.
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.retry_interval = interval;
        self
    }

    /// Sets the interval of pings to the engine; the default is [`DEFAULT_PING_INTERVAL`]. The connection counts as
    /// lost after about three intervals of silence.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.settings.ping_interval = interval;
        self
    }

    /// Starts the node. If the engine is reachable, the node is connected once this returns.
    ///
    /// An unreachable engine is no error: the node starts alone, logs a warning, and retries. The node stops when its
    /// last `PubSub`, inbox and attachment are dropped.
    ///
    /// # Errors
    /// An option is out of its bounds, the configuration is invalid, or the engine refuses it.
    pub async fn start(self) -> Result<PubSub, StartError> {
        self.check()?;
        match self.kind {
            #[cfg(feature = "nats")]
            EngineKind::Nats => Box::pin(self.launch("NATS", crate::nats::Nats::new)).await,
            #[cfg(feature = "redis")]
            EngineKind::Redis => Box::pin(self.launch("Redis", crate::redis::Redis::new)).await,
        }
    }

    /// Checks all options that need no engine, as [`start`](Self::start) does first.
    ///
    /// # Errors
    /// An option is out of its bounds. The error names it and its bounds.
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
            return Err(OptionsError::new("secret", "missing", "set if `also_accept` is"));
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
        let (link, outgoing) =
            EngineLink::new(name, &self.namespace, region, envelopes, self.linger, self.limits);

        if self.secret.is_none() {
            tracing::warn!(
                engine = name,
                node = self.node,
                "the cluster has no secret: anyone who can write to the engine can impersonate any node; set \
                 `NodeBuilder::secret`"
            );
        }
        ensure_crypto_provider();
        let driver = Driver { engine, link: link.clone(), outgoing, retry_interval: self.retry_interval };
        let session = match driver.open().await {
            Ok(session) => Some(session),
            Err(Failure::Refused(reason)) => return Err(StartError::Refused { engine: name, reason }),
            Err(Failure::Away(reason)) => {
                tracing::warn!(
                    engine = name,
                    node = self.node,
                    reason,
                    "the engine is unreachable; this node starts alone; retrying"
                );
                None
            }
        };
        link.connected.send_replace(session.is_some());
        // The node stops it when it is closed or dropped.
        tasks::spawn("engine driver", driver.run(session)).detach();
        Ok(PubSub::new(NodeAdapter::new(link)))
    }
}

/// Installs a default crypto provider if the process has none. Both clients use the process's provider, and would panic
/// if the program has not chosen one and its crates offer several.
fn ensure_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have installed one at this moment, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URLs: they may contain passwords.
        f.debug_struct("NodeBuilder")
            .field("node", &self.node)
            .field("namespace", &self.namespace)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}
