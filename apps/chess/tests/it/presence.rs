//! Presence: here, away, playing and watching.

use serde_json::{Value, json};

use crate::site::{Served, settings};

fn metas_of<'s>(state: &'s Value, person: &crate::site::Person) -> &'s Vec<Value> {
    state[person.user.id.to_string()]["metas"].as_array().unwrap()
}

#[tokio::test]
async fn the_lobby_shows_who_is_here_away_playing_and_watching() {
    let site = Served::start(settings()).await;
    let (anna, ben, game) = site.game(60_000, 0).await;
    let mut carl = site.person("Carl").await;
    carl.join(&game).await;
    carl.tab.push("lobby", "status", json!({ "status": "away" })).await.unwrap();
    assert!(carl.tab.push("lobby", "status", json!({ "status": "gone" })).await.is_err());
    let mut dora = site.person("Dora").await;
    let state = dora.tab.event("lobby", "presence_state").await;
    let game_id = game.strip_prefix("game:").unwrap();
    for player in [&anna, &ben] {
        let shown = &state[player.user.id.to_string()];
        assert_eq!((&shown["playing"], &shown["user"]["bot"]), (&json!(game_id), &json!(false)));
        assert_eq!(
            metas_of(&state, player).iter().filter(|meta| meta["game"].is_null()).count(),
            1,
            "one tab"
        );
    }
    let of_carl = metas_of(&state, &carl);
    assert!(
        of_carl.iter().any(|meta| meta["status"] == "watching" && meta["game"] == game_id),
        "{of_carl:?}"
    );
    assert!(of_carl.iter().any(|meta| meta["status"] == "away" && meta["game"].is_null()), "{of_carl:?}");
    assert_eq!(state[carl.user.id.to_string()]["playing"], json!(null));

    // Not watching any more.
    carl.tab.push(&game, "phx_leave", json!({})).await.unwrap();
    dora.tab
        .event_where("lobby", "presence_diff", |diff| {
            diff["leaves"][carl.user.id.to_string()]["metas"][0]["status"] == "watching"
        })
        .await;
}

#[tokio::test]
async fn spectators_are_named_up_to_twenty_and_then_counted() {
    let site = Served::start(settings()).await;
    let (mut anna, _ben, game) = site.game(60_000, 0).await;
    let empty = anna.tab.event(&game, "crowd").await;
    assert_eq!(empty, json!({ "total": 0, "users": [] }));
    let mut crowd = Vec::new();
    for n in 0..22 {
        let mut person = site.person(&format!("Watcher {n}")).await;
        person.join(&game).await;
        crowd.push(person);
        if n == 4 {
            let five = anna.tab.event_where(&game, "crowd", |crowd| crowd["total"] == 5).await;
            let mut names: Vec<&str> =
                five["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
            names.sort_unstable();
            assert_eq!(names, ["Watcher 0", "Watcher 1", "Watcher 2", "Watcher 3", "Watcher 4"]);
        }
    }
    let many = anna.tab.event_where(&game, "crowd", |crowd| crowd["total"] == 22).await;
    assert_eq!(many["users"].as_array().unwrap().len(), 20);
    anna.tab.event_where("lobby", "games", |games| games["games"][0]["spectators"] == 22).await;
    // A second tab of a spectator is no second spectator, and whoever leaves isn't counted.
    let first = crowd.remove(0);
    first.tab.close().await;
    anna.tab.event_where(&game, "crowd", |crowd| crowd["total"] == 21).await;
    let last = crowd.pop().unwrap();
    let mut second = site.tab(&last.user, &last.cookie).await;
    second.join(&game, json!({ "status": "here" })).await.unwrap();
    let seen = second.event(&game, "crowd").await;
    assert_eq!(seen["total"], 21);
}

#[tokio::test]
async fn players_see_each_other_here_away_and_gone_but_not_by_a_reload() {
    let mut lingering = settings();
    lingering.linger_ms = 1_000;
    let site = Served::start(lingering).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    let key = ben.user.id.to_string();
    ben.tab.push(&game, "status", json!({ "status": "away" })).await.unwrap();
    anna.tab
        .event_where(&game, "presence_diff", |diff| diff["joins"][&key]["metas"][0]["status"] == "away")
        .await;
    // A reload: the new tab takes the place of the old one, and nobody is seen to leave for good.
    ben.tab.close().await;
    ben.tab = site.tab(&ben.user, &ben.cookie).await;
    ben.join(&game).await;
    let back = anna.tab.event_where(&game, "presence_diff", |diff| !diff["joins"][&key].is_null()).await;
    assert!(!back["leaves"][&key].is_null(), "in one diff: {back}");
    ben.tab.close().await;
    let left = anna.tab.event_where(&game, "presence_diff", |diff| !diff["leaves"][&key].is_null()).await;
    assert!(left["joins"][&key].is_null());
    let absent = anna.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
    assert_eq!(absent["white"], json!(null));
    assert_eq!(absent["black"]["bye"], false);
    let claim_in = absent["black"]["claim_in_ms"].as_u64().unwrap();
    assert!((50_000..=60_000).contains(&claim_in), "{claim_in}");
}

#[tokio::test]
async fn the_list_of_games_follows_the_moves() {
    let site = Served::start(settings()).await;
    let mut carl = site.person("Carl").await;
    let (mut anna, _ben, game) = site.game(60_000, 0).await;
    carl.tab
        .event_where("lobby", "games", |games| games["total"] == 1 && games["games"][0]["ply"] == 0)
        .await;
    anna.play(&game, 0, "e4").await.unwrap();
    let listed = carl.tab.event_where("lobby", "games", |games| games["games"][0]["ply"] == 1).await;
    let listed = &listed["games"][0];
    assert_eq!((&listed["last"], &listed["white"]["name"]), (&json!("e2e4"), &json!("Anna")));
    assert_eq!(listed["clocks"]["running"], "black");
    assert!(listed["clocks"]["black_ms"].as_u64().unwrap() <= 60_000);
    anna.tab.push(&game, "resign", json!({})).await.unwrap();
    carl.tab.event_where("lobby", "games", |games| games["total"] == 0).await;
}
