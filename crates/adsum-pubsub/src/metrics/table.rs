//! Every metric: its name, kind, unit, labels and meaning. The table of `docs/metrics.md` is made of this one.

/// A metric.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// Its name, as exporters show it.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// Its labels, in the order in which handles take their values.
    pub labels: &'static [Label],
    /// Its meaning.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How often values came, in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// The unit of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of one.
    Ratio,
}

/// A label of a metric.
#[derive(Debug, PartialEq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// The values that it can have.
    pub values: Values,
}

/// The values of a label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// These. Counters of them are there from the start.
    Known(&'static [&'static str]),
    /// As many as there are of these things in a program or a cluster.
    Bounded(&'static str),
}

/// The value of a label that has too many of them.
pub const OTHER: &str = "other";

const fn known(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Known(values) }
}

const PRESENCE: Label = Label { name: "presence", values: Values::Bounded("names of presences") };
const CHANNEL: Label = Label { name: "channel", values: Values::Bounded("patterns of routes") };
const TRANSPORT: Label = Label { name: "transport", values: Values::Bounded("transports") };
const ENGINE: Label = Label { name: "engine", values: Values::Bounded("engines in use") };
const NODE: Label = Label { name: "node", values: Values::Bounded("names of other nodes") };
const DIRECTION: Label = known("direction", &["in", "out"]);

/// Of the time from a request to its answer.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Of work that takes microseconds as a rule.
const SHORT: &[f64] = &[0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
const BYTES: &[f64] = &[256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];
const KEYS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10_000.0];

macro_rules! table {
    ($($id:ident: $kind:expr, $unit:ident, $name:literal, [$($label:expr),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Metric =
                Metric { name: $name, kind: $kind, unit: Unit::$unit, labels: &[$($label),*], help: $help };
        )*

        /// All metrics.
        pub static ALL: &[&Metric] = &[$(&$id),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

table! {
    BUILD_INFO: Gauge, Count, "adsum_build_info",
        [Label { name: "version", values: Values::Bounded("this program's") },
         Label { name: "protocol", values: Values::Bounded("this program's") }],
        "Always 1: the version of adsum, and of the protocol between nodes.";
    READY: Gauge, Count, "adsum_ready", [PRESENCE],
        "1 while the node should be sent clients, as far as this presence knows; 0 while it starts, or is to end.";

    SOCKETS: Gauge, Count, "adsum_sockets", [TRANSPORT], "Open sockets.";
    SOCKETS_OPENED: Counter, Count, "adsum_sockets_opened_total", [TRANSPORT], "Sockets that were opened.";
    SOCKETS_REFUSED: Counter, Count, "adsum_sockets_refused_total",
        [known("reason", REFUSALS)], "Clients that were refused a socket.";
    SOCKETS_CLOSED: Counter, Count, "adsum_sockets_closed_total",
        [known("reason", ENDS)], "Sockets that have closed.";
    SOCKETS_OVERFLOWED: Counter, Count, "adsum_sockets_overflowed_total",
        [known("reason", &["nodes", "queue", "state", "total"])],
        "Sockets closed because their client read too slowly: its queue was full, a state waited for too long, or too \
         much waited in all sockets. Or, by long poll, because a message never fits into the queue between the nodes.";
    SOCKET_CONNECT_SECONDS: Histogram(SECONDS), Seconds, "adsum_socket_connect_seconds", [],
        "How long it took to decide about a client, the program's `connect` included.";
    PING_SECONDS: Histogram(SECONDS), Seconds, "adsum_socket_round_trip_seconds", [],
        "From a ping of a silent WebSocket to its answer.";
    CONNECTIONS: Gauge, Count, "adsum_connections", [], "Open connections of HTTP servers, sockets included.";
    CONNECTIONS_REFUSED: Counter, Count, "adsum_connections_refused_total", [],
        "Connections closed at once, as the server had `max_connections` of them.";
    CONNECTIONS_TIMED_OUT: Counter, Count, "adsum_connections_timed_out_total", [],
        "Connections closed because a request or its answer stood still for too long.";

    CHANNELS: Gauge, Count, "adsum_channels", [CHANNEL], "Channels that clients are in.";
    CHANNELS_JOINED: Counter, Count, "adsum_channels_joined_total",
        [CHANNEL, known("result", &["joined", "refused", "crashed"])], "Joins, by what came of them.";
    CHANNELS_LEFT: Counter, Count, "adsum_channels_left_total",
        [CHANNEL, known("reason", LEFT)], "Channels that have ended.";
    CHANNELS_CRASHED: Counter, Count, "adsum_channels_crashed_total", [CHANNEL],
        "Channels that failed, panicked, or had more waiting for them than they may.";
    CHANNEL_JOIN_SECONDS: Histogram(SECONDS), Seconds, "adsum_channel_join_seconds", [CHANNEL],
        "From a join to its reply.";
    CHANNEL_HANDLE_IN_SECONDS: Histogram(SHORT), Seconds, "adsum_channel_handle_in_seconds", [CHANNEL],
        "How long a channel's handler took for an event.";

    MESSAGES_RECEIVED: Counter, Count, "adsum_messages_received_total", [],
        "Messages of clients, heartbeats included.";
    MESSAGES_SENT: Counter, Count, "adsum_messages_sent_total", [], "Messages to clients, each socket counted.";
    BYTES_RECEIVED: Counter, Bytes, "adsum_bytes_received_total", [], "Bytes of clients, after the handshake.";
    BYTES_SENT: Counter, Bytes, "adsum_bytes_sent_total", [], "Bytes to clients, after the handshake.";
    WRITES: Counter, Count, "adsum_writes_total", [],
        "Writes to sockets. Many messages may go with one.";
    QUEUE_BYTES: Gauge, Bytes, "adsum_queue_bytes", [],
        "What waits in all sockets for clients that don't take it at once, shared bytes counted once.";
    QUEUE_BYTES_MAX: Gauge, Bytes, "adsum_queue_bytes_max", [], "What waits in the socket in which most waits.";
    STATES_CONFLATED: Counter, Count, "adsum_states_conflated_total", [],
        "States sent again to clients that read too slowly for the changes.";
    LIMITS_HIT: Counter, Count, "adsum_limits_hit_total", [known("limit", LIMITS)],
        "How often something was held back or refused because of a limit, by the option's name.";
    LIMIT_HIGH_WATER: Gauge, Ratio, "adsum_limit_high_water_ratio", [known("limit", HIGH_WATERS)],
        "The highest share of a limit that was in use since the start, by the option's name.";

    TOPICS: Gauge, Count, "adsum_topics", [], "Topics with subscribers on this node.";
    ENGINE_CONNECTED: Gauge, Count, "adsum_engine_connected", [ENGINE], "1 while the engine is reached.";
    ENGINE_ROUND_TRIP_SECONDS: Histogram(SECONDS), Seconds, "adsum_engine_round_trip_seconds", [ENGINE],
        "From a question to the engine to its answer, what waited before it included.";
    REFUSED_MESSAGES: Counter, Count, "adsum_refused_messages_total",
        [ENGINE, known("reason", &["foreign", "version", "namespace", "sealed", "unsealed", "secret", "too_large",
            "malformed", "replayed", "unanswered", "overflow"])],
        "Messages of other nodes that this one didn't take.";
    UNSENT_MESSAGES: Counter, Count, "adsum_unsent_messages_total",
        [ENGINE, known("reason", &["disconnected", "full", "too_large", "refused"])],
        "Messages that didn't go out to other nodes.";
    LAGGED_MESSAGES: Counter, Count, "adsum_lagged_messages_total", [ENGINE],
        "Messages of other nodes that were lost because they came faster than they were delivered.";

    PRESENCES: Gauge, Count, "adsum_presences", [PRESENCE, known("origin", &["own", "other"])],
        "Presences that are shown: tracked on this node, or on others.";
    PRESENCE_TOPICS: Gauge, Count, "adsum_presence_topics", [PRESENCE],
        "Topics that a presence keeps: somebody is in them, watches them, or has yet to be told of them.";
    PRESENCE_CHANGES: Counter, Count, "adsum_presence_changes_total",
        [PRESENCE, known("change", &["joined", "updated", "left"])],
        "Changes of what is shown, those of other nodes included.";
    PRESENCE_LEAVES: Counter, Count, "adsum_presence_leaves_total",
        [PRESENCE, known("reason", LEAVES)], "Presences that left, by reason, those of other nodes included.";
    DIFFS: Counter, Count, "adsum_diffs_total", [PRESENCE], "Diffs that were told to somebody.";
    COALESCED_CHANGES: Counter, Count, "adsum_coalesced_changes_total", [PRESENCE],
        "Changes that went out in a diff with others, and cost no diff of their own.";
    FLUSH_DELAY_SECONDS: Histogram(SECONDS), Seconds, "adsum_flush_delay_seconds", [PRESENCE],
        "From the first change of a topic to its diff, the time for `fetch` left out.";
    FETCHES: Counter, Count, "adsum_fetches_total",
        [PRESENCE, known("result", &["ok", "failed", "timeout", "panic"])], "Calls of the program's `fetch`.";
    FETCH_SECONDS: Histogram(SECONDS), Seconds, "adsum_fetch_seconds", [PRESENCE],
        "How long `fetch` took. If it times out, the wait for another `fetch` of the topic is included.";
    FETCH_KEYS: Histogram(KEYS), Count, "adsum_fetch_keys", [PRESENCE], "How many keys `fetch` was asked for.";
    STATE_BYTES: Histogram(BYTES), Bytes, "adsum_state_bytes", [PRESENCE],
        "How large the states are that clients are sent.";

    REPLICAS: Gauge, Count, "adsum_replicas", [PRESENCE, known("state", &["starting", "up", "down", "departed", "duplicate"])],
        "Nodes that this one knows of, itself included.";
    REPLICA_BEHIND: Gauge, Count, "adsum_replica_behind", [PRESENCE, NODE],
        "Versions of another node's presences that this node knows of and doesn't hold yet.";
    REPLICA_SILENT_SECONDS: Gauge, Seconds, "adsum_replica_silent_seconds", [PRESENCE, NODE],
        "How long ago another node was heard.";
    REPLICA_TRANSITIONS: Counter, Count, "adsum_replica_transitions_total",
        [PRESENCE, known("to", &["up", "down", "departed"])], "Nodes that came, fell silent, or left.";
    BATCHES: Counter, Count, "adsum_batches_total", [PRESENCE, DIRECTION],
        "Batches of changes that were published, or came from other nodes.";
    GAPS: Counter, Count, "adsum_gaps_total", [PRESENCE],
        "Batches that didn't follow what was held, so that something between was asked for.";
    SNAPSHOTS: Counter, Count, "adsum_snapshots_total", [PRESENCE, DIRECTION],
        "Snapshots of a shard that were made for other nodes, or taken in whole.";
    SNAPSHOT_SECONDS: Histogram(SECONDS), Seconds, "adsum_snapshot_seconds", [PRESENCE],
        "From the first part of a snapshot to its last.";
    TWINS: Counter, Count, "adsum_twins_total", [PRESENCE], "How often another node of this one's name was found.";
    REGION_LINKS_BROKEN: Counter, Count, "adsum_region_links_broken_total", [PRESENCE],
        "How often all nodes of another region fell silent at once.";
    CLUSTER_MESSAGES_DROPPED: Counter, Count, "adsum_cluster_messages_dropped_total", [PRESENCE],
        "Messages of other nodes that were dropped because they came faster than they were read.";
    CLUSTER_MESSAGES_UNSENT: Counter, Count, "adsum_cluster_messages_unsent_total", [PRESENCE],
        "Messages to other nodes that weren't sent.";
    CLUSTER_MESSAGES_REFUSED: Counter, Count, "adsum_cluster_messages_refused_total",
        [PRESENCE, known("reason", &["protocol", "broken"])],
        "Messages of other nodes of another version of the protocol, or that break its rules.";

    TASK_PANICS: Counter, Count, "adsum_task_panics_total", [known("task", TASKS)],
        "Panics that were caught, by the task.";
}

/// Why a client is refused.
const REFUSALS: &[&str] = &[
    "version",
    "query",
    "origin",
    "host",
    "subprotocol",
    "draining",
    "max_sockets",
    "max_longpoll_sessions",
    "max_sockets_per_address",
    "max_sockets_per_key",
    "program",
];
/// How a socket ends.
const ENDS: &[&str] = &["closed", "lost", "silent", "too_slow", "bad_message", "disconnected", "draining"];
/// Why a channel ends.
const LEFT: &[&str] =
    &["left", "closed", "draining", "duplicate_join", "stopped", "shutdown", "overloaded", "crashed"];
/// Why a presence leaves.
const LEAVES: &[&str] = &["left", "gone", "unreachable", "draining", "finished", "crashed", "cancelled"];
/// Options whose limits hold something back.
const LIMITS: &[&str] = &[
    "max_byte_rate",
    "max_channels",
    "max_connections",
    "max_longpoll_sessions",
    "max_mailbox",
    "max_message_bytes",
    "max_message_rate",
    "max_sockets",
    "max_sockets_per_address",
    "max_sockets_per_key",
    "max_topic_bytes",
    "max_queue_bytes",
    "max_total_queue_bytes",
    "queue_bytes",
    "state_timeout",
    "topic_bytes",
    "key_bytes",
    "meta_bytes",
    "presences_per_owner",
    "presences_per_key",
];
/// Options of which the highest is kept.
const HIGH_WATERS: &[&str] = &[
    "max_channels",
    "max_connections",
    "max_longpoll_sessions",
    "max_mailbox",
    "max_message_bytes",
    "max_sockets",
    "max_sockets_per_address",
    "max_sockets_per_key",
    "max_queue_bytes",
    "max_total_queue_bytes",
    "queue_bytes",
    "queue_messages",
    "replication_inbox_bytes",
    "presences_per_key",
    "presences_per_owner",
    "meta_bytes",
];
/// The names of tasks and guarded calls.
const TASKS: &[&str] = &[
    "NATS pinger",
    "NATS reader",
    "Redis pinger",
    "an observer of diffs",
    "channel",
    "dashboard",
    "dashboard watch",
    "drop of a channel's future",
    "drop of a channel's value",
    "engine driver",
    "explain",
    "extension of a channel",
    "fetch",
    "flush",
    "flusher",
    "http connection",
    "large topic",
    "long poll listener",
    "long poll session",
    "operations",
    "replication",
    "socket",
    "subscriber",
    "watch of a socket",
    "write pass",
];

/// The metric of a name.
pub fn find(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.name == name).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_end_as_their_kind_and_unit_do() {
        let names: HashSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, kind, unit, .. } in ALL {
            assert!(name.starts_with("adsum_"), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(kind, Counter), "{name}");
            match unit {
                Unit::Seconds => assert!(name.ends_with("_seconds"), "{name}"),
                Unit::Bytes => assert!(name.contains("bytes"), "{name}"),
                Unit::Ratio => assert!(name.ends_with("_ratio"), "{name}"),
                Unit::Count => assert!(!name.contains("seconds") && !name.contains("bytes"), "{name}"),
            }
        }
    }

    #[test]
    fn labels_are_bounded_and_buckets_are_in_order() {
        for metric in ALL {
            for label in metric.labels {
                assert!(
                    !["topic", "key", "event", "user", "socket_id"].contains(&label.name),
                    "{} of {}",
                    label.name,
                    metric.name
                );
            }
            if let Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }
}
