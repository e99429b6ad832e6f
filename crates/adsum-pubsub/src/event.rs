//! Names of events that belong to the protocol of Phoenix Channels.

/// Events of the protocol itself: a client that receives `phx_close` closes its channel for good.
const PROTOCOL: &str = "phx_";
/// Events of presence: a client that receives `presence_state` replaces its list by it.
const PRESENCE: &str = "presence_";
/// Closes the sockets of the id that it is broadcast to.
#[doc(hidden)]
pub const DISCONNECT: &str = "disconnect";
/// Maximum number of characters of a refused name that its error shows.
const MAX_SHOWN: usize = 64;

/// An event that a program can't send, since its name belongs to the protocol.
///
/// A program meets it where a client chooses the name of an event that goes to others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event {event:?} isn't sent: names that begin with {prefix} are the protocol's own, and clients would act \
     on it. If clients choose the name, accept those that the program knows (`match event {{ \"say\" => .. }}`)"
)]
pub struct ReservedEvent {
    /// The event's name, cut.
    event: Box<str>,
    prefix: &'static str,
}

/// Checks the name of an event that is broadcast: neither the protocol's nor presence's.
pub(crate) fn check_broadcast(event: &str) -> Result<(), ReservedEvent> {
    check_push(event)?;
    refuse(event, PRESENCE)
}

/// Checks the name of an event that is pushed to one client. Presence's own are allowed there: a program may send
/// a `presence_state` that it has made.
#[doc(hidden)]
pub fn check_push(event: &str) -> Result<(), ReservedEvent> {
    refuse(event, PROTOCOL)
}

fn refuse(event: &str, prefix: &'static str) -> Result<(), ReservedEvent> {
    if !event.starts_with(prefix) {
        return Ok(());
    }
    Err(ReservedEvent { event: event.chars().take(MAX_SHOWN).collect(), prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_event_cut_and_what_to_do() {
        let long = format!("phx_{}", "x".repeat(10_000));
        let error = check_push(&long).unwrap_err().to_string();
        assert!(error.len() < 400, "{error}");
        assert!(error.contains("\"phx_xxx") && error.contains("match event"), "{error}");
    }
}
