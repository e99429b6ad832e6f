//! Several nodes of one site: all show the same, and of what they do at once one is stored.

use chess::{Db, Settings};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Connection;
use tokio::sync::watch;

use crate::{
    client::eventually,
    network::{Network, silent_at},
    postgres::{database, on_both},
    site::{Person, Served, begin, play_all, settings},
};

async fn start<const N: usize>(url: &str, names: [&str; N], settings: &Settings) -> Vec<Served> {
    let network = Network::default();
    join_all(names.map(|name| {
        let pubsub = network.node(name);
        async move { Served::node(pubsub, Db::open(url, 4).await.unwrap(), settings.clone()).await }
    }))
    .await
}

/// Somebody on a node, whom the other node knows of.
async fn person(nodes: &[Served], index: usize, name: &str) -> Person {
    let person = nodes[index].person(name).await;
    let key = person.user.id.to_string();
    for node in nodes {
        // A second tab there sees itself at once, and the first one once the node knows of it.
        let mut tab = node.tab(&person.user, &person.cookie).await;
        let tabs = |people: &Value| people[&key]["metas"].as_array().map_or(0, Vec::len);
        tab.people_where("lobby", |people| tabs(people) >= 2).await;
        tab.close().await;
    }
    person
}

#[tokio::test]
async fn spectators_and_lists_are_the_same_on_all_nodes() {
    on_both("same", async |url| {
        let nodes = start(&url, ["a", "b"], &settings()).await;
        let (mut anna, mut ben) = (person(&nodes, 0, "Anna").await, person(&nodes, 1, "Ben").await);
        let game = begin(&mut anna, &mut ben, 60_000, 0).await;
        let mut watchers = Vec::new();
        for (n, name) in ["Carl", "Dora", "Emil", "Fay", "Gus"].into_iter().enumerate() {
            let mut watcher = person(&nodes, n % 2, name).await;
            watcher.join(&game).await;
            watchers.push(watcher);
        }
        for total in [5, 4] {
            if total == 4 {
                watchers.pop().unwrap().tab.close().await;
            }
            let mut seen = Vec::new();
            for tab in [&mut anna.tab, &mut ben.tab]
                .into_iter()
                .chain(watchers.iter_mut().map(|watcher| &mut watcher.tab))
            {
                // Somebody may leave between the list of a crowd and its total; the next one has both.
                let is_whole = |crowd: &Value| {
                    crowd["total"] == total && crowd["users"].as_array().unwrap().len() == total
                };
                let crowd = tab.event_where(&game, "crowd", is_whole).await;
                let is_counted = |games: &Value| games["games"][0]["spectators"] == total;
                let games = tab.event_where("lobby", "games", is_counted).await;
                seen.push((crowd, games["total"].clone()));
            }
            assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
        }
        // A move on one node is in the list of the other.
        anna.play(&game, 0, "e4").await.unwrap();
        ben.tab.event_where("lobby", "games", |games| games["games"][0]["last"] == "e2e4").await;
    })
    .await;
}

/// Each game's flag falls at one instant, at which four nodes look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_falls_once_though_all_nodes_see_it() {
    on_both("flags", async |url| {
        // So that each node has read the deadlines before they come.
        let often = Settings { sweep_ms: 500, ..settings() };
        let nodes = start(&url, ["a", "b", "c", "d"], &often).await;
        let games = (0..6).map(|n| {
            let nodes = &nodes;
            async move {
                let mut white = person(nodes, n % 4, &format!("White {n}")).await;
                let mut black = person(nodes, (n + 1) % 4, &format!("Black {n}")).await;
                let game = begin(&mut white, &mut black, 1_500, 0).await;
                (game, white, black)
            }
        });
        for (game, mut white, mut black) in join_all(games).await {
            let mut ended = Vec::new();
            for player in [&mut white, &mut black] {
                let over = player.until_over(&game).await;
                assert_eq!(
                    (&over["result"]["winner"], &over["result"]["reason"]),
                    (&json!("black"), &json!("time"))
                );
                // On a machine that stood still, the time for which nobody's clock ran is a change as well.
                if over["paused_ms"] == 0 {
                    assert_eq!(over["version"], 2, "one change ended it");
                }
                assert_eq!(over["clocks"]["white_ms"], 0);
                ended.push(over["version"].clone());
            }
            let state = white.state(&game).await;
            assert_eq!(vec![state["version"].clone(); 2], ended, "and nothing has changed since");
            for player in [&mut white, &mut black] {
                let told = player.tab.all_heard(&game, "change").await;
                let ends = told.iter().filter(|change| !change["result"].is_null()).count();
                // By the node that stored it, and to those who joined as it fell by their join.
                assert!(ends <= 2, "it was told once: {told:?}");
            }
        }
    })
    .await;
}

/// Two tabs of one player claim on two nodes, while the other player moves or comes back on a third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_claims_on_two_nodes_and_a_return_one_is_what_all_see() {
    on_both("claims", async |url| {
        let mut soon = settings();
        soon.claim_ms = 0;
        let nodes = start(&url, ["a", "b", "c"], &soon).await;
        for round in 0..4 {
            let mut white = person(&nodes, 0, &format!("White {round}")).await;
            let mut black = person(&nodes, 2, &format!("Black {round}")).await;
            let game = begin(&mut white, &mut black, 60_000, 0).await;
            play_all(&mut white, &mut black, &game, 0, "e4 e5 Nf3").await;
            let mut elsewhere = nodes[1].tab(&white.user, &white.cookie).await;
            elsewhere.enter(&game).await;
            let (user, cookie) = (black.user.clone(), black.cookie.clone());
            black.tab.close().await;
            for tab in [&mut white.tab, &mut elsewhere] {
                tab.event_where(&game, "absent", |absent| !absent["black"].is_null()).await;
            }
            let claim = json!({ "as": "win" });
            let (near, far, moved) = tokio::join!(
                white.tab.push(&game, "claim", claim.clone()),
                elsewhere.push(&game, "claim", claim),
                async {
                    let mut returned = nodes[2].tab(&user, &cookie).await;
                    returned.enter(&game).await;
                    returned.push(&game, "move", json!({ "ply": 3, "move": "Nc6" })).await
                },
            );
            let won = usize::from(near.is_ok()) + usize::from(far.is_ok());
            assert_eq!(won + usize::from(moved.is_ok()), 1, "{near:?} {far:?} {moved:?}");
            let mut states = Vec::new();
            for tab in [&mut white.tab, &mut elsewhere] {
                let state = tab.push(&game, "sync", json!({})).await.unwrap()["game"].clone();
                // On a machine that stood still, the time for which nobody's clock ran is a change as well.
                if state["paused_ms"] == 0 {
                    assert_eq!(state["version"], 5, "{state}");
                }
                assert_eq!(state["result"].is_null(), moved.is_ok());
                states.push((state["result"].clone(), state["ply"].clone()));
            }
            assert_eq!(states[0], states[1]);
        }
    })
    .await;
}

/// A node is frozen between the statements of a move, and holds the lock on the game.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_frozen_in_a_transaction_holds_nobody_up_and_changes_nothing() {
    let url = database().await;
    let server = url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let (freeze, is_frozen) = watch::channel(false);
    let port = silent_at(server.clone(), b"COMMIT", is_frozen).await;
    let network = Network::default();
    let through = url.replace(&server, &format!("127.0.0.1:{port}"));
    let frozen = Served::node(network.node("a"), Db::open(&through, 4).await.unwrap(), settings()).await;
    let other = Served::node(network.node("b"), Db::open(&url, 4).await.unwrap(), settings()).await;
    let (mut anna, mut ben) = (other.person("Anna").await, other.person("Ben").await);
    let game = begin(&mut anna, &mut ben, 600_000, 0).await;
    let mut tab = frozen.tab(&anna.user, &anna.cookie).await;
    tab.enter(&game).await;

    freeze.send_replace(true);
    tab.send(&game, "move", json!({ "ply": 0, "move": "d4" })).await;
    let mut admin = sqlx::PgConnection::connect(&url).await.unwrap();
    let frozen_there = "SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'idle in transaction' \
         AND datname = current_database() AND query LIKE '%INTO moves%'";
    eventually(async || sqlx::query_scalar::<_, i64>(frozen_there).fetch_one(&mut admin).await.unwrap() > 0)
        .await;
    // While the other node is frozen yet, and before the wait for the lock would be given up.
    anna.play(&game, 0, "e4").await.unwrap();
    freeze.send_replace(false);
    ben.play(&game, 1, "e5").await.unwrap();
    let state = ben.tab.push(&game, "sync", json!({})).await.unwrap();
    let moves: Vec<&Value> =
        state["game"]["moves"].as_array().unwrap().iter().map(|played| &played["uci"]).collect();
    assert_eq!(moves, ["e2e4", "e7e5"]);
}

/// One node runs the bots, and the next one does once that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_are_there_once_and_play_on_when_their_node_is_gone() {
    on_both("bots-nodes", async |url| {
        let with_bots = Settings { bots: true, bot_ms: 100, ..settings() };
        let mut nodes = start(&url, ["a", "b"], &with_bots).await;
        let mut anna = person(&nodes, 1, "Anna").await;
        let is_bot = |entry: &Value| entry["user"]["bot"] == true;
        // Nodes that start at once both run them, until they know of each other.
        let is_alone = |bot: &Value| bot["metas"].as_array().unwrap().len() == 1;
        let people = anna
            .tab
            .people_where("lobby", |people| {
                let people = people.as_object().unwrap().values();
                let bots: Vec<&Value> = people.filter(|entry| is_bot(entry)).collect();
                bots.len() == 2 && bots.into_iter().all(is_alone)
            })
            .await;
        let bot = people.as_object().unwrap().iter().find(|(_, entry)| is_bot(entry)).unwrap().0.clone();
        let terms = json!({ "to": bot, "color": "white", "initial_ms": 600_000, "increment_ms": 0 });
        let made = anna.me("invite", terms).await.unwrap();
        let game = format!("game:{}", made["game"].as_str().unwrap());
        anna.join(&game).await;
        anna.play(&game, 0, "e4").await.unwrap();
        anna.tab.event_where(&game, "change", |change| change["ply"] == 2).await;

        drop(nodes.remove(0));
        anna.play(&game, 2, "d4").await.unwrap();
        anna.tab.event_where(&game, "change", |change| change["ply"] == 4).await;
    })
    .await;
}
