//! Large messages, and many of them: 9. Sizes are those of the suite, except that fragments and chops of a few bytes
//! use a smaller message, and that messages go back and forth a hundred times, not a thousand.

use super::cases::{Back, Case, Chop, End, Round, case, in_fragments};
use crate::raw::last;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in [1, 2] {
        let id = |text_family: usize, n| format!("9.{}.{n}", text_family + usize::from(opcode) - 1);
        for (n, size) in (1..).zip([64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB]) {
            let payload = payload(opcode, size);
            let back = [back(opcode, &payload)];
            cases.push(case(id(1, n), Chop::No, [last(opcode, payload)], back, End::Clean));
        }
        for (n, fragment) in (1..).zip((6..=22).step_by(2).map(|power| 1 << power)) {
            let payload = payload(opcode, (4096 * fragment).min(4 * MIB));
            let back = [back(opcode, &payload)];
            let frames = in_fragments(opcode, &payload, fragment);
            cases.push(case(id(3, n), Chop::No, frames, back, End::Clean));
        }
        for (n, chop) in (1..).zip((6..=11).map(|power| 1 << power)) {
            let payload = payload(opcode, 1024 * chop);
            let back = [back(opcode, &payload)];
            cases.push(case(id(5, n), Chop::Octets(chop), [last(opcode, payload)], back, End::Clean));
        }
        for (n, size) in (1..).zip([0, 16, 64, 256, 1024, 4096]) {
            let payload = payload(opcode, size);
            let round = || Round {
                send: vec![last(opcode, &payload)],
                chop: Chop::No,
                back: vec![back(opcode, &payload)],
            };
            let rounds = (0..100).map(|_| round()).collect();
            cases.push(Case { id: id(7, n), rounds, perhaps: Vec::new(), end: End::Clean });
        }
    }
    cases
}

fn payload(opcode: u8, size: usize) -> Vec<u8> {
    let pattern: &[u8] = if opcode == 1 { b"BAsd7&jh23" } else { b"\x00\xfe\x23\xfa\xf0" };
    let mut payload = pattern.repeat(size.div_ceil(pattern.len()));
    payload.truncate(size);
    payload
}

fn back(opcode: u8, payload: &[u8]) -> Back {
    if opcode == 1 { Back::Text(payload.to_vec()) } else { Back::Binary(payload.to_vec()) }
}
