//! The WebSocket protocol (RFC 6455) and its compression (RFC 7692), the server's side, without I/O.
//!
//! [`handshake::accept`] answers an upgrade request, [`reader::Reader`] turns what a client sends into messages, and
//! [`frame`] encodes what the server sends. Sockets, timeouts and the closing handshake are in
//! [`websocket`](crate::websocket).

pub(crate) mod deflate;
pub(crate) mod error;
pub(crate) mod extensions;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod reader;
