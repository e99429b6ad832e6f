//! Several nodes on one database, which race for the same thing. One wins.

use chess::Db;
use serde_json::json;
use sqlx::Connection;

use crate::{
    postgres::on_both,
    site::{Served, begin, settings},
};

/// Eight tabs of the players on two nodes that know nothing of each other, all with another move for the same ply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_who_move_at_once_one_does() {
    on_both("moves", async |url| {
        let one = Served::on(Db::open(&url, 8).await.unwrap(), settings()).await;
        let other = Served::on(Db::open(&url, 8).await.unwrap(), settings()).await;
        let (mut white, mut black) = (one.person("Anna").await, one.person("Ben").await);
        let game = begin(&mut white, &mut black, 600_000, 0).await;
        let mut tabs = Vec::new();
        for n in 0..8 {
            let site = if n % 2 == 0 { &one } else { &other };
            let mut of_both = Vec::new();
            for player in [&white, &black] {
                let mut tab = site.tab(&player.user, &player.cookie).await;
                tab.enter(&game).await;
                of_both.push(tab);
            }
            tabs.push(of_both);
        }
        for ply in 0..30_usize {
            let state = white.tab.push(&game, "sync", json!({})).await.unwrap();
            let legal: Vec<String> = state["game"]["legal"]
                .as_array()
                .unwrap()
                .iter()
                .map(|uci| uci.as_str().unwrap().to_owned())
                .collect();
            if legal.is_empty() {
                break;
            }
            let tries = tabs.iter_mut().enumerate().map(|(n, of_both)| {
                let payload = json!({ "ply": ply, "move": legal[n % legal.len()] });
                let game = &game;
                async move { of_both[ply % 2].push(game, "move", payload).await }
            });
            let mut won = Vec::new();
            for result in futures_util::future::join_all(tries).await {
                match result {
                    Ok(moved) => won.push(moved["uci"].as_str().unwrap().to_owned()),
                    Err(problem) => assert!(
                        ["stale", "not_your_turn", "game_over"]
                            .contains(&problem["reason"].as_str().unwrap()),
                        "{problem}"
                    ),
                }
            }
            won.dedup();
            assert_eq!(won.len(), 1, "with few legal moves several may have the same one");
            let state = white.tab.push(&game, "sync", json!({})).await.unwrap();
            let state = &state["game"];
            assert_eq!(state["ply"], ply + 1);
            assert_eq!(state["version"], ply + 2, "a version for each move");
            assert_eq!(state["moves"][ply]["uci"], *won[0]);
        }
    })
    .await;
}

/// Each player offers a draw, on two nodes at once. One offer is stored; the other one, judged anew, takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_draws_that_are_offered_at_once_end_the_game() {
    on_both("draws", async |url| {
        // To a sweep of a node that knows nothing of the other's people they would have left; none comes by then.
        let one = Served::on(Db::open(&url, 8).await.unwrap(), settings()).await;
        let other = Served::on(Db::open(&url, 8).await.unwrap(), settings()).await;
        let (mut white, mut black) = (one.person("Anna").await, one.person("Ben").await);
        let mut elsewhere = other.tab(&black.user, &black.cookie).await;
        for _ in 0..20 {
            let game = begin(&mut white, &mut black, 600_000, 0).await;
            elsewhere.enter(&game).await;
            let (by_white, by_black) = tokio::join!(
                white.tab.push(&game, "draw", json!({})),
                elsewhere.push(&game, "draw", json!({})),
            );
            assert!(by_white.is_ok() && by_black.is_ok(), "{by_white:?} {by_black:?}");
            let state = white.tab.push(&game, "sync", json!({})).await.unwrap();
            assert_eq!(state["game"]["result"]["reason"], "agreement", "{state}");
            assert_eq!(state["game"]["version"], 3);
        }
    })
    .await;
}

/// A seek that is taken on two nodes at once, and two seeks that one person takes at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_accepts_at_once_make_one_game() {
    on_both("accepts", async |url| {
        let one = Served::on(Db::open(&url, 8).await.unwrap(), settings()).await;
        let terms = json!({ "color": "white", "initial_ms": 60_000, "increment_ms": 0 });
        for round in 0..10 {
            let mut people = Vec::new();
            for n in 0..4 {
                people.push(one.person(&format!("Player {round}-{n}")).await);
            }
            let [a, b, c, d] = &mut people[..] else { unreachable!() };
            let (first, second) =
                (a.me("seek", terms.clone()).await.unwrap(), b.me("seek", terms.clone()).await.unwrap());
            let mut c_too = one.tab(&c.user, &c.cookie).await;
            let topic = c.topic();
            // Two want the first seek; one of them wants the second as well, from another tab.
            let (by_c, by_d, by_c_too) = tokio::join!(
                c.me("take", first.clone()),
                d.me("take", first.clone()),
                c_too.push(&topic, "take", second.clone()),
            );
            assert!(!(by_c.is_ok() && by_d.is_ok()), "one seek, one game");
            assert!(!(by_c.is_ok() && by_c_too.is_ok()), "one person, one game");
            assert!(by_c.is_ok() || by_d.is_ok() || by_c_too.is_ok());
            for refused in [by_c, by_d, by_c_too].into_iter().filter_map(Result::err) {
                assert!(["offer_over", "busy"].contains(&refused["reason"].as_str().unwrap()), "{refused}");
            }
        }
    })
    .await;
}

/// The time in which no node was up isn't charged, and flags fall for the rest.
#[tokio::test]
async fn a_restart_costs_nobody_time() {
    on_both("downtime", async |url| {
        let mut times = settings();
        times.sweep_ms = 200;
        let site = Served::on(Db::open(&url, 4).await.unwrap(), times.clone()).await;
        let (mut anna, mut ben) = (site.person("Anna").await, site.person("Ben").await);
        let game = begin(&mut anna, &mut ben, 60_000, 0).await;
        anna.play(&game, 0, "e4").await.unwrap();
        drop((site, anna.tab, ben.tab));
        // Longer than Black has, as the database sees it: all that it knows was 61 seconds earlier.
        let mut database = sqlx::AnyConnection::connect(&url).await.unwrap();
        for earlier in [
            "UPDATE games SET turn_at = turn_at - 61000, deadline_at = deadline_at - 61000",
            "UPDATE settings SET value = CAST(CAST(value AS BIGINT) - 61000 AS TEXT) WHERE name = 'alive_at'",
        ] {
            sqlx::query(earlier).execute(&mut database).await.unwrap();
        }
        let site = Served::on(Db::open(&url, 4).await.unwrap(), times).await;
        ben.tab = site.tab(&ben.user, &ben.cookie).await;
        let joined = ben.join(&game).await;
        assert_eq!(joined["game"]["result"], json!(null), "{joined}");
        assert_eq!(joined["game"]["moves"][0]["uci"], "e2e4");
        assert!(joined["game"]["clocks"]["black_ms"].as_u64().unwrap() > 300, "{joined}");
        assert!(joined["game"]["paused_ms"].as_u64().unwrap() >= 61_000, "{joined}");
        // And a minute later.
        sqlx::query("UPDATE games SET turn_at = turn_at - 60000, deadline_at = deadline_at - 60000")
            .execute(&mut database)
            .await
            .unwrap();
        database.close().await.unwrap();
        assert_eq!(ben.until_over(&game).await["result"]["reason"], "time");
    })
    .await;
}
