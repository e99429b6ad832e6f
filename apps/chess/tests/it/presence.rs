//! Presence: here, away, playing and watching.

use serde_json::{Value, json};

use crate::site::{Served, settings};

/// The statuses of somebody's tabs in the lobby, and of those that show a game.
fn statuses<'p>(people: &'p Value, key: &str) -> (Vec<&'p str>, Vec<&'p str>) {
    let metas = people[key]["metas"].as_array().map_or(&[][..], Vec::as_slice);
    let (in_lobby, in_game): (Vec<&Value>, Vec<&Value>) =
        metas.iter().partition(|meta| meta["game"].is_null());
    let statuses =
        |metas: Vec<&'p Value>| metas.iter().map(|meta| meta["status"].as_str().unwrap()).collect();
    (statuses(in_lobby), statuses(in_game))
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
    let game_id = game.strip_prefix("game:").unwrap();
    let players = [&anna, &ben].map(|player| player.user.id.to_string());
    let key = carl.user.id.to_string();
    // The info of a player is read anew as the game begins; what changes comes with diffs.
    let people = dora
        .tab
        .people_where("lobby", |people| {
            players.iter().all(|player| people[player]["playing"] == game_id)
                && statuses(people, &key) == (vec!["away"], vec!["watching"])
        })
        .await;
    for player in &players {
        assert_eq!(statuses(&people, player), (vec!["here"], vec!["here"]), "one tab, which shows the game");
        assert_eq!(people[player]["user"]["bot"], false);
    }
    assert_eq!(people[&key]["playing"], json!(null));

    // Not watching any more.
    carl.tab.push(&game, "phx_leave", json!({})).await.unwrap();
    dora.tab.people_where("lobby", |people| statuses(people, &key) == (vec!["away"], vec![])).await;
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
            let five = anna.tab.event_where(&game, "crowd", |crowd| named(crowd).len() == 5).await;
            let names = ["Watcher 0", "Watcher 1", "Watcher 2", "Watcher 3", "Watcher 4"];
            assert_eq!((named(&five), &five["total"]), (names.to_vec(), &json!(5)));
        }
    }
    anna.tab.event_where(&game, "crowd", |crowd| crowd["total"] == 22 && named(crowd).len() == 20).await;
    anna.tab.event_where("lobby", "games", |games| games["games"][0]["spectators"] == 22).await;
    // A second tab of a spectator is no second spectator, and whoever leaves isn't counted.
    let first = crowd.remove(0);
    first.tab.close().await;
    anna.tab.event_where(&game, "crowd", |crowd| crowd["total"] == 21).await;
    let last = crowd.pop().unwrap();
    let mut second = site.tab(&last.user, &last.cookie).await;
    second.enter(&game).await;
    let seen = second.event(&game, "crowd").await;
    assert_eq!(seen["total"], 21);
}

/// The names in a crowd, in order.
fn named(crowd: &Value) -> Vec<&str> {
    let users = crowd["users"].as_array().unwrap();
    let mut names: Vec<&str> = users.iter().map(|user| user["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn players_see_each_other_here_and_away_and_no_reload() {
    let site = Served::start(chess::Settings { linger_ms: 60_000, ..settings() }).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    let key = ben.user.id.to_string();
    ben.tab.push(&game, "status", json!({ "status": "away" })).await.unwrap();
    anna.tab
        .event_where(&game, "presence_diff", |diff| diff["joins"][&key]["metas"][0]["status"] == "away")
        .await;
    // A reload: the new tab takes the place of the old one, or comes before that has left.
    ben.tab.close().await;
    ben.tab = site.tab(&ben.user, &ben.cookie).await;
    ben.join(&game).await;
    anna.tab.until_heard(&game, "presence_diff", |diff| !diff["joins"][&key].is_null()).await;
    let diffs = anna.tab.all_heard(&game, "presence_diff").await;
    let only_leaves = |diff: &Value| !diff["leaves"][&key].is_null() && diff["joins"][&key].is_null();
    assert!(!diffs.iter().any(only_leaves), "{diffs:?}");
}

#[tokio::test]
async fn a_player_sees_the_other_leave_and_from_when_the_game_can_be_claimed() {
    let site = Served::start(settings()).await;
    let (mut anna, ben, game) = site.game(60_000, 0).await;
    let key = ben.user.id.to_string();
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
