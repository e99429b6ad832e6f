//! How far this node is in sync with the cluster.

/// How far this node is in sync with the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncStatus {
    Starting,
    Ready,
    NotSynced,
    EngineAway,
    Duplicate(String),
    /// The replication task has panicked, and is restarted. `was_live`: other nodes knew this one as up.
    Failed {
        was_live: bool,
    },
}

impl SyncStatus {
    pub(crate) fn health(&self) -> Result<(), NotReady> {
        match self {
            Self::Ready => Ok(()),
            Self::Starting => Err(NotReady::Starting),
            Self::NotSynced => Err(NotReady::NotSynced),
            Self::EngineAway => Err(NotReady::EngineAway),
            Self::Duplicate(node) => Err(NotReady::DuplicateNode(node.clone())),
            Self::Failed { .. } => Err(NotReady::Failed),
        }
    }

    /// Whether other nodes knew this one as up.
    pub(crate) fn was_live(&self) -> bool {
        match self {
            Self::Ready | Self::NotSynced => true,
            Self::Failed { was_live } => *was_live,
            Self::Starting | Self::EngineAway | Self::Duplicate(_) => false,
        }
    }
}

/// Why a node isn't [ready](crate::Presence::ready).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The node still listens to the others; see [`Presence::ready`](crate::Presence::ready).
    #[error("starting: this node doesn't know yet what is on the others")]
    Starting,
    /// The presences of some node are still missing. They arrive without any action, and the node is ready then.
    #[error("not in sync with all nodes within the sync_timeout; retrying until their presences arrive")]
    NotSynced,
    /// The engine was not reached within the `sync_timeout`, so this node knows no other. It retries, and is ready once
    /// it is in sync.
    #[error("the engine is not reached: this node serves only its own clients, and retries")]
    EngineAway,
    /// The node is about to end, and its clients are sent to others.
    #[error("this node is about to end")]
    Ending,
    /// Another node has the same name. Until it is gone, this one serves only its own clients.
    #[error("another node of the name {0:?} is alive; give every node a unique name")]
    DuplicateNode(String),
    /// The replication task has panicked, or its runtime has ended. After a panic it is restarted, and the node is
    /// ready again once it is in sync. The log has the panic's message.
    #[error("the task that keeps this node in step with others has failed; after a panic it is restarted")]
    Failed,
}
