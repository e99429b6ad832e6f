//! Splits requests and responses between nodes that are longer than one message.

use std::collections::VecDeque;

use adsum_pubsub::QueueLimits;
use serde::{Deserialize, Serialize};

/// Maximum size of a part. A message between nodes has at most half a mebibyte, including its head.
const PART_BYTES: usize = 384 * 1024;
/// Maximum size of all incomplete values together. Beyond it the oldest is dropped, and its sender gets no response.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// The overhead of a part in a queue, at most: its head, and the names in its envelope.
const PART_OVERHEAD: usize = 1024;

/// Whether a value of this length can be passed on, if nothing else waits.
pub(super) fn fit(len: usize, limits: Option<QueueLimits>) -> bool {
    let last = len.saturating_sub(1) / PART_BYTES;
    let parts = last + 1;
    let is_queued =
        |QueueLimits { messages, bytes }| parts <= messages && len + parts * PART_OVERHEAD <= bytes;
    last * PART_BYTES <= MAX_WAITING_BYTES && limits.is_none_or(is_queued)
}

/// The header of a part.
#[derive(Serialize, Deserialize)]
struct PartHeader<'p> {
    /// The sender, and the number of the value that it is a part of.
    from: &'p str,
    number: u64,
    index: u32,
    is_last: bool,
}

/// Splits bytes into parts.
pub(super) fn split<'b>(from: &'b str, number: u64, bytes: &'b [u8]) -> impl Iterator<Item = Vec<u8>> + 'b {
    let last = bytes.len().saturating_sub(1) / PART_BYTES;
    (0..=last).map(move |index| {
        let piece = &bytes[index * PART_BYTES..bytes.len().min((index + 1) * PART_BYTES)];
        let head = PartHeader { from, number, index: index as u32, is_last: index == last };
        let mut part = postcard::to_allocvec(&head).expect("a head can be encoded");
        part.extend_from_slice(piece);
        part
    })
}

/// Incomplete values, the oldest first.
#[derive(Default)]
pub(super) struct PartialValues {
    waiting: VecDeque<Incomplete>,
    bytes: usize,
}

struct Incomplete {
    from: String,
    number: u64,
    /// The number of parts that have arrived.
    count: u32,
    bytes: Vec<u8>,
}

impl PartialValues {
    /// Adds a part. Returns the whole value once its last part has arrived.
    ///
    /// # Errors
    /// It isn't a part.
    pub(super) fn join(&mut self, part: &[u8]) -> postcard::Result<Option<Vec<u8>>> {
        let (PartHeader { from, number, index, is_last }, piece) =
            postcard::take_from_bytes::<PartHeader<'_>>(part)?;
        let known = self.waiting.iter().position(|waiting| waiting.number == number && waiting.from == from);
        let before = known.and_then(|at| self.waiting.remove(at));
        self.bytes -= before.as_ref().map_or(0, |before| before.bytes.len());
        let mut waiting = match before {
            Some(before) if index == before.count => before,
            _ if index == 0 => Incomplete { from: from.to_owned(), number, count: 0, bytes: Vec::new() },
            // An earlier part was lost, so the value can't be completed.
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
            let (mut parts, mut whole) = (PartialValues::default(), None);
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
    fn an_answer_that_lacks_a_part_is_dropped() {
        let bytes = long(3);
        let sent: Vec<_> = split("a", 1, &bytes).collect();
        for lost in 0..3 {
            let mut parts = PartialValues::default();
            for (_, part) in sent.iter().enumerate().filter(|(index, _)| *index != lost) {
                assert_eq!(parts.join(part).unwrap(), None);
            }
        }
        assert!(PartialValues::default().join(&[0xff; 3]).is_err());
    }

    #[test]
    fn waiting_parts_are_bounded() {
        let bytes = long(2);
        let mut parts = PartialValues::default();
        for number in 0..200 {
            parts.join(&split("a", number, &bytes).next().unwrap()).unwrap();
            assert!(parts.bytes <= MAX_WAITING_BYTES);
        }
        let last = |number| split("a", number, &bytes).nth(1).unwrap();
        assert_eq!(parts.join(&last(0)).unwrap(), None, "the oldest was dropped");
        assert_eq!(parts.join(&last(199)).unwrap(), Some(bytes.clone()));
    }
}
