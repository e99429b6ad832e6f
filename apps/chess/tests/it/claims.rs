//! Claims against somebody who has gone.

use serde_json::json;

use crate::site::{Served, play_all, reason, settings};

#[tokio::test]
async fn a_claim_is_answered_and_won_once_the_other_has_been_gone_for_long() {
    let mut short = settings();
    short.claim_ms = 600;
    let site = Served::start(short).await;
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
    assert!((1..=600).contains(&wait["retry_after_ms"].as_u64().unwrap()), "{wait}");
    let mut result = Err(wait);
    while let Err(wait) = result {
        assert_eq!(wait["reason"], "wait");
        let wait = wait["retry_after_ms"].as_u64().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        result = anna.tab.push(&game, "claim", claim.clone()).await;
    }
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
    ben.tab.push(&game, "bye", json!({})).await.unwrap();
    ben.tab.push(&game, "status", json!({ "status": "here" })).await.unwrap();
    ben.tab.close().await;
    let lost = anna.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
    assert_eq!(lost["black"]["bye"], false);
    ben.tab = site.tab(&ben.user, &ben.cookie).await;
    ben.join(&game).await;
    anna.tab.event_where(&game, "absent", |absent| absent["black"].is_null()).await;

    ben.tab.push(&game, "bye", json!({})).await.unwrap();
    ben.tab.close().await;
    let gone = anna.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
    assert_eq!(gone["black"], json!({ "bye": true, "claim_in_ms": 0 }));
    anna.tab.push(&game, "claim", claim).await.unwrap();
    let over = anna.tab.event_where(&game, "change", |change| !change["result"].is_null()).await;
    assert_eq!(over["result"]["message"], "Black left the game: a draw.");
}

/// One of two tabs is closed with a goodbye: the player is still here.
#[tokio::test]
async fn who_has_another_tab_is_here() {
    let mut times = settings();
    times.claim_bye_ms = 0;
    let site = Served::start(times).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    play_all(&mut anna, &mut ben, &game, 0, "e4 e5 Nf3").await;
    let mut second = site.tab(&ben.user, &ben.cookie).await;
    second.join(&game, json!({ "status": "away" })).await.unwrap();
    ben.tab.push(&game, "bye", json!({})).await.unwrap();
    ben.tab.close().await;
    let key = ben.user.id.to_string();
    anna.tab.event_where(&game, "presence_diff", |diff| !diff["leaves"][&key].is_null()).await;
    assert_eq!(reason(anna.tab.push(&game, "claim", json!({ "as": "win" })).await), "opponent_here");
    second.push(&game, "move", json!({ "ply": 3, "move": "Nc6" })).await.unwrap();
}
