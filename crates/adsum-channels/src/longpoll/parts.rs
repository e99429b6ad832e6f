//! A request or an answer between nodes may be longer than one of their messages: it is sent in parts.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How much of it one message carries. Between nodes a message has at most half a mebibyte, its head included.
const PART_BYTES: usize = 384 * 1024;
/// What may wait for its last part, in all. Beyond that the oldest is dropped: its sender hears nothing.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// What stands before a part's bytes.
#[derive(Serialize, Deserialize)]
struct Head<'p> {
    /// Who sends it, and which of the sender's it is a part of.
    from: &'p str,
    number: u64,
    index: u32,
    is_last: bool,
}

/// Cuts bytes into parts.
pub(super) fn split<'b>(from: &'b str, number: u64, bytes: &'b [u8]) -> impl Iterator<Item = Vec<u8>> + 'b {
    let last = bytes.len().saturating_sub(1) / PART_BYTES;
    (0..=last).map(move |index| {
        let piece = &bytes[index * PART_BYTES..bytes.len().min((index + 1) * PART_BYTES)];
        let head = Head { from, number, index: index as u32, is_last: index == last };
        let mut part = postcard::to_allocvec(&head).expect("a head has a form");
        part.extend_from_slice(piece);
        part
    })
}

/// Parts that wait for their last, the oldest first.
#[derive(Default)]
pub(super) struct Parts {
    waiting: VecDeque<Incomplete>,
    bytes: usize,
}

struct Incomplete {
    from: String,
    number: u64,
    /// How many parts have come.
    count: u32,
    bytes: Vec<u8>,
}

impl Parts {
    /// Takes a part, and gives the whole once its last has come.
    ///
    /// # Errors
    /// It isn't a part.
    pub(super) fn join(&mut self, part: &[u8]) -> postcard::Result<Option<Vec<u8>>> {
        let (Head { from, number, index, is_last }, piece) = postcard::take_from_bytes::<Head<'_>>(part)?;
        let known = self.waiting.iter().position(|waiting| waiting.number == number && waiting.from == from);
        let before = known.and_then(|at| self.waiting.remove(at));
        self.bytes -= before.as_ref().map_or(0, |before| before.bytes.len());
        let mut waiting = match before {
            Some(before) if index == before.count => before,
            _ if index == 0 => Incomplete { from: from.to_owned(), number, count: 0, bytes: Vec::new() },
            // A part was lost on the way, and with it the rest.
            _ => return Ok(None),
        };
        waiting.bytes.extend_from_slice(piece);
        waiting.count += 1;
        if is_last {
            return Ok(Some(waiting.bytes));
        }
        self.bytes += waiting.bytes.len();
        self.waiting.push_back(waiting);
        while self.bytes > MAX_WAITING_BYTES
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(parts: usize) -> Vec<u8> {
        (0..parts * PART_BYTES).map(|at| (at / 7) as u8).collect()
    }

    #[test]
    fn parts_make_the_whole_also_where_those_of_others_come_between() {
        for bytes in [Vec::new(), vec![1], long(1), [long(1), vec![1]].concat(), long(3)] {
            let (mut parts, mut whole) = (Parts::default(), None);
            for (a, b) in split("a", 1, &bytes).zip(split("b", 1, &bytes)) {
                assert!(a.len() < PART_BYTES + 64 && whole.is_none());
                assert_eq!(parts.join(&a).unwrap().is_some(), parts.join(&b).unwrap().is_some());
                whole = None;
            }
            for part in split("a", 2, &bytes) {
                whole = parts.join(&part).unwrap();
            }
            assert_eq!(whole, Some(bytes));
            assert_eq!((parts.bytes, parts.waiting.len()), (0, 0));
        }
    }

    #[test]
    fn what_lacks_a_part_is_dropped() {
        let bytes = long(3);
        let sent: Vec<_> = split("a", 1, &bytes).collect();
        for lost in 0..3 {
            let mut parts = Parts::default();
            for (_, part) in sent.iter().enumerate().filter(|(index, _)| *index != lost) {
                assert_eq!(parts.join(part).unwrap(), None);
            }
        }
        assert!(Parts::default().join(&[0xff; 3]).is_err());
    }

    #[test]
    fn what_waits_is_bounded() {
        let bytes = long(2);
        let mut parts = Parts::default();
        for number in 0..200 {
            parts.join(&split("a", number, &bytes).next().unwrap()).unwrap();
            assert!(parts.bytes <= MAX_WAITING_BYTES);
        }
        let last = |number| split("a", number, &bytes).nth(1).unwrap();
        assert_eq!(parts.join(&last(0)).unwrap(), None, "the oldest was dropped");
        assert_eq!(parts.join(&last(199)).unwrap(), Some(bytes.clone()));
    }
}
