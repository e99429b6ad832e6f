//! A chess site. Its lobby shows everyone who is online, once each, live.
//!
//! * [`Accounts`]: users in a database, and the rules for a [`Name`].
//! * [`Session`]: the signed cookie that says who a browser is.
//! * [`Hall`]: who is online, on all nodes of the site.
//! * [`site`]: the pages and the lobby's channel, as one router. It works at the root of a host, not below a path.

mod accounts;
mod lobby;
mod name;
mod origin;
mod session;
mod site;

#[doc(inline)]
pub use crate::{
    accounts::{Accounts, CreateError, OpenError, User},
    lobby::Hall,
    name::{Name, NameError},
    origin::{Origin, OriginError},
    session::{SECRET_BYTES, Session, WeakSecret},
    site::{MissingFile, Site, site},
};
