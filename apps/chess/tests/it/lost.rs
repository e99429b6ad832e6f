//! Broadcasts between nodes that are lost are made up for.

use axum::http::Method;
use chess::{Db, Settings};
use serde_json::{Value, json};

use crate::{
    network::Network,
    postgres::on_both,
    sessions::{DISCONNECTED, ask},
    site::{Person, Served, begin, settings},
};

/// Two nodes that compare often, with Anna on one and Ben on the other.
struct Two {
    network: Network,
    anna: Person,
    ben: Person,
    nodes: [Served; 2],
}

async fn two(url: &str, settings: Settings) -> Two {
    let network = Network::default();
    let start = async |name| {
        Served::node(network.node(name), Db::open(url, 4).await.unwrap(), settings.clone()).await
    };
    let nodes = [start("a").await, start("b").await];
    let (anna, ben) = (nodes[0].person("Anna").await, nodes[1].person("Ben").await);
    Two { network, anna, ben, nodes }
}

fn often() -> Settings {
    // Sweeps find some of it too, and are not what is tested.
    Settings { sync_ms: 200, sweep_ms: 3_600_000, ..settings() }
}

#[test]
fn by_default_it_takes_less_than_three_seconds() {
    assert!(Settings::default().sync_ms <= 2_000);
}

#[tokio::test]
async fn the_last_move_comes_though_its_broadcast_was_lost() {
    on_both("lost-move", async |url| {
        let mut two = two(&url, often()).await;
        let (anna, ben) = (&mut two.anna, &mut two.ben);
        // Presence tells each node of the other's people.
        let game = meet(anna, ben).await;
        two.network.lose(&["change"]);
        anna.play(&game, 0, "e4").await.unwrap();
        let change = ben.tab.event_where(&game, "change", |_| true).await;
        assert_eq!((&change["move"]["uci"], &change["ply"]), (&json!("e2e4"), &json!(1)));
        assert_eq!(change["clocks"]["running"], "black");
        // And more than one at once: the page sees that versions are missing, and asks.
        ben.play(&game, 1, "e5").await.unwrap();
        let change = anna.tab.event_where(&game, "change", |change| change["ply"] == 2).await;
        assert_eq!((&change["move"]["uci"], &change["version"]), (&json!("e7e5"), &json!(3)));
        // A change without a move brings none.
        anna.tab.push(&game, "draw", json!({})).await.unwrap();
        let change = ben.tab.event_where(&game, "change", |change| change["version"] == 4).await;
        assert_eq!((&change["draw_offer"], &change["move"]), (&json!("white"), &Value::Null));
        ben.tab.push(&game, "resign", json!({})).await.unwrap();
        let over = anna.tab.event_where(&game, "change", |change| !change["result"].is_null()).await;
        assert_eq!(over["result"]["reason"], "resignation");
        assert!(two.network.losses() >= 4);
    })
    .await;
}

#[tokio::test]
async fn offers_games_and_lists_come_though_every_word_was_lost() {
    on_both("lost-offer", async |url| {
        let mut two = two(&url, often()).await;
        let (anna, ben) = (&mut two.anna, &mut two.ben);
        meet_in_lobby(anna, ben).await;
        two.network.lose(&["mine_changed", "game_started", "invite_over", "changed"]);
        let terms = json!({ "color": "white", "initial_ms": 60_000, "increment_ms": 0 });
        let seek = anna.me("seek", terms.clone()).await.unwrap();
        ben.tab.event_where("lobby", "seeks", |seeks| seeks["seeks"][0]["id"] == seek["id"]).await;
        let mut invite = terms;
        invite["to"] = json!(ben.user.id);
        let made = anna.me("invite", invite).await.unwrap();
        ben.heard("mine", |mine| mine["invites"][0]["id"] == made["id"]).await;
        let game = ben.me("accept", json!({ "id": made["id"] })).await.unwrap();
        let mine = anna.heard("mine", |mine| mine["playing"] == game["game"]).await;
        assert_eq!((&mine["seek"], &mine["invites"]), (&Value::Null, &json!([])));
        for person in [&mut *anna, &mut *ben] {
            person.tab.event_where("lobby", "games", |games| games["games"][0]["id"] == game["game"]).await;
            person.tab.event_where("lobby", "seeks", |seeks| seeks["total"] == 0).await;
        }
        assert!(two.network.losses() > 0);
    })
    .await;
}

#[tokio::test]
async fn an_opponent_who_is_gone_is_told_though_the_word_was_lost() {
    on_both("lost-absence", async |url| {
        let mut two = two(&url, often()).await;
        let game = meet(&mut two.anna, &mut two.ben).await;
        // A spectator on each node: which of the two notes the absence is chance.
        let mut watchers = Vec::new();
        for (node, name) in two.nodes.iter().zip(["Carl", "Dora"]) {
            let mut watcher = node.person(name).await;
            watcher.join(&game).await;
            watchers.push(watcher);
        }
        two.network.lose(&["absent"]);
        two.ben.tab.close().await;
        for watcher in &mut watchers {
            watcher.tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn sockets_of_a_session_that_has_ended_are_closed_though_the_word_was_lost() {
    on_both("lost-sign-out", async |url| {
        let two = two(&url, often()).await;
        let elsewhere = two.nodes[1].tab(&two.anna.user, &two.anna.cookie).await;
        two.network.lose(&["disconnect"]);
        assert_eq!(ask(&two.nodes[0].address, Method::DELETE, "/session", &two.anna.cookie).await, 204);
        assert_eq!(elsewhere.closed().await, Some(DISCONNECTED));
        assert!(two.network.losses() > 0);
        let Person { mut tab, .. } = two.ben;
        tab.push("lobby", "status", json!({ "status": "away" })).await.unwrap();
    })
    .await;
}

/// Waits until both see each other, and begins a game.
async fn meet(anna: &mut Person, ben: &mut Person) -> String {
    meet_in_lobby(anna, ben).await;
    begin(anna, ben, 60_000, 0).await
}

async fn meet_in_lobby(anna: &mut Person, ben: &mut Person) {
    let ids = [anna.user.id.to_string(), ben.user.id.to_string()];
    for (person, other) in ids.into_iter().zip([&mut *ben, &mut *anna]) {
        other.tab.people_where("lobby", |people| !people[&person].is_null()).await;
    }
}
