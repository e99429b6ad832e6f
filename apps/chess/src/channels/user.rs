//! `user:<id>`: what concerns only its user.

use std::sync::Arc;

use adsum::{Channel, JoinResult, Joined, Message, NoParams, Payload, Reply, Socket, Stop, Topic};

use super::{App, Nothing, answer, read, visitor};
use crate::{
    Problem,
    node::user_topic,
    problem::refused,
    protocol::{Mine, NewInvite, OfferId, Terms, User},
    served::ServedPerson,
};

/// One tab of its user.
pub(super) struct UserChannel {
    app: App,
    user: User,
    /// The state that the client was sent last.
    told: Mine,
    served: Arc<ServedPerson>,
}

impl Channel for UserChannel {
    type App = App;
    type Params = NoParams;
    type Info = ();

    /// Something has changed: each tab reads it anew, so that what it is told last is the latest.
    const INTERCEPT: &'static [&'static str] = &["mine_changed"];

    async fn join(app: &App, topic: &Topic, _: NoParams, socket: &mut Socket) -> JoinResult<Self> {
        let visitor = visitor(app, socket).await?;
        if topic.as_str() != user_topic(visitor.user.id) {
            return Err(refused(Problem::new("not_yours", "This concerns somebody else.")));
        }
        let told = app.node.mine(visitor.user.id).await.map_err(|error| refused(error.into()))?;
        let served = app.node.served.person(visitor.user.id, &told);
        let channel = Self { app: app.clone(), user: visitor.user, told: told.clone(), served };
        Ok(Joined::new(channel).reply(told))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        // Changes since `join` read the state were sent before this client listened.
        self.tell(socket).await
    }

    async fn handle_out(&mut self, _: Arc<Message>, socket: &mut Socket) -> Result<(), Stop> {
        self.tell(socket).await?;
        // Every tab is told of this; what one tab reads as it joins, the others may have missed.
        self.served.told(&self.told);
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, _: &mut Socket) -> Result<Reply, Stop> {
        let (node, user) = (&self.app.node, &self.user);
        let nothing = |_: ()| Nothing {};
        Ok(match event {
            "seek" => answer(match read::<Terms>(&payload) {
                Ok(terms) => node.seek(user, terms).await,
                Err(problem) => Err(problem),
            }),
            "unseek" => answer(node.unseek(user).await.map(nothing)),
            "invite" => answer(match read::<NewInvite>(&payload) {
                Ok(invite) => node.invite(user, invite).await,
                Err(problem) => Err(problem),
            }),
            "take" | "accept" | "decline" | "withdraw" => {
                let id = match read::<OfferId>(&payload) {
                    Ok(OfferId { id }) => id,
                    Err(problem) => return Ok(problem.into()),
                };
                match event {
                    "take" => answer(node.take(user, &id).await),
                    "accept" => answer(node.accept(user, &id).await),
                    "decline" => answer(node.decline(user, &id).await.map(nothing)),
                    _ => answer(node.withdraw(user, &id).await.map(nothing)),
                }
            }
            _ => Problem::unknown_event().into(),
        })
    }
}

impl UserChannel {
    async fn tell(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        let mine = self.app.node.mine(self.user.id).await?;
        if mine.differs(&self.told) {
            socket.push("mine", &mine)?;
            self.told = mine;
        }
        Ok(())
    }
}

impl Mine {
    /// Whether it is other than that time has passed.
    fn differs(&self, other: &Self) -> bool {
        let invites = |mine: &Self| mine.invites.iter().map(|invite| invite.id.clone()).collect::<Vec<_>>();
        (&self.playing, &self.seek, invites(self)) != (&other.playing, &other.seek, invites(other))
    }
}
