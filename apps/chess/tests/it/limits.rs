//! Commands that come too fast are refused with the time to wait, and nothing is closed.

use axum::http::StatusCode;
use chess::Settings;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::site::{Served, settings};

async fn choose(address: &str, name: &str) -> String {
    choose_from(address, name, "").await
}

/// `headers`: what a proxy adds.
async fn choose_from(address: &str, name: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = json!({ "name": name }).to_string();
    let request = format!(
        "POST /session HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn names_by_address() {
    let site = Served::start(Settings { max_names: 3, ..settings() }).await;
    for name in ["Anna", "Ben", "anna"] {
        choose(&site.address, name).await;
    }
    let refused = choose(&site.address, "Carl").await;
    assert!(refused.starts_with(&format!("HTTP/1.1 {}", StatusCode::TOO_MANY_REQUESTS)), "{refused}");
    let refused = refused.to_lowercase();
    let seconds = refused.split("retry-after: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!((1..=20).contains(&seconds.parse::<u32>().unwrap()), "{refused}");
    let problem: serde_json::Value = serde_json::from_str(refused.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(problem["reason"], "too_fast");
    let advice = format!("try again in {seconds} second");
    assert!(problem["message"].as_str().unwrap().contains(&advice), "{problem}");
}

#[tokio::test]
async fn behind_a_proxy_by_the_address_that_it_says() {
    let trusting = Settings { max_names: 1, trusted_proxies: vec!["127.0.0.0/8".to_owned()], ..settings() };
    let site = Served::start(trusting).await;
    let status = async |name: &str, from: &str| {
        let answer = choose_from(&site.address, name, &format!("X-Forwarded-For: {from}\r\n")).await;
        answer["HTTP/1.1 ".len()..][..3].parse::<u16>().unwrap()
    };
    assert_eq!(status("Anna", "192.0.2.1").await, 201);
    assert_eq!(status("Ben", "192.0.2.1").await, 429);
    assert_eq!(status("Ben", "192.0.2.2").await, 201);
    // Only what the proxy itself has appended counts.
    assert_eq!(status("Carl", "198.51.100.7, 192.0.2.1").await, 429);
    // One person has a network of IPv6.
    assert_eq!(status("Dora", "2001:db8::1").await, 201);
    assert_eq!(status("Emil", "2001:db8::ffff").await, 429);

    let site = Served::start(Settings { max_names: 1, ..settings() }).await;
    let made_up = async |name: &str, from: &str| {
        let answer = choose_from(&site.address, name, &format!("X-Forwarded-For: {from}\r\n")).await;
        answer["HTTP/1.1 ".len()..][..3].parse::<u16>().unwrap()
    };
    assert_eq!(made_up("Anna", "192.0.2.1").await, 201);
    assert_eq!(made_up("Ben", "192.0.2.2").await, 429, "nobody is believed who isn't trusted");
}

#[tokio::test]
async fn offers_and_moves_by_person() {
    let site = Served::start(Settings { max_offers: 2, max_commands: 3, ..settings() }).await;
    let (mut anna, mut ben, game) = site.game(60_000, 0).await;
    // One was the invite.
    let seek = json!({ "color": "white", "initial_ms": 60_000, "increment_ms": 0 });
    assert_eq!(anna.me("seek", seek.clone()).await.unwrap_err()["reason"], "busy");
    let refused = anna.me("seek", seek).await.unwrap_err();
    assert_eq!(refused["reason"], "too_fast");
    assert!(refused["retry_after_ms"].as_u64().unwrap() <= 30_000);
    for _ in 0..3 {
        assert_eq!(anna.play(&game, 0, "e2e5").await.unwrap_err()["reason"], "illegal_move");
    }
    let refused = anna.play(&game, 0, "e2e4").await.unwrap_err();
    assert_eq!(refused["reason"], "too_fast");
    assert!((1..=20_000).contains(&refused["retry_after_ms"].as_u64().unwrap()), "{refused}");
    // The channel is open yet, and the others aren't concerned.
    anna.tab.push(&game, "status", json!({ "status": "away" })).await.unwrap();
    assert_eq!(ben.play(&game, 0, "e2e4").await.unwrap_err()["reason"], "not_your_turn");
}
