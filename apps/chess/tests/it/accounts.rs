//! Names with a password, to come back from elsewhere.

use chess::{Db, Settings};
use serde_json::{Value, json};

use crate::{
    client::Client,
    http::{Answer, ask},
    postgres::on_both,
    site::{Served, settings},
};

async fn sign_in(site: &Served, name: &str, password: &str) -> Answer {
    let body = if password.is_empty() {
        json!({ "name": name })
    } else {
        json!({ "name": name, "password": password })
    };
    ask(&site.address, "POST", "/session", "", &body).await
}

async fn set_password(site: &Served, cookie: &str, body: Value) -> Answer {
    ask(&site.address, "PUT", "/password", cookie, &body).await
}

async fn me(site: &Served, cookie: &str) -> Value {
    ask(&site.address, "GET", "/me", cookie, &Value::Null).await.json()
}

fn no_limits() -> Settings {
    Settings { max_attempts: 0, max_attempts_from: 0, ..settings() }
}

#[tokio::test]
async fn a_guest_sets_a_password_and_comes_back_from_elsewhere() {
    on_both("password", async |url| {
        let site = Served::on(Db::open(&url, 4).await.unwrap(), no_limits()).await;
        let guest = sign_in(&site, "Zoë", "").await;
        let here = guest.cookie().unwrap();
        assert_eq!(me(&site, &here).await["has_password"], false);
        assert_eq!(
            sign_in(&site, "Zoë", "e4 e5 Nf3").await.status,
            401,
            "a name without a password can't be taken over"
        );
        assert_eq!(set_password(&site, &here, json!({ "password": "e4 e5 Nf3" })).await.status, 204);
        assert_eq!(me(&site, &here).await["has_password"], true);

        let elsewhere = sign_in(&site, " ZOE\u{308} ", "e4 e5 Nf3").await;
        assert_eq!((elsewhere.status, &elsewhere.json()["user"]), (200, &guest.json()["user"]));
        assert_ne!(elsewhere.cookie().unwrap(), here, "a session of its own");
        let wrong = sign_in(&site, "Zoë", "e4 e5 Nc3").await;
        assert_eq!(
            (wrong.status, &wrong.json()["reason"], wrong.cookie()),
            (401, &json!("wrong_password"), None)
        );
        let none = sign_in(&site, "Zoë", "").await;
        assert_eq!((none.status, &none.json()["reason"]), (409, &json!("name_taken")));
    })
    .await;
}

#[tokio::test]
async fn a_new_name_may_have_a_password_at_once() {
    let site = Served::start(no_limits()).await;
    assert_eq!(sign_in(&site, "Anna", "too few").await.json()["reason"], "password_invalid");
    assert_eq!(sign_in(&site, "Anna", "long enough").await.status, 201);
    assert_eq!(sign_in(&site, "anna", "long enough").await.status, 200);
}

#[tokio::test]
async fn another_password_needs_the_one_before_and_signs_out_all_others() {
    on_both("change", async |url| {
        let site = Served::on(Db::open(&url, 4).await.unwrap(), no_limits()).await;
        let first = sign_in(&site, "Anna", "the first one").await.cookie().unwrap();
        let other = sign_in(&site, "Anna", "the first one").await.cookie().unwrap();
        let mut tab = Client::connect(&site.address, &other).await;
        tab.enter("lobby").await;
        for body in [
            json!({ "password": "another one" }),
            json!({ "password": "another one", "current": "a wrong one" }),
        ] {
            let refused = set_password(&site, &first, body).await;
            assert_eq!((refused.status, &refused.json()["reason"]), (401, &json!("wrong_password")));
        }
        let right = json!({ "password": "another one", "current": "the first one" });
        assert_eq!(set_password(&site, "", right.clone()).await.status, 401);
        assert_eq!(set_password(&site, &first, right).await.status, 204);
        tab.closed().await;
        assert_eq!(me(&site, &other).await["user"], Value::Null);
        assert_eq!(me(&site, &first).await["user"]["name"], "Anna");
        assert_eq!(sign_in(&site, "Anna", "the first one").await.status, 401);
        assert_eq!(sign_in(&site, "Anna", "another one").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_bot_has_no_password_and_nobody_becomes_one() {
    let site = Served::start(Settings { bots: true, ..no_limits() }).await;
    assert_eq!(sign_in(&site, "Pawnelope", "").await.status, 409);
    assert_eq!(sign_in(&site, "Pawnelope", "any password").await.status, 401);
}

#[tokio::test]
async fn attempts_are_limited_by_name_and_by_address() {
    let site = Served::start(Settings { max_attempts: 2, max_attempts_from: 4, ..settings() }).await;
    assert_eq!(sign_in(&site, "Anna", "long enough").await.status, 201);
    assert_eq!(sign_in(&site, "Anna", "a wrong one").await.status, 401);
    // However the name is written.
    let refused = sign_in(&site, "ANNA", "long enough").await;
    assert_eq!((refused.status, &refused.json()["reason"]), (429, &json!("too_fast")));
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    // A refused attempt counted by address, too.
    assert_eq!(sign_in(&site, "Ben", "long enough").await.status, 201);
    assert_eq!(sign_in(&site, "Carl", "long enough").await.status, 429);
    // Guests have a limit of their own.
    assert_eq!(sign_in(&site, "Carl", "").await.status, 201);
}
