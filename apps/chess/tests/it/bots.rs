//! Somebody to play with.

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
    assert_eq!(bots.len(), 2, "{bots:?}");
    let weak = bots.iter().find(|(name, _)| name == "Pawnelope").unwrap();
    let terms = json!({ "to": weak.1, "color": "black", "initial_ms": 600_000, "increment_ms": 0 });
    let made = anna.me("invite", terms.clone()).await.unwrap();
    let game = format!("game:{}", made["game"].as_str().unwrap());
    let joined = anna.join(&game).await;
    assert_eq!((&joined["you"], &joined["game"]["white"]["bot"]), (&json!("black"), &json!(true)));
    // It is present in its game.
    let state = anna.tab.event(&game, "presence_state").await;
    if state[&weak.1].is_null() {
        let is_there = |diff: &Value| diff["joins"][&weak.1]["metas"][0]["device"] == "bot";
        anna.tab.event_where(&game, "presence_diff", is_there).await;
    }
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

/// The bots in the lobby, by name and id.
async fn bots(person: &mut crate::site::Person) -> Vec<(String, String)> {
    let state = person.tab.event("lobby", "presence_state").await;
    let all = state.as_object().unwrap().iter();
    let bots = all.filter(|(_, entry)| entry["user"]["bot"] == true);
    bots.map(|(id, entry)| (entry["user"]["name"].as_str().unwrap().to_owned(), id.clone())).collect()
}

#[tokio::test]
async fn a_bot_goes_on_after_a_restart() {
    let file = crate::db::TempFile::new("bot-restart");
    let open = async || chess::Db::open(&file.url(), 4).await.unwrap();
    let mut slow = with_bots();
    slow.bot_ms = 60_000;
    let site = Served::on(open().await, slow).await;
    let mut anna = site.person("Anna").await;
    let bot = bots(&mut anna).await.remove(0);
    let terms = json!({ "to": bot.1, "color": "white", "initial_ms": 10_800_000, "increment_ms": 0 });
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
    assert_eq!(bots(&mut anna).await.len(), 2, "the same bots as before");
}
