//! `lobby`: who is online, what can be joined, what is played.

use adsum::{Channel, JoinError, JoinResult, Joined, Key, Payload, Reply, Socket, Stop, Topic};

use super::{App, Nothing, answer, invalid_join, now_seconds, read, visitor};
use crate::{
    Problem,
    problem::refused,
    protocol::{Meta, Seen},
};

/// How often it is noted at most that somebody is seen; when they leave, it is noted too.
const SEEN_MS: i64 = 300_000;

/// One tab in the lobby.
pub(super) struct Lobby {
    app: App,
    key: Key,
    meta: Meta,
}

impl Channel for Lobby {
    type App = App;
    type Params = Seen;
    type Info = ();

    fn invalid_params(error: serde_json::Error) -> Result<Seen, JoinError> {
        Err(invalid_join(&error))
    }

    async fn join(app: &App, _: &Topic, Seen { status }: Seen, socket: &mut Socket) -> JoinResult<Self> {
        let visitor = visitor(app, socket).await?;
        app.node.db.note_seen(visitor.user.id, SEEN_MS).await.map_err(|error| refused(error.into()))?;
        let meta = Meta::new(now_seconds(), visitor.device, status.into());
        Ok(Joined::new(Self { app: app.clone(), key: visitor.user.id.to_string().into(), meta }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        let presence = &self.app.node.presence;
        presence.track(socket, self.key.clone(), self.meta.clone())?;
        presence.push_state(socket).await?;
        let board = &self.app.node.board;
        // As they were last sent, so that what follows is newer.
        let (seeks, games) = board.lists();
        if let Some(seeks) = seeks {
            socket.push("seeks", seeks)?;
        }
        if let Some(games) = games {
            socket.push("games", games)?;
        }
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        if event != "status" {
            return Ok(Problem::unknown_event().into());
        }
        let status = match read::<Seen>(&payload) {
            Ok(Seen { status }) => status.into(),
            Err(problem) => return Ok(problem.into()),
        };
        if status != self.meta.status {
            self.meta.status = status;
            self.app.node.presence.update(socket, self.key.clone(), self.meta.clone())?;
        }
        Ok(answer(Ok(Nothing {})))
    }
}
