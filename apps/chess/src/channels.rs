//! The channels of the socket, and who may connect to it.

mod game;
mod lobby;
mod user;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use adsum::{Assigns, Connect, JoinError, Payload, Refused, Reply, Socket, SocketBuilder, Sockets};
use axum::{
    Router,
    http::{HeaderMap, header::USER_AGENT},
};
use serde::de::DeserializeOwned;

use self::{game::GameChannel, lobby::Lobby, user::UserChannel};
use crate::{
    Origin, Problem, Sessions,
    node::{Node, session_topic},
    problem::refused,
    protocol::{Device, User},
    served::ServedSession,
};

/// The state that the socket and its channels share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) node: Arc<Node>,
    pub(crate) sessions: Sessions,
}

/// Whose socket it is, by which session, and what they hold in their hands.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) user: User,
    session: Arc<ServedSession>,
    pub(crate) device: Device,
}

/// The socket that browsers connect to. Only their session says which user they are.
pub(crate) fn socket(app: App, sockets: &Sockets, origin: Option<&Origin>, hosts: &[String]) -> Router {
    let presence = app.node.presence.clone();
    let settings = app.node.settings.clone();
    let max_sockets = settings.max_sockets as usize;
    let (after, close) = settings.ping();
    let mut socket = SocketBuilder::new(app)
        .connect(connect)
        .sockets(sockets)
        .host(hosts.iter().map(String::as_str))
        .max_sockets_per_key(max_sockets)
        .compress_over(Some(settings.compress_over).filter(|bytes| *bytes > 0))
        .trusted_proxies(
            settings.trusted_proxies.iter().map(String::as_str).filter(|proxy| !proxy.is_empty()),
        )
        .ping(after, close);
    if let Some(origin) = origin {
        socket = socket.origins([origin.to_string().as_str()]);
    }
    socket
        .channel::<Lobby>("lobby")
        .channel::<UserChannel>("user:*")
        .channel::<GameChannel>("game:*")
        .into_router(&presence)
}

async fn connect(app: App, request: Connect) -> Result<Assigns, Refused> {
    let session = app.sessions.of(request.headers()).await?;
    let session = session.ok_or_else(|| Refused::new("not signed in"))?;
    let device = device_of(request.headers());
    let key = session.user.id.to_string();
    let id = session_topic(&session.hash);
    let visitor = Visitor { user: session.user, session: app.node.served.session(&session.hash), device };
    Ok(Assigns::new().with(visitor).limit_key(key).id(id))
}

/// Whose socket it is. Asked anew of the database at each join: a session that ended as its socket was opened would go
/// unnoticed else.
async fn visitor(app: &App, socket: &mut Socket) -> Result<Visitor, JoinError> {
    let visitor = socket.assigns().get::<Visitor>().cloned();
    let visitor = visitor.ok_or_else(|| refused(Problem::not_signed_in()))?;
    match app.sessions.is_live(&visitor.session.hash).await {
        Ok(true) => Ok(visitor),
        Ok(false) => Err(refused(Problem::not_signed_in())),
        Err(error) => Err(refused(error.into())),
    }
}

/// Join parameters that make no sense.
fn invalid_join(error: &serde_json::Error) -> JoinError {
    refused(Problem::invalid(format!("The parameters of the join make no sense: {error}.")))
}

/// Reads what came with an event.
fn read<T: DeserializeOwned>(payload: &Payload) -> Result<T, Problem> {
    payload.decode().map_err(|error| Problem::invalid(format!("That makes no sense to the server: {error}.")))
}

/// The reply to an event.
fn answer<T: serde::Serialize>(result: Result<T, Problem>) -> Reply {
    match result {
        Ok(response) => Reply::ok(response),
        Err(problem) => problem.into(),
    }
}

/// A guess, from what the browser says of itself.
fn device_of(headers: &HeaderMap) -> Device {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if ["Mobi", "Android", "iPhone"].iter().any(|word| agent.contains(word)) {
        Device::Phone
    } else {
        Device::Desktop
    }
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An empty object.
#[derive(Debug, Clone, Copy, serde::Serialize)]
struct Nothing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        for (agent, device) in [
            ("Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36", Device::Desktop),
            ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0.0.0 Mobile Safari/537.36", Device::Phone),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148",
                Device::Phone,
            ),
            ("", Device::Desktop),
        ] {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
            assert_eq!(device_of(&headers), device, "{agent}");
        }
        assert_eq!(device_of(&HeaderMap::new()), Device::Desktop);
    }
}
