//! Somebody to play with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::site::{Served, reason, settings};

fn with_bots() -> chess::Settings {
    chess::Settings { bots: true, ..settings() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_newcomer_plays_a_whole_game_against_a_bot() {
    let site = Served::start(with_bots()).await;
    let mut anna = site.person("Anna").await;
    let bots = bots(&mut anna).await;
    let weak = &bots["Pawnelope"];
    let terms = json!({ "to": weak, "color": "black", "initial_ms": 600_000, "increment_ms": 0 });
    let made = anna.me("invite", terms.clone()).await.unwrap();
    let game = format!("game:{}", made["game"].as_str().unwrap());
    let joined = anna.join(&game).await;
    assert_eq!((&joined["you"], &joined["game"]["white"]["bot"]), (&json!("black"), &json!(true)));
    // It is present in its game.
    anna.tab.people_where(&game, |people| people[weak]["metas"][0]["device"] == "bot").await;
    // A bot plays several games; a person plays one.
    let mut ben = site.person("Ben").await;
    ben.me("invite", terms.clone()).await.unwrap();
    assert_eq!(reason(anna.me("invite", terms).await), "busy");

    let mut state = anna.tab.push(&game, "sync", json!({})).await.unwrap()["game"].clone();
    for _ in 0..400 {
        while state["result"].is_null() && state["turn"] == "white" {
            state = anna
                .tab
                .event_where(&game, "change", |change| change["version"].as_u64() > state["version"].as_u64())
                .await;
        }
        if !state["result"].is_null() {
            break;
        }
        // The last move of the list, whatever it is.
        let legal = state["legal"].as_array().unwrap();
        let text = legal[legal.len() - 1].clone();
        let payload = json!({ "ply": state["ply"], "move": text });
        let moved = anna.tab.push(&game, "move", payload).await.unwrap();
        state = anna.tab.event_where(&game, "change", |change| change["version"] == moved["version"]).await;
    }
    assert!(!state["result"].is_null(), "{state}");
    assert_ne!(state["result"]["reason"], "time");

    // It stays for a rematch, and says yes.
    let rematch = anna.tab.push(&game, "rematch", json!({})).await.unwrap();
    let rematch = format!("game:{}", rematch["game"].as_str().unwrap());
    let joined = anna.join(&rematch).await;
    assert_eq!(joined["you"], "white");
    anna.play(&rematch, 0, "e4").await.unwrap();
    anna.tab.event_where(&rematch, "change", |change| change["ply"] == 2).await;
    // It thinks little of a draw while it isn't lost.
    anna.tab.push(&rematch, "draw", json!({})).await.unwrap();
    anna.tab.event_where(&rematch, "change", |change| change["draw_offer"] == "white").await;
    anna.tab.event_where(&rematch, "change", |change| change["draw_offer"].is_null()).await;
}

/// The ids of both bots, by name, once each is in the lobby. They come one after the other.
async fn bots(person: &mut crate::site::Person) -> BTreeMap<String, String> {
    let bots = |people: &Value| -> BTreeMap<String, String> {
        let people = people.as_object().unwrap().iter();
        let bots = people.filter(|(_, entry)| entry["user"]["bot"] == true);
        bots.map(|(id, entry)| (entry["user"]["name"].as_str().unwrap().to_owned(), id.clone())).collect()
    };
    let people = person.tab.people_where("lobby", |people| bots(people).len() >= 2).await;
    let bots = bots(&people);
    assert_eq!(bots.keys().collect::<Vec<_>>(), ["Castellan", "Pawnelope"]);
    bots
}

#[tokio::test]
async fn a_bot_goes_on_after_a_restart() {
    let file = crate::db::TempFile::new("bot-restart");
    let open = async || chess::Db::open(&file.url(), 4).await.unwrap();
    let mut slow = with_bots();
    slow.bot_ms = 60_000;
    let site = Served::on(open().await, slow).await;
    let mut anna = site.person("Anna").await;
    let before = bots(&mut anna).await;
    let terms =
        json!({ "to": before["Castellan"], "color": "white", "initial_ms": 10_800_000, "increment_ms": 0 });
    let made = anna.me("invite", terms).await.unwrap();
    let game = format!("game:{}", made["game"].as_str().unwrap());
    anna.join(&game).await;
    anna.play(&game, 0, "e4").await.unwrap();
    // It would think for a minute.
    drop((site, anna.tab));
    let site = Served::on(open().await, with_bots()).await;
    anna.tab = site.tab(&anna.user, &anna.cookie).await;
    let joined = anna.join(&game).await;
    if joined["game"]["ply"] == 1 {
        anna.tab.event_where(&game, "change", |change| change["ply"] == 2).await;
    }
    assert_eq!(bots(&mut anna).await, before, "the same bots as before");
}
