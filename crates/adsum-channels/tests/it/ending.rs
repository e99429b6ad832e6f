//! The ends of channels and sockets.

use std::time::Duration;

use crate::{
    client::Client,
    server::{Server, Transport},
};

async fn joined(server: &Server, topic: &str) -> Client {
    let mut client = server.client().await;
    client.join(topic, "1").await;
    client
}

async fn a_leave_is_answered_and_then_closed(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = joined(&server, "room:a").await;
    client.send(r#"["1","30","room:a","phx_leave",{}]"#).await;
    client.expect(r#"["1","30","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    for line in [
        "join room:a",
        "terminate room:a Left",
        "ended room:a Left",
        "channel dropped",
        "extension dropped room:a",
    ] {
        server.logged(line).await;
    }
    assert_eq!(server.pubsub.subscribers("room:a"), 0);
    client.send(r#"["1","31","room:a","phx_leave",{}]"#).await;
    client.expect(r#"["1","31","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.send(r#"["1","32","room:a","echo",{}]"#).await;
    client
        .expect(
            r#"[null,"32","room:a","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#,
        )
        .await;
    client.join("room:a", "33").await;
}

async fn a_leave_comes_after_the_events_before_it_and_a_join_after_both(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = joined(&server, "room:a").await;
    for frame in [
        r#"["1","2","room:a","echo",{}]"#,
        r#"["1","3","room:a","phx_leave",{}]"#,
        r#"["4","4","room:a","phx_join",{}]"#,
        r#"["4","5","room:a","echo",{}]"#,
    ] {
        client.send(frame).await;
    }
    client.expect(r#"["1","2","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","3","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    client.expect(r#"["4","4","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["4","5","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
}

async fn a_channel_stops_with_or_without_a_reply(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = joined(&server, "room:a").await;
    client.send(r#"["1","2","room:a","stop",{}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    server.logged_at_last("terminate room:a Stopped").await;
    server.logged("ended room:a Stopped").await;
    client.join("room:a", "3").await;
    client.send(r#"["3","4","room:a","stop_reply",{}]"#).await;
    client.expect(r#"["3","4","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["3","3","room:a","phx_close",{}]"#).await;
    server.logged_at_last("terminate room:a Shutdown").await;
    client.join("room:a", "5").await;
    client.send(r#"["5","6","room:a","crash_reply",{}]"#).await;
    client.expect(r#"["5","6","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["5","5","room:a","phx_error",{"reason":"channel_crash"}]"#).await;
    server.logged_at_last("terminate room:a Crashed").await;
}

async fn a_crash_ends_one_channel_and_is_known_at_once(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = joined(&server, "room:a").await;
    client.join("room:b", "b").await;
    for event in
        [r#""crash""#, r#""nosuchevent""#, r#""phx_close""#, r#""phx_error""#, "5", r#""wrong_sender""#]
    {
        client.send(&format!(r#"["1","2","room:a",{event},{{}}]"#)).await;
        client.expect(r#"["1","1","room:a","phx_error",{"reason":"channel_crash"}]"#).await;
        client.send(r#"["1","3","room:a","echo",{}]"#).await;
        client
            .expect(r#"[null,"3","room:a","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#)
            .await;
        server.logged_at_last("ended room:a Crashed").await;
        server.logged("channel dropped").await;
        client.join("room:a", "1").await;
    }
    client.send(r#"["b","4","room:b","echo",{}]"#).await;
    client.expect(r#"["b","4","room:b","phx_reply",{"response":{},"status":"ok"}]"#).await;
}

async fn a_leave_that_waits_behind_a_crash_is_answered(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = joined(&server, "room:a").await;
    client.send(r#"["1","2","room:a","slow",{}]"#).await;
    server.logged_at_last("slow").await;
    client.send(r#"["1","3","room:a","crash",{}]"#).await;
    client.send(r#"["1","4","room:a","phx_leave",{}]"#).await;
    // Read before the channel continues.
    client.expect_nothing().await;
    server.app.gate.add_permits(1);
    client.expect(r#"["1","2","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","4","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_error",{"reason":"channel_crash"}]"#).await;
}

async fn after_its_end_a_channel_sends_nothing(transport: Transport) {
    let server = Server::start(transport).await;
    let (mut a, mut b) = (joined(&server, "room:a").await, joined(&server, "room:a").await);
    for n in 0..50 {
        b.send(&format!(r#"["1","s","room:a","shout",{{"n":{n}}}]"#)).await;
        if n == 25 {
            a.send(r#"["1","2","room:a","phx_leave",{}]"#).await;
        }
    }
    loop {
        let frame = a.frame().await;
        if frame[3] == "phx_close" {
            break;
        }
    }
    for n in 0..50 {
        b.expect(&format!(r#"[null,null,"room:a","shout",{{"n":{n}}}]"#)).await;
    }
    a.expect_nothing().await;
}

async fn a_hung_channel_is_cut_off_at_its_leave(transport: Transport) {
    let grace = Duration::from_millis(50);
    let mut server = Server::start_with(transport, |socket| socket.shutdown_grace(grace)).await;
    let mut client = joined(&server, "room:a").await;
    client.send(r#"["1","2","room:a","hang",{}]"#).await;
    client.send(r#"["1","3","room:a","phx_leave",{}]"#).await;
    client.expect(r#"["1","3","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    for line in ["join room:a", "hangs", "ended room:a Left", "channel dropped"] {
        server.logged(line).await;
    }
}

async fn an_end_that_takes_too_long_is_cut_off(transport: Transport) {
    let grace = Duration::from_millis(50);
    let server = Server::start_with(transport, |socket| socket.shutdown_grace(grace)).await;
    let mut client = joined(&server, "room:slow_end").await;
    client.send(r#"["1","2","room:slow_end","stop",{}]"#).await;
    client.expect(r#"["1","1","room:slow_end","phx_close",{}]"#).await;
    client.join("room:slow_end", "3").await;
    client.send(r#"["3","4","room:slow_end","phx_leave",{}]"#).await;
    client.expect(r#"["3","4","room:slow_end","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["3","3","room:slow_end","phx_close",{}]"#).await;
}

async fn a_channel_may_have_a_grace_of_its_own(transport: Transport) {
    // The default grace would outlast the test.
    let grace = Duration::from_hours(1);
    let server = Server::start_with(transport, |socket| socket.shutdown_grace(grace)).await;
    let mut client = server.client().await;
    client.send(r#"["1","1","typed:a","phx_join",{"count":1}]"#).await;
    client.expect(r#"["1","1","typed:a","phx_reply",{"response":{"next":2},"status":"ok"}]"#).await;
    client.send(r#"["1","2","typed:a","phx_leave",{}]"#).await;
    client.expect(r#"["1","2","typed:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","typed:a","phx_close",{}]"#).await;
}

async fn channels_end_with_a_lost_connection(transport: Transport) {
    let mut server = Server::start(transport).await;
    let client = joined(&server, "room:a").await;
    drop(client);
    for line in [
        "join room:a",
        "terminate room:a Closed",
        "ended room:a Closed",
        "channel dropped",
        "extension dropped room:a",
    ] {
        server.logged(line).await;
    }
    assert_eq!(server.pubsub.subscribers("room:a"), 0);
}

async fn channels_end_when_the_client_closes(transport: Transport) {
    let mut server = Server::start(transport).await;
    joined(&server, "room:a").await.close().await;
    server.logged_at_last("terminate room:a Closed").await;
    server.logged("ended room:a Closed").await;
}

async fn a_hung_channel_is_cut_off_with_its_socket(transport: Transport) {
    let grace = Duration::from_millis(50);
    let mut server = Server::start_with(transport, |socket| socket.shutdown_grace(grace)).await;
    let mut client = joined(&server, "room:a").await;
    client.send(r#"["1","2","room:a","hang",{}]"#).await;
    server.logged_at_last("hangs").await;
    drop(client);
    for line in ["ended room:a Closed", "channel dropped", "extension dropped room:a"] {
        server.logged(line).await;
    }
}

async fn sockets_end_with_the_server(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = joined(&server, "room:a").await;
    server.stop();
    client.expect_close(1012).await;
    server.logged_at_last("ended room:a Closed").await;
}

async fn a_silent_client_is_closed(transport: Transport) {
    let timeout = Duration::from_millis(100);
    let mut server = Server::start_with(transport, |socket| socket.timeout(timeout)).await;
    let mut client = joined(&server, "room:a").await;
    client.expect_close(1002).await;
    server.logged_at_last("ended room:a Closed").await;
}

async fn an_extension_hears_every_return(transport: Transport) {
    let mut server = Server::start(transport).await;
    let mut client = joined(&server, "room:witness").await;
    server.logged("join room:witness").await;
    server.logged("handler returned").await;
    // Also when `joined` ends the channel.
    server.logged("handler returned").await;
    client.send(r#"["1","2","room:witness","extension",{}]"#).await;
    client.expect(r#"["1","2","room:witness","phx_reply",{"response":true,"status":"ok"}]"#).await;
    server.logged("handler returned").await;
    client.send(r#"["1","3","room:witness","stop",{}]"#).await;
    client.expect(r#"["1","1","room:witness","phx_close",{}]"#).await;
    server.logged("terminate room:witness Stopped").await;
    server.logged("ended room:witness Stopped").await;
}

over_all!(
    a_leave_is_answered_and_then_closed,
    a_leave_comes_after_the_events_before_it_and_a_join_after_both,
    a_channel_stops_with_or_without_a_reply,
    a_crash_ends_one_channel_and_is_known_at_once,
    a_leave_that_waits_behind_a_crash_is_answered,
    after_its_end_a_channel_sends_nothing,
    a_hung_channel_is_cut_off_at_its_leave,
    an_end_that_takes_too_long_is_cut_off,
    a_channel_may_have_a_grace_of_its_own,
    channels_end_with_a_lost_connection,
    channels_end_when_the_client_closes,
    a_hung_channel_is_cut_off_with_its_socket,
    sockets_end_with_the_server,
    a_silent_client_is_closed,
    an_extension_hears_every_return,
);
