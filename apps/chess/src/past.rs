//! Games that are over: a list of one's own, and any as a text to take away.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::{
    Problem, Site, UserId,
    db::Past,
    games::result,
    node::LOBBY,
    protocol::{Color, PastGame, PastGames},
    site::Failure,
};

/// How many games are sent at once.
const PAGE: u32 = 30;

/// After which game of an earlier page the next one begins.
#[derive(Deserialize)]
pub(crate) struct After {
    /// `<ended_at in milliseconds>-<id>`.
    #[serde(default)]
    after: Option<String>,
}

pub(crate) async fn games(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Query(After { after }): Query<After>,
) -> Result<Response, Failure> {
    let user = site.signed_in(&headers).await?.user.id;
    let after = match after.as_deref().map(read_place) {
        Some(None) => {
            let problem = Problem::invalid("There is no such page.");
            return Err(Failure(StatusCode::BAD_REQUEST, problem));
        }
        place => place.flatten(),
    };
    let mut past = site.db.past(user, after, PAGE + 1).await?;
    let has_more = past.len() > PAGE as usize;
    past.truncate(PAGE as usize);
    let next = past.last().filter(|_| has_more).map(|last| format!("{}-{}", last.ended_at, last.game.id));
    let games = past.into_iter().map(|past| site.shown(past, user)).collect();
    Ok(Json(PastGames { games, next }).into_response())
}

fn read_place(text: &str) -> Option<(i64, &str)> {
    let (ended_at, id) = text.split_once('-')?;
    Some((ended_at.parse().ok()?, id))
}

pub(crate) async fn pgn(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    site.signed_in(&headers).await?;
    let not_found = |problem| Failure(StatusCode::NOT_FOUND, problem);
    let table = site.hall.node.table(&id).await.map_err(not_found)?;
    let address = site.origin.as_ref().map_or_else(|| "?".to_owned(), |origin| format!("{origin}/game/{id}"));
    let text = crate::pgn::pgn(&table, site.db.created_at(&id).await?, &address);
    let headers = [
        (header::CONTENT_TYPE, "application/x-chess-pgn; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.pgn\"", table.id)),
    ];
    Ok((headers, text).into_response())
}

impl Site {
    fn shown(&self, past: Past, user: UserId) -> PastGame {
        let Past { game, ending, ended_at, white_seen_at, black_seen_at } = past;
        let (color, opponent, seen_at) = if game.white.id == user {
            (Color::White, game.black, black_seen_at)
        } else {
            (Color::Black, game.white, white_seen_at)
        };
        PastGame {
            id: game.id,
            color,
            is_here: self.hall.node.is_in(LOBBY, opponent.id),
            seen_at: seen_at.map(to_seconds),
            opponent,
            time: game.time,
            moves: game.ply.div_ceil(2),
            result: result(ending, Color::to_move(game.ply)),
            ended_at: to_seconds(ended_at),
        }
    }
}

fn to_seconds(ms: i64) -> u64 {
    (ms / 1000).max(0).cast_unsigned()
}
