//! The cases of the Autobahn test suite, by their numbers, against a complete server.
//!
//! They expect a server that echoes each message. The serializer [`Plain`] makes such a server of ours: each message
//! is an event, and its reply is the same message. So each case passes through everything that a program's
//! message passes through. 8 and 11 don't exist; 12 and 13 are about compression, and are in [`compressed`].
//!
//! If a message is followed at once by something that fails the connection, the suite allows both that the
//! message is still echoed and that it is not. Our channel runs in a task of its own, so either may happen here.

mod cases;
mod compressed;
mod large;
mod utf8;

use std::{collections::HashSet, sync::Arc};

use adsum_channels::{
    Address, BadMessage, ClientMessage, Frame, Json, Message, Payload, Serializer, SocketBuilder, Unsendable,
    Wire,
};

use self::cases::{Back, Case, Chop, End};
use crate::{
    raw::{self, Raw, last},
    room::App,
    server::{Server, Transport},
};

/// The first message of a client. Its answer doesn't belong to a case.
const JOIN: &str = "join";

struct Plain;

impl Serializer for Plain {
    fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
        // The payload's first byte records which of the two kinds it was.
        let payload = match message {
            Wire::Text(text) => [b"t", text].concat(),
            Wire::Binary(bytes) => [b"b", bytes].concat(),
        };
        let (event, payload) = match payload.strip_prefix(b"t") {
            Some(text) if text == JOIN.as_bytes() => ("phx_join", Payload::Json(Json::empty_object())),
            _ => ("echo", Payload::Binary(payload.into())),
        };
        Ok(ClientMessage {
            join_ref: "null".into(),
            reference: r#""1""#.into(),
            topic: r#""room:a""#.into(),
            event: event.into(),
            payload,
        })
    }

    fn push(&self, _: Address<'_>, event: &str, _: &Payload) -> Result<Frame, Unsendable> {
        panic!("no case has {event:?} pushed")
    }

    fn reply(&self, _: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable> {
        assert_eq!(status, "ok");
        Ok(match response {
            Payload::Json(_) => Frame::text(JOIN),
            Payload::Binary(bytes) if bytes[0] == b't' => Frame::text(bytes.slice(1..)),
            Payload::Binary(bytes) => Frame::binary(bytes.slice(1..)),
        })
    }

    fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable> {
        panic!("no case has {message:?} broadcast")
    }
}

fn plain(socket: SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>> {
    socket.serializer(7, 0, Plain).max_message_bytes(16 << 20).max_queue_bytes(64 << 20)
}

/// A client that has joined.
async fn joined(server: &Server) -> Raw {
    let mut client = Raw::connect(server, "7.0.0", "").await;
    client.write(&last(0x1, JOIN)).await;
    assert_eq!(client.read().await, Some((0x81, JOIN.into())));
    client
}

async fn write_chopped(client: &mut Raw, frames: &[Vec<u8>], chop: Chop) {
    match chop {
        Chop::No => client.write(&frames.concat()).await,
        Chop::Frames => {
            for frame in frames {
                client.write(frame).await;
            }
        }
        Chop::Octets(size) => {
            for piece in frames.concat().chunks(size) {
                client.write(piece).await;
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn run(server: &Server, case: Case) {
    let mut client = joined(server).await;
    for round in case.rounds {
        write_chopped(&mut client, &round.send, round.chop).await;
        for back in round.back {
            assert_eq!(client.read().await, Some(back.frame()), "{}", case.id);
        }
    }
    let code = match case.end {
        End::Clean => {
            client.write(&raw::close(1000, "")).await;
            1000
        }
        End::Close(code) => code,
    };
    let mut perhaps = case.perhaps.iter().map(Back::frame).collect::<Vec<_>>();
    loop {
        let frame = client.read().await;
        let Some(at) = perhaps.iter().position(|back| frame.as_ref() == Some(back)) else {
            assert_eq!(frame, Some((0x88, code.to_be_bytes().to_vec())), "{}", case.id);
            break;
        };
        perhaps.drain(..=at);
    }
    // The stream must end without a reset, which could lose the close frame.
    assert_eq!(client.read().await, None, "{}", case.id);
}

async fn run_all(transport: Transport, cases: Vec<Case>) {
    let server = Server::start_with(transport, plain).await;
    for case in cases {
        run(&server, case).await;
    }
}

#[test]
fn all_cases_are_there() {
    let ids: Vec<_> =
        [cases::all(), utf8::all(), large::all()].into_iter().flatten().map(|case| case.id).collect();
    let of = |family: &str| ids.iter().filter(|id| id.split('.').next() == Some(family)).count();
    let counts = ["1", "2", "3", "4", "5", "6", "7", "9", "10"].map(of);
    assert_eq!(counts, [16, 11, 7, 10, 20, 145, 37, 54, 1]);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 301);
}

async fn framing_control_frames_fragments_and_closes(transport: Transport) {
    run_all(transport, cases::all()).await;
}

async fn text_is_utf8(transport: Transport) {
    run_all(transport, utf8::all()).await;
}

async fn large_and_many_messages(transport: Transport) {
    run_all(transport, large::all()).await;
}

async fn compression_is_not_agreed_on(transport: Transport) {
    let server = Server::start_with(transport, plain).await;
    for offer in ["permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"]
    {
        let header = format!("sec-websocket-extensions: {offer}\r\n");
        let mut client = Raw::connect(&server, "7.0.0", &header).await;
        assert!(!client.answer.contains("extensions"), "{}", client.answer);
        // A compressed message's first frame has this bit set.
        client.write(&raw::frame(0xc1, "x")).await;
        assert_eq!(client.read().await, Some((0x88, 1002_u16.to_be_bytes().to_vec())));
    }
}

async fn a_message_beyond_the_limit_is_refused_by_its_header(transport: Transport) {
    let server = Server::start_with(transport, |socket| plain(socket).max_message_bytes(1000)).await;
    let too_big = Some((0x88, 1009_u16.to_be_bytes().to_vec()));
    for opcode in [0x1, 0x2] {
        let mut client = joined(&server).await;
        client.write(&last(opcode, "x".repeat(1000))).await;
        assert_eq!(client.read().await, Some((0x80 | opcode, vec![b'x'; 1000])));
        client.write(&last(opcode, "x".repeat(1001))[..4]).await;
        assert_eq!(client.read().await, too_big);

        let mut client = joined(&server).await;
        client
            .write(&[raw::open(opcode, "x".repeat(999)), raw::frame(0x80, "xx")[..2].to_vec()].concat())
            .await;
        assert_eq!(client.read().await, too_big);
    }
}

over_both!(
    framing_control_frames_fragments_and_closes,
    text_is_utf8,
    large_and_many_messages,
    compression_is_not_agreed_on,
    a_message_beyond_the_limit_is_refused_by_its_header,
);
