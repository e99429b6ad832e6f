//! Events of joined channels, in both directions.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::server::{Server, Transport};

async fn replies_carry_any_payload_and_status(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    for payload in
        [r#"{"n":1,"s":"grün € 😀 \"q\" \u0001"}"#, r#""str""#, "[1,2]", "null", "12345678901234567000"]
    {
        client.send(&format!(r#"["1","5","room:a","echo",{payload}]"#)).await;
        let reply = format!(r#"["1","5","room:a","phx_reply",{{"response":{payload},"status":"ok"}}]"#);
        client.expect(&reply).await;
    }
    client.send(r#"["1","6","room:a","fail",{"reason":"no"}]"#).await;
    client.expect(r#"["1","6","room:a","phx_reply",{"response":{"reason":"no"},"status":"error"}]"#).await;
    client.send(r#"["1","7","room:a","so_so",{}]"#).await;
    client.expect(r#"["1","7","room:a","phx_reply",{"response":{},"status":"so so"}]"#).await;
    client.send(r#"["1",null,"room:a","echo",{"x":1}]"#).await;
    client.expect(r#"["1",null,"room:a","phx_reply",{"response":{"x":1},"status":"ok"}]"#).await;
    client.send(r#"[null,"12b","room:a","echo",{}]"#).await;
    client.expect(r#"["1","12b","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
}

async fn frames_of_no_join_are_dropped_or_unmatched(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"["99","12","room:a","echo",{}]"#).await;
    client.send(r#"[1,9,"room:a","echo",{}]"#).await;
    client.expect_nothing().await;
    for (frame, topic) in [
        (r#"["1","10","room:other","echo",{}]"#, r#""room:other""#),
        (r#"["1","10",null,"phx_join",{}]"#, "null"),
        (r#"["1","10",7,"phx_join",{}]"#, "7"),
        (r#"["1","10","room:m7",5,{}]"#, r#""room:m7""#),
        (r#"["1","10","nosuch:topic","phx_join",{}]"#, r#""nosuch:topic""#),
        (r#"[null,"10","phoenix","bogus",{}]"#, r#""phoenix""#),
    ] {
        client.send(frame).await;
        let reply =
            r#"[null,"10",TOPIC,"phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#;
        client.expect(&reply.replace("TOPIC", topic)).await;
    }
}

async fn a_broadcast_reaches_all_and_a_broadcast_from_the_others(transport: Transport) {
    let server = Server::start(transport).await;
    let (mut a, mut b, mut c) = (server.client().await, server.client().await, server.client().await);
    a.join("room:a", "1").await;
    b.join("room:a", "7").await;
    c.join("room:c", "1").await;
    a.send(r#"["1","2","room:a","shout",{"body":"hi"}]"#).await;
    for client in [&mut a, &mut b] {
        client.expect(r#"[null,null,"room:a","shout",{"body":"hi"}]"#).await;
    }
    a.send(r#"["1","8","room:a","shout_from",{"body":"ho"}]"#).await;
    a.expect(r#"["1","8","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    b.expect(r#"[null,null,"room:a","shout",{"body":"ho"}]"#).await;
    for client in [&mut a, &mut b, &mut c] {
        client.expect_nothing().await;
    }
}

async fn a_channel_pushes_to_another_topic_of_its_socket(transport: Transport) {
    let server = Server::start(transport).await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    client.join("room:a", "1").await;
    other.join("room:b", "1").await;
    client.send(r#"["1","2","room:a","push_to","room:b"]"#).await;
    client.expect(r#"[null,null,"room:b","pushed",{}]"#).await;
    client.frame().await;
    other.expect_nothing().await;
}

async fn a_client_is_kept_from_the_events_that_its_join_names(transport: Transport) {
    let server = Server::start(transport).await;
    let mut deaf = server.connect("vsn=2.0.0&user_id=deaf", &[]).await.unwrap();
    let mut other = server.client().await;
    deaf.join("room:a", "1").await;
    other.join("room:a", "1").await;
    for (event, is_heard) in [("shout", false), ("as_it_is", false), ("said", true)] {
        server.pubsub.broadcast("room:a", event, event).unwrap();
        let frame = format!(r#"[null,null,"room:a","{event}","{event}"]"#);
        if is_heard {
            deaf.expect(&frame).await;
        }
        // An intercepted broadcast is pushed by the channel, with its join_ref.
        other.expect(&if event == "as_it_is" { frame.replacen("null", "\"1\"", 1) } else { frame }).await;
    }
    deaf.expect_nothing().await;
}

async fn one_client_may_have_many_channels(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.join("room:b", "2").await;
    client.send(r#"["1","3","room:a","shout_from",{}]"#).await;
    client.expect(r#"["1","3","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.send(r#"["2","4","room:b","shout",{}]"#).await;
    client.expect(r#"[null,null,"room:b","shout",{}]"#).await;
}

async fn a_slow_handler_holds_up_its_own_channel_only(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.join("room:b", "2").await;
    client.send(r#"["1","3","room:a","slow",{"n":1}]"#).await;
    client.send(r#"["1","4","room:a","echo",{"n":2}]"#).await;
    client.send(r#"["2","5","room:b","shout",{}]"#).await;
    client.expect(r#"[null,null,"room:b","shout",{}]"#).await;
    // A broadcast doesn't pass through the channel, so a busy channel doesn't delay it.
    server.pubsub.broadcast("room:a", "news", adsum_channels::Json::empty_object()).unwrap();
    client.expect(r#"[null,null,"room:a","news",{}]"#).await;
    client.expect_nothing().await;
    server.app.gate.add_permits(1);
    client.expect(r#"["1","3","room:a","phx_reply",{"response":{"n":1},"status":"ok"}]"#).await;
    client.expect(r#"["1","4","room:a","phx_reply",{"response":{"n":2},"status":"ok"}]"#).await;
}

async fn assigns_are_there(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.connect("user_id=anna%20b&vsn=2.0.0", &[]).await.ok().unwrap();
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","whoami",{}]"#).await;
    client.expect(r#"["1","2","room:a","phx_reply",{"response":"anna b","status":"ok"}]"#).await;
}

/// A client's binary frame, of kind 0.
fn binary_push(names: [&str; 4], data: &[u8]) -> Message {
    let lens = names.map(|name| u8::try_from(name.len()).expect("a name of a test is short"));
    Message::binary([&[0], &lens[..], names.concat().as_bytes(), data].concat())
}

async fn binary_payloads_go_both_ways(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send_message(binary_push(["1", "2", "room:a", "echo"], b"\x00\xff")).await;
    assert_eq!(client.message().await, Message::binary(&b"\x01\x01\x01\x06\x0212room:aok\x00\xff"[..]));
    client.send_message(binary_push(["1", "3", "room:a", "shout"], b"\xfe")).await;
    assert_eq!(client.message().await, Message::binary(&b"\x02\x06\x05room:ashout\xfe"[..]));
    client.send(r#"["1","4","room:a","binary_push",{}]"#).await;
    assert_eq!(client.message().await, Message::binary(&b"\x00\x01\x06\x011room:ax"[..]));
    client.expect(r#"["1","4","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.send_message(binary_push(["1", "5", "room:b", "echo"], b"")).await;
    let unmatched =
        r#"[null,"5","room:b","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#;
    client.expect(unmatched).await;
}

async fn binary_payloads_have_no_form_in_version_one(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.connect("user_id=u&vsn=1.0.0", &[]).await.expect("the client is accepted");
    client.send(r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#).await;
    client.frame().await;
    let binary = adsum_channels::Payload::Binary(bytes::Bytes::from_static(b"x"));
    server.pubsub.broadcast("room:a", "binary", binary).unwrap();
    client.send(r#"{"topic":"room:a","event":"binary","payload":{},"ref":"2"}"#).await;
    let crash = r#"{"topic":"room:a","event":"phx_error","payload":{"reason":"channel_crash"},"ref":"1"}"#;
    client.expect(crash).await;
}

async fn an_event_may_be_answered_later(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","later",{"n":1}]"#).await;
    client.send(r#"["1","3","room:a","echo",{}]"#).await;
    client.expect(r#"["1","3","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    server.app.gate.add_permits(1);
    client.expect(r#"["1","2","room:a","phx_reply",{"response":{"n":1},"status":"ok"}]"#).await;
    // Once the channel has ended, a late reply is dropped.
    client.send(r#"["1","4","room:a","later",{}]"#).await;
    client.send(r#"["1","5","room:a","phx_leave",{}]"#).await;
    client.expect(r#"["1","5","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    server.app.gate.add_permits(1);
    client.expect_nothing().await;
}

async fn a_channel_may_intercept_what_is_broadcast(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    for (n, event) in ["as_it_is", "changed", "kept_back", "not_named"].into_iter().enumerate() {
        server.pubsub.broadcast("room:a", event, n).unwrap();
        match event {
            "changed" => client.expect(r#"["1",null,"room:a","other",{"was":1}]"#).await,
            "kept_back" => {}
            "as_it_is" => client.expect(r#"["1",null,"room:a","as_it_is",0]"#).await,
            _ => client.expect(r#"[null,null,"room:a","not_named",3]"#).await,
        }
    }
    client.expect_nothing().await;
    server.pubsub.broadcast("room:a", "ends", ()).unwrap();
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    server.logged_at_last("terminate room:a Shutdown").await;
}

async fn a_payload_of_another_shape_is_answered_and_ends_nothing(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    let refused = |n: u8, at: &str| {
        let response = json!({"at": at, "reason": "malformed payload"});
        json!(["1", n.to_string(), "room:a", "phx_reply", {"response": response, "status": "error"}])
    };
    client.send(r#"["1","2","room:a","typed_or_refused",{"count":"many"}]"#).await;
    client.expect(&refused(2, "count").to_string()).await;
    client.send(r#"["1","3","room:a","typed_or_refused",[]]"#).await;
    client.expect(&refused(3, "").to_string()).await;
    client.send(r#"["1","4","room:a","typed_or_refused",{}]"#).await;
    client.expect(&refused(4, "count").to_string()).await;
    client.send(r#"["1","5","room:a","typed_or_refused",{"count":4}]"#).await;
    client.expect(r#"["1","5","room:a","phx_reply",{"response":4,"status":"ok"}]"#).await;
}

async fn large_payloads_arrive_whole_and_in_order(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    for n in 0..20 {
        let text = n.to_string().repeat(50_000);
        client.send(&format!(r#"["1","{n}","room:a","echo","{text}"]"#)).await;
        client.send(&format!(r#"["1","{n}","room:a","shout",[{n}]]"#)).await;
        let reply = format!(r#"["1","{n}","room:a","phx_reply",{{"response":"{text}","status":"ok"}}]"#);
        client.expect(&reply).await;
        client.expect(&format!(r#"[null,null,"room:a","shout",[{n}]]"#)).await;
    }
}

async fn nobody_can_forge_what_the_protocol_says(transport: Transport) {
    let server = Server::start(transport).await;
    let (mut forger, mut other) = (server.client().await, server.client().await);
    forger.join("room:a", "1").await;
    other.join("room:a", "1").await;
    let protocol = ["phx_close", "phx_error", "phx_reply", "phx_join", "phx_"];
    let presence = ["presence_state", "presence_diff", "presence_count", "presence_"];
    for broadcast in ["broadcast_as", "broadcast_from_as"] {
        for event in protocol.iter().chain(&presence) {
            forger.send(&format!(r#"["1","2","room:a","{broadcast}","{event}"]"#)).await;
            let reply = forger.frame().await;
            assert_eq!(reply[4]["status"], "error", "{reply}");
            let text = reply[4]["response"].as_str().unwrap();
            assert!(text.contains(event) && text.contains("belong to the protocol"), "{text}");
            other.expect_nothing().await;
        }
    }
    for push in ["push_as", "push_with_as"] {
        for event in protocol {
            forger.send(&format!(r#"["1","2","room:a","{push}","{event}"]"#)).await;
            assert_eq!(forger.frame().await[4]["status"], "error", "{push} {event}");
        }
        // A program may send its client a presence state of its own.
        forger.send(&format!(r#"["1","3","room:a","{push}","presence_state"]"#)).await;
        forger.expect(r#"["1",null,"room:a","presence_state",{}]"#).await;
        forger.expect(r#"["1","3","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    }
    for event in ["phx", "presence", "my_phx_close", "Phx_close"] {
        forger.send(&format!(r#"["1","4","room:a","broadcast_from_as","{event}"]"#)).await;
        other.expect(&format!(r#"[null,null,"room:a","{event}",{{}}]"#)).await;
        assert_eq!(forger.frame().await[4]["status"], "ok", "{event}");
    }
}

over_all!(
    nobody_can_forge_what_the_protocol_says,
    replies_carry_any_payload_and_status,
    frames_of_no_join_are_dropped_or_unmatched,
    a_broadcast_reaches_all_and_a_broadcast_from_the_others,
    a_channel_pushes_to_another_topic_of_its_socket,
    a_client_is_kept_from_the_events_that_its_join_names,
    one_client_may_have_many_channels,
    a_slow_handler_holds_up_its_own_channel_only,
    assigns_are_there,
    binary_payloads_go_both_ways,
    binary_payloads_have_no_form_in_version_one,
    an_event_may_be_answered_later,
    a_channel_may_intercept_what_is_broadcast,
    a_payload_of_another_shape_is_answered_and_ends_nothing,
    large_payloads_arrive_whole_and_in_order,
);
