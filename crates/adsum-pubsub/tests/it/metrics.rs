//! The table of metrics, and the ways of their values.

use std::{
    fmt::Write,
    sync::{Arc, Weak},
};

use adsum_pubsub::{
    PubSub,
    metrics::{Kind, MAX_SERIES, Metrics, Readings, Source, Unit, Value, Values, describe, table},
};

use crate::recorded::Recorded;

/// The rows of the document's table.
fn rows() -> String {
    let mut rows = String::from("| name | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for metric in table::ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels = metric.labels.iter().map(|label| match label.values {
            Values::Known(values) => format!("`{}`: {}", label.name, values.join(", ")),
            Values::Bounded(what) => format!("`{}`: {what}", label.name),
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        let help = metric.help;
        let help = if metric.unit == Unit::Seconds { format!("{help} In seconds.") } else { help.to_owned() };
        writeln!(rows, "| `{}` | {kind} | {labels} | {help} |", metric.name).unwrap();
    }
    rows
}

#[test]
fn the_table_of_the_document_is_that_of_the_code() {
    const BEGIN: &str = "<!-- made of the table in the code -->\n\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once("\n\n").unwrap();
    let made = rows();
    if std::env::var_os("ADSUM_METRICS").is_some_and(|value| value == "write") {
        std::fs::write(path, [before, BEGIN, made.trim_end(), "\n\n", after].concat()).unwrap();
        return;
    }
    assert!(table == made.trim_end(), "docs/metrics.md is made anew by ADSUM_METRICS=write");
}

#[test]
fn every_metric_is_described_to_the_recorder() {
    let recorded = Recorded::default();
    ::metrics::with_local_recorder(&recorded, describe);
    assert_eq!(recorded.described(), table::ALL.iter().map(|metric| metric.name.to_owned()).collect());
}

#[test]
fn counters_are_zero_from_the_start_and_a_late_recorder_misses_nothing() {
    let pubsub = PubSub::local();
    let refused = pubsub.metrics().counter(&table::SOCKETS_REFUSED, &["origin"]);
    refused.add(2);
    let recorded = Recorded::default();
    ::metrics::with_local_recorder(&recorded, || pubsub.record_metrics());
    assert_eq!(recorded.get(r#"adsum_sockets_refused_total{reason="origin"}"#), Some(2.0));
    assert_eq!(recorded.get(r#"adsum_sockets_refused_total{reason="host"}"#), Some(0.0));
    refused.increment();
    ::metrics::with_local_recorder(&recorded, || pubsub.record_metrics());
    assert_eq!(recorded.get(r#"adsum_sockets_refused_total{reason="origin"}"#), Some(3.0));
}

#[test]
fn a_histogram_is_heard_by_a_recorder_that_comes_later() {
    let metrics = Metrics::new();
    let seconds = metrics.histogram(&table::SOCKET_CONNECT_SECONDS, &[]);
    seconds.record(0.2);
    seconds.record(0.3);
    let recorded = Recorded::default();
    for _ in 0..2 {
        ::metrics::with_local_recorder(&recorded, || metrics.record());
        assert_eq!(recorded.get("adsum_socket_connect_seconds"), Some(2.0), "once");
    }
    let read = metrics.read();
    let Some(Value::Buckets(buckets)) = read
        .iter()
        .find(|sample| sample.metric == &table::SOCKET_CONNECT_SECONDS)
        .map(|found| found.value.clone())
    else {
        panic!("it is read")
    };
    assert_eq!((buckets.count(), buckets.quantile(0.9)), (2, Some(0.5)));
}

/// A source with a node in it.
struct Node(&'static str);

impl Source for Node {
    fn read(&self, readings: &mut Readings) {
        readings.add(&table::REPLICA_BEHIND, &["p", self.0], 3.0);
        readings.add_count(&table::SOCKETS, &["websocket"], 2);
        readings.count(&table::GAPS, &["p"], 5);
        readings.count(&table::LIMITS_HIT, &["key_bytes"], 1);
    }
}

#[test]
fn sources_add_up_and_what_has_gone_is_zero() {
    let metrics = Metrics::new();
    let (a, b): (Arc<dyn Source>, Arc<dyn Source>) = (Arc::new(Node("a")), Arc::new(Node("b")));
    // Two routers may share one: it is read once.
    for source in [&a, &b, &a] {
        metrics.register(Arc::downgrade(source));
    }
    let recorded = Recorded::default();
    ::metrics::with_local_recorder(&recorded, || metrics.record());
    let behind =
        |node: &str| recorded.get(&format!("adsum_replica_behind{{presence=\"p\",node=\"{node}\"}}"));
    let gaps = || recorded.get(r#"adsum_gaps_total{presence="p"}"#);
    assert_eq!((behind("a"), behind("b"), gaps()), (Some(3.0), Some(3.0), Some(10.0)));
    assert_eq!(recorded.get(r#"adsum_sockets{transport="websocket"}"#), Some(4.0));
    // Counted by a source and in place, it is one series.
    metrics.add(&table::LIMITS_HIT, &["key_bytes"], 2);
    let read = metrics.read();
    let mut limits =
        read.iter().filter(|sample| sample.metric == &table::LIMITS_HIT && &*sample.labels[0] == "key_bytes");
    assert_eq!(limits.next().map(|sample| sample.value.clone()), Some(Value::Count(4)));
    assert_eq!(limits.next(), None);
    drop(b);
    ::metrics::with_local_recorder(&recorded, || metrics.record());
    assert_eq!((behind("a"), behind("b")), (Some(3.0), Some(0.0)));
    // The counts of a source that has ended stay, for whoever reads, too.
    let read =
        || metrics.read().into_iter().find(|sample| sample.metric == &table::GAPS).map(|sample| sample.value);
    assert_eq!((gaps(), read()), (Some(10.0), Some(Value::Count(10))));
    // Another source counts from zero.
    let c: Arc<dyn Source> = Arc::new(Node("c"));
    metrics.register(Arc::downgrade(&c));
    ::metrics::with_local_recorder(&recorded, || metrics.record());
    assert_eq!((gaps(), read()), (Some(15.0), Some(Value::Count(15))));
}

#[test]
fn a_label_with_too_many_values_ends_in_other() {
    let metrics = Metrics::new();
    for n in 0..2 * MAX_SERIES {
        metrics.add(&table::SOCKETS_OPENED, &[&format!("transport {n}")], 1);
    }
    let opened = metrics.read().into_iter().filter(|sample| sample.metric == &table::SOCKETS_OPENED);
    let opened: Vec<_> = opened.collect();
    assert_eq!(opened.len(), MAX_SERIES);
    let other = opened.iter().find(|sample| &*sample.labels[0] == "other").unwrap();
    assert_eq!(other.value, Value::Count(MAX_SERIES as u64 + 1));
}

/// A source that names a gauge and a counter for each of many nodes.
struct Crowd(usize);

impl Source for Crowd {
    fn read(&self, readings: &mut Readings) {
        for n in 0..self.0 {
            readings.add(&table::REPLICA_BEHIND, &["p", &format!("node {n}")], 1.0);
            readings.count(&table::GAPS, &[&format!("presence {n}")], 1);
        }
    }
}

#[test]
fn series_of_sources_and_those_counted_in_place_share_one_limit() {
    let metrics = Metrics::new();
    let crowds: [Arc<dyn Source>; 2] = [Arc::new(Crowd(2 * MAX_SERIES)), Arc::new(Crowd(2 * MAX_SERIES))];
    metrics.register(Arc::downgrade(&crowds[0]));
    for n in 0..100 {
        metrics.add(&table::GAPS, &[&format!("in place {n}")], 1);
    }
    let recorded = Recorded::default();
    let record = || ::metrics::with_local_recorder(&recorded, || metrics.record());
    let gaps = || recorded.get(r#"adsum_gaps_total{presence="other"}"#);
    record();
    assert_eq!(recorded.count_of("adsum_gaps_total"), MAX_SERIES);
    assert_eq!(recorded.count_of("adsum_replica_behind"), MAX_SERIES);
    // Of these 1124 counts, 511 have a series of their own; of the 1024 gauges, too.
    assert_eq!(gaps(), Some(613.0));
    let behind = recorded.get(r#"adsum_replica_behind{presence="other",node="other"}"#);
    assert_eq!(behind, Some(513.0));
    let sum = || {
        let read = metrics.read().into_iter().filter(|sample| sample.metric == &table::GAPS);
        let counts = read.map(|sample| match sample.value {
            Value::Count(count) => (1, count),
            other => panic!("{other:?}"),
        });
        counts.fold((0, 0), |(series, sum), (one, count)| (series + one, sum + count))
    };
    assert_eq!(sum(), (MAX_SERIES, 1124));
    // Twice the same is nothing new, and each count comes once.
    record();
    assert_eq!(gaps(), Some(613.0));
    metrics.register(Arc::downgrade(&crowds[1]));
    record();
    assert_eq!((recorded.count_of("adsum_gaps_total"), gaps()), (MAX_SERIES, Some(613.0 + 613.0)));
    assert_eq!(sum(), (MAX_SERIES, 1124 + 1024));
}

#[test]
fn a_source_that_is_gone_is_read_no_more() {
    let metrics = Metrics::new();
    let gone: Weak<dyn Source> = Weak::<Node>::new();
    metrics.register(gone);
    assert!(metrics.read().iter().all(|sample| sample.metric != &table::SOCKETS));
}
