//! Valid and invalid UTF-8: 6.

use super::cases::{Case, Chop, End, Round, case, in_fragments, pong, text};
use crate::raw::{announced, last, masked, open};

const NO_UTF8: End = End::Close(1007);
/// Greek, in characters of two and three bytes.
const KOSME: &[u8] = "κ\u{1f79}σμε".as_bytes();
/// A code point beyond the last one, invalid from its second byte.
const BEYOND: &[u8] = b"\xf4\x90\x80\x80";

pub(super) fn all() -> Vec<Case> {
    let mut cases = fragmented();
    cases.extend(failing_fast());
    for (family, texts) in (5..).zip(families()) {
        for (n, bytes) in (1..).zip(texts) {
            let id = format!("6.{family}.{n}");
            let send = [last(1, &bytes)];
            cases.push(match std::str::from_utf8(&bytes) {
                Ok(_) => case(id, Chop::No, send, [text(bytes)], End::Clean),
                Err(_) => case(id, Chop::No, send, [], NO_UTF8),
            });
        }
    }
    cases
}

fn fragmented() -> Vec<Case> {
    let latin = "Hello-µ@ßöäüàá-UTF-8!!";
    let (first, second) = latin.split_at(latin.find('ü').unwrap());
    let surrogate = [KOSME, b"\xed\xa0\x80edited"].concat();
    let middle = "middle frame payload";
    vec![
        case("6.1.1", Chop::No, [last(1, "")], [text("")], End::Clean),
        case("6.1.2", Chop::No, [open(1, ""), open(0, ""), last(0, "")], [text("")], End::Clean),
        case("6.1.3", Chop::No, [open(1, ""), open(0, middle), last(0, "")], [text(middle)], End::Clean),
        case("6.2.1", Chop::No, [last(1, latin)], [text(latin)], End::Clean),
        case("6.2.2", Chop::No, [open(1, first), last(0, second)], [text(latin)], End::Clean),
        case("6.2.3", Chop::No, in_fragments(1, latin.as_bytes(), 1), [text(latin)], End::Clean),
        case("6.2.4", Chop::No, in_fragments(1, KOSME, 1), [text(KOSME)], End::Clean),
        case("6.3.1", Chop::No, [last(1, &surrogate)], [], NO_UTF8),
        case("6.3.2", Chop::No, in_fragments(1, &surrogate, 1), [], NO_UTF8),
    ]
}

/// The suite splits these texts in three: a valid prefix, the invalid byte, and the rest. A server may read all three
/// before it fails, but ours must fail at the second, so the third is never sent.
fn failing_fast() -> Vec<Case> {
    // Up to the last valid octet, and the next one.
    let (valid, hopeless) = BEYOND.split_at(1);
    let octet = (&[KOSME, valid].concat()[..], &hopeless[..1]);
    let part = (KOSME, BEYOND);
    let mut cases = Vec::new();
    for (id, (first, second)) in [("6.4.1", part), ("6.4.2", octet)] {
        // A pong proves that the first fragment was accepted.
        let mut case = case(id, Chop::No, [open(1, first), last(9, "")], [pong("")], NO_UTF8);
        case.rounds.push(Round { send: vec![open(0, second)], chop: Chop::No, back: Vec::new() });
        cases.push(case);
    }
    for (id, (first, second)) in [("6.4.3", part), ("6.4.4", octet)] {
        let frame = announced(0x81, 21, first);
        cases.push(case(id, Chop::Frames, [frame, masked(second, first.len())], [], NO_UTF8));
    }
    cases
}

/// The texts from 6.5 on, after Markus Kuhn's stress test for decoders.
fn families() -> [Vec<Vec<u8>>; 19] {
    let bytes = |texts: &[&[u8]]| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>();
    let lonely_starts = |range: std::ops::RangeInclusive<u8>| range.flat_map(|start| [start, b' ']).collect();
    let unfinished: &[&[u8]] = &[
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let characters = |points: Vec<u32>| -> Vec<Vec<u8>> {
        points.into_iter().map(|point| char::from_u32(point).unwrap().to_string().into()).collect()
    };
    let high: [&[u8]; 4] = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"];
    let low: [&[u8]; 2] = [b"\xed\xb0\x80", b"\xed\xbf\xbf"];
    [
        // Valid text, with characters of one to four bytes.
        ["hello$world", "hello¢world", "hello€world", "hello\u{24b62}world", "κ\u{1f79}σμε"]
            .map(Into::into)
            .into(),
        // All prefixes of one text.
        (1..=KOSME.len()).map(|len| KOSME[..len].to_vec()).collect(),
        // The first sequence of each length.
        characters(vec![0, 0x80, 0x800, 0x1_0000]),
        bytes(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        // The last sequence of each length.
        characters(vec![0x7f, 0x7ff, 0xffff, 0x10_ffff]),
        bytes(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        // Other bounds.
        [characters(vec![0xd7ff, 0xe000, 0xfffd, 0x10_ffff]), bytes(&[BEYOND])].concat(),
        // Continuation bytes without a start.
        bytes(&[
            b"\x80",
            b"\xbf",
            b"\x80\xbf",
            b"\x80\xbf\x80",
            b"\x80\xbf\x80\xbf",
            b"\x80\xbf\x80\xbf\x80",
            b"\x80\xbf\x80\xbf\x80\xbf",
            &(0x80..=0xbf).collect::<Vec<_>>(),
        ]),
        // Start bytes without a continuation.
        [0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd].map(lonely_starts).into(),
        // Sequences without their last byte, each alone and all in a row.
        bytes(unfinished),
        vec![unfinished.concat()],
        // Impossible bytes.
        bytes(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        // Overlong encodings: a slash, the largest of each length, and NUL.
        overlong([
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ]),
        overlong([
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ]),
        overlong([
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ]),
        // Surrogates, single and in pairs.
        bytes(&[&high[..], &[low[0], b"\xed\xbe\x80", low[1]]].concat()),
        high.iter().flat_map(|high| low.map(|low| [high, low].concat())).collect(),
        // Noncharacters and special code points are valid.
        characters((0..=16).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]).collect()),
        characters((0xfff9..=0xffff).collect()),
    ]
}

fn overlong(texts: [&[u8]; 5]) -> Vec<Vec<u8>> {
    texts.map(<[u8]>::to_vec).into()
}
