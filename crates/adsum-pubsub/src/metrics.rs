//! The metrics of a node: names, meanings and values.
//!
//! [`table`] names all metrics. A [`PubSub`](crate::PubSub) owns the values of its node in a [`Metrics`]: the crates
//! above count there, each by a handle ([`Counter`], [`Histogram`]) that it takes once and keeps. A count is one
//! addition to a number of this process, whether or not anybody looks.
//!
//! Two ways lead out:
//!
//! - [`PubSub::record_metrics`](crate::PubSub::record_metrics) hands everything to the recorder of the
//!   [`metrics`](https://docs.rs/metrics) crate: to be called at each scrape, or at an interval for a recorder that
//!   pushes. Counters and histograms are handed on as what came since the last time, so a recorder that is installed late
//!   misses nothing, and counting costs the same with a recorder as without. Of a histogram's bucket the recorder gets
//!   the mean of the values as often as there were values, and of more than 10,000 values a sample in proportion.
//! - [`PubSub::read_metrics`](crate::PubSub::read_metrics) returns the values themselves, with or without a recorder:
//!   for a page of the operator's. A counter's rate is the difference of two readings, and the
//!   [quantiles](Buckets::quantile) of the time in between are those of the difference of two [`Buckets`].
//!
//! Gauges have no handle. They are read when somebody asks, from the [`Source`]s that routers and presences register.
//!
//! Labels are bounded: a metric has at most [`MAX_SERIES`] series of one `PubSub`, of which the last is `other`. Whatever
//! comes later counts there.

mod high_water;
mod lanes;
mod readings;
mod recorder;
mod registry;
mod series;
mod sources;
pub mod table;
mod value;

pub use self::{
    high_water::HighWater,
    readings::{Readings, Source},
    recorder::{buckets, describe},
    registry::{MAX_SERIES, Metrics, Sample, Value, process},
    table::{Kind, Label, Metric, Unit, Values},
    value::{Buckets, Counter, Histogram},
};
