//! Games between two people, and those who watch.

use serde_json::json;

use crate::{
    client::{Client, eventually},
    past::past,
    site::{Person, Served, begin, play_all, reason, settings},
};

const SCHOLARS_MATE: &str = "e4 e5 Bc4 Nc6 Qh5 Nf6 Qxf7#";

#[tokio::test]
async fn a_whole_game_to_mate_with_a_spectator() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 60_000).await;
    let mut carl = site.person("Carl").await;
    let joined = carl.join(&game).await;
    assert_eq!((&joined["you"], &joined["game"]["turn"]), (&json!(null), &json!("white")));
    assert_eq!(joined["game"]["legal"].as_array().unwrap().len(), 20);

    play_all(&mut anna, &mut ben, &game, 0, SCHOLARS_MATE).await;
    for (ply, san) in (1_u64..).zip(SCHOLARS_MATE.split(' ')) {
        for tab in [&mut anna.tab, &mut ben.tab, &mut carl.tab] {
            let change = tab.event(&game, "change").await;
            assert_eq!((&change["move"]["san"], &change["ply"]), (&json!(san), &json!(ply)));
            assert_eq!(change["version"], ply + 1, "without a gap");
        }
    }
    let ended = carl.tab.push(&game, "sync", json!({})).await.unwrap();
    let result = &ended["game"]["result"];
    assert_eq!((&result["winner"], &result["reason"]), (&json!("white"), &json!("mate")));
    assert_eq!(result["message"], "Checkmate: White wins.");
    assert_eq!(ended["game"]["clocks"]["running"], json!(null));
    assert_eq!(ended["game"]["legal"], json!([]));
    assert_eq!(ended["game"]["moves"][6]["uci"], "h5f7");
    // The increment is on the clock that the move says; the move took less.
    assert!(ended["game"]["moves"][0]["left_ms"].as_u64().unwrap() > 60_000);
    assert_eq!(reason(anna.play(&game, 8, "a3").await), "game_over");
    assert_eq!(reason(ben.play(&game, 7, "a6").await), "game_over");
}

#[tokio::test]
async fn a_move_is_refused_in_words_and_changes_nothing() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    let mut carl = site.person("Carl").await;
    carl.join(&game).await;
    assert_eq!(reason(ben.play(&game, 0, "e2e4").await), "not_your_turn");
    assert_eq!(reason(carl.play(&game, 0, "e2e4").await), "not_a_player");
    assert_eq!(reason(anna.play(&game, 0, "e2e5").await), "illegal_move");
    assert_eq!(reason(anna.play(&game, 1, "e7e5").await), "not_your_turn");
    assert_eq!(reason(anna.play(&game, 2, "e2e4").await), "stale");
    for payload in [json!({}), json!({ "ply": -1, "move": "e4" }), json!({ "ply": 0, "move": 7 }), json!([])]
    {
        assert_eq!(reason(anna.tab.push(&game, "move", payload).await), "invalid");
    }
    assert_eq!(reason(anna.tab.push(&game, "castle", json!({})).await), "unknown_event");
    for event in ["resign", "draw", "claim", "rematch"] {
        assert_eq!(reason(carl.tab.push(&game, event, json!({ "as": "win" })).await), "not_a_player");
    }
    let untouched = anna.tab.push(&game, "sync", json!({})).await.unwrap();
    assert_eq!((&untouched["game"]["version"], &untouched["game"]["ply"]), (&json!(1), &json!(0)));

    // The same move twice is one, however it is written; another one is too late and told how the game stands.
    let first = anna.play(&game, 0, "e2e4").await.unwrap();
    assert_eq!(anna.play(&game, 0, "e4").await.unwrap(), first);
    let stale = anna.play(&game, 0, "d2d4").await.unwrap_err();
    assert_eq!((&stale["reason"], &stale["game"]["moves"][0]["uci"]), (&json!("stale"), &json!("e2e4")));
    ben.play(&game, 1, "e5").await.unwrap();
    assert_eq!(anna.play(&game, 0, "e4").await.unwrap()["uci"], "e2e4", "also once the other has moved");
    assert_eq!(reason(anna.play(&game, 1, "e5").await), "not_your_turn", "the other's move isn't mine");
}

#[tokio::test]
async fn castling_en_passant_and_promotion() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    play_all(&mut anna, &mut ben, &game, 0, "e4 a6 e5 d5 exd6 a5 dxc7 a4 cxb8=N a3 Nf3 axb2 Be2 bxa1=Q O-O")
        .await;
    let game = anna.tab.push(&game, "sync", json!({})).await.unwrap();
    let moves = game["game"]["moves"].as_array().unwrap();
    assert_eq!(moves[4]["uci"], "e5d6");
    assert!(
        moves[4]["fen"].as_str().unwrap().starts_with("rnbqkbnr/1pp1pppp/p2P4/8/8/"),
        "the pawn on d5 is gone"
    );
    assert_eq!((&moves[8]["uci"], &moves[8]["san"]), (&json!("c7b8n"), &json!("cxb8=N")));
    assert_eq!(moves[13]["uci"], "b2a1q");
    assert_eq!((&moves[14]["uci"], &moves[14]["san"]), (&json!("e1g1"), &json!("O-O")));
}

#[tokio::test]
async fn resigning_and_draws() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    assert_eq!(reason(ben.tab.push(&game, "decline_draw", json!({})).await), "not_now");
    anna.tab.push(&game, "draw", json!({})).await.unwrap();
    anna.tab.push(&game, "draw", json!({})).await.unwrap();
    let offered = ben.tab.event(&game, "change").await;
    assert_eq!((&offered["draw_offer"], &offered["move"]), (&json!("white"), &json!(null)));
    ben.tab.push(&game, "decline_draw", json!({})).await.unwrap();
    assert_eq!(
        anna.tab.event_where(&game, "change", |change| change["version"] == 3).await["draw_offer"],
        json!(null)
    );
    // My own move keeps my offer, the other's declines it.
    anna.tab.push(&game, "draw", json!({})).await.unwrap();
    anna.play(&game, 0, "e4").await.unwrap();
    assert_eq!(
        ben.tab.event_where(&game, "change", |change| change["ply"] == 1).await["draw_offer"],
        "white"
    );
    ben.play(&game, 1, "e5").await.unwrap();
    let declined = anna.tab.event_where(&game, "change", |change| change["ply"] == 2).await;
    assert_eq!(declined["draw_offer"], json!(null));
    ben.tab.push(&game, "draw", json!({})).await.unwrap();
    anna.tab.push(&game, "draw", json!({})).await.unwrap();
    let drawn = ben.tab.event_where(&game, "change", |change| !change["result"].is_null()).await;
    assert_eq!((&drawn["result"]["winner"], &drawn["result"]["reason"]), (&json!(null), &json!("agreement")));

    let game = begin(&mut anna, &mut ben, 60_000, 0).await;
    ben.tab.push(&game, "resign", json!({})).await.unwrap();
    let resigned = anna.tab.event(&game, "change").await;
    assert_eq!(resigned["result"]["message"], "Black resigned: White wins.");
    assert_eq!(reason(anna.tab.push(&game, "resign", json!({})).await), "game_over");
}

#[tokio::test]
async fn a_flag_falls_with_nobody_connected() {
    let site = Served::start(settings()).await;
    let (anna, mut ben, game) = site.game(1_000, 0).await;
    anna.tab.close().await;
    ben.tab.push(&game, "phx_leave", json!({})).await.unwrap();
    // The list only tells of games whose end is stored.
    eventually(async || !past(&site, &ben.cookie, "").await["games"][0].is_null()).await;
    let mut carl = site.person("Carl").await;
    carl.tab.event_where("lobby", "games", |games| games["total"] == 0).await;
    let over = ben.join(&game).await;
    let result = &over["game"]["result"];
    assert_eq!((&result["winner"], &result["reason"]), (&json!("black"), &json!("time")));
    assert_eq!(over["game"]["clocks"]["white_ms"], 0);
    // He is free to play.
    begin(&mut carl, &mut ben, 60_000, 0).await;
}

#[tokio::test]
async fn a_move_after_the_flag_comes_too_late() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(1_000, 0).await;
    let over = ben.until_over(&game).await;
    assert_eq!(over["result"]["message"], "White ran out of time: Black wins.");
    assert_eq!(reason(anna.play(&game, 0, "e4").await), "game_over");
}

#[tokio::test]
async fn a_rematch_swaps_the_colours_and_is_one_game_for_both() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 2_000).await;
    assert_eq!(reason(anna.tab.push(&game, "rematch", json!({})).await), "game_running");
    anna.tab.push(&game, "resign", json!({})).await.unwrap();
    anna.tab.push(&game, "rematch", json!({})).await.unwrap();
    ben.tab.event_where(&game, "change", |change| change["rematch"]["offer"] == "white").await;
    ben.tab.push(&game, "decline_rematch", json!({})).await.unwrap();
    anna.tab.event_where(&game, "change", |change| change["version"] == 4).await;
    // Both ask at once: that is a yes from each.
    let (asked, answered) =
        tokio::join!(anna.tab.push(&game, "rematch", json!({})), ben.tab.push(&game, "rematch", json!({})));
    let begun: Vec<_> = [asked.unwrap(), answered.unwrap()]
        .into_iter()
        .filter_map(|done| done["game"].as_str().map(str::to_owned))
        .collect();
    assert!(!begun.is_empty());
    let first = anna.heard("game_started", |started| started["color"] == "black").await;
    let second = ben.heard("game_started", |started| started["color"] == "white").await;
    assert_eq!(first["game"], second["game"]);
    assert!(begun.iter().all(|game| first["game"] == **game));
    let topic = format!("game:{}", first["game"].as_str().unwrap());
    let joined = ben.join(&topic).await;
    assert_eq!((&joined["you"], &joined["game"]["initial_ms"]), (&json!("white"), &json!(60_000)));
    // Asked again, it is the same game.
    let again = anna.tab.push(&game, "rematch", json!({})).await.unwrap();
    assert_eq!(again["game"], first["game"]);
}

#[tokio::test]
async fn no_rematch_with_somebody_who_has_left() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    ben.tab.push(&game, "resign", json!({})).await.unwrap();
    ben.tab.push(&game, "phx_leave", json!({})).await.unwrap();
    let key = ben.user.id.to_string();
    anna.tab.people_where(&game, |people| people[&key].is_null()).await;
    assert_eq!(reason(anna.tab.push(&game, "rematch", json!({})).await), "offline");
}

#[tokio::test]
async fn a_second_tab_plays_the_same_game_and_a_new_one_gets_all_of_it() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    let mut second = site.tab(&anna.user, &anna.cookie).await;
    let joined = second.enter(&game).await;
    assert_eq!(joined["you"], "white");
    second.push(&game, "move", json!({ "ply": 0, "move": "e4" })).await.unwrap();
    assert_eq!(anna.tab.event(&game, "change").await["move"]["uci"], "e2e4");
    ben.play(&game, 1, "e5").await.unwrap();

    // A reload: everything is there, whatever was said before.
    anna.tab.close().await;
    anna.tab = site.tab(&anna.user, &anna.cookie).await;
    let back = anna.join(&game).await;
    assert_eq!(back["game"]["moves"].as_array().unwrap().len(), 2);
    assert_eq!((&back["you"], &back["game"]["turn"]), (&json!("white"), &json!("white")));
    let clocks = &back["game"]["clocks"];
    assert_eq!(clocks["running"], "white");
    assert!(clocks["white_ms"].as_u64().unwrap() <= 60_000);
}

#[tokio::test]
async fn games_that_are_not_there_and_joins_that_make_no_sense() {
    let site = Served::start(settings()).await;
    let Person { cookie, .. } = site.person("Anna").await;
    let mut tab = Client::connect(&site.address, &cookie).await;
    assert_eq!(reason(tab.join("game:nowhere", json!({ "status": "here" })).await), "not_found");
    assert_eq!(reason(tab.join("game:nowhere", json!({})).await), "invalid");
    assert_eq!(reason(tab.join("lobby", json!({ "status": "asleep" })).await), "invalid");
    let ben = site.person("Ben").await;
    assert_eq!(reason(tab.join(&ben.topic(), json!({})).await), "not_yours");
}
