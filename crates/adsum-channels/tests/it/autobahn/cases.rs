//! Framing, pings, reserved bits and opcodes, fragments, closes, and a message in many fragments: 1 to 5, 7, 10.

use crate::raw::{close, frame, last, open};

pub(super) struct Case {
    pub(super) id: String,
    pub(super) rounds: Vec<Round>,
    /// Optional frames before the close, in this order.
    pub(super) perhaps: Vec<Back>,
    pub(super) end: End,
}

/// The bytes to write, and the frames to receive before the next write.
pub(super) struct Round {
    pub(super) send: Vec<Vec<u8>>,
    pub(super) chop: Chop,
    pub(super) back: Vec<Back>,
}

/// How the bytes are split into writes.
#[derive(Clone, Copy)]
pub(super) enum Chop {
    /// All at once.
    No,
    Frames,
    Octets(usize),
}

/// A frame from the server.
pub(super) enum Back {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
}

impl Back {
    pub(super) fn frame(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Text(payload) => (0x81, payload.clone()),
            Self::Binary(payload) => (0x82, payload.clone()),
            Self::Pong(payload) => (0x8a, payload.clone()),
        }
    }
}

/// How a case ends: always with a close from the server and then the end of the stream.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// The client closes with 1000, and the server answers with the same.
    Clean,
    /// The server closes with this code because of the written bytes.
    Close(u16),
}

const PROTOCOL_ERROR: End = End::Close(1002);
const HELLO: &str = "Hello, world!";

pub(super) fn case(
    id: impl Into<String>,
    chop: Chop,
    send: impl Into<Vec<Vec<u8>>>,
    back: impl Into<Vec<Back>>,
    end: End,
) -> Case {
    let round = Round { send: send.into(), chop, back: back.into() };
    Case { id: id.into(), rounds: vec![round], perhaps: Vec::new(), end }
}

pub(super) fn text(payload: impl Into<Vec<u8>>) -> Back {
    Back::Text(payload.into())
}

pub(super) fn pong(payload: impl Into<Vec<u8>>) -> Back {
    Back::Pong(payload.into())
}

pub(super) fn all() -> Vec<Case> {
    let families =
        [messages(), pings(), reserved_bits(), reserved_opcodes(), fragments(), closes(), fragmented()];
    families.into_iter().flatten().collect()
}

fn messages() -> Vec<Case> {
    let lens = [0, 125, 126, 127, 128, 65_535, 65_536, 65_536];
    let mut cases = Vec::new();
    for (i, len) in lens.into_iter().enumerate() {
        let chop = if i == 7 { Chop::Octets(997) } else { Chop::No };
        let (stars, bytes) = (vec![b'*'; len], vec![0xfe; len]);
        cases.push(case(format!("1.1.{}", i + 1), chop, [last(1, &stars)], [text(stars)], End::Clean));
        let back = [Back::Binary(bytes.clone())];
        cases.push(case(format!("1.2.{}", i + 1), chop, [last(2, &bytes)], back, End::Clean));
    }
    cases
}

fn pings() -> Vec<Case> {
    let longest = [0xfe; 125];
    let unsolicited = || last(10, "unsolicited pong payload");
    let ten: Vec<_> = (0..10).map(|i| format!("payload-{i}")).collect();
    let ten_sent: Vec<_> = ten.iter().map(|payload| last(9, payload)).collect();
    let ten_back = || ten.iter().map(|payload| pong(payload.clone())).collect::<Vec<_>>();
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    vec![
        case("2.1", Chop::No, [last(9, "")], [pong("")], End::Clean),
        case("2.2", Chop::No, [last(9, HELLO)], [pong(HELLO)], End::Clean),
        case("2.3", Chop::No, [last(9, binary)], [pong(binary)], End::Clean),
        case("2.4", Chop::No, [last(9, longest)], [pong(longest)], End::Clean),
        case("2.5", Chop::No, [last(9, [0xfe; 126])], [], PROTOCOL_ERROR),
        case("2.6", Chop::Octets(1), [last(9, longest)], [pong(longest)], End::Clean),
        case("2.7", Chop::No, [last(10, "")], [], End::Clean),
        case("2.8", Chop::No, [unsolicited()], [], End::Clean),
        case("2.9", Chop::No, [unsolicited(), last(9, "ping payload")], [pong("ping payload")], End::Clean),
        case("2.10", Chop::No, ten_sent.clone(), ten_back(), End::Clean),
        case("2.11", Chop::Octets(1), ten_sent, ten_back(), End::Clean),
    ]
}

/// A good message, then a bad frame, then a ping that must stay unanswered.
fn after_a_message(id: &str, chop: Chop, bad: Vec<u8>) -> Case {
    let send = [last(1, HELLO), bad, last(9, "")];
    Case { perhaps: vec![text(HELLO)], ..case(id, chop, send, [], PROTOCOL_ERROR) }
}

fn reserved_bits() -> Vec<Case> {
    vec![
        case("3.1", Chop::No, [frame(0x91, HELLO)], [], PROTOCOL_ERROR),
        after_a_message("3.2", Chop::No, frame(0xa1, HELLO)),
        after_a_message("3.3", Chop::Frames, frame(0xb1, HELLO)),
        after_a_message("3.4", Chop::Octets(1), frame(0xc1, HELLO)),
        case("3.5", Chop::No, [frame(0xd2, [0x00, 0xff, 0xfe, 0xfd])], [], PROTOCOL_ERROR),
        case("3.6", Chop::No, [frame(0xe9, HELLO)], [], PROTOCOL_ERROR),
        case("3.7", Chop::No, [frame(0xf8, "")], [], PROTOCOL_ERROR),
    ]
}

fn reserved_opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, first) in [("4.1", 3), ("4.2", 11)] {
        let id = |n| format!("{family}.{n}");
        cases.push(case(id(1), Chop::No, [last(first, "")], [], PROTOCOL_ERROR));
        cases.push(case(id(2), Chop::No, [last(first + 1, "reserved")], [], PROTOCOL_ERROR));
        cases.push(after_a_message(&id(3), Chop::No, last(first + 2, "")));
        cases.push(after_a_message(&id(4), Chop::No, last(first + 3, HELLO)));
        cases.push(after_a_message(&id(5), Chop::Octets(1), last(first + 4, HELLO)));
    }
    cases
}

/// A case split in three ways, numbered from `first`.
fn thrice(first: u8, send: &[Vec<u8>], back: impl Fn() -> Vec<Back>, end: End) -> impl Iterator<Item = Case> {
    [Chop::No, Chop::Frames, Chop::Octets(1)]
        .into_iter()
        .zip(first..)
        .map(move |(chop, n)| case(format!("5.{n}"), chop, send, back(), end))
}

fn fragments() -> Vec<Case> {
    let two = [open(1, "fragment1"), last(0, "fragment2")];
    let pinged = [open(1, "fragment1"), last(9, "ping payload"), last(0, "fragment2")];
    let both = || text("fragment1fragment2");
    let nothing_to_continue = |fin: u8| [frame(fin, "non-continuation payload"), last(1, HELLO)];
    let mut cases = vec![
        case("5.1", Chop::No, [open(9, "fragment1"), last(0, "fragment2")], [], PROTOCOL_ERROR),
        case("5.2", Chop::No, [open(10, "fragment1"), last(0, "fragment2")], [], PROTOCOL_ERROR),
    ];
    cases.extend(thrice(3, &two, || vec![both()], End::Clean));
    cases.extend(thrice(6, &pinged, || vec![pong("ping payload"), both()], End::Clean));
    cases.extend(thrice(9, &nothing_to_continue(0x80), Vec::new, PROTOCOL_ERROR));
    cases.extend(thrice(12, &nothing_to_continue(0x00), Vec::new, PROTOCOL_ERROR));
    let then_nothing = [&two[..], &[open(0, "fragment3"), last(1, "fragment4")]].concat();
    cases.push(Case { perhaps: vec![both()], ..case("5.15", Chop::No, then_nothing, [], PROTOCOL_ERROR) });
    for (id, fin) in [("5.16", 0x00), ("5.17", 0x80)] {
        let once = [frame(fin, "fragment1"), open(1, "fragment2"), last(0, "fragment3")];
        cases.push(case(id, Chop::No, [once.clone(), once].concat(), [], PROTOCOL_ERROR));
    }
    cases.push(case("5.18", Chop::No, [open(1, "fragment1"), last(1, "fragment2")], [], PROTOCOL_ERROR));
    cases.push(pinged_twice("5.19", Chop::No));
    cases.push(pinged_twice("5.20", Chop::Frames));
    cases
}

/// The first ping is answered while the message is still incomplete.
fn pinged_twice(id: &str, chop: Chop) -> Case {
    let first = [open(1, "fragment1"), open(0, "fragment2"), last(9, "pongme 1!")];
    let rest = [open(0, "fragment3"), open(0, "fragment4"), last(9, "pongme 2!"), last(0, "fragment5")];
    let whole = text("fragment1fragment2fragment3fragment4fragment5");
    let mut case = case(id, chop, first, [pong("pongme 1!")], End::Clean);
    case.rounds.push(Round { send: rest.into(), chop, back: vec![pong("pongme 2!"), whole] });
    case
}

fn closes() -> Vec<Case> {
    let normal = || close(1000, "");
    let ends = End::Close(1000);
    let no_utf8 = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64";
    let long = "BAsd7&jh23".repeat(26_215)[..256 << 10].to_owned();
    let mut cases = vec![
        case("7.1.1", Chop::No, [last(1, HELLO)], [text(HELLO)], End::Clean),
        case("7.1.2", Chop::Frames, [normal(), last(8, "")], [], ends),
        case("7.1.3", Chop::Frames, [normal(), last(9, "")], [], ends),
        case("7.1.4", Chop::Frames, [normal(), last(1, HELLO)], [], ends),
        case("7.1.5", Chop::Frames, [open(1, "fragment1"), normal(), last(0, "fragment2")], [], ends),
        Case {
            perhaps: vec![text(long.clone()), text(HELLO)],
            ..case("7.1.6", Chop::No, [last(1, long), last(1, HELLO), normal(), last(9, "")], [], ends)
        },
        case("7.3.1", Chop::No, [last(8, "")], [], ends),
        case("7.3.2", Chop::No, [last(8, "a")], [], PROTOCOL_ERROR),
        case("7.3.3", Chop::No, [normal()], [], ends),
        case("7.3.4", Chop::No, [close(1000, HELLO)], [], ends),
        case("7.3.5", Chop::No, [close(1000, "*".repeat(123))], [], ends),
        case("7.3.6", Chop::No, [close(1000, "*".repeat(124))], [], PROTOCOL_ERROR),
        case("7.5.1", Chop::No, [close(1000, no_utf8)], [], End::Close(1007)),
    ];
    let mut numbered = |family: &str, codes: &[u16], end: fn(u16) -> End| {
        for (n, code) in (1..).zip(codes) {
            let id = format!("{family}.{n}");
            cases.push(case(id, Chop::No, [close(*code, "")], [], end(*code)));
        }
    };
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    numbered("7.7", &valid, End::Close);
    numbered("7.9", &[0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999], |_| PROTOCOL_ERROR);
    // The suite doesn't specify the result of these.
    numbered("7.13", &[5000, 65_535], |_| PROTOCOL_ERROR);
    cases
}

fn fragmented() -> Vec<Case> {
    let stars = vec![b'*'; 65_536];
    vec![case("10.1.1", Chop::No, in_fragments(1, &stars, 1300), [text(stars)], End::Clean)]
}

/// A message in fragments of `size` bytes.
pub(super) fn in_fragments(opcode: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size).max(1);
    let mut frames: Vec<_> = payload.chunks(size).map(|piece| open(0, piece)).collect();
    frames[0][0] |= opcode;
    frames[count - 1][0] |= 0x80;
    frames
}
