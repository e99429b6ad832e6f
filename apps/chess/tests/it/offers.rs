//! Seeks and invites, and their life.

use serde_json::{Value, json};

use crate::site::{Served, begin, reason, settings};

fn terms() -> Value {
    json!({ "color": "random", "initial_ms": 60_000, "increment_ms": 0 })
}

fn invite(to: chess::UserId) -> Value {
    json!({ "to": to, "color": "black", "initial_ms": 60_000, "increment_ms": 1_000 })
}

#[tokio::test]
async fn a_seek_is_taken_by_anyone_else_and_by_one() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, mut carl) =
        (site.person("Anna").await, site.person("Ben").await, site.person("Carl").await);
    let seek = anna.me("seek", terms()).await.unwrap();
    let listed = ben.tab.event_where("lobby", "seeks", |seeks| seeks["total"] == 1).await;
    assert_eq!(
        (&listed["seeks"][0]["id"], &listed["seeks"][0]["user"]["name"]),
        (&seek["id"], &json!("Anna"))
    );
    assert_eq!(reason(anna.me("take", seek.clone()).await), "own_offer");

    let (by_ben, by_carl) = tokio::join!(ben.me("take", seek.clone()), carl.me("take", seek.clone()));
    let (taken, refused) = if by_ben.is_ok() { (by_ben, by_carl) } else { (by_carl, by_ben) };
    assert_eq!(reason(refused), "offer_over");
    let started = anna.heard("game_started", |_| true).await;
    assert_eq!(started["game"], taken.unwrap()["game"]);
    let mine = anna.heard("mine", |mine| !mine["playing"].is_null()).await;
    assert_eq!((&mine["seek"], &mine["playing"]), (&json!(null), &started["game"]));
    carl.tab.event_where("lobby", "seeks", |seeks| seeks["total"] == 0).await;
    // Everyone sees who plays.
    carl.tab
        .event_where("lobby", "presence_diff", |diff| {
            diff["joins"][anna.user.id.to_string()]["playing"] == started["game"]
        })
        .await;
}

#[tokio::test]
async fn a_seek_is_replaced_withdrawn_and_gone_with_its_owners_last_tab() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben) = (site.person("Anna").await, site.person("Ben").await);
    let first = anna.me("seek", terms()).await.unwrap();
    let second = anna.me("seek", terms()).await.unwrap();
    assert_eq!(reason(ben.me("take", first).await), "offer_over");
    let listed = ben.tab.event_where("lobby", "seeks", |seeks| seeks["seeks"][0]["id"] == second["id"]).await;
    assert_eq!(listed["total"], 1);
    anna.me("unseek", json!({})).await.unwrap();
    anna.me("unseek", json!({})).await.unwrap();
    ben.tab.event_where("lobby", "seeks", |seeks| seeks["total"] == 0).await;

    let seek = anna.me("seek", terms()).await.unwrap();
    ben.tab.event_where("lobby", "seeks", |seeks| seeks["seeks"][0]["id"] == seek["id"]).await;
    let other_tab = site.tab(&anna.user, &anna.cookie).await;
    let key = anna.user.id.to_string();
    let tabs = |people: &Value| people[&key]["metas"].as_array().map_or(0, Vec::len);
    ben.tab.people_where("lobby", |people| tabs(people) == 2).await;
    anna.tab.close().await;
    ben.tab.people_where("lobby", |people| tabs(people) == 1).await;
    // The list is as it was, also once it has been read anew.
    let news = ben.me("seek", terms()).await.unwrap();
    let listed = ben.tab.event_where("lobby", "seeks", |seeks| has(seeks, &news)).await;
    assert!(has(&listed, &seek), "{listed}");
    ben.me("unseek", json!({})).await.unwrap();
    ben.tab.event_where("lobby", "seeks", |seeks| seeks["total"] == 1).await;
    other_tab.close().await;
    ben.tab.event_where("lobby", "seeks", |seeks| seeks["total"] == 0).await;
    assert_eq!(reason(ben.me("take", seek).await), "offer_over");
}

/// Whether a seek is in a list.
fn has(seeks: &Value, made: &Value) -> bool {
    seeks["seeks"].as_array().unwrap().iter().any(|seek| seek["id"] == made["id"])
}

#[tokio::test]
async fn a_reload_keeps_the_seek() {
    let mut slow = settings();
    slow.linger_ms = 60_000;
    let site = Served::start(slow).await;
    let (mut anna, mut ben) = (site.person("Anna").await, site.person("Ben").await);
    let seek = anna.me("seek", terms()).await.unwrap();
    anna.tab.close().await;
    anna.tab = site.tab(&anna.user, &anna.cookie).await;
    let mine = anna.tab.push(&anna.topic(), "phx_leave", json!({})).await;
    assert!(mine.is_ok());
    let mine = anna.tab.join(&anna.topic(), json!({})).await.unwrap();
    assert_eq!(mine["seek"]["id"], seek["id"]);
    ben.me("take", seek).await.unwrap();
}

#[tokio::test]
async fn an_invite_is_accepted() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, mut carl) =
        (site.person("Anna").await, site.person("Ben").await, site.person("Carl").await);
    let made = anna.me("invite", invite(ben.user.id)).await.unwrap();
    let mine = ben.heard("mine", |mine| !mine["invites"][0].is_null()).await;
    let shown = &mine["invites"][0];
    assert_eq!((&shown["from"]["name"], &shown["color"]), (&json!("Anna"), &json!("black")));
    assert!((1..=60_000).contains(&shown["expires_in_ms"].as_u64().unwrap()));
    anna.heard("mine", |mine| mine["invites"][0]["id"] == made["id"]).await;
    assert_eq!(reason(anna.me("invite", invite(ben.user.id)).await), "not_now", "once is enough");

    // Nobody else can do anything with it, or learns that it is there.
    for event in ["accept", "decline", "withdraw", "take"] {
        assert_eq!(reason(carl.me(event, json!({ "id": made["id"] })).await), "offer_over", "{event}");
    }
    assert_eq!(reason(anna.me("accept", json!({ "id": made["id"] })).await), "offer_over");
    assert_eq!(reason(ben.me("withdraw", json!({ "id": made["id"] })).await), "offer_over");
    for event in ["mine", "invite_over"] {
        assert_eq!(carl.tab.all_heard(&carl.topic(), event).await, [json!(null); 0], "{event}");
    }

    let game = ben.me("accept", json!({ "id": made["id"] })).await.unwrap();
    let over = anna.heard("invite_over", |_| true).await;
    assert_eq!((&over["outcome"], &over["to"]["name"]), (&json!("accepted"), &json!("Ben")));
    let started = anna.heard("game_started", |_| true).await;
    assert_eq!((&started["game"], &started["color"]), (&game["game"], &json!("black")));
    assert_eq!(started["opponent"]["name"], "Ben");
    assert_eq!(ben.heard("game_started", |_| true).await["color"], "white");
}

#[tokio::test]
async fn an_invite_is_declined_withdrawn_and_goes_with_either() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben) = (site.person("Anna").await, site.person("Ben").await);

    let made = anna.me("invite", invite(ben.user.id)).await.unwrap();
    ben.me("decline", json!({ "id": made["id"] })).await.unwrap();
    assert_eq!(anna.heard("invite_over", |_| true).await["outcome"], "declined");
    assert_eq!(reason(ben.me("accept", json!({ "id": made["id"] })).await), "offer_over");

    let made = anna.me("invite", invite(ben.user.id)).await.unwrap();
    anna.me("withdraw", json!({ "id": made["id"] })).await.unwrap();
    assert_eq!(ben.heard("invite_over", |over| over["id"] == made["id"]).await["outcome"], "withdrawn");

    let made = anna.me("invite", invite(ben.user.id)).await.unwrap();
    ben.tab.close().await;
    assert_eq!(anna.heard("invite_over", |over| over["id"] == made["id"]).await["outcome"], "left");
    assert_eq!(reason(anna.me("invite", invite(ben.user.id)).await), "offline");
    ben.tab = site.tab(&ben.user, &ben.cookie).await;
    let made = anna.me("invite", invite(ben.user.id)).await.unwrap();
    anna.tab.close().await;
    assert_eq!(ben.heard("invite_over", |over| over["id"] == made["id"]).await["outcome"], "left");
}

#[tokio::test]
async fn an_invite_expires() {
    let site = Served::start(chess::Settings { invite_ms: 100, sweep_ms: 100, ..settings() }).await;
    let (mut anna, mut ben) = (site.person("Anna").await, site.person("Ben").await);
    let made = anna.me("invite", invite(ben.user.id)).await.unwrap();
    for person in [&mut anna, &mut ben] {
        let over = person.heard("invite_over", |_| true).await;
        assert_eq!((&over["id"], &over["outcome"]), (&made["id"], &json!("expired")));
    }
    assert_eq!(reason(ben.me("accept", json!({ "id": made["id"] })).await), "offer_over");
}

#[tokio::test]
async fn whoever_plays_can_begin_nothing_and_has_no_offers() {
    let site = Served::start(settings()).await;
    let (mut anna, mut ben, mut carl) =
        (site.person("Anna").await, site.person("Ben").await, site.person("Carl").await);
    anna.me("seek", terms()).await.unwrap();
    let from_carl = carl.me("invite", invite(anna.user.id)).await.unwrap();
    let game = begin(&mut anna, &mut ben, 60_000, 0).await;
    assert_eq!(carl.heard("invite_over", |over| over["id"] == from_carl["id"]).await["outcome"], "withdrawn");
    carl.tab.event_where("lobby", "seeks", |seeks| seeks["total"] == 0).await;
    assert_eq!(reason(anna.me("seek", terms()).await), "busy");
    assert_eq!(reason(anna.me("invite", invite(carl.user.id)).await), "busy");
    assert_eq!(reason(carl.me("invite", invite(anna.user.id)).await), "they_are_busy");
    let seek = carl.me("seek", terms()).await.unwrap();
    assert_eq!(reason(anna.me("take", seek.clone()).await), "busy");
    // Once it is over, they are free.
    anna.tab.push(&game, "resign", json!({})).await.unwrap();
    anna.me("take", seek).await.unwrap();
}

#[tokio::test]
async fn an_offer_that_makes_no_sense_is_refused() {
    let site = Served::start(settings()).await;
    let mut anna = site.person("Anna").await;
    let me = anna.user.id;
    assert_eq!(reason(anna.me("invite", invite(me)).await), "own_offer");
    assert_eq!(reason(anna.me("invite", invite(chess::UserId(1))).await), "not_found");
    assert_eq!(reason(anna.me("take", json!({ "id": "nothing" })).await), "offer_over");
    for (initial_ms, increment_ms) in [(999, 0), (10_800_001, 0), (60_000, 60_001)] {
        let terms = json!({ "color": "white", "initial_ms": initial_ms, "increment_ms": increment_ms });
        assert_eq!(reason(anna.me("seek", terms).await), "invalid");
    }
    for payload in [json!({}), json!({ "color": "green", "initial_ms": 60_000, "increment_ms": 0 }), json!(7)]
    {
        assert_eq!(reason(anna.me("seek", payload).await), "invalid");
    }
    assert_eq!(reason(anna.me("fly", json!({})).await), "unknown_event");
}

/// After a restart nobody is there yet: offers stay for their owners to come back, and go if they don't.
#[tokio::test]
async fn offers_of_people_who_do_not_come_back_after_a_restart_go() {
    let file = crate::db::TempFile::new("restart-offers");
    // People have three sweeps to come back.
    let settings = chess::Settings { sweep_ms: 2_000, ..settings() };
    let open = async || chess::Db::open(&file.url(), 4).await.unwrap();
    let site = Served::on(open().await, settings.clone()).await;
    let (mut anna, mut ben) = (site.person("Anna").await, site.person("Ben").await);
    anna.me("seek", terms()).await.unwrap();
    ben.me("seek", terms()).await.unwrap();
    let made = anna.me("invite", invite(ben.user.id)).await.unwrap();
    drop(site);
    let site = Served::on(open().await, settings).await;
    ben.tab = site.tab(&ben.user, &ben.cookie).await;
    ben.tab
        .event_where("lobby", "seeks", |seeks| {
            seeks["total"] == 1 && seeks["seeks"][0]["user"]["name"] == "Ben"
        })
        .await;
    let over = ben.heard("invite_over", |_| true).await;
    assert_eq!((&over["id"], &over["outcome"]), (&made["id"], &json!("left")));
    ben.tab.push(&ben.topic(), "phx_leave", json!({})).await.unwrap();
    let mine = ben.tab.join(&ben.topic(), json!({})).await.unwrap();
    assert_ne!(mine["seek"], json!(null), "his own stays");
}
