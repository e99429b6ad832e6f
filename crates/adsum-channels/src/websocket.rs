//! The WebSocket transport: the upgrade of an HTTP connection, and the task that reads and writes its stream.

mod connection;
mod silence;
pub(crate) mod stream;
pub(crate) mod upgrade;
