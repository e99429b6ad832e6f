//! Event names that belong to the Phoenix Channels protocol.

/// Prefix of the protocol's own events: a client that receives `phx_close` closes its channel for good.
const PROTOCOL: &str = "phx_";
/// Prefix of presence events: a client that receives `presence_state` replaces its list.
const PRESENCE: &str = "presence_";
/// Broadcast to a socket id, this event closes the sockets with that id.
#[doc(hidden)]
pub const DISCONNECT: &str = "disconnect";
/// Maximum number of characters of a refused name in its error.
const MAX_SHOWN: usize = 64;

/// An event was refused because its name belongs to the protocol.
///
/// This happens if a client chooses the name of an event for other clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event {event:?} was not sent: names that begin with {prefix} belong to the protocol, and clients would act \
     on it. If clients choose the name, accept only those that the program knows (`match event {{ \"say\" => .. }}`)"
)]
pub struct ReservedEvent {
    /// The event's name, truncated.
    event: Box<str>,
    prefix: &'static str,
}

/// Checks the name of an event to broadcast: it belongs neither to the protocol nor to presence.
pub(crate) fn check_broadcast(event: &str) -> Result<(), ReservedEvent> {
    check_push(event)?;
    refuse(event, PRESENCE)
}

/// Checks the name of an event to push to one client. Presence events are allowed there: a program may send a
/// `presence_state` of its own.
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
