//! The phases of this node's part in the cluster.

use std::{collections::HashSet, time::Duration};

use crate::{
    replica::{Incarnation, Replica},
    time::Time,
    wire::Versions,
};

/// The phase of this node's part in the cluster.
#[derive(Debug)]
pub(super) enum NodePhase {
    /// There are no others.
    Alone,
    /// It has said hello, and listens to the others.
    Listening { until: Time },
    /// Another node of its name is alive. It serves its own clients; if it was up itself, it says goodbye.
    Twin { twin: Replica, silent_at: Time, report_at: Option<Time>, was_live: bool },
    /// It is up.
    Live,
    /// It is leaving.
    Leaving(Leaving),
    /// It has left.
    Left,
}

/// A node that hands its final set over.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) versions: Versions,
    pub(super) grace: Duration,
    /// The nodes that need the final set.
    pub(super) to: HashSet<Replica>,
    /// Those that confirmed it.
    pub(super) held: HashSet<Replica>,
    pub(super) again_at: Time,
    pub(super) until: Time,
}

/// A higher incarnation of this node's own name that others know of. Unless a node of that incarnation turns out to be
/// alive, this node takes a higher one itself.
#[derive(Debug)]
pub(super) struct Outbid {
    pub(super) highest: Incarnation,
    /// Until then, the other node has time to answer.
    pub(super) at: Time,
}

impl NodePhase {
    /// Whether this node sends its changes to others.
    pub(super) fn is_published(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Whether this node isn't up yet, or no more.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self, Self::Listening { .. } | Self::Twin { .. })
    }

    pub(super) fn wake_at(&self, connected: bool) -> Option<Time> {
        match self {
            Self::Listening { until } => connected.then_some(*until),
            Self::Twin { silent_at, report_at, .. } => Some(report_at.unwrap_or(*silent_at).min(*silent_at)),
            Self::Leaving(leaving) => Some(leaving.again_at.min(leaving.until)),
            Self::Alone | Self::Live | Self::Left => None,
        }
    }

    pub(super) fn extend_by(&mut self, late: Duration) {
        match self {
            Self::Listening { until } => *until += late,
            Self::Twin { silent_at, .. } => *silent_at += late,
            _ => {}
        }
    }
}
