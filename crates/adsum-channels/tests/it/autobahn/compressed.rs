//! Compressed messages: 12 and 13. The suite sends a thousand messages in a case; here it is fewer. Its files, which are
//! cut into messages, are replaced by data of their kinds.
//!
//! 12 offers the extension as it is, with each kind of data. 13 has one kind, and other offers. An offer that limits our
//! window is declined; the suite then calls a case unimplemented, and the messages are sent as they are.

use super::{Raw, last, plain};
use crate::{
    autobahn::JOIN,
    deflating::{Inflater, RSV1, deflate, noise},
    raw::{frame, open},
    server::{Server, Transport},
};

/// The offers of a group, and whether one of them fits.
const OFFERS: [(&str, &str, bool); 8] = [
    ("12", "permessage-deflate; client_max_window_bits", true),
    ("13.1", "permessage-deflate; client_max_window_bits", true),
    ("13.2", "permessage-deflate; client_max_window_bits; server_no_context_takeover", true),
    ("13.3", "permessage-deflate; client_max_window_bits; server_max_window_bits=9", false),
    ("13.4", "permessage-deflate; client_max_window_bits; server_max_window_bits=15", true),
    (
        "13.5",
        "permessage-deflate; client_max_window_bits; server_no_context_takeover; server_max_window_bits=9",
        false,
    ),
    (
        "13.6",
        "permessage-deflate; client_max_window_bits; server_no_context_takeover; server_max_window_bits=15",
        true,
    ),
    (
        "13.7",
        "permessage-deflate; client_max_window_bits; server_no_context_takeover; server_max_window_bits=9, \
         permessage-deflate; client_max_window_bits; server_no_context_takeover, permessage-deflate; \
         client_max_window_bits",
        true,
    ),
];

const KIB: usize = 1024;
/// The size of a message, and of its fragments if it is sent in several.
const SIZES: [(usize, Option<usize>); 18] = [
    (16, None),
    (64, None),
    (256, None),
    (KIB, None),
    (4 * KIB, None),
    (8 * KIB, None),
    (16 * KIB, None),
    (32 * KIB, None),
    (64 * KIB, None),
    (128 * KIB, None),
    (8 * KIB, Some(256)),
    (16 * KIB, Some(256)),
    (32 * KIB, Some(256)),
    (64 * KIB, Some(256)),
    (128 * KIB, Some(256)),
    (128 * KIB, Some(KIB)),
    (128 * KIB, Some(4 * KIB)),
    (128 * KIB, Some(32 * KIB)),
];

/// A kind of data, and whether it is text.
struct Kind(bool, Vec<u8>);

impl Kind {
    /// JSON, a picture, prose, HTML, and what is compressed already. All are longer than the longest message.
    fn all() -> [Self; 5] {
        let lines = |line: fn(usize) -> String| (0..8000).map(line).collect::<Vec<_>>().concat().into_bytes();
        [
            Self(
                true,
                lines(|n| format!(r#"{{"id":{n},"name":"user {}","ö":[{}]}},"#, n * 7919 % 997, n * n)),
            ),
            Self(false, (0..300_000_usize).map(|n| (n % 512 / 4 + n / 512 / 4 + n * n % 3) as u8).collect()),
            Self(false, lines(|n| format!("{} und {} fragt er {}; ", n % 17, n % 31, n * n % 1009))),
            Self(true, lines(|n| format!("<li class=\"row-{}\">Größe {}</li>\n", n % 7, n * n % 4001))),
            Self(false, noise(300_000).into_bytes()),
        ]
    }

    /// The n-th message of this size, which begins and ends with whole characters if it is text.
    fn message(&self, n: usize, size: usize) -> Vec<u8> {
        let Self(is_text, data) = self;
        let from = n * size % (data.len() - size);
        if !is_text {
            return data[from..from + size].to_vec();
        }
        let text = std::str::from_utf8(data).unwrap();
        let (from, to) = (text.ceil_char_boundary(from), text.floor_char_boundary(from + size));
        text[from..to.max(from)].into()
    }
}

/// Runs some cases of all groups.
async fn run(transport: Transport, numbers: impl Iterator<Item = usize> + Clone, messages: usize) {
    let server = Server::start_with(transport, |socket| plain(socket).compress_over(0)).await;
    let kinds = Kind::all();
    for (kind, data) in kinds.iter().enumerate() {
        for number in numbers.clone() {
            case(&server, &format!("12.{}.{}", kind + 1, number + 1), OFFERS[0], data, number, messages)
                .await;
        }
    }
    for offer in &OFFERS[1..] {
        for number in numbers.clone() {
            let id = format!("{}.{}", offer.0, number + 1);
            case(&server, &id, *offer, &kinds[0], number, messages).await;
        }
    }
}

async fn case(
    server: &Server,
    id: &str,
    (_, offer, fits): (&str, &str, bool),
    data: &Kind,
    number: usize,
    messages: usize,
) {
    let mut client = Raw::connect(server, "7.0.0", &format!("sec-websocket-extensions: {offer}\r\n")).await;
    assert_eq!(client.answer.contains("permessage-deflate"), fits, "{id}: {}", client.answer);
    client.write(&last(0x1, JOIN)).await;
    assert_eq!(client.read().await, Some((0x81, JOIN.into())), "too small to become smaller");
    let opcode = if data.0 { 0x1 } else { 0x2 };
    let (size, fragment) = SIZES[number];
    // A client may keep its window whatever was agreed.
    let mut inflater = Inflater::new(number.is_multiple_of(2));
    for n in 0..messages {
        let message = data.message(n, size);
        let (bit, payload) = if fits { (RSV1, deflate(&message)) } else { (0, message.clone()) };
        let Some(fragment) = fragment else {
            client.write(&frame(0x80 | bit | opcode, payload)).await;
            assert_eq!(echo(&mut client, &mut inflater).await, (opcode, message), "{id}");
            continue;
        };
        let mut frames = frame(bit | opcode, "");
        payload.chunks(fragment).for_each(|fragment| frames.extend(open(0, fragment)));
        frames.extend(last(0, ""));
        client.write(&frames).await;
        assert_eq!(echo(&mut client, &mut inflater).await, (opcode, message), "{id}");
    }
}

async fn echo(client: &mut Raw, inflater: &mut Inflater) -> (u8, Vec<u8>) {
    let (first, payload) = client.read().await.expect("the socket is open");
    let is_compressed = first & RSV1 != 0;
    (first & 0x0f, if is_compressed { inflater.inflate(&payload) } else { payload })
}

/// Two cases of each group. `make soak` runs all of them.
async fn compressed_messages_are_echoed(transport: Transport) {
    run(transport, [2, 11].into_iter(), 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes"]
async fn soak_all_compressed_messages_are_echoed() {
    run(Transport::Tcp, 0..SIZES.len(), 100).await;
}

over_both!(compressed_messages_are_echoed);
