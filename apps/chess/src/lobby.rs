//! The lobby: one channel in which everyone who is online is present, once for each tab.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use adsum::{
    Assigns, Channel, Connect, Entries, FetchError, JoinError, Joined, Key, NotReady, Payload, Presence,
    PresenceHandler, PubSub, Refused, Reply, Socket, SocketBuilder, Stop, Topic,
};
use axum::{
    Router,
    http::{HeaderMap, header::USER_AGENT},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{Accounts, Origin, Session, User};

/// How long the presence of a tab stays once its connection is gone: nobody sees a reload.
const LINGER: Duration = Duration::from_secs(2);

/// How long requests that are under way may take once the program is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Who is in the lobby, here and on the other nodes of the site.
#[derive(Debug, Clone)]
pub struct Hall {
    presence: Presence<Roster>,
}

impl Hall {
    /// An empty hall. `pubsub` connects the nodes of the site; all have one database.
    ///
    /// # Panics
    ///
    /// Called outside of a tokio runtime, in which the lobby's presences live.
    pub fn open(pubsub: PubSub, accounts: Accounts) -> Self {
        let roster = Roster { accounts };
        let presence = Presence::builder(pubsub).name("lobby").linger(LINGER).handler(roster).start();
        Self { presence }
    }

    /// Waits until this node knows who is on the others.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.presence.ready().await
    }

    /// Serves a site with this hall in it until the program is told to stop. Then everyone is sent to the other nodes,
    /// or to whoever listens here next, and nobody is seen to leave.
    pub async fn serve(&self, listener: TcpListener, site: Router) -> std::io::Result<()> {
        adsum::serve(listener, site).presence(&self.presence).request_grace(STOP_GRACE).await
    }

    /// The socket that browsers connect to, with the lobby on it. Who they are comes from their session alone.
    pub(crate) fn socket(
        &self,
        accounts: Accounts,
        session: Session,
        origin: Option<&Origin>,
        hosts: &[String],
    ) -> Router {
        let app = App { accounts, session, presence: self.presence.clone() };
        let mut socket = SocketBuilder::new(app).connect(connect).host(hosts.iter().map(String::as_str));
        if let Some(origin) = origin {
            socket = socket.origins([origin.to_string().as_str()]);
        }
        socket.channel::<Lobby>("lobby").into_router(&self.presence)
    }
}

/// What the socket and its channels share.
#[derive(Debug, Clone)]
struct App {
    accounts: Accounts,
    session: Session,
    presence: Presence<Roster>,
}

async fn connect(app: App, request: Connect) -> Result<Assigns, Refused> {
    let id = app.session.user_id(request.headers()).ok_or_else(|| Refused::new("not signed in"))?;
    let user = app.accounts.user(id).await?.ok_or_else(|| Refused::new("no such user"))?;
    Ok(Assigns::new().with(Visitor { id: user.id, device: Device::of(request.headers()) }))
}

/// Whose socket it is, and what they hold in their hands.
#[derive(Debug, Clone, Copy)]
struct Visitor {
    id: i64,
    device: Device,
}

/// One tab in the lobby.
struct Lobby {
    app: App,
    key: Key,
    meta: Meta,
}

impl Channel for Lobby {
    type App = App;
    type Params = Seen;
    type Info = ();

    async fn join(
        app: &App,
        _: &Topic,
        Seen { status }: Seen,
        socket: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        let Some(&Visitor { id, device }) = socket.assigns().get() else {
            return Err(JoinError::reason("not signed in"));
        };
        let meta = Meta { online_at: now(), status, device };
        let lobby = Self { app: app.clone(), key: id.to_string().into(), meta };
        Ok(Joined::new(lobby))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.app.presence.track(socket, self.key.clone(), self.meta)?;
        self.app.presence.push_state(socket).await?;
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        if event != "status" {
            return Ok(Reply::error(json!({ "reason": "unknown event" })));
        }
        let Ok(Seen { status }) = payload.decode() else {
            return Ok(Reply::error(json!({ "reason": "the status is here or away" })));
        };
        if status != self.meta.status {
            self.meta.status = status;
            self.app.presence.update(socket, self.key.clone(), self.meta)?;
        }
        Ok(Reply::ok(json!({})))
    }
}

/// What a client says of its tab, when it joins and with the event `status`.
#[derive(Deserialize)]
struct Seen {
    status: Status,
}

/// What everyone sees of one tab.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Meta {
    /// When it came in, in seconds since 1970.
    online_at: u64,
    status: Status,
    device: Device,
}

/// Whether somebody looks at the tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Here,
    Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Device {
    Phone,
    Desktop,
}

impl Device {
    /// A guess, from what the browser says of itself.
    fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        if ["Mobi", "Android", "iPhone"].iter().any(|word| agent.contains(word)) {
            Self::Phone
        } else {
            Self::Desktop
        }
    }
}

/// Adds to each key the card of its user.
#[derive(Debug)]
struct Roster {
    accounts: Accounts,
}

/// What everyone sees of a user, beside their tabs.
#[derive(Debug, Serialize)]
struct Card {
    user: User,
}

impl PresenceHandler for Roster {
    type Meta = Meta;
    type Info = Card;

    async fn fetch(&self, _: &str, entries: &Entries<Meta>) -> Result<HashMap<Key, Card>, FetchError> {
        let ids: Vec<i64> = entries.keys().filter_map(|key| key.parse().ok()).collect();
        let users = self.accounts.users_by_ids(&ids).await?;
        Ok(users.into_iter().map(|(id, user)| (id.to_string().into(), Card { user })).collect())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

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
            assert_eq!(Device::of(&headers), device, "{agent}");
        }
        assert_eq!(Device::of(&HeaderMap::new()), Device::Desktop);
    }
}
