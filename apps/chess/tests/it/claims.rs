//! Claims against somebody who has gone.

use serde_json::{Value, json};
use sqlx::Connection;

use crate::{
    db::TempFile,
    site::{Person, Served, play_all, reason, settings},
};

#[tokio::test]
async fn a_claim_is_answered_and_won_once_the_other_has_been_gone_for_long() {
    let file = TempFile::new("claim");
    let site = Served::on(chess::Db::open(&file.url(), 4).await.unwrap(), settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    let claim = json!({ "as": "win" });
    assert_eq!(
        reason(anna.tab.push(&game, "claim", claim.clone()).await),
        "not_now",
        "before both have moved"
    );
    play_all(&mut anna, &mut ben, &game, 0, "e4 e5").await;
    assert_eq!(reason(anna.tab.push(&game, "claim", claim.clone()).await), "not_now", "it's her own turn");
    anna.play(&game, 2, "Nf3").await.unwrap();
    assert_eq!(reason(anna.tab.push(&game, "claim", claim.clone()).await), "opponent_here");
    ben.tab.close().await;
    anna.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
    let wait = anna.tab.push(&game, "claim", claim.clone()).await.unwrap_err();
    assert_eq!(wait["reason"], "wait");
    let wait = wait["retry_after_ms"].as_i64().unwrap();
    assert!((1..=60_000).contains(&wait), "{wait}");
    // As if he had gone that much earlier.
    let mut database = sqlx::AnyConnection::connect(&file.url()).await.unwrap();
    let earlier = "UPDATE games SET black_gone_at = black_gone_at - $1";
    sqlx::query(earlier).bind(wait).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    anna.tab.push(&game, "claim", claim.clone()).await.unwrap();
    let over = anna.tab.event_where(&game, "change", |change| !change["result"].is_null()).await;
    let result = &over["result"];
    assert_eq!((&result["winner"], &result["reason"]), (&json!("white"), &json!("abandoned")));
    assert_eq!(result["message"], "Black left the game: White wins.");
    assert_eq!(reason(anna.tab.push(&game, "claim", claim).await), "game_over");
}

#[tokio::test]
async fn a_return_clears_it_and_a_goodbye_shortens_it() {
    let mut times = settings();
    (times.claim_ms, times.claim_bye_ms) = (3_600_000, 0);
    let site = Served::start(times).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    play_all(&mut anna, &mut ben, &game, 0, "e4 e5 Nf3").await;
    let claim = json!({ "as": "draw" });
    ben.tab.close().await;
    let lost = anna.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
    assert_eq!(lost["black"]["bye"], false);
    assert_eq!(reason(anna.tab.push(&game, "claim", claim.clone()).await), "wait");
    ben.tab = site.tab(&ben.user, &ben.cookie).await;
    ben.join(&game).await;
    anna.tab.event_where(&game, "absent", |absent| absent["black"].is_null()).await;
    assert_eq!(reason(anna.tab.push(&game, "claim", claim.clone()).await), "opponent_here");

    // A goodbye that came to nothing: the page is shown again.
    say(&mut ben, &mut anna, &game, "bye").await;
    say(&mut ben, &mut anna, &game, "status").await;
    ben.tab.close().await;
    let lost = anna.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
    assert_eq!(lost["black"]["bye"], false);
    ben.tab = site.tab(&ben.user, &ben.cookie).await;
    ben.join(&game).await;
    anna.tab.event_where(&game, "absent", |absent| absent["black"].is_null()).await;

    say(&mut ben, &mut anna, &game, "bye").await;
    ben.tab.close().await;
    let gone = anna.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
    assert_eq!(gone["black"], json!({ "bye": true, "claim_in_ms": 0 }));
    anna.tab.push(&game, "claim", claim).await.unwrap();
    let over = anna.tab.event_where(&game, "change", |change| !change["result"].is_null()).await;
    assert_eq!(over["result"]["message"], "Black left the game: a draw.");
}

/// The page of a player says goodbye, or that it is back. Returns once the other has seen it: of all that happens between
/// two diffs, only the outcome is told.
async fn say(player: &mut Person, other: &mut Person, game: &str, event: &str) {
    player.tab.push(game, event, json!({ "status": "here" })).await.unwrap();
    let key = player.user.id.to_string();
    let is_bye = |people: &Value| people[&key]["metas"][0]["bye"] == true;
    other.tab.people_where(game, |people| is_bye(people) == (event == "bye")).await;
}

/// One of two tabs is closed with a goodbye: the player is still here.
#[tokio::test]
async fn a_player_with_another_tab_is_here() {
    let mut times = settings();
    times.claim_bye_ms = 0;
    let site = Served::start(times).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    play_all(&mut anna, &mut ben, &game, 0, "e4 e5 Nf3").await;
    let mut second = site.tab(&ben.user, &ben.cookie).await;
    second.join(&game, json!({ "status": "away" })).await.unwrap();
    let key = ben.user.id.to_string();
    let tabs = |people: &Value| people[&key]["metas"].as_array().map_or(0, Vec::len);
    anna.tab.people_where(&game, |people| tabs(people) == 2).await;
    ben.tab.push(&game, "bye", json!({})).await.unwrap();
    ben.tab.close().await;
    let left = anna.tab.people_where(&game, |people| tabs(people) == 1).await;
    assert_eq!(left[&key]["metas"][0]["status"], "away");
    assert_eq!(reason(anna.tab.push(&game, "claim", json!({ "as": "win" })).await), "opponent_here");
    second.push(&game, "move", json!({ "ply": 3, "move": "Nc6" })).await.unwrap();
}
