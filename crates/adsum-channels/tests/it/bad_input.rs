//! Malformed input. The server and the other sockets keep working.

use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::server::{Server, Transport};

fn raw_text(bytes: Vec<u8>) -> Message {
    Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))
}

async fn frames_that_make_no_sense_close_their_socket(transport: Transport) {
    let server = Server::start(transport).await;
    let mut other = server.client().await;
    other.join("room:a", "1").await;
    let half_deep = format!("[null,\"1\",\"room:a\",\"e\",{}", "[".repeat(500_000));
    for text in ["not json", "{}", "[1,2,3]", r#"["1","1","room:a","phx_join"]"#, "", &half_deep] {
        let mut client = server.client().await;
        client.send(text).await;
        client.expect_close(1011).await;
    }
    other.expect_nothing().await;
}

async fn invalid_utf8_and_broken_frames_have_their_codes(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send_message(raw_text(b"[null,\"1\",\"\xff\",\"e\",{}]".to_vec())).await;
    client.expect_close(1007).await;
    let mut client = server.client().await;
    client.send_message(Message::Frame(Frame::message("x", OpCode::Data(Data::Continue), true))).await;
    client.expect_close(1002).await;
    let mut client = server.client().await;
    client.send_message(Message::binary("binary")).await;
    client.expect_close(1011).await;
}

async fn a_message_that_is_too_long_is_refused_unread(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    // The server may close before everything is sent, and discard the rest.
    client.send_message(raw_text(vec![b'x'; 10 * 1024 * 1024])).await;
    client.expect_close(1009).await;
    let server = Server::start_with(transport, |socket| socket.max_message_bytes(200)).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(&format!(r#"["1","2","room:a","shout","{}"]"#, "x".repeat(200))).await;
    client.expect_close(1009).await;
}

async fn deep_nesting_is_a_payload_like_any_other(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    client.send(&format!(r#"["1","2","room:a","echo",{deep}]"#)).await;
    let Message::Text(reply) = client.message().await else { panic!("a reply is text") };
    assert_eq!(
        reply.as_str(),
        format!(r#"["1","2","room:a","phx_reply",{{"response":{deep},"status":"ok"}}]"#)
    );
}

async fn a_topic_that_is_too_long_is_refused(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    let topic = format!("room:{}", "x".repeat(100_000));
    client.send(&format!(r#"["1","1","{topic}","phx_join",{{}}]"#)).await;
    let reply = r#"["1","1","TOPIC","phx_reply",{"response":{"reason":"topic too long"},"status":"error"}]"#;
    client.expect(&reply.replace("TOPIC", &topic)).await;
    client.join(&topic[..255], "2").await;
}

async fn a_long_ref_closes_the_socket(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send(&format!(r#"[null,"{}","phoenix","heartbeat",{{}}]"#, "7".repeat(100))).await;
    client.expect_close(1011).await;
}

async fn pings_are_answered_and_closes_echoed(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send_message(Message::Ping(Bytes::from_static(b"hi"))).await;
    assert_eq!(client.message().await, Message::Pong(Bytes::from_static(b"hi")));
    client.send_message(Message::Pong(Bytes::new())).await;
    client.expect_nothing().await;
    client.close().await;
}

over_both!(
    frames_that_make_no_sense_close_their_socket,
    invalid_utf8_and_broken_frames_have_their_codes,
    a_message_that_is_too_long_is_refused_unread,
    deep_nesting_is_a_payload_like_any_other,
    a_topic_that_is_too_long_is_refused,
    a_long_ref_closes_the_socket,
    pings_are_answered_and_closes_echoed,
);
