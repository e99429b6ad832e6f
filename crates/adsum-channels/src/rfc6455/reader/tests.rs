//! Tests the reader with the Autobahn cases that need no network, and with arbitrary input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod compressed;

const MAX: usize = 100_000;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

type Outcome = (Vec<Incoming>, Option<ProtocolError>);

/// A client's frame with this first byte, in minimal encoding.
fn raw(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = super::super::frame::header(first, payload.len()).to_vec();
    frame[1] |= 0x80;
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A final frame of a message.
fn last(opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    raw(0x80 | opcode as u8, payload.as_ref(), MASK)
}

/// A frame whose message continues.
fn open(opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    raw(opcode as u8, payload.as_ref(), MASK)
}

/// The output of a reader for these pieces, each drained before the next.
fn feed<'a>(reader: &mut Reader, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut got = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(incoming)) => got.push(incoming),
                Ok(None) => break,
                Err(error) => return (got, Some(error)),
            }
        }
    }
    (got, None)
}

/// The output for a stream, which is the same at once and byte by byte.
fn read(frames: &[Vec<u8>]) -> Outcome {
    let plain = read_by(frames, false);
    let has_compressed = frames.iter().any(|frame| frame[0] & RSV1 != 0);
    assert!(has_compressed || plain == read_by(frames, true), "compression changes nothing for others");
    plain
}

fn read_by(frames: &[Vec<u8>], inflates: bool) -> Outcome {
    let stream = frames.concat();
    let at_once = feed(&mut Reader::new(MAX, inflates), [&stream[..]]);
    let byte_by_byte = feed(&mut Reader::new(MAX, inflates), stream.chunks(1));
    assert_eq!(at_once, byte_by_byte);
    at_once
}

fn text(text: &str) -> Incoming {
    Incoming::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn binary(bytes: &[u8]) -> Incoming {
    Incoming::Binary(Bytes::copy_from_slice(bytes))
}

fn pong(bytes: &[u8]) -> Incoming {
    Incoming::Pong(Bytes::copy_from_slice(bytes))
}

fn ping(bytes: &[u8]) -> Incoming {
    Incoming::Ping(Bytes::copy_from_slice(bytes))
}

fn closed(code: u16, reason: &str) -> Incoming {
    Incoming::Close { code: Some(code), reason: reason.to_owned() }
}

#[track_caller]
fn gives(frames: &[Vec<u8>], expected: &[Incoming]) {
    assert_eq!(read(frames), (expected.to_vec(), None));
}

#[track_caller]
fn fails(frames: &[Vec<u8>], before: &[Incoming], error: ProtocolError) {
    assert_eq!(read(frames), (before.to_vec(), Some(error)));
}

// 1: framing

#[test]
fn messages_of_every_length_arrive_whole() {
    for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536, MAX] {
        let payload = "*".repeat(len);
        gives(&[last(Opcode::Text, &payload)], &[text(&payload)]);
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        gives(&[last(Opcode::Binary, &payload)], &[binary(&payload)]);
    }
}

#[test]
fn the_examples_of_the_rfc() {
    gives(&[b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec()], &[text("Hello")]);
    gives(&[b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec()], &[pong(b"Hello")]);
    fails(&[b"\x81\x05Hello".to_vec()], &[], ProtocolError::Unmasked);
}

#[test]
fn a_length_is_written_in_the_fewest_bytes() {
    for header in [&[0x82, 0xfe, 0, 125][..], &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
        fails(&[header.to_vec()], &[], ProtocolError::LengthNotMinimal);
    }
    fails(&[vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0]], &[], ProtocolError::LengthTopBit);
}

// 2: pings and pongs

#[test]
fn pings_carry_up_to_125_bytes() {
    let longest = [0xfe; 125];
    let pings = [last(Opcode::Ping, ""), last(Opcode::Ping, "Hello"), last(Opcode::Ping, longest)];
    gives(&pings, &[ping(b""), ping(b"Hello"), ping(&longest)]);
    fails(&[last(Opcode::Ping, [0xfe; 126])], &[], ProtocolError::LongControl);
    fails(&[vec![0x89, 0xff]], &[], ProtocolError::LongControl);
}

#[test]
fn unsolicited_pongs_are_let_through() {
    let frames = [last(Opcode::Pong, ""), last(Opcode::Pong, "late"), last(Opcode::Ping, "now")];
    gives(&frames, &[pong(b""), pong(b"late"), ping(b"now")]);
}

// 3 and 4: reserved bits and opcodes

#[test]
fn reserved_bits_fail_and_what_came_before_counts() {
    for bits in (0x10..=0x70).step_by(0x10) {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Close] {
            let wrong = raw(0x80 | bits | opcode as u8, b"", MASK);
            fails(&[last(Opcode::Text, "a"), wrong], &[text("a")], ProtocolError::ReservedBits);
        }
    }
}

#[test]
fn reserved_opcodes_fail() {
    for bits in (3..8).chain(11..16) {
        let frames = [last(Opcode::Text, "a"), raw(0x80 | bits, b"b", MASK), last(Opcode::Ping, "")];
        fails(&frames, &[text("a")], ProtocolError::ReservedOpcode(bits));
    }
}

// 5: fragmentation

#[test]
fn control_frames_are_never_fragmented() {
    for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close] {
        let frames = [open(opcode, "a"), last(Opcode::Continuation, "b")];
        fails(&frames, &[], ProtocolError::FragmentedControl);
    }
}

#[test]
fn fragments_make_one_message_around_control_frames() {
    let frames = [
        open(Opcode::Text, "frag"),
        last(Opcode::Ping, "1"),
        open(Opcode::Continuation, "ment"),
        last(Opcode::Pong, "2"),
        last(Opcode::Continuation, "s"),
        open(Opcode::Binary, "x"),
        last(Opcode::Continuation, "y"),
    ];
    gives(&frames, &[ping(b"1"), pong(b"2"), text("fragments"), binary(b"xy")]);
}

#[test]
fn fragments_may_be_empty() {
    let empty = || open(Opcode::Continuation, "");
    gives(&[open(Opcode::Text, ""), empty(), last(Opcode::Continuation, "")], &[text("")]);
    gives(
        &[open(Opcode::Text, ""), open(Opcode::Continuation, "mid"), last(Opcode::Continuation, "")],
        &[text("mid")],
    );
}

#[test]
fn a_continuation_needs_a_message() {
    for frame in [last(Opcode::Continuation, "a"), open(Opcode::Continuation, "a")] {
        fails(std::slice::from_ref(&frame), &[], ProtocolError::NothingToContinue);
        let frames = [open(Opcode::Text, "a"), last(Opcode::Continuation, "b"), frame];
        fails(&frames, &[text("ab")], ProtocolError::NothingToContinue);
    }
}

#[test]
fn a_message_ends_before_the_next_starts() {
    for next in [last(Opcode::Text, "b"), open(Opcode::Text, "b"), last(Opcode::Binary, "b")] {
        fails(&[open(Opcode::Text, "a"), next], &[], ProtocolError::Unfinished);
    }
}

// 6: UTF-8

const VALID: [&str; 11] = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\u{0}",
    "\u{7f}\u{80}",
    "\u{7ff}\u{800}",
    "\u{d7ff}\u{e000}",
    "\u{fffd}\u{fffe}\u{ffff}",
    "\u{10000}",
    "\u{10ffff}",
    "\u{1fffe}\u{10fffe}",
    "🦀♟🦀",
];

/// Invalid bytes, and how many of them make the text irreparably invalid.
const INVALID: [(&[u8], usize); 20] = [
    (b"\x80", 1),
    (b"\xbf", 1),
    (b"\xc0\xaf", 1),
    (b"\xc1\xbf", 1),
    (b"\xce\xce", 2),
    (b"\xe0\x80\xaf", 2),
    (b"\xe0\x9f\xbf", 2),
    (b"\xe1\x80\xc0", 3),
    (b"\xed\xa0\x80", 2),
    (b"\xed\xbf\xbf", 2),
    (b"\xef\xbf ", 3),
    (b"\xf0\x80\x80\xaf", 2),
    (b"\xf0\x8f\xbf\xbf", 2),
    (b"\xf0\x90\x80\x41", 4),
    (b"\xf4\x90\x80\x80", 2),
    (b"\xf5\x80\x80\x80", 1),
    (b"\xf8\x88\x80\x80\x80", 1),
    (b"\xfc\x84\x80\x80\x80\x80", 1),
    (b"\xfe", 1),
    (b"\xff", 1),
];

#[test]
fn valid_text_is_valid_however_it_is_fragmented() {
    for valid in VALID {
        gives(&[last(Opcode::Text, valid)], &[text(valid)]);
        for cut in 0..=valid.len() {
            let (first, second) = valid.as_bytes().split_at(cut);
            let frames =
                [open(Opcode::Text, first), last(Opcode::Ping, [0xff]), last(Opcode::Continuation, second)];
            gives(&frames, &[ping(&[0xff]), text(valid)]);
        }
        let bytes = valid.as_bytes().chunks(1).map(|byte| open(Opcode::Continuation, byte));
        let frames: Vec<_> = [open(Opcode::Text, "")]
            .into_iter()
            .chain(bytes)
            .chain([last(Opcode::Continuation, "")])
            .collect();
        gives(&frames, &[text(valid)]);
    }
}

#[test]
fn invalid_text_fails_at_its_first_hopeless_byte() {
    for (bytes, hopeless) in INVALID {
        let payload = [b"ok \xce\xba", bytes, b" and more"].concat();
        let frame = last(Opcode::Text, &payload);
        fails(std::slice::from_ref(&frame), &[], ProtocolError::Utf8);
        let enough = frame.len() - payload.len() + 5 + hopeless;
        let mut reader = Reader::new(MAX, false);
        assert_eq!(feed(&mut reader, frame[..enough - 1].chunks(1)), (vec![], None), "{bytes:?}");
        let failed = feed(&mut reader, [&frame[enough - 1..enough]]);
        assert_eq!(failed, (vec![], Some(ProtocolError::Utf8)), "{bytes:?}");
    }
}

#[test]
fn invalid_text_fails_in_its_fragment() {
    for (bytes, hopeless) in INVALID {
        for cut in 0..hopeless {
            let first = [b"ok ", &bytes[..cut]].concat();
            let frames = [open(Opcode::Text, first), open(Opcode::Continuation, &bytes[cut..])];
            fails(&frames, &[], ProtocolError::Utf8);
        }
    }
}

#[test]
fn a_text_ends_with_a_whole_character() {
    for character in ["µ", "€", "🦀"] {
        for cut in 1..character.len() {
            let cut = &character.as_bytes()[..cut];
            fails(&[last(Opcode::Text, cut)], &[], ProtocolError::Utf8);
            let frames = [open(Opcode::Text, cut), last(Opcode::Continuation, "")];
            fails(&frames, &[], ProtocolError::Utf8);
        }
    }
}

#[test]
fn binary_messages_and_pings_are_any_bytes() {
    gives(&[last(Opcode::Binary, [0xff]), last(Opcode::Ping, [0xc0])], &[binary(&[0xff]), ping(&[0xc0])]);
}

// 7: closing

fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    last(Opcode::Close, [&code.to_be_bytes(), reason.as_ref()].concat())
}

#[test]
fn a_close_ends_the_stream() {
    let frames = [last(Opcode::Text, "a"), close(1000, "bye"), last(Opcode::Text, "b"), vec![0xff]];
    gives(&frames, &[text("a"), closed(1000, "bye")]);
    gives(&[open(Opcode::Text, "a"), close(1001, ""), last(Opcode::Continuation, "b")], &[closed(1001, "")]);
}

#[test]
fn an_error_ends_the_stream() {
    let mut reader = Reader::new(MAX, false);
    assert_eq!(feed(&mut reader, [&[0xff][..]]), (vec![], Some(ProtocolError::ReservedBits)));
    assert_eq!(feed(&mut reader, [&last(Opcode::Text, "late")[..]]), (vec![], None));
    assert_eq!(reader.held(), 0);
}

#[test]
fn a_close_holds_nothing_or_a_code_and_a_reason() {
    gives(&[last(Opcode::Close, "")], &[Incoming::Close { code: None, reason: String::new() }]);
    let longest = "*".repeat(123);
    gives(&[close(1000, &longest)], &[closed(1000, &longest)]);
    fails(&[last(Opcode::Close, [3])], &[], ProtocolError::HalfCloseCode);
    fails(&[close(1000, "*".repeat(124))], &[], ProtocolError::LongControl);
    fails(&[close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")], &[], ProtocolError::Utf8);
    fails(&[close(1000, b"\xce")], &[], ProtocolError::Utf8);
}

#[test]
fn only_codes_that_a_client_may_send_are_accepted() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 3999, 4000, 4999] {
        gives(&[close(code, "")], &[closed(code, "")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        fails(&[close(code, "")], &[], ProtocolError::CloseCode(code));
    }
}

#[test]
fn errors_close_with_the_code_of_their_kind() {
    assert_eq!(ProtocolError::Utf8.close_code(), 1007);
    assert_eq!(ProtocolError::TooBig { max: 1 }.close_code(), 1009);
    assert_eq!(ProtocolError::Unmasked.close_code(), 1002);
    assert_eq!(ProtocolError::CloseCode(1005).close_code(), 1002);
}

// Memory

#[test]
fn a_large_message_is_refused_from_its_header() {
    let too_big = ProtocolError::TooBig { max: 200 };
    for (frames, header) in [
        (vec![], &[0x81, 0xfe, 0, 201][..]),
        (vec![], &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (vec![open(Opcode::Text, [b'a'; 150])], &[0x80, 0xb3]),
    ] {
        let mut reader = Reader::new(200, false);
        let stream = [&frames.concat()[..], header].concat();
        let (most, end) = stream.split_at(stream.len() - 1);
        assert_eq!(feed(&mut reader, [most]), (vec![], None));
        assert_eq!(feed(&mut reader, [end]), (vec![], Some(too_big)));
    }
    let fits =
        [open(Opcode::Binary, [0; 150]), last(Opcode::Ping, [0; 125]), last(Opcode::Continuation, [0; 50])];
    let got = feed(&mut Reader::new(200, false), [&fits.concat()[..]]);
    assert_eq!(got, (vec![ping(&[0; 125]), binary(&[0; 200])], None));
}

#[test]
fn an_idle_reader_holds_no_buffer() {
    let mut reader = Reader::new(MAX, false);
    let stream = [last(Opcode::Text, "a"), last(Opcode::Ping, ""), last(Opcode::Binary, "b")].concat();
    for pieces in [stream.chunks(1), stream.chunks(stream.len())] {
        let (mut got, _) = feed(&mut reader, pieces);
        assert_eq!((got.len(), reader.held()), (3, 0));
        // It doesn't keep the buffer of the messages alive either.
        let Some(Incoming::Binary(last)) = got.pop() else { panic!("a binary was fed last") };
        drop(got);
        assert!(last.is_unique());
    }
}

#[test]
fn a_length_only_announced_takes_no_room() {
    let mut reader = Reader::new(1 << 30, false);
    assert_eq!(
        feed(&mut reader, [&[0x82, 0xff, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5][..]]).1,
        None
    );
    assert_eq!(feed(&mut reader, [&[6; 100][..]]).1, None);
    assert!(reader.held() < 300, "{}", reader.held());
}

#[test]
fn a_message_in_one_frame_is_not_copied_again() {
    let mut reader = Reader::new(MAX, false);
    reader.feed(&last(Opcode::Text, "Hello"));
    let payload_at = reader.input[6..].as_ptr();
    let Ok(Some(Incoming::Text(text))) = reader.next() else { panic!("a text was fed") };
    assert_eq!((&text[..], text.as_ptr()), (&b"Hello"[..], payload_at));
}

// Arbitrary input

/// A message in fragments, with pings between them.
#[derive(Clone, Debug)]
struct Sent {
    message: Incoming,
    cuts: Vec<(prop::sample::Index, Option<Vec<u8>>)>,
    mask: [u8; 4],
}

impl Sent {
    fn write(&self, stream: &mut Vec<u8>, expected: &mut Vec<Incoming>) {
        let (opcode, payload) = match &self.message {
            Incoming::Text(payload) => (Opcode::Text, payload),
            Incoming::Binary(payload) => (Opcode::Binary, payload),
            other => unreachable!("{other:?} is not sent in fragments"),
        };
        let mut cuts: Vec<_> =
            self.cuts.iter().map(|(at, ping)| (at.index(payload.len() + 1), ping)).collect();
        cuts.sort_by_key(|(at, _)| *at);
        let mut from = 0;
        let mut opcode = opcode;
        for (at, between) in cuts {
            stream.extend(raw(opcode as u8, &payload[from..at], self.mask));
            if let Some(between) = between {
                stream.extend(raw(0x89, between, self.mask));
                expected.push(ping(between));
            }
            (from, opcode) = (at, Opcode::Continuation);
        }
        stream.extend(raw(0x80 | opcode as u8, &payload[from..], self.mask));
        expected.push(self.message.clone());
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let message = prop_oneof![
        "\\PC{0,80}".prop_map(|valid| text(&valid)),
        vec(any::<u8>(), 0..300).prop_map(|bytes| binary(&bytes)),
    ];
    let cut = (any::<prop::sample::Index>(), proptest::option::of(vec(any::<u8>(), 0..126)));
    (message, vec(cut, 0..4), any::<[u8; 4]>()).prop_map(|(message, cuts, mask)| Sent { message, cuts, mask })
}

/// A stream of valid messages, and the expected output.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<Incoming>)> {
    vec(sent(), 0..6).prop_map(|messages| {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for sent in &messages {
            sent.write(&mut stream, &mut expected);
        }
        (stream, expected)
    })
}

/// Splits a stream into pieces of these lengths, repeatedly.
fn pieces<'a>(mut stream: &'a [u8], lens: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &len in lens.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (piece, rest) = stream.split_at(len.min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// Reads a stream piece by piece, and checks the buffered size after each.
fn read_within(max: usize, pieces: &[&[u8]]) -> Result<Outcome, TestCaseError> {
    let mut reader = Reader::new(max, false);
    let mut got = Vec::new();
    for piece in pieces {
        let (more, error) = feed(&mut reader, [*piece]);
        got.extend(more);
        let message = reader.message.as_ref().map_or(0, PartialMessage::held);
        // A header, or a control frame within a message, is buffered beside the largest message.
        prop_assert!(reader.input.len() + message <= max + 14 + MAX_CONTROL_PAYLOAD);
        prop_assert!(reader.held() <= 2 * max + 14 + MAX_CONTROL_PAYLOAD + piece.len());
        if error.is_some() {
            return Ok((got, error));
        }
    }
    Ok((got, None))
}

proptest! {
    #[test]
    fn any_split_of_a_valid_stream_gives_the_same(
        (stream, expected) in stream(),
        lens in vec(1_usize..60, 1..10),
    ) {
        prop_assert_eq!(read_within(2_000, &pieces(&stream, &lens))?, (expected, None));
    }

    #[test]
    fn any_bytes_are_read_alike_and_within_bounds(
        bytes in vec(any::<u8>(), 0..600),
        lens in vec(1_usize..60, 1..10),
        max in 0_usize..300,
    ) {
        let at_once = feed(&mut Reader::new(max, false), [&bytes[..]]);
        prop_assert_eq!(read_within(max, &pieces(&bytes, &lens))?, at_once);
    }

    #[test]
    fn a_damaged_stream_is_read_alike_and_within_bounds(
        (mut stream, _) in stream(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        lens in vec(1_usize..60, 1..10),
        max in 0_usize..300,
    ) {
        for (at, byte) in damage {
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
        }
        let at_once = feed(&mut Reader::new(max, false), [&stream[..]]);
        prop_assert_eq!(read_within(max, &pieces(&stream, &lens))?, at_once);
    }

    #[test]
    fn a_mask_is_undone_from_any_offset(payload in vec(any::<u8>(), 0..100), mask: [u8; 4], cut in 0_usize..100) {
        let mut masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
        let cut = cut.min(masked.len());
        let (first, second) = masked.split_at_mut(cut);
        unmask(first, mask, 0);
        unmask(second, mask, cut);
        prop_assert_eq!(masked, payload);
    }
}
