//! The rows that the suite measures. The goals are this project's own.

use serde_json::Value;

/// The server that a row is measured on.
#[derive(Clone, Copy)]
pub(crate) enum Server {
    /// `rooms`, with these arguments
    Rooms(&'static [&'static str]),
    /// Two nodes of `rooms` over NATS, with this `--diff-interval` or none; whether the first is to be killed.
    Cluster { diff_interval: Option<&'static str>, kill: bool },
    /// `large_server`, full
    Large,
    /// `large_server --watched`, which is its own client
    Watched,
    /// `scale`, which starts its nodes itself
    Scale,
    /// None: `load write-floor --listen` reads what is written
    Reader,
}

pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) goal: &'static str,
    /// The goal once more: fields of the result, each with the most that it may be.
    pub(crate) limits: &'static [(&'static str, f64)],
    pub(crate) server: Server,
    pub(crate) args: &'static [&'static str],
    /// The figures to print of the result: a text before a field, its scale and unit.
    pub(crate) shown: &'static [(&'static str, &'static str, f64, &'static str)],
}

/// Microseconds in a millisecond, and so on.
pub(crate) const MILLI: f64 = 1e-3;

impl Row {
    /// With the share of the writes that each event takes, where the result counts them and the cost of one is known.
    pub(crate) fn told(&self, result: &Value, micros_per_write: Option<f64>) -> String {
        let figure = |(before, field, scale, unit): &(&str, &str, f64, &str)| {
            let value = result.pointer(field).and_then(Value::as_f64);
            value.map_or_else(
                || format!("no {field}"),
                |value| format!("{before}{}{unit}", short(value * scale)),
            )
        };
        let mut told: Vec<_> = self.shown.iter().map(figure).collect();
        if let (Some(writes), Some(cost)) = (result["frames_per_event"].as_f64(), micros_per_write) {
            let write_floor = writes * cost;
            told.push(format!("{} ms of it {} writes", short(write_floor * MILLI), short(writes)));
            let cpu = self.shown.iter().find(|(_, field, ..)| field.starts_with("/cpu_us_per"));
            if let Some(cpu) =
                cpu.and_then(|(_, field, ..)| result.pointer(field)?.as_f64()).filter(|_| write_floor > 0.0)
            {
                told.push(format!("{} times that", short(cpu / write_floor)));
            }
        }
        told.join(", ")
    }

    /// `None` if there is no goal.
    pub(crate) fn reaches_goal(&self, result: &Value) -> Option<bool> {
        let holds = |(field, most): &(&str, f64)| {
            result.pointer(field).and_then(Value::as_f64).is_some_and(|value| value <= *most)
        };
        (!self.limits.is_empty()).then(|| self.limits.iter().all(holds))
    }
}

pub(crate) fn short(value: f64) -> String {
    match value {
        1000.0.. => {
            let digits = format!("{value:.0}");
            let (head, tail) = digits.split_at((digits.len() - 1) % 3 + 1);
            let groups = tail.as_bytes().chunks(3).map(String::from_utf8_lossy);
            groups.fold(head.to_owned(), |text, group| format!("{text},{group}"))
        }
        10.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

const PAIR: &[(&str, &str, f64, &str)] = &[
    ("joins p50 ", "/join_seen_us/p50", MILLI, " ms"),
    ("p99 ", "/join_seen_us/p99", MILLI, " ms"),
    ("leaves p50 ", "/leave_seen_us/p50", MILLI, " ms"),
    ("p99 ", "/leave_seen_us/p99", MILLI, " ms"),
    ("", "/cpu_us_per_pair", MILLI, " ms CPU a pair"),
];
const JOIN: &[(&str, &str, f64, &str)] =
    &[("", "/total_ms", MILLI, " s"), ("", "/cpu_us_per_join", MILLI, " ms CPU a join")];
const UPDATE: &[(&str, &str, f64, &str)] = &[
    ("p50 ", "/join_seen_us/p50", MILLI, " ms"),
    ("p99 ", "/join_seen_us/p99", MILLI, " ms"),
    ("", "/cpu_us_per_update", MILLI, " ms CPU an update"),
];
const ECHO: &[(&str, &str, f64, &str)] =
    &[("", "/replies_per_s", 1.0, " a second"), ("", "/cpu_us_per_reply", 1.0, " us CPU")];
const FLOOD: &[(&str, &str, f64, &str)] = &[
    ("p50 ", "/echo_us/p50", MILLI, " ms"),
    ("p99 ", "/echo_us/p99", MILLI, " ms"),
    ("most ", "/echo_us/max", MILLI, " ms"),
    ("", "/flood_frames", 1.0, " frames sent"),
];
const IDLE: &[(&str, &str, f64, &str)] = &[("", "/kb_per_connection", 1.0, " KB each")];
const NODES: &[(&str, &str, f64, &str)] = &[
    ("joins p50 ", "/join_seen_us/p50", MILLI, " ms"),
    ("p99 ", "/join_seen_us/p99", MILLI, " ms"),
    ("leaves p50 ", "/leave_seen_us/p50", MILLI, " ms"),
    ("p99 ", "/leave_seen_us/p99", MILLI, " ms"),
];

pub(crate) const ROWS: &[Row] = &[
    Row {
        work: "no server: a `send` of 700 bytes to each of 500 loopback connections, every 50 ms",
        goal: "",
        limits: &[],
        server: Server::Reader,
        args: &["write-floor", "--secs", "5"],
        shown: &[("", "/cpu_us_per_write", 1.0, " us CPU")],
    },
    Row {
        work: "200 people join one room until all see all",
        goal: "",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["join", "--users", "200"],
        shown: JOIN,
    },
    Row {
        work: "1,000 people",
        goal: "1.5 s, 0.4 ms",
        limits: &[("/total_ms", 1500.0), ("/cpu_us_per_join", 400.0)],
        server: Server::Rooms(&[]),
        args: &["join", "--users", "1000"],
        shown: JOIN,
    },
    Row {
        work: "2,000 people",
        goal: "5 s, 0.8 ms",
        limits: &[("/total_ms", 5000.0), ("/cpu_us_per_join", 800.0)],
        server: Server::Rooms(&[]),
        args: &["join", "--users", "2000"],
        shown: JOIN,
    },
    Row {
        work: "churn, one room of 500, 10 pairs of a leave and a join a second",
        goal: "",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["churn", "--rate", "10", "--secs", "4"],
        shown: PAIR,
    },
    Row {
        work: "the same, 50 pairs",
        goal: "p99 90 ms, 1.5 ms",
        limits: &[
            ("/join_seen_us/p99", 90_000.0),
            ("/leave_seen_us/p99", 90_000.0),
            ("/cpu_us_per_pair", 1500.0),
        ],
        server: Server::Rooms(&[]),
        args: &["churn", "--rate", "50", "--secs", "5"],
        shown: PAIR,
    },
    Row {
        work: "the same with `--diff-interval 50`",
        goal: "",
        limits: &[],
        server: Server::Rooms(&["--diff-interval", "50"]),
        args: &["churn", "--rate", "50", "--secs", "5"],
        shown: PAIR,
    },
    Row {
        work: "churn, 100 rooms of 20, 100 pairs",
        goal: "",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["churn", "--users", "2000", "--rooms", "100", "--rate", "100", "--secs", "4"],
        shown: PAIR,
    },
    Row {
        work: "the same, 400 pairs",
        goal: "",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["churn", "--users", "2000", "--rooms", "100", "--rate", "400", "--secs", "4"],
        shown: PAIR,
    },
    Row {
        work: "a meta updated 100 times a second, seen by 100 members",
        goal: "p99 90 ms, 0.25 ms",
        limits: &[("/join_seen_us/p99", 90_000.0), ("/cpu_us_per_update", 250.0)],
        server: Server::Rooms(&[]),
        args: &["update", "--secs", "5"],
        shown: UPDATE,
    },
    Row {
        work: "the same with `--diff-interval 50`",
        goal: "",
        limits: &[],
        server: Server::Rooms(&["--diff-interval", "50"]),
        args: &["update", "--secs", "5"],
        shown: UPDATE,
    },
    Row {
        work: "broadcast to 1,000 members, 16 in flight",
        goal: "2 us",
        limits: &[("/cpu_us_per_delivery", 2.0)],
        server: Server::Rooms(&[]),
        args: &["broadcast", "--secs", "4"],
        shown: &[("", "/deliveries_per_s", 1.0, " a second"), ("", "/cpu_us_per_delivery", 1.0, " us CPU")],
    },
    Row {
        work: "broadcast of 2 KB to 1,000 members, 1 in flight",
        goal: "",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["broadcast", "--size", "2000", "--window", "1", "--secs", "4"],
        shown: &[("", "/deliveries_per_s", 1.0, " a second"), ("", "/cpu_us_per_delivery", 1.0, " us CPU")],
    },
    Row {
        work: "echo, 50 connections, 1 in flight",
        goal: "",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["echo", "--depth", "1", "--secs", "3"],
        shown: ECHO,
    },
    Row {
        work: "echo, 16 in flight",
        goal: "3 us",
        limits: &[("/cpu_us_per_reply", 3.0)],
        server: Server::Rooms(&[]),
        args: &["echo", "--depth", "16", "--secs", "3"],
        shown: ECHO,
    },
    Row {
        work: "5 clients echo every 50 ms while one floods empty frames",
        goal: "p99 50 ms",
        limits: &[("/echo_us/p99", 50_000.0)],
        server: Server::Rooms(&[]),
        args: &["flood", "--secs", "5"],
        shown: FLOOD,
    },
    Row {
        work: "the same, heartbeats",
        goal: "p99 50 ms",
        limits: &[("/echo_us/p99", 50_000.0)],
        server: Server::Rooms(&[]),
        args: &["flood", "--kind", "heartbeat", "--secs", "5"],
        shown: FLOOD,
    },
    Row {
        work: "9,000 idle connections, each in a channel",
        goal: "",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["idle", "--plain"],
        shown: IDLE,
    },
    Row {
        work: "9,000, each present in a room of its own",
        goal: "8 KB",
        limits: &[("/kb_per_connection", 8.0)],
        server: Server::Rooms(&[]),
        args: &["idle"],
        shown: IDLE,
    },
    Row {
        work: "300 members, 100 updates of 7.5 KB a second, 30 members stop reading",
        goal: "the others see no delay",
        limits: &[],
        server: Server::Rooms(&[]),
        args: &["slow"],
        shown: &[
            ("p99 ", "/join_seen_us/p99", MILLI, " ms"),
            ("without them ", "/join_seen_us_without/p99", MILLI, " ms"),
            ("memory ", "/memory_kb_most", MILLI, " MB"),
            ("before ", "/memory_kb_before", MILLI, " MB"),
            ("states sent again ", "/states_sent_again", 1.0, ""),
        ],
    },
    Row {
        work: "a change on one node seen on another, `--diff-interval 0`, 50 a second, a room of 200",
        goal: "p50 5 ms, p99 30 ms",
        limits: &[("/join_seen_us/p50", 5000.0), ("/join_seen_us/p99", 30_000.0)],
        server: Server::Cluster { diff_interval: Some("0"), kill: false },
        args: &["cluster"],
        shown: NODES,
    },
    Row {
        work: "the same at the default",
        goal: "p99 90 ms",
        limits: &[("/join_seen_us/p99", 90_000.0)],
        server: Server::Cluster { diff_interval: None, kill: false },
        args: &["cluster"],
        shown: NODES,
    },
    Row {
        work: "a node killed until its people are seen to leave",
        goal: "4 s",
        limits: &[("/all_gone_ms", 4000.0)],
        server: Server::Cluster { diff_interval: None, kill: true },
        args: &["kill", "--rate", "200"],
        shown: &[("", "/all_gone_ms", MILLI, " s")],
    },
    Row {
        work: "100,000 presences in a counted topic, 1,000 clients, 1,000 changes a second",
        goal: "it holds",
        limits: &[],
        server: Server::Large,
        args: &["large", "--secs", "6"],
        shown: &[
            ("", "/cpu_us_per_change", 1.0, " us CPU a change"),
            ("a count is p99 ", "/count_us/p99", MILLI, " ms old"),
            ("a page p99 ", "/page_us/p99", 1.0, " us"),
            ("", "/server_rss_kb", MILLI, " MB"),
        ],
    },
    Row {
        work: "the same with diffs, to 1,000 subscribers and 10 lists inside",
        goal: "it holds",
        limits: &[],
        server: Server::Watched,
        args: &["--watched", "--secs", "6"],
        shown: &[
            ("", "/cpu_us_per_change", 1.0, " us CPU a change"),
            ("a page p99 ", "/page_us/p99", 1.0, " us"),
            ("", "/bytes_per_presence", 1.0, " bytes a presence"),
        ],
    },
    Row {
        work: "1,000,000 presences of tasks inside, in topics of 100; then 10,000 changes a second",
        goal: "track p99 1 ms",
        limits: &[("/calls/track_us/p99", 1000.0), ("/changes/probed/track_us/p99", 1000.0)],
        server: Server::Scale,
        args: &["one"],
        shown: &[
            ("", "/fill/bytes_per_presence", 1.0, " bytes each"),
            ("filled in ", "/fill/secs", 1.0, " s"),
            ("p99 of track ", "/calls/track_us/p99", 1.0, " us"),
            ("update ", "/calls/update_us/p99", 1.0, " us"),
            ("list ", "/calls/list_us/p99", 1.0, " us"),
            ("count ", "/calls/count_us/p99", 1.0, " us"),
            ("beside the changes track ", "/changes/probed/track_us/p99", 1.0, " us"),
        ],
    },
];
