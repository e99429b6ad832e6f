//! Joins, and how they fail.

use tokio_tungstenite::tungstenite::Message;

use crate::server::{Server, Transport};

async fn a_join_is_answered_and_its_topic_works(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send(r#"["1","1","room:a","phx_join",{"name":"Bob"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.send(r#"["1","2","room:a","echo",{"b":1,"a":[null]}]"#).await;
    client.expect(r#"["1","2","room:a","phx_reply",{"response":{"b":1,"a":[null]},"status":"ok"}]"#).await;
    client.join("lobby", "3").await;
}

async fn a_join_without_refs_is_answered_as_it_came(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send(r#"[null,"1","room:m11","phx_join",{}]"#).await;
    client.expect(r#"[null,"1","room:m11","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.send(r#"[null,"2","room:m11","push",{}]"#).await;
    client.expect(r#"["1",null,"room:m11","pushed",{}]"#).await;
    client.expect(r#"["1",null,"room:m11","pushed_with",{"n":1}]"#).await;
    client.send(r#"["1",null,"room:m12","phx_join",[]]"#).await;
    client.expect(r#"["1",null,"room:m12","phx_reply",{"response":{},"status":"ok"}]"#).await;
}

async fn failed_joins_say_why_and_leave_the_topic_unmatched(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    for (topic, reason) in [
        ("room:denied", "unauthorized"),
        ("room:panic", "join crashed"),
        ("room:fails", "join crashed"),
        ("room:early", "join crashed"),
        ("typed:a", "invalid params"),
    ] {
        client.send(&format!(r#"["13","13","{topic}","phx_join",{{}}]"#)).await;
        let reply = format!(
            r#"["13","13","{topic}","phx_reply",{{"response":{{"reason":"{reason}"}},"status":"error"}}]"#
        );
        client.expect(&reply).await;
        client.send(&format!(r#"["13","14","{topic}","echo",{{}}]"#)).await;
        let reply = format!(
            r#"[null,"14","{topic}","phx_reply",{{"response":{{"reason":"unmatched topic"}},"status":"error"}}]"#
        );
        client.expect(&reply).await;
    }
}

async fn params_are_typed(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send(r#"["1","1","typed:a","phx_join",{"count":4}]"#).await;
    client.expect(r#"["1","1","typed:a","phx_reply",{"response":{"next":5},"status":"ok"}]"#).await;
    client.send(r#"["2","2","typed:b","phx_join",{"count":-4}]"#).await;
    client
        .expect(
            r#"["2","2","typed:b","phx_reply",{"response":{"reason":"invalid params"},"status":"error"}]"#,
        )
        .await;
}

async fn params_that_do_not_decode_may_have_a_default(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    for (params, next) in [(r#"{"count":4}"#, 5), (r#"{"count":-4}"#, 42), ("null", 42)] {
        client.send(&format!(r#"["1","1","lenient:{next}","phx_join",{params}]"#)).await;
        let reply = format!(
            r#"["1","1","lenient:{next}","phx_reply",{{"response":{{"next":{next}}},"status":"ok"}}]"#
        );
        client.expect(&reply).await;
        client.send(&format!(r#"["1","2","lenient:{next}","phx_leave",{{}}]"#)).await;
        while client.frame().await[3] != "phx_close" {}
    }
    client.send_message(Message::binary(&b"\0\x01\x01\x09\x0811lenient:bphx_join\xff"[..])).await;
    client
        .expect(r#"["1","1","lenient:b","phx_reply",{"response":{"reason":"bytes"},"status":"error"}]"#)
        .await;
}

async fn the_first_message_follows_the_reply(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send(r#"["1","1","room:welcome","phx_join",{}]"#).await;
    client
        .expect(r#"["1","1","room:welcome","phx_reply",{"response":{"hello":"there"},"status":"ok"}]"#)
        .await;
    client.expect(r#"["1",null,"room:welcome","after_join",{}]"#).await;
}

async fn a_slow_join_holds_up_nobody_and_its_events_wait(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.send(r#"["1","1","room:slow","phx_join",{}]"#).await;
    client.send(r#"["1","2","room:slow","echo",{}]"#).await;
    client.join("room:a", "3").await;
    client.expect_nothing().await;
    server.app.gate.add_permits(1);
    client.expect(r#"["1","1","room:slow","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","2","room:slow","phx_reply",{"response":{},"status":"ok"}]"#).await;
}

async fn events_that_wait_for_a_join_that_fails_are_answered(transport: Transport) {
    let grace = std::time::Duration::from_millis(50);
    let server = Server::start_with(transport, |socket| socket.shutdown_grace(grace)).await;
    let mut client = server.client().await;
    client.send(r#"["1","1","room:hangs","phx_join",{}]"#).await;
    client.send(r#"["1","2","room:hangs","echo",{}]"#).await;
    client.send(r#"["1","3","room:hangs","phx_leave",{}]"#).await;
    client
        .expect(
            r#"["1","1","room:hangs","phx_reply",{"response":{"reason":"join crashed"},"status":"error"}]"#,
        )
        .await;
    client
        .expect(r#"[null,"2","room:hangs","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#)
        .await;
    client.expect(r#"["1","3","room:hangs","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect_nothing().await;
}

async fn a_duplicate_join_ends_the_channel_before_first(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"["16","16","room:a","phx_join",{}]"#).await;
    client.expect(r#"["16","16","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    for line in [
        "join room:a",
        "terminate room:a DuplicateJoin",
        "ended room:a DuplicateJoin",
        "channel dropped",
        "extension dropped room:a",
        "join room:a",
    ] {
        server.logged(line).await;
    }
    client.send(r#"["1","17","room:a","echo",{"stale":true}]"#).await;
    client.send(r#"["16","18","room:a","shout",{}]"#).await;
    client.expect(r#"[null,null,"room:a","shout",{}]"#).await;
    client.expect_nothing().await;
}

async fn after_a_failed_duplicate_join_the_one_before_is_closed_too(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    server.app.gate.add_permits(1);
    client.join("room:slow", "1").await;
    // The gate is closed now, so the second join fails.
    server.app.gate.close();
    client.send(r#"["2","2","room:slow","phx_join",{}]"#).await;
    client
        .expect(
            r#"["2","2","room:slow","phx_reply",{"response":{"reason":"join crashed"},"status":"error"}]"#,
        )
        .await;
    client.expect(r#"["1","1","room:slow","phx_close",{}]"#).await;
    client.expect_nothing().await;
}

async fn a_duplicate_join_does_not_wait_for_ever(transport: Transport) {
    let grace = std::time::Duration::from_millis(50);
    let mut server = Server::start_with(transport, |socket| socket.shutdown_grace(grace)).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","hang",{}]"#).await;
    server.logged_at_last("hangs").await;
    client.send(r#"["3","3","room:a","phx_join",{}]"#).await;
    client.expect(r#"["3","3","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    server.logged("ended room:a DuplicateJoin").await;
}

async fn joins_one_upon_another_end_in_order(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = server.client().await;
    for n in 1..=20 {
        client.send(&format!(r#"["{n}","{n}","room:a","phx_join",{{}}]"#)).await;
    }
    client.expect(r#"["1","1","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    for n in 2..=20 {
        let reply = format!(r#"["{n}","{n}","room:a","phx_reply",{{"response":{{}},"status":"ok"}}]"#);
        client.expect(&reply).await;
        client.expect(&format!(r#"["{0}","{0}","room:a","phx_close",{{}}]"#, n - 1)).await;
    }
    server.pubsub.broadcast("room:a", "once", adsum_channels::Json::empty_object()).unwrap();
    client.expect(r#"[null,null,"room:a","once",{}]"#).await;
    client.expect_nothing().await;
    server.logged("join room:a").await;
}

over_all!(
    a_join_is_answered_and_its_topic_works,
    a_join_without_refs_is_answered_as_it_came,
    failed_joins_say_why_and_leave_the_topic_unmatched,
    params_are_typed,
    params_that_do_not_decode_may_have_a_default,
    the_first_message_follows_the_reply,
    a_slow_join_holds_up_nobody_and_its_events_wait,
    events_that_wait_for_a_join_that_fails_are_answered,
    a_duplicate_join_ends_the_channel_before_first,
    after_a_failed_duplicate_join_the_one_before_is_closed_too,
    a_duplicate_join_does_not_wait_for_ever,
    joins_one_upon_another_end_in_order,
);
