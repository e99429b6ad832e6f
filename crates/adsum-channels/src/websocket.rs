//! The WebSocket protocol (RFC 6455), the server's side, without I/O.
//!
//! [`handshake::accept`] answers an upgrade request, a [`Reader`] turns what a client sends into messages, and
//! [`frame`] writes what the server sends. Sockets, timeouts and the closing handshake are the connection's.

mod connection;
pub(crate) mod frame;
pub(crate) mod handshake;
mod reader;
mod silence;
mod stream;
pub(crate) mod upgrade;

/// The name of the WebSocket transport.
pub(crate) const WEBSOCKET: &str = "websocket";

pub(crate) use frame::Opcode;
pub(crate) use reader::{Incoming, Reader};
