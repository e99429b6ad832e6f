//! Games that are over: listed, replayed, taken away.

use chess::Db;
use owlchess::{MoveChain, Outcome, moves::make::San};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::{
    client::eventually,
    http::ask,
    postgres::on_both,
    site::{Served, begin, play_all, settings},
};

/// One's games that are over, as the site lists them.
pub(crate) async fn past(site: &Served, cookie: &str, query: &str) -> Value {
    ask(&site.address, "GET", &format!("/past{query}"), cookie, &Value::Null).await.json()
}

#[tokio::test]
async fn my_games_are_listed_with_whom_when_and_how_they_ended() {
    on_both("past", async |url| {
        let site = Served::on(Db::open(&url, 4).await.unwrap(), settings()).await;
        assert_eq!(ask(&site.address, "GET", "/past", "", &Value::Null).await.status, 401);
        let (mut anna, mut ben, mut carl) =
            (site.person("Anna").await, site.person("Ben").await, site.person("Carl").await);
        assert_eq!(past(&site, &anna.cookie, "").await, json!({ "games": [], "next": null }));
        let mut games = Vec::new();
        for n in 0..33 {
            let other = if n % 2 == 0 { &mut ben } else { &mut carl };
            let game = begin(&mut anna, other, 60_000, 1_000).await;
            if n == 0 {
                play_all(&mut anna, other, &game, 0, "f3 e5 g4 Qh4").await;
            } else {
                other.tab.push(&game, "resign", json!({})).await.unwrap();
            }
            games.push(game.strip_prefix("game:").unwrap().to_owned());
        }
        begin(&mut anna, &mut ben, 60_000, 0).await;
        let first = past(&site, &anna.cookie, "").await;
        let next = first["next"].as_str().unwrap();
        let second = past(&site, &anna.cookie, &format!("?after={next}")).await;
        assert_eq!(second["next"], Value::Null);
        let mut listed: Vec<&Value> = first["games"].as_array().unwrap().iter().collect();
        assert_eq!(listed.len(), 30);
        listed.extend(second["games"].as_array().unwrap());
        let mut ids: Vec<&str> = listed.iter().map(|game| game["id"].as_str().unwrap()).collect();
        // Those that ended in the same millisecond come in any order.
        let ended: Vec<u64> = listed.iter().map(|game| game["ended_at"].as_u64().unwrap()).collect();
        assert!(ended.windows(2).all(|pair| pair[0] >= pair[1]), "{ended:?}");
        ids.sort_unstable();
        games.sort_unstable();
        assert_eq!(ids, games, "each once, and not the one that is running");

        let mated = listed.iter().find(|game| game["result"]["reason"] == "mate").unwrap();
        assert_eq!((&mated["color"], &mated["opponent"]["name"]), (&json!("white"), &json!("Ben")));
        assert_eq!((&mated["result"]["winner"], &mated["moves"]), (&json!("black"), &json!(2)));
        assert_eq!((&mated["initial_ms"], &mated["is_here"]), (&json!(60_000), &json!(true)));
        // From the other side.
        let of_ben = past(&site, &ben.cookie, "").await;
        let mated =
            of_ben["games"].as_array().unwrap().iter().find(|game| game["id"] == mated["id"]).unwrap();
        assert_eq!((&mated["color"], &mated["opponent"]["name"]), (&json!("black"), &json!("Anna")));
        for wrong in ["?after=x", "?after=7", "?after=-"] {
            let status =
                ask(&site.address, "GET", &format!("/past{wrong}"), &anna.cookie, &Value::Null).await.status;
            assert_eq!(status, 400, "{wrong}");
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_has_left_was_last_seen_then() {
    on_both("seen", async |url| {
        let site = Served::on(Db::open(&url, 4).await.unwrap(), settings()).await;
        let (mut anna, ben, game) = site.game(60_000, 0).await;
        anna.tab.push(&game, "resign", json!({})).await.unwrap();
        // He was seen as he came, too: as if that was long ago.
        let mut database = sqlx::AnyConnection::connect(&url).await.unwrap();
        let earlier = "UPDATE users SET seen_at = seen_at - 3600000";
        sqlx::query(earlier).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
        let before = site.db.now().await.unwrap() / 1000;
        ben.tab.close().await;
        let key = ben.user.id.to_string();
        // He has two presences there, by the lobby and by the game, which may leave one after the other.
        anna.tab.people_where("lobby", |people| people[&key].is_null()).await;
        eventually(async || {
            let listed = past(&site, &anna.cookie, "").await["games"][0].clone();
            assert_eq!(listed["is_here"], false);
            listed["seen_at"].as_i64().unwrap() >= before
        })
        .await;
    })
    .await;
}

/// Names and values, or moves and the clock after each.
type Pairs = Vec<(String, String)>;

/// The tags, the moves and the result of a game in PGN, read without our own code.
fn read_pgn(text: &str) -> (Pairs, Pairs, String) {
    assert!(text.lines().all(|line| line.len() < 80), "{text}");
    let (tags, moves) = text.split_once("\n\n").unwrap();
    let tags = tags.lines().map(|line| {
        let (name, value) =
            line.strip_prefix('[').unwrap().strip_suffix("\"]").unwrap().split_once(" \"").unwrap();
        (name.to_owned(), value.replace("\\\"", "\"").replace("\\\\", "\\"))
    });
    let (mut played, mut result) = (Vec::new(), String::new());
    let mut words = moves.split_whitespace();
    while let Some(word) = words.next() {
        if word == "{[%clk" {
            let (_, clock): &mut (String, String) = played.last_mut().unwrap();
            words.next().unwrap().strip_suffix("]}").unwrap().clone_into(clock);
        } else if ["1-0", "0-1", "1/2-1/2", "*"].contains(&word) {
            word.clone_into(&mut result);
        } else if !word.ends_with('.') {
            played.push((word.to_owned(), String::new()));
        }
    }
    (tags.collect(), played, result)
}

#[tokio::test]
async fn a_game_is_taken_away_as_pgn_that_another_program_replays_to_its_end() {
    on_both("pgn", async |url| {
        let site = Served::on(Db::open(&url, 4).await.unwrap(), settings()).await;
        let (mut anna, mut ben) = (site.person("An\"na \\ [x]").await, site.person("Bén").await);
        let games = [
            (
                "e4 d5 exd5 c6 dxc6 Nf6 cxb7 Nbd7 bxa8=Q Nb6 Nf3 g6 Be2 Bg7 O-O O-O Qxa7 Nfd5 d4 e5 dxe5 Bg4",
                "*",
                "",
            ),
            ("f3 e5 g4 Qh4#", "0-1", "normal"),
            ("Nf3 Nf6 Ng1 Ng8 Nf3 Nf6 Ng1 Ng8", "1/2-1/2", "normal"),
        ];
        for (moves, result, termination) in games {
            let game = begin(&mut anna, &mut ben, 3_750_000, 2_000).await;
            play_all(&mut anna, &mut ben, &game, 0, moves).await;
            let path = format!("/game/{}/pgn", game.strip_prefix("game:").unwrap());
            let answer = ask(&site.address, "GET", &path, &ben.cookie, &Value::Null).await;
            assert_eq!(answer.status, 200);
            assert!(answer.head.contains("application/x-chess-pgn; charset=utf-8"), "{}", answer.head);
            assert!(answer.head.contains("content-disposition: attachment; filename="), "{}", answer.head);
            let (tags, played, ends) = read_pgn(&answer.body);
            let tag =
                |name: &str| tags.iter().find(|(tag, _)| tag == name).map(|(_, value)| &**value).unwrap();
            assert_eq!((tag("White"), tag("Black")), ("An\"na \\ [x]", "Bén"));
            assert_eq!((tag("Result"), &*ends, tag("TimeControl")), (result, result, "3750+2"));
            let mut referee = MoveChain::new_initial();
            for (san, clock) in &played {
                referee.push(San(san)).unwrap();
                assert!(clock.starts_with("1:02:"), "{clock}");
            }
            assert_eq!(referee.len(), moves.split_whitespace().count());
            let texts: Vec<String> = moves.split_whitespace().map(str::to_owned).collect();
            assert_eq!(played.iter().map(|(san, _)| san.clone()).collect::<Vec<_>>(), texts);
            let outcome = referee.calc_outcome().map(|outcome| match outcome {
                Outcome::Win { side: owlchess::Color::White, .. } => "1-0",
                Outcome::Win { .. } => "0-1",
                Outcome::Draw(_) => "1/2-1/2",
            });
            if !termination.is_empty() {
                assert_eq!(tag("Termination"), termination);
                assert_eq!(outcome, Some(result));
            }
            if result == "*" {
                assert_eq!(tag("Termination"), "unterminated");
                anna.tab.push(&game, "resign", json!({})).await.unwrap();
                let answer = ask(&site.address, "GET", &path, &ben.cookie, &Value::Null).await;
                assert!(answer.body.ends_with("0-1\n"), "{}", answer.body);
            }
        }
        assert_eq!(
            ask(&site.address, "GET", "/game/nowhere/pgn", &ben.cookie, &Value::Null).await.status,
            404
        );
        assert_eq!(ask(&site.address, "GET", "/game/nowhere/pgn", "", &Value::Null).await.status, 401);
    })
    .await;
}
