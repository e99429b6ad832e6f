//! Seeks and invites. An offer is over by one change of its state, so of several who end it at once one does.

use sqlx::{AssertSqlSafe, Row, any::AnyRow};

use super::{Db, games::NewGame, is_taken, users::user};
use crate::{
    UserId,
    ids::random_id,
    protocol::{Choice, Color, Invite, Outcome, Seek, Terms, TimeControl, User},
};

/// An open seek or invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) id: String,
    pub(crate) from: User,
    /// `None` for a seek.
    pub(crate) to: Option<User>,
    pub(crate) terms: Terms,
    pub(crate) expires_at: i64,
}

/// The outcome of accepting an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Accept {
    /// A game has begun. These other offers of the two are over with it.
    Begun { game: String, white: User, black: User, over: Vec<Offer> },
    /// The offer was over.
    Over,
    /// This player has a running game.
    Busy(UserId),
}

const COLUMNS: &str = "o.id, o.color, o.initial_ms, o.increment_ms, o.expires_at, f.id AS from_id, f.name AS from_name, \
    f.bot AS from_bot, t.id AS to_id, t.name AS to_name, t.bot AS to_bot";

const PEOPLE: &str = "offers o JOIN users f ON f.id = o.from_user LEFT JOIN users t ON t.id = o.to_user";

impl Offer {
    /// As everyone sees it. `None` for an invite.
    pub(crate) fn seek(&self) -> Option<Seek> {
        let seek = || Seek { id: self.id.clone(), user: self.from.clone(), terms: self.terms };
        self.to.is_none().then(seek)
    }

    /// As the two see it at `now`. `None` for a seek.
    pub(crate) fn invite(&self, now: i64) -> Option<Invite> {
        let to = self.to.clone()?;
        let expires_in_ms = (self.expires_at - now).max(0).cast_unsigned();
        Some(Invite { id: self.id.clone(), from: self.from.clone(), to, terms: self.terms, expires_in_ms })
    }
}

impl Db {
    /// Makes an offer that stays for `lifetime_ms`. A seek takes the place of the one from before. Returns its id; `None` for
    /// an invite to somebody to whom one is open.
    pub(crate) async fn make_offer(
        &self,
        from: UserId,
        to: Option<UserId>,
        terms: Terms,
        lifetime_ms: i64,
    ) -> Result<Option<String>, sqlx::Error> {
        let id = random_id();
        let mut transaction = self.pool.begin().await?;
        if to.is_none() {
            sqlx::query(
                "UPDATE offers SET state = 'withdrawn' WHERE from_user = $1 AND to_user IS NULL AND state = 'open'",
            )
            .bind(from.0)
            .execute(&mut *transaction)
            .await?;
        }
        let statement = format!(
            "INSERT INTO offers (id, from_user, to_user, color, initial_ms, increment_ms, created_at, expires_at, state) \
             VALUES ($1, $2, $3, $4, $5, $6, {0}, {0} + $7, 'open')",
            self.clock()
        );
        let made = sqlx::query(AssertSqlSafe(statement))
            .bind(&id)
            .bind(from.0)
            .bind(to.map(|to| to.0))
            .bind(terms.color.as_str())
            .bind(terms.time.initial_ms.cast_signed())
            .bind(terms.time.increment_ms.cast_signed())
            .bind(lifetime_ms)
            .execute(&mut *transaction)
            .await;
        match made {
            Ok(_) => {
                transaction.commit().await?;
                Ok(Some(id))
            }
            Err(error) if is_taken(&error) => {
                transaction.rollback().await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// An open offer.
    pub(crate) async fn offer(&self, id: &str) -> Result<Option<Offer>, sqlx::Error> {
        let statement = format!("SELECT {COLUMNS} FROM {PEOPLE} WHERE o.state = 'open' AND o.id = $1");
        let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(offer).transpose()
    }

    /// The open offers from a user, and the invites to them.
    pub(crate) async fn offers_of(&self, user: UserId) -> Result<Vec<Offer>, sqlx::Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM {PEOPLE} WHERE o.state = 'open' AND (o.from_user = $1 OR o.to_user = $1) \
             ORDER BY o.created_at, o.id"
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(user.0).fetch_all(&self.pool).await?;
        rows.iter().map(offer).collect()
    }

    /// The open seeks, the newest first.
    pub(crate) async fn seeks(&self, limit: u32) -> Result<Vec<Offer>, sqlx::Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM {PEOPLE} WHERE o.state = 'open' AND o.to_user IS NULL \
             ORDER BY o.created_at DESC, o.id LIMIT $1"
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(offer).collect()
    }

    /// All open offers: those that have expired first.
    pub(crate) async fn open_offers(&self, limit: u32) -> Result<Vec<Offer>, sqlx::Error> {
        let statement =
            format!("SELECT {COLUMNS} FROM {PEOPLE} WHERE o.state = 'open' ORDER BY o.expires_at LIMIT $1");
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(offer).collect()
    }

    /// Ends an offer without a game. Whether it was open.
    pub(crate) async fn end_offer(&self, id: &str, outcome: Outcome) -> Result<bool, sqlx::Error> {
        let ended = sqlx::query("UPDATE offers SET state = $2 WHERE id = $1 AND state = 'open'")
            .bind(id)
            .bind(outcome.as_str())
            .execute(&self.pool)
            .await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Begins the game that an offer is about, between the one who made it and `other`: the offer, the game, and that both
    /// play it, in one transaction.
    pub(crate) async fn accept_offer(&self, offer: &Offer, other: &User) -> Result<Accept, sqlx::Error> {
        let (from, terms) = (&offer.from, offer.terms);
        let color = match terms.color {
            Choice::White => Color::White,
            Choice::Black => Color::Black,
            Choice::Random => random_color(),
        };
        let (white, black) = if color == Color::White { (from, other) } else { (other, from) };
        let game = random_id();
        let mut transaction = self.pool.begin().await?;
        let statement = format!(
            "UPDATE offers SET state = 'accepted', game = $2 WHERE id = $1 AND state = 'open' AND expires_at > {}",
            self.clock()
        );
        let accepted = sqlx::query(AssertSqlSafe(statement))
            .bind(&offer.id)
            .bind(&game)
            .execute(&mut *transaction)
            .await?;
        if accepted.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(Accept::Over);
        }
        let new = NewGame { id: &game, white, black, time: terms.time, rematch_of: None };
        if let Some(busy) = self.insert_game(&mut transaction, new).await? {
            transaction.rollback().await?;
            return Ok(Accept::Busy(busy));
        }
        let mut over = Vec::new();
        for player in [white, black].into_iter().filter(|player| !player.bot) {
            over.extend(end_offers(&mut transaction, player.id).await?);
        }
        transaction.commit().await?;
        Ok(Accept::Begun { game, white: white.clone(), black: black.clone(), over })
    }

    /// Ends the open offers of a person who has begun a game. Returns them.
    pub(crate) async fn withdraw_offers(&self, user: UserId) -> Result<Vec<Offer>, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let over = end_offers(&mut transaction, user).await?;
        transaction.commit().await?;
        Ok(over)
    }

    /// Forgets offers that were made `age_ms` ago and are over.
    pub(crate) async fn forget_offers(&self, age_ms: i64) -> Result<(), sqlx::Error> {
        let statement =
            format!("DELETE FROM offers WHERE state <> 'open' AND created_at < {} - $1", self.clock());
        sqlx::query(AssertSqlSafe(statement)).bind(age_ms).execute(&self.pool).await?;
        Ok(())
    }
}

/// Ends the open offers from and to a person.
async fn end_offers(
    transaction: &mut sqlx::Transaction<'_, sqlx::Any>,
    user: UserId,
) -> Result<Vec<Offer>, sqlx::Error> {
    let ended: Vec<String> = sqlx::query_scalar(
        "UPDATE offers SET state = CASE WHEN from_user = $1 THEN 'withdrawn' ELSE 'declined' END \
         WHERE state = 'open' AND (from_user = $1 OR to_user = $1) RETURNING id",
    )
    .bind(user.0)
    .fetch_all(&mut **transaction)
    .await?;
    let mut offers = Vec::new();
    for id in ended {
        let statement = format!("SELECT {COLUMNS} FROM {PEOPLE} WHERE o.id = $1");
        let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_one(&mut **transaction).await?;
        offers.push(offer(&row)?);
    }
    Ok(offers)
}

fn offer(row: &AnyRow) -> Result<Offer, sqlx::Error> {
    let number = |column: &str| row.try_get::<i64, _>(column);
    let color: String = row.try_get("color")?;
    let to = match row.try_get::<Option<i64>, _>("to_id")? {
        Some(id) => Some(user((id, row.try_get("to_name")?, number("to_bot")?))),
        None => None,
    };
    Ok(Offer {
        id: row.try_get("id")?,
        from: user((number("from_id")?, row.try_get("from_name")?, number("from_bot")?)),
        to,
        terms: Terms {
            color: Choice::parse(&color).unwrap_or(Choice::Random),
            time: TimeControl {
                initial_ms: number("initial_ms")?.cast_unsigned(),
                increment_ms: number("increment_ms")?.cast_unsigned(),
            },
        },
        expires_at: number("expires_at")?,
    })
}

fn random_color() -> Color {
    let [byte] = crate::ids::random_bytes();
    Color::to_move(u32::from(byte))
}
