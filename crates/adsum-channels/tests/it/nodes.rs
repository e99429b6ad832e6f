//! Sockets of several nodes.

use std::{fmt::Write, time::Duration};

use adsum_channels::{
    DEFAULT_LONGPOLL_NODE_TIMEOUT, DEFAULT_LONGPOLL_WINDOW, DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MAX_QUEUE_BYTES, SocketBuilder,
};
use adsum_pubsub::LocalNetwork;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    longpoll::{SECRET, Server},
    server::{self, Transport},
};

fn two() -> (LocalNetwork, Server, Server) {
    let network = LocalNetwork::new();
    let (a, b) = (network.node("a"), network.node("b"));
    let [a, b] = [a, b].map(|node| Server::start_on(node, |socket| socket));
    (network, a, b)
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_session_is_reached_from_every_node() {
    let (_network, a, b) = two();
    let at_a = a.open("2.0.0").await;
    let at_b = at_a.at(&b);
    at_b.join().await;
    assert_eq!(at_a.post(r#"["1","2","room:a","echo",1]"#).await, json!({"status": 200}));
    let reply =
        |n: &str, response| json!(["1", n, "room:a", "phx_reply", {"response": response, "status": "ok"}]);
    assert_eq!(at_b.messages().await, [reply("2", json!(1))]);
    // As bytes: 0, the lengths of "1", "2", "room:a" and "echo", these, and two bytes; in base64.
    assert_eq!(at_b.post("AAEBBgQxMnJvb206YWVjaG8AAQ==").await, json!({"status": 200}));

    let start = Instant::now();
    let answer = at_b.poll().await;
    assert_eq!(answer, json!({"status": 204, "token": at_a.token, "messages": []}));
    assert_eq!(start.elapsed(), DEFAULT_LONGPOLL_WINDOW);
    let said = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        b.pubsub.broadcast("room:a", "said", json!({"n": 1})).unwrap();
    };
    let (messages, ()) = tokio::join!(at_b.messages(), said);
    assert_eq!(messages, [json!([null, null, "room:a", "said", {"n": 1}])]);

    // A poll on either node replaces one on the other.
    let (first, second) = tokio::join!(at_b.poll(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        at_a.poll().await
    });
    assert_eq!((&first["status"], &second["status"]), (&json!(204), &json!(204)));
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_changed_while_long_poll_sessions_stay() {
    const NEW: &str = "another secret, as long";
    let network = LocalNetwork::new();
    let node = |name, secret, accepted: Option<&str>| {
        Server::start_on(network.node(name), |socket| {
            let socket = socket.longpoll(secret).unwrap();
            match accepted {
                Some(accepted) => socket.longpoll_also_accept(accepted).unwrap(),
                None => socket,
            }
        })
    };
    // Before the roll, in its three steps, and after it.
    let old = node("old", SECRET, None);
    let first = node("first", SECRET, Some(NEW));
    let second = node("second", NEW, Some(SECRET));
    let new = node("new", NEW, None);
    for (opens, serves) in [
        (&old, &first),
        (&first, &old),
        (&first, &second),
        (&second, &first),
        (&second, &new),
        (&new, &second),
    ] {
        let client = opens.open("2.0.0").await.at(serves);
        client.join().await;
    }
    for (opens, serves) in [(&old, &new), (&new, &old)] {
        let client = opens.open("2.0.0").await.at(serves);
        assert_eq!(client.post("[]").await, json!({"status": 410}));
    }
}

#[test]
fn a_secret_of_long_poll_that_is_accepted_has_to_be_long_and_to_stand_beside_one_that_signs() {
    assert!(SocketBuilder::new(()).longpoll_also_accept("short").is_err());
    let alone = SocketBuilder::new(()).longpoll_also_accept(SECRET).unwrap();
    let error = alone.check().unwrap_err().to_string();
    assert_eq!(error, "`longpoll` is missing; it must be set if `longpoll_also_accept` is");
    assert_eq!(alone.longpoll(SECRET).unwrap().check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_makes_no_sense_to_a_remote_session_is_a_bad_request_too() {
    let (_network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    for body in ["[1]".into(), vec![b'[', 0xff, b']']] {
        let (status, _, said) = b.request("POST", &at_b.query, &[], body).await;
        assert_eq!(status, 400);
        assert!(!said.is_empty(), "it says why");
    }
    at_b.join().await;
}

#[tokio::test(start_paused = true)]
async fn unread_messages_of_a_remote_session_wait_for_the_next_poll() {
    let (_network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    assert!(timeout(Duration::from_secs(1), at_b.poll()).await.is_err());
    // The session's task processes it.
    tokio::time::sleep(Duration::from_millis(1)).await;
    a.pubsub.broadcast("room:a", "said", json!(1)).unwrap();
    assert_eq!(at_b.messages().await, [json!([null, null, "room:a", "said", 1])]);
}

#[tokio::test(start_paused = true)]
async fn much_is_passed_on_in_parts_and_in_order() {
    let (_network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    let text = "x".repeat(100_000);
    let mut lines = String::new();
    for n in 0..10 {
        writeln!(lines, r#"["1","{n}","room:a","echo","{text}"]"#).unwrap();
    }
    assert_eq!(at_b.post(lines).await, json!({"status": 200}));
    let mut next = 0;
    let mut answers = 0;
    while next < 10 {
        for message in at_b.messages().await {
            assert_eq!(message[1], next.to_string());
            next += 1;
        }
        answers += 1;
    }
    assert_eq!(answers, 5, "two messages fit into one answer");
}

#[tokio::test(start_paused = true)]
async fn messages_between_the_parts_of_an_answer_follow_them() {
    let (_network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    let text = "x".repeat(100_000);
    let lines: Vec<_> = (0..5).map(|n| format!(r#"["1","{n}","room:a","echo","{text}"]"#)).collect();
    assert_eq!(at_b.post(lines.join("\n")).await, json!({"status": 200}));
    let mut messages = at_b.messages().await;
    assert_eq!(messages.len(), 2, "the rest waits");
    a.pubsub.broadcast("room:a", "said", json!(1)).unwrap();
    while messages.len() < 6 {
        messages.extend(at_b.messages().await);
    }
    let refs: Vec<_> = messages.iter().map(|message| message[1].as_str()).collect();
    assert_eq!(refs, [Some("0"), Some("1"), Some("2"), Some("3"), Some("4"), None]);
}

/// Messages longer than the limit between nodes, in both directions, of characters that JSON escapes.
#[tokio::test(start_paused = true)]
async fn the_longest_messages_are_passed_on() {
    let (_network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    let text = "\\\"".repeat(250_000);
    let line = json!(["1", "2", "room:a", "echo", text]).to_string();
    assert!(line.len() > 1_000_000);
    assert_eq!(at_b.post(line).await, json!({"status": 200}));
    assert_eq!(at_b.messages().await[0][4]["response"], json!(text));
}

#[tokio::test(start_paused = true)]
async fn a_post_at_the_limit_is_passed_on_and_one_beyond_it_is_refused_by_name() {
    let (_network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    let line = |text: &str| format!(r#"["1","2","room:a","echo","{text}"]"#);
    let around = line("").len();
    // The sizes are of messages that travel together between nodes, of one part, and of the longest message.
    for bytes in [256 * 1024, 384 * 1024, DEFAULT_MAX_MESSAGE_BYTES] {
        for text in [bytes - 1, bytes].map(|bytes| "x".repeat(bytes - around)) {
            assert_eq!(at_b.post(line(&text)).await, json!({"status": 200}), "{bytes}");
            assert_eq!(at_b.messages().await[0][4]["response"], text);
        }
    }
    let longer = line(&"x".repeat(DEFAULT_MAX_MESSAGE_BYTES - around + 1));
    let body = "\n".repeat(DEFAULT_MAX_QUEUE_BYTES + 1);
    for (body, limit) in [(longer, "max_message_bytes"), (body, "max_queue_bytes")] {
        let (status, _, said) = b.request("POST", &at_b.query, &[], body).await;
        assert_eq!(status, 400);
        assert!(String::from_utf8(said).unwrap().contains(limit), "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_at_its_own_mount_and_does_not_name_the_node() {
    let network = LocalNetwork::new();
    let [a, b] = ["the-name-of-a", "b"].map(|node| Server::start_on(network.node(node), |socket| socket));
    let at_a = a.open("2.0.0").await;
    let data = at_a.token.split('.').nth(1).unwrap();
    let data = URL_SAFE_NO_PAD.decode(data).unwrap();
    assert!(!String::from_utf8_lossy(&data).contains("the-name-of-a"));
    let at_b = at_a.at(&b);
    at_b.join().await;
    let private = Server::start_at(network.node("c"), "/private");
    let posted = private.json_at("/private", "POST", &at_a.query, "[]").await;
    assert_eq!(posted, json!({"status": 410}));
    let polled = private.json_at("/private", "GET", &at_a.query, "").await;
    assert_ne!(polled["token"], json!(at_a.token), "a new session");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_ended_elsewhere_is_gone_and_another_is_opened() {
    let (_network, mut a, b) = two();
    let at_a = a.open("2.0.0").await;
    at_a.join().await;
    let (query, token) = (at_a.query.clone(), at_a.token.clone());
    while !a.logged().await.contains("terminate") {}
    let start = Instant::now();
    assert_eq!(b.json("POST", &query, &[], "[]").await, json!({"status": 410}));
    let answer = b.json("GET", &query, &[], "").await;
    assert_eq!((&answer["status"], &answer["messages"]), (&json!(410), &json!([])));
    assert_ne!(answer["token"], json!(token), "a new session");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_sessions_of_a_node_that_is_gone_are_gone() {
    let (network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    // Another node with that name doesn't know the sessions.
    let _restarted = network.node("a");
    let start = Instant::now();
    assert_eq!(at_b.post("[]").await, json!({"status": 410}));
    assert_eq!(start.elapsed(), DEFAULT_LONGPOLL_NODE_TIMEOUT);
    let answer = at_b.poll().await;
    assert_eq!(answer["status"], 410);
    assert_ne!(answer["token"], json!(at_b.token), "a new session");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_a_node_waits_for_it_is_gone() {
    let (_network, a, b) = two();
    let at_b = a.open("2.0.0").await.at(&b);
    let (answer, ()) = tokio::join!(at_b.poll(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        b.pubsub.broadcast("user:u", "disconnect", ()).unwrap();
    });
    assert_eq!(answer["status"], 410);
}

async fn sockets_of_an_id_are_told_to_disconnect_on_all_nodes(transport: Transport) {
    let network = LocalNetwork::new();
    let (a, b) = (network.node("a"), network.node("b"));
    let a = server::Server::start_on(a, transport, |socket| socket).await;
    let b = server::Server::start_on(b, transport, |socket| socket).await;
    let (mut at_a, mut at_b) = (a.client().await, b.client().await);
    let mut other = b.connect("vsn=2.0.0&user_id=other", &[]).await.expect("the client is accepted");
    // Once they have replies, their ids are subscribed; the end of the handshake alone doesn't prove that.
    at_a.expect_nothing().await;
    at_b.expect_nothing().await;
    a.pubsub.broadcast("user:u", "disconnect", ()).unwrap();
    at_a.expect_close(1001).await;
    at_b.expect_close(1001).await;
    other.expect_nothing().await;
}

over_both!(sockets_of_an_id_are_told_to_disconnect_on_all_nodes);
