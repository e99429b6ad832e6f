use adsum_pubsub::{Json, JsonPart};
use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;

use super::*;
use crate::frame::Outgoing;

/// A client that inflates. A browser keeps its inflater between messages; others reset it, as was agreed.
struct Client {
    inflater: Decompress,
    resets: bool,
}

impl Client {
    fn both() -> [Self; 2] {
        [true, false].map(|resets| Self { inflater: Decompress::new(false), resets })
    }

    /// Reads a frame, compressed or not.
    fn read(&mut self, frame: &Frame) -> Vec<u8> {
        let bytes = frame.clone().into_bytes();
        let message = &bytes[frame::header_len(bytes[1])..];
        if bytes[0] & RSV1 == 0 {
            return message.to_vec();
        }
        let input = [message, &FLUSH].concat();
        let (mut out, mut used) = (Vec::with_capacity(1 << 20), 0);
        while used < input.len() {
            let before = self.inflater.total_in();
            let status = self.inflater.decompress_vec(&input[used..], &mut out, FlushDecompress::Sync);
            assert_ne!(
                status.expect("it can be inflated"),
                flate2::Status::StreamEnd,
                "no block is the last"
            );
            used += (self.inflater.total_in() - before) as usize;
        }
        if self.resets {
            self.inflater.reset(false);
        }
        out
    }
}

fn text(len: usize) -> String {
    (0..len)
        .map(|n| format!(r#","user-{n}":{{"metas":[{{"n":{}}}]}}"#, n * 7919 % 1000))
        .collect::<Vec<_>>()
        .concat()
        .chars()
        .take(len)
        .collect()
}

fn spliced(parts: &[JsonPart]) -> Frame {
    let mut head = Head::with_capacity(4);
    head.raw("[1,");
    Frame::spliced(head, &Json::from_encoded_parts(parts.iter().cloned()), Bytes::from_static(b"]"))
}

fn plain(frame: &Frame) -> Vec<u8> {
    match frame.clone().into_message().expect("it is a message") {
        Outgoing::Text(bytes) | Outgoing::Binary(bytes) => bytes.into(),
        other => panic!("no message but {other:?}"),
    }
}

#[test]
fn a_message_of_one_client_is_compressed_at_once() {
    let mut clients = Client::both();
    for len in [600, 70_000, 300_000] {
        for frame in [Frame::text(text(len)), Frame::binary(text(len))] {
            let compressed = frame.compressed().expect("it becomes smaller");
            assert!(compressed.len() < frame.len() / 3);
            assert_eq!(plain(&compressed), plain(&frame));
            for client in &mut clients {
                assert_eq!(client.read(&compressed), plain(&frame));
            }
        }
    }
}

#[test]
fn a_message_that_would_not_become_smaller_stays_as_it_is() {
    let mut noise = vec![0; 2000];
    getrandom::fill(&mut noise).unwrap();
    assert!(Frame::binary(noise).compressed().is_none());
    assert!(Frame::text("[]").compressed().is_none());
}

#[test]
fn shared_parts_are_compressed_once_for_all_messages() {
    let shared = [text(9_000), text(20_000)].map(|text| JsonPart::shared(text.into()));
    let own = |n: usize| JsonPart::from(Bytes::from(text(n)));
    let first = [own(1), shared[0].clone(), own(300), shared[1].clone()];
    let second = [own(100), shared[1].clone(), shared[0].clone(), own(5000)];
    assert!(spliced(&first).with_compressed_parts().is_none(), "nothing was compressed yet");
    let mut clients = Client::both();
    let mut addresses = Vec::new();
    for parts in [first, second] {
        let frame = spliced(&parts);
        let compressed = frame.compressed().expect("it becomes smaller");
        for client in &mut clients {
            assert_eq!(client.read(&compressed), plain(&frame));
        }
        let (own, buffers) = compressed.buffers();
        assert!(own > 0);
        let large = buffers.filter(|part| part.len() > 500).map(|part| part.as_ptr());
        addresses.push(large.collect::<Vec<_>>());
    }
    assert_eq!(addresses[0].len(), 2);
    assert!(addresses[0].iter().all(|address| addresses[1].contains(address)), "the same bytes are sent");
}

#[test]
fn a_message_ends_with_either_kind_of_block() {
    let mut clients = Client::both();
    let part = JsonPart::shared(text(9_000).into());
    let open = Frame::spliced(Head::with_capacity(0), &Json::from_encoded_parts([part]), Bytes::new());
    let closed = spliced(&[JsonPart::shared(text(8_000).into())]);
    for frame in [&open, &closed, &open, &open, &closed, &closed, &open] {
        let compressed = frame.compressed().unwrap();
        let bytes = compressed.clone().into_bytes();
        assert!(!bytes.ends_with(&FLUSH));
        assert_eq!(bytes.ends_with(&[b']', STORED_END]), plain(frame).ends_with(b"]"));
        for client in &mut clients {
            assert_eq!(client.read(&compressed), plain(frame));
        }
    }
}

#[test]
fn parts_that_are_not_compressed_yet_are_sent_as_they_are() {
    let parts = [text(9_000), text(200_000), text(9_000)].map(|text| JsonPart::shared(text.into()));
    spliced(&parts[..1]).compressed().unwrap();
    let frame = spliced(&parts);
    let compressed = frame.with_compressed_parts().expect("one part is compressed");
    assert!(compressed.len() > 209_000 && compressed.len() < frame.len());
    for client in &mut Client::both() {
        assert_eq!(client.read(&compressed), plain(&frame));
    }
    let addresses: Vec<_> = compressed.buffers().1.map(|part| part.as_ptr()).collect();
    assert!(addresses.contains(&parts[2].text().as_ptr()), "they are shared, too");
}

fn part() -> impl Strategy<Value = (usize, bool)> {
    (prop_oneof![Just(0_usize), 1..2000_usize, Just(66_000)], any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_parts_are_one_message(messages in proptest::collection::vec((proptest::collection::vec(part(), 0..6), any::<bool>()), 1..6)) {
        let mut clients = Client::both();
        for (parts, is_quick) in messages {
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(len, shared)| if shared { JsonPart::shared(text(len).into()) } else { Bytes::from(text(len)).into() })
                .collect();
            let frame = spliced(&parts);
            if let Some(first) = parts.first().filter(|_| is_quick) {
                let _ = spliced(std::slice::from_ref(first)).compressed();
            }
            let compressed = if is_quick { frame.with_compressed_parts() } else { frame.compressed() };
            let sent = compressed.unwrap_or_else(|| frame.clone());
            prop_assert!(sent.len() <= frame.len());
            for client in &mut clients {
                prop_assert_eq!(client.read(&sent), plain(&frame));
            }
        }
    }
}
