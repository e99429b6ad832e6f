//! `game:<id>`: one game, to play or to watch.

use std::sync::Arc;

use adsum::{Channel, JoinError, JoinResult, Joined, Key, Payload, Reply, Socket, Stop, Topic};
use serde::Serialize;
use tokio::time::Instant;

use super::{App, Nothing, Visitor, answer, invalid_join, now_seconds, read, visitor};
use crate::{
    Problem,
    games::{Command, Table},
    node::{LOBBY, watch_topic},
    problem::refused,
    protocol::{Change, Color, Game, GameJoined, Meta, NewClaim, NewMove, Seen, Status},
    served::ServedGame,
};

/// One tab that shows a game.
pub(super) struct GameChannel {
    app: App,
    visitor: Visitor,
    key: Key,
    game: String,
    /// The side that its user plays.
    color: Option<Color>,
    status: Status,
    online_at: u64,
    /// The version that the client was told at the join.
    version: i64,
    _served: Arc<ServedGame>,
}

impl Channel for GameChannel {
    type App = App;
    type Params = Seen;
    type Info = ();

    fn invalid_params(error: serde_json::Error) -> Result<Seen, JoinError> {
        Err(invalid_join(&error))
    }

    async fn join(app: &App, topic: &Topic, Seen { status }: Seen, socket: &mut Socket) -> JoinResult<Self> {
        let visitor = visitor(app, socket).await?;
        let game = topic.strip_prefix("game:").unwrap_or_default().to_owned();
        let table = app.node.table(&game).await.map_err(refused)?;
        let color = table.side_of(visitor.user.id);
        let channel = Self {
            app: app.clone(),
            key: visitor.user.id.to_string().into(),
            visitor,
            game,
            color,
            status: status.into(),
            online_at: now_seconds(),
            version: table.version,
            _served: app.node.served.game(&app.node.pubsub, &table),
        };
        Ok(Joined::new(channel).reply(GameJoined { you: color, game: table.game(table.now) }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        let node = &self.app.node;
        if self.color.is_some() {
            node.presence.track(socket, self.key.clone(), self.meta())?;
        } else {
            node.presence.track_in(socket, watch_topic(&self.game), self.key.clone(), self.meta())?;
        }
        node.presence.track_in(socket, LOBBY, self.key.clone(), self.meta_of_lobby())?;
        node.presence.push_state(socket).await?;
        let table = node.table(&self.game).await?;
        self.catch_up(&table, socket)?;
        socket.push("absent", table.absent(node.settings.claim_times(), table.now))?;
        socket.push("crowd", node.crowd(&self.game).await)?;
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        // The clock stops now, however long it takes to store the move.
        let received = Instant::now();
        let command = match event {
            "sync" => return Ok(answer(self.sync().await)),
            "status" => return self.change_status(&payload, socket),
            "bye" => return self.say_bye(socket),
            "move" => read::<NewMove>(&payload).map(Command::Move),
            "resign" => Ok(Command::Resign),
            "draw" => Ok(Command::Draw),
            "decline_draw" => Ok(Command::DeclineDraw),
            "claim" => read::<NewClaim>(&payload).map(|NewClaim { claim }| Command::Claim(claim)),
            "rematch" => Ok(Command::Rematch),
            "decline_rematch" => Ok(Command::DeclineRematch),
            _ => Err(Problem::unknown_event()),
        };
        let command = match command {
            Ok(command) => command,
            Err(problem) => return Ok(problem.into()),
        };
        let (node, user) = (&self.app.node, self.visitor.user.id);
        if let Err(problem) = node.commands.check(user) {
            return Ok(problem.into());
        }
        Ok(answer(node.act(&self.game, user, &command, received).await))
    }
}

#[derive(Serialize)]
struct Synced {
    game: Game,
}

impl GameChannel {
    /// In the topic of the game, or of its spectators.
    fn meta(&self) -> Meta {
        let status =
            if self.color.is_none() && self.status == Status::Here { Status::Watching } else { self.status };
        Meta { color: self.color, ..Meta::new(self.online_at, self.visitor.device, status) }
    }

    fn meta_of_lobby(&self) -> Meta {
        Meta { game: Some(self.game.clone()), color: None, ..self.meta() }
    }

    /// Sends what has changed since `join` read the game: that was told before this client listened.
    fn catch_up(&self, table: &Table, socket: &mut Socket) -> Result<(), Stop> {
        if table.version != self.version {
            let change = Change { moved: table.last_move(), position: table.position(table.now) };
            socket.push("change", change)?;
        }
        Ok(())
    }

    async fn sync(&self) -> Result<Synced, Problem> {
        self.app.node.commands.check(self.visitor.user.id)?;
        let table = self.app.node.table(&self.game).await?;
        Ok(Synced { game: table.game(table.now) })
    }

    fn change_status(&mut self, payload: &Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match read::<Seen>(payload) {
            Ok(Seen { status }) => self.status = status.into(),
            Err(problem) => return Ok(problem.into()),
        }
        // A page that says so is back after a goodbye.
        self.show(socket, false)?;
        Ok(answer(Ok(Nothing {})))
    }

    /// The page is being closed: its presence says so when it leaves.
    fn say_bye(&mut self, socket: &mut Socket) -> Result<Reply, Stop> {
        self.show(socket, true)?;
        Ok(answer(Ok(Nothing {})))
    }

    fn show(&self, socket: &mut Socket, bye: bool) -> Result<(), Stop> {
        let presence = &self.app.node.presence;
        let (meta, in_lobby) = (Meta { bye, ..self.meta() }, self.meta_of_lobby());
        if self.color.is_some() {
            presence.set(socket, self.key.clone(), meta)?;
        } else {
            presence.update_in(socket, watch_topic(&self.game), self.key.clone(), |_| meta)?;
        }
        presence.update_in(socket, LOBBY, self.key.clone(), |_| in_lobby)?;
        Ok(())
    }
}
