//! How to reach an engine, and what can be wrong with it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::bounds::OptionsError;

/// Default timeout of one attempt to connect to one server.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Default interval of pings to a silent engine. After two unanswered pings in a row the connection counts as lost.
pub const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(1);

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
    /// Reads one of the files named here.
    pub(crate) fn read(file: &Path) -> Result<Vec<u8>, StartError> {
        Ok(std::fs::read(file).map_err(|error| ConfigError::File { file: file.to_owned(), error })?)
    }
}

/// A node can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option is out of its bounds: see [`NodeBuilder::check`](crate::NodeBuilder::check).
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The configuration is invalid for any engine.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine is up and refuses the node: the user or password is wrong, for example, or a limit is too low.
    #[error("{engine} refused this node: {reason}")]
    Refused {
        /// The engine: `NATS` or `Redis`.
        engine: &'static str,
        /// Why it refused.
        reason: String,
    },
}

/// An invalid configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address of the engine is invalid.
    #[error("the engine's address can't be used: {0}")]
    Address(String),
    /// The address has the wrong scheme.
    #[error("{scheme}:// can't be used; {instead}")]
    Scheme {
        /// The scheme of the address.
        scheme: String,
        /// The address to give instead.
        instead: &'static str,
    },
    /// There are several addresses for Redis.
    #[error(
        "Redis takes the address of one server, not several; of a Redis Cluster give the address of one member"
    )]
    SeveralServers,
    /// An option works with NATS only.
    #[error("{0} works with NATS only")]
    NatsOnly(&'static str),
    /// There are certificates, but the connection is without TLS.
    #[error("certificates need TLS; use rediss:// instead of redis://")]
    WithoutTls,
    /// A file can't be read.
    #[error("{} can't be read: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why it can't be read.
        error: io::Error,
    },
    /// The system has no randomness for this node's origin.
    #[error("the system has no randomness: {0}")]
    Randomness(String),
}
