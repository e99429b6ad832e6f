//! Runs channels: a task for each join.

mod handling;
mod task;

pub(crate) use self::task::{ChannelTasks, Route, Start};
