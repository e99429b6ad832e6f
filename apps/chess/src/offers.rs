//! Seeks and invites: made, taken, declined, withdrawn, and over when one of the two has left or nobody said anything.

use crate::{
    Problem, UserId,
    db::{Accept, Offer},
    games::{Table, busy_problem},
    node::{LOBBY, Node, user_topic},
    protocol::{GameId, InviteOver, Mine, NewInvite, OfferMade, Outcome, Terms, User},
};

/// A seek goes with its owner; this is for one that was forgotten, a day.
const SEEK_MS: i64 = 86_400_000;

/// How many open offers are looked at in a sweep.
const SWEPT: u32 = 500;

/// Offers that are over are forgotten after an hour.
const FORGOTTEN_AFTER_MS: i64 = 3_600_000;

impl Node {
    /// The running game, the seek and the invites of a user.
    pub(crate) async fn mine(&self, user: UserId) -> Result<Mine, sqlx::Error> {
        let playing = self.db.playing(user).await?;
        let offers = self.db.offers_of(user).await?;
        let now = self.db.now().await?;
        let is_current = |offer: &&Offer| offer.expires_at > now;
        let seek = offers.iter().filter(is_current).find_map(Offer::seek);
        let invites = offers.iter().filter(is_current).filter_map(|offer| offer.invite(now)).collect();
        Ok(Mine { playing, seek, invites })
    }

    /// Makes an open seek.
    pub(crate) async fn seek(&self, user: &User, terms: Terms) -> Result<OfferMade, Problem> {
        self.offers.check(user.id)?;
        terms.time.check()?;
        self.check_free(user.id, true).await?;
        // Refused only if another tab makes one in this very moment.
        let made = self.db.make_offer(user.id, None, terms, SEEK_MS).await?;
        let id = made.ok_or_else(|| Problem::not_now("You are seeking a game already."))?;
        self.board.changed();
        self.mine_changed(user.id);
        Ok(OfferMade { id, game: None })
    }

    /// Takes back one's seek.
    pub(crate) async fn unseek(&self, user: &User) -> Result<(), Problem> {
        for offer in self.db.offers_of(user.id).await?.iter().filter(|offer| offer.to.is_none()) {
            self.end_offer(offer, Outcome::Withdrawn).await?;
        }
        Ok(())
    }

    /// Takes somebody's seek.
    pub(crate) async fn take(&self, user: &User, id: &str) -> Result<GameId, Problem> {
        self.offers.check(user.id)?;
        let offer = self.open_offer(id).await?;
        if offer.to.is_some() {
            return Err(over());
        }
        if offer.from.id == user.id {
            return Err(Problem::new("own_offer", "This is your own seek."));
        }
        self.begin(&offer, user, user.id).await
    }

    /// Asks somebody for a game. A bot says yes at once.
    pub(crate) async fn invite(&self, user: &User, invite: NewInvite) -> Result<OfferMade, Problem> {
        self.offers.check(user.id)?;
        invite.terms.time.check()?;
        if invite.to == user.id {
            return Err(Problem::new("own_offer", "You can't invite yourself."));
        }
        let no_such_user = || Problem::not_found("There is nobody of this name.");
        let other = self.db.user(invite.to).await?.ok_or_else(no_such_user)?;
        if !self.is_in(LOBBY, other.id) {
            return Err(offline(&other));
        }
        self.check_free(user.id, true).await?;
        self.check_free(other.id, false).await?;
        let lifetime_ms = self.settings.invite_ms.cast_signed();
        let made = self.db.make_offer(user.id, Some(other.id), invite.terms, lifetime_ms).await?;
        let invited = || Problem::not_now(format!("You have invited {} already.", other.name));
        let id = made.ok_or_else(invited)?;
        if other.bot {
            let offer = self.open_offer(&id).await?;
            let game = self.begin(&offer, &other, user.id).await?.game;
            return Ok(OfferMade { id, game: Some(game) });
        }
        self.mine_changed(user.id);
        self.mine_changed(other.id);
        Ok(OfferMade { id, game: None })
    }

    /// Says yes to an invite.
    pub(crate) async fn accept(&self, user: &User, id: &str) -> Result<GameId, Problem> {
        self.offers.check(user.id)?;
        let offer = self.open_offer(id).await?;
        check_invited(&offer, user)?;
        self.begin(&offer, user, user.id).await
    }

    /// Says no to an invite.
    pub(crate) async fn decline(&self, user: &User, id: &str) -> Result<(), Problem> {
        self.offers.check(user.id)?;
        let offer = self.open_offer(id).await?;
        check_invited(&offer, user)?;
        if self.end_offer(&offer, Outcome::Declined).await? { Ok(()) } else { Err(over()) }
    }

    /// Takes back an invite.
    pub(crate) async fn withdraw(&self, user: &User, id: &str) -> Result<(), Problem> {
        self.offers.check(user.id)?;
        let offer = self.open_offer(id).await?;
        if offer.from.id != user.id {
            // Nothing is said about what others have offered each other.
            return Err(over());
        }
        if self.end_offer(&offer, Outcome::Withdrawn).await? { Ok(()) } else { Err(over()) }
    }

    /// Ends what somebody has offered or was offered who has left the site.
    pub(crate) async fn left(&self, user: UserId) -> Result<(), sqlx::Error> {
        for offer in self.db.offers_of(user).await? {
            self.end_offer(&offer, Outcome::Left).await?;
        }
        Ok(())
    }

    /// Ends what those have offered or were offered who have begun a rematch. If it fails, the database refuses the offers
    /// as they are taken.
    pub(crate) async fn end_offers_of_players(&self, table: &Table) {
        for player in [&table.white, &table.black].into_iter().filter(|player| !player.bot) {
            match self.db.withdraw_offers(player.id).await {
                Ok(over) => over.iter().for_each(|offer| self.offer_ended(offer, Outcome::Withdrawn)),
                Err(error) => tracing::error!(%error, "offers of somebody who plays are still open"),
            }
        }
    }

    /// Ends offers that have expired, and those of people who left without any node noticing.
    pub(crate) async fn sweep_offers(&self, also_left: bool) -> Result<(), sqlx::Error> {
        let now = self.db.now().await?;
        for offer in self.db.open_offers(SWEPT).await? {
            if offer.expires_at <= now {
                self.end_offer(&offer, Outcome::Expired).await?;
            } else if also_left && !self.both_online(&offer) {
                self.end_offer(&offer, Outcome::Left).await?;
            }
        }
        self.db.forget_offers(FORGOTTEN_AFTER_MS).await
    }

    fn both_online(&self, offer: &Offer) -> bool {
        let to = match &offer.to {
            Some(to) => self.is_in(LOBBY, to.id),
            None => true,
        };
        to && self.is_in(LOBBY, offer.from.id)
    }

    async fn open_offer(&self, id: &str) -> Result<Offer, Problem> {
        self.db.offer(id).await?.ok_or_else(over)
    }

    /// Begins the game that an offer is about. `asks` is the one who is answered.
    async fn begin(&self, offer: &Offer, other: &User, asks: UserId) -> Result<GameId, Problem> {
        if !self.is_in(LOBBY, offer.from.id) {
            self.end_offer(offer, Outcome::Left).await?;
            return Err(offline(&offer.from));
        }
        match self.db.accept_offer(offer, other).await? {
            Accept::Begun { game, white, black, over } => {
                self.begun(&game, &white, &black);
                self.invite_over(offer, Outcome::Accepted);
                for offer in over {
                    self.offer_ended(&offer, Outcome::Withdrawn);
                }
                Ok(GameId { game })
            }
            Accept::Over => Err(over()),
            Accept::Busy(busy) => Err(busy_problem(busy == asks)),
        }
    }

    /// Ends an offer without a game, and tells those whom it concerns. Whether it was open.
    async fn end_offer(&self, offer: &Offer, outcome: Outcome) -> Result<bool, sqlx::Error> {
        let ended = self.db.end_offer(&offer.id, outcome).await?;
        if ended {
            self.offer_ended(offer, outcome);
        }
        Ok(ended)
    }

    fn offer_ended(&self, offer: &Offer, outcome: Outcome) {
        self.invite_over(offer, outcome);
        self.mine_changed(offer.from.id);
        match &offer.to {
            Some(to) => self.mine_changed(to.id),
            None => self.board.changed(),
        }
    }

    fn invite_over(&self, offer: &Offer, outcome: Outcome) {
        let Some(to) = offer.to.clone() else { return };
        let (id, from) = (offer.id.clone(), offer.from.clone());
        let over = InviteOver { id, from, to, outcome };
        for user in [over.from.id, over.to.id] {
            self.broadcast(&user_topic(user), "invite_over", &over);
        }
    }

    /// Whether somebody can begin a game. Judged again by the database as it begins.
    async fn check_free(&self, user: UserId, is_self: bool) -> Result<(), Problem> {
        match self.db.playing(user).await? {
            Some(_) => Err(busy_problem(is_self)),
            None => Ok(()),
        }
    }
}

fn check_invited(offer: &Offer, user: &User) -> Result<(), Problem> {
    let is_invited = offer.to.as_ref().is_some_and(|to| to.id == user.id);
    // Nothing is said about what others have offered each other.
    if is_invited { Ok(()) } else { Err(over()) }
}

fn over() -> Problem {
    Problem::new("offer_over", "That offer isn't open any more.")
}

fn offline(user: &User) -> Problem {
    Problem::new("offline", format!("{} has left.", user.name))
}
