//! The names of the built-in transports, for operators, observers and the log.

pub(crate) const WEBSOCKET: &str = "websocket";
/// Of a long poll session.
pub(crate) const LONGPOLL: &str = "longpoll";
