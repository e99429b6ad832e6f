//! Compressed messages.

use super::*;
use crate::rfc6455::deflate::{FLUSH, deflate, stored_header};

/// The compressed form of a message, as a client sends it.
fn deflated(message: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    deflate([message.as_ref()], &mut out);
    out.truncate(out.len() - FLUSH.len());
    out
}

/// The first or only frame of a compressed message.
fn compressed(opcode: Opcode, fin: bool, payload: impl AsRef<[u8]>) -> Vec<u8> {
    raw(if fin { 0x80 } else { 0 } | RSV1 | opcode as u8, payload.as_ref(), MASK)
}

#[track_caller]
fn gives(frames: &[Vec<u8>], expected: &[Incoming]) {
    assert_eq!(read_by(frames, true), (expected.to_vec(), None));
}

#[track_caller]
fn fails(frames: &[Vec<u8>], error: ProtocolError) {
    assert_eq!(read_by(frames, true), (vec![], Some(error)));
}

#[test]
fn messages_of_every_length_are_inflated() {
    for len in [0, 1, 125, 4095, 4096, 4097, 65_536, MAX] {
        let payload = "*".repeat(len);
        gives(&[compressed(Opcode::Text, true, deflated(&payload))], &[text(&payload)]);
        let payload: Vec<u8> = (0..len).map(|i| (i * i / 7) as u8).collect();
        gives(&[compressed(Opcode::Binary, true, deflated(&payload))], &[binary(&payload)]);
    }
}

#[test]
fn the_examples_of_the_rfc() {
    let hello = |payload: &[u8]| gives(&[compressed(Opcode::Text, true, payload)], &[text("Hello")]);
    hello(b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    // A stored block.
    hello(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00");
    // A last block, and then the empty one that every message ends with.
    hello(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00");
    // Two blocks.
    hello(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00");
    let fragments = [
        compressed(Opcode::Text, false, b"\xf2\x48\xcd"),
        last(Opcode::Ping, "p"),
        last(Opcode::Continuation, b"\xc9\xc9\x07\x00"),
    ];
    gives(&fragments, &[ping(b"p"), text("Hello")]);
}

#[test]
fn compressed_and_other_messages_follow_one_another() {
    let frames = [
        compressed(Opcode::Text, true, deflated("a".repeat(100))),
        last(Opcode::Text, "plain"),
        compressed(Opcode::Binary, true, deflated([0; 100])),
        open(Opcode::Text, "in "),
        last(Opcode::Continuation, "two"),
        compressed(Opcode::Text, false, ""),
        open(Opcode::Continuation, ""),
        last(Opcode::Continuation, deflated("three")),
    ];
    let expected = [text(&"a".repeat(100)), text("plain"), binary(&[0; 100]), text("in two"), text("three")];
    gives(&frames, &expected);
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_compressed() {
    let payload = deflated("Hello");
    for frame in [
        raw(0x80 | RSV1, &payload, MASK),
        raw(RSV1, &payload, MASK),
        raw(0x80 | RSV1 | Opcode::Ping as u8, b"", MASK),
        raw(0x80 | RSV1 | Opcode::Pong as u8, b"", MASK),
        raw(0x80 | RSV1 | Opcode::Close as u8, b"", MASK),
    ] {
        fails(&[compressed(Opcode::Text, false, &payload), frame.clone()], ProtocolError::ReservedBits);
        if frame[0] & 0x0f != 0 {
            fails(&[frame], ProtocolError::ReservedBits);
        }
    }
    for bits in [0x10, 0x20, 0x30, 0x50, 0x60, 0x70] {
        fails(&[raw(0x81 | bits, &payload, MASK)], ProtocolError::ReservedBits);
    }
    let refused = read_by(&[compressed(Opcode::Text, true, payload)], false);
    assert_eq!(refused, (vec![], Some(ProtocolError::ReservedBits)), "it was not agreed on");
}

#[test]
fn a_stream_that_is_not_whole_fails() {
    let whole = deflated(r#"{"a":"stream of some blocks","with":"a stream"}"#);
    for end in 0..whole.len() {
        fails(&[compressed(Opcode::Text, true, &whole[..end])], ProtocolError::Inflate);
    }
    for garbage in
        [&b"\xff\xff"[..], b"\x06", b"\x00\x05\x00\x00\x00Hello\x00", b"\xf3\x48\xcd\xc9\xc9\x07\x00"]
    {
        fails(&[compressed(Opcode::Binary, true, garbage)], ProtocolError::Inflate);
    }
    // It begins with a reference to bytes before it: nothing is kept of the message before.
    let mut kept = flate2::Compress::new(flate2::Compression::best(), false);
    let mut next = || {
        let mut out = Vec::with_capacity(1000);
        kept.compress_vec(&b"the very same message".repeat(3), &mut out, flate2::FlushCompress::Sync)
            .unwrap();
        out.truncate(out.len() - FLUSH.len());
        compressed(Opcode::Binary, true, out)
    };
    let (first, second) = (next(), next());
    let read = read_by(&[first, second], true);
    assert_eq!(read, (vec![binary(&b"the very same message".repeat(3))], Some(ProtocolError::Inflate)));
    assert_eq!(ProtocolError::Inflate.close_code(), 1007);
}

#[test]
fn inflated_text_is_utf8() {
    for (bytes, _) in INVALID {
        let payload = deflated([b"ok \xce\xba", bytes, b" and more"].concat());
        fails(&[compressed(Opcode::Text, true, &payload)], ProtocolError::Utf8);
    }
    fails(&[compressed(Opcode::Text, true, deflated(b"\xce"))], ProtocolError::Utf8);
    for valid in VALID {
        let payload = deflated(valid);
        for cut in 0..=payload.len() {
            let (first, second) = payload.split_at(cut);
            gives(
                &[compressed(Opcode::Text, false, first), last(Opcode::Continuation, second)],
                &[text(valid)],
            );
        }
    }
}

#[test]
fn a_message_is_bounded_while_it_is_inflated() {
    let bomb = deflated(vec![b'a'; 10_000_000]);
    assert!(bomb.len() < 60_000);
    let too_big = ProtocolError::TooBig { max: MAX };
    fails(&[compressed(Opcode::Text, true, &bomb)], too_big);
    fails(&[compressed(Opcode::Text, false, &bomb[..2000])], too_big);
    let mut reader = Reader::new(MAX, true);
    let stream = compressed(Opcode::Binary, true, &bomb);
    let mut most = 0;
    for piece in stream.chunks(100) {
        reader.feed(piece);
        if reader.next().is_err() {
            break;
        }
        most = most.max(reader.held());
    }
    assert!(most > MAX / 2 && most <= MAX + 200, "{most}");
    assert_eq!(reader.held(), 0);
    // A message of the maximum size may be larger compressed.
    let mut noise = vec![0; MAX];
    getrandom::fill(&mut noise).unwrap();
    let larger = deflated(&noise);
    assert!(larger.len() > MAX);
    gives(&[compressed(Opcode::Binary, true, larger)], &[binary(&noise)]);
    fails(&[compressed(Opcode::Binary, true, deflated(vec![0; MAX + 1]))], too_big);
}

#[test]
fn empty_blocks_take_no_room() {
    let mut reader = Reader::new(MAX, true);
    reader.feed(&raw(RSV1 | Opcode::Text as u8, b"", MASK));
    let nothing = raw(0, &stored_header(0).repeat(1000), MASK);
    for _ in 0..100 {
        assert_eq!(feed(&mut reader, [&nothing[..]]), (vec![], None));
        assert!(reader.held() < 100);
    }
    assert_eq!(feed(&mut reader, [&last(Opcode::Continuation, [0])[..]]), (vec![text("")], None));
}

#[test]
fn inflated_bytes_are_counted_beyond_those_that_have_arrived() {
    let mut reader = Reader::new(MAX, true);
    let payload = deflated(vec![b'a'; 50_000]);
    let (first, second) = payload.split_at(payload.len() / 2);
    let (frames, last) = (compressed(Opcode::Text, false, first), last(Opcode::Continuation, second));
    assert_eq!(feed(&mut reader, [&frames[..]]).1, None);
    let begun = reader.take_inflated();
    assert!(begun > 0);
    assert_eq!(feed(&mut reader, [&last[..]]).1, None);
    assert_eq!(begun + reader.take_inflated(), 50_000 - payload.len());
    let mut noise = vec![0; 5000];
    getrandom::fill(&mut noise).unwrap();
    assert_eq!(feed(&mut reader, [&compressed(Opcode::Binary, true, deflated(noise))[..]]).1, None);
    assert_eq!(reader.take_inflated(), 0);
}

proptest! {
    #[test]
    fn any_split_and_any_fragments_give_the_same(
        messages in vec((vec(any::<u8>(), 0..300), 1_usize..40, any::<bool>()), 1..6),
        lens in vec(1_usize..60, 1..10),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (message, fragment, is_compressed) in messages {
            let payload = if is_compressed { deflated(&message) } else { message.clone() };
            let bit = if is_compressed { RSV1 } else { 0 };
            stream.extend(raw(bit | Opcode::Binary as u8, b"", MASK));
            payload.chunks(fragment).for_each(|chunk| stream.extend(open(Opcode::Continuation, chunk)));
            stream.extend(last(Opcode::Continuation, ""));
            expected.push(binary(&message));
        }
        let got = feed(&mut Reader::new(1000, true), pieces(&stream, &lens));
        prop_assert_eq!(got, (expected, None));
    }

    #[test]
    fn any_bytes_are_inflated_alike_and_within_bounds(
        bytes in vec(any::<u8>(), 0..600),
        lens in vec(1_usize..60, 1..10),
        max in 0_usize..3000,
        flip in any::<prop::sample::Index>(),
        is_noise in any::<bool>(),
    ) {
        let mut payload = if is_noise { bytes } else { deflated(bytes.repeat(3)) };
        if !payload.is_empty() {
            let at = flip.index(payload.len());
            payload[at] ^= 0x10;
        }
        let stream = [compressed(Opcode::Binary, true, payload), last(Opcode::Text, "next")].concat();
        let at_once = feed(&mut Reader::new(max, true), [&stream[..]]);
        let mut reader = Reader::new(max, true);
        let mut got = (Vec::new(), None);
        for piece in pieces(&stream, &lens) {
            let (more, error) = feed(&mut reader, [piece]);
            got.0.extend(more);
            prop_assert!(reader.held() <= 2 * max + 14 + MAX_CONTROL_PAYLOAD + piece.len());
            if error.is_some() {
                got.1 = error;
                break;
            }
        }
        prop_assert_eq!(got, at_once);
    }
}

#[test]
fn a_reader_takes_no_room_for_what_is_not_compressed() {
    assert_eq!(size_of::<Data>(), size_of::<BytesMut>());
}

#[test]
fn messages_that_are_skipped_cost_nothing_from_wherever_that_begins() {
    const MOST: usize = 1000;
    let bomb = deflated("a".repeat(MOST));
    let (one, other) = bomb.split_at(bomb.len() / 2);
    let frames = [
        last(Opcode::Text, "a".repeat(300)),
        compressed(Opcode::Text, false, one),
        last(Opcode::Ping, "p"),
        last(Opcode::Continuation, other),
        compressed(Opcode::Text, true, "not what an inflater can read"),
        last(Opcode::Binary, vec![0xff; MOST + 1]),
        compressed(Opcode::Binary, true, &bomb),
        last(Opcode::Close, b"\x03\xe8"),
    ];
    let stream = frames.concat();
    for begins in 0..stream.len() {
        let (before, after) = stream.split_at(begins);
        let mut reader = Reader::new(MOST, true);
        // A reader that has refused something reads no further.
        let (mut got, None) = feed(&mut reader, [before]) else { continue };
        reader.take_inflated();
        reader.skip_messages();
        for piece in after.chunks(3) {
            let (more, error) = feed(&mut reader, [piece]);
            assert_eq!((error, reader.take_inflated()), (None, 0));
            got.extend(more);
        }
        assert_eq!(got.last(), Some(&Incoming::Close { code: Some(1000), reason: String::new() }));
        assert_eq!(got.iter().filter(|incoming| matches!(incoming, Incoming::Ping(_))).count(), 1);
        assert_eq!(got.len(), 7);
    }
}
