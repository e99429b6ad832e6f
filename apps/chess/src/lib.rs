//! A chess site: a lobby of everyone who is online, games with clocks, spectators, and bots.
//!
//! * [`Db`]: users, sessions, games and offers, in `SQLite` or `PostgreSQL`, and the rules for a [`Name`].
//! * [`Sessions`]: the cookie that says who a browser is.
//! * [`Hall`]: who is online, on all nodes of the site, and what they play.
//! * [`site`]: the pages and the socket, as one router. It works at the root of a host, not below a path.
//! * [`Played`]: the rules of chess.
//! * [`protocol`]: what goes over the wire; PROTOCOL.md describes it.

mod accounts;
mod attendance;
mod board;
mod bots;
mod bundle;
mod channels;
mod clock;
mod db;
mod games;
mod hall;
mod ids;
mod limits;
mod name;
mod node;
mod offers;
mod operations;
mod origin;
mod passwords;
mod past;
mod pgn;
mod problem;
pub mod protocol;
mod rules;
mod served;
mod session;
mod settings;
mod site;
mod tasks;

#[doc(inline)]
pub use crate::{
    db::{CreateError, Db, OpenError},
    hall::Hall,
    ids::UserId,
    name::{Name, NameError},
    operations::serve_operators,
    origin::{Origin, OriginError},
    problem::Problem,
    rules::{Ending, HalfMove, IllegalMove, Played},
    session::Sessions,
    settings::Settings,
    site::{MissingFile, Site, site},
};
