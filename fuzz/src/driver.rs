//! Tries mutations of a corpus without any help of the compiler: on stable Rust, and on any machine.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
};

use crate::Target;

/// How long an input grows.
const MAX_LEN: usize = 8 * 1024;

/// The inputs that are kept for a target, in the order of the names of its files.
///
/// # Errors
/// The corpus has no folder of this name, or it can't be read.
pub fn corpus(name: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

/// Mutates inputs, always the same for a seed.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    /// Starts from these inputs.
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>) -> Self {
        Self { state: seed, seeds }
    }

    /// The next input: one of the seeds, changed in a few places.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..=self.below(6) {
            self.change(&mut input);
        }
        input.truncate(MAX_LEN);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let len = self.below(input.len() - at + 1);
        let len = if self.below(2) == 0 { len.min(4) } else { len };
        match self.below(8) {
            0 => drop(input.drain(at..at + len)),
            1 => input.insert(at, self.byte()),
            2 => {
                let piece = input[at..at + len].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            3 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                input.splice(at..at + len, other[from..].iter().copied());
            }
            4 => input[at..at + len].reverse(),
            _ if at == input.len() => {}
            5 => input[at] ^= 1 << self.below(8),
            6 => input[at] = input[at].wrapping_add(self.below(7) as u8).wrapping_sub(3),
            _ => input[at] = self.byte(),
        }
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len().max(1));
        self.seeds.get(at).cloned().unwrap_or_default()
    }

    /// Any byte; often one that means something to a decoder.
    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\x01\x7e\x7f\x80\x81\xff\n \"\\{}[],:*.0";
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => self.below(256) as u8,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64, whose every seed is as good as any other.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Runs a target on an input. One by which it panics is kept in `artifacts/`, and named.
pub fn run(name: &str, target: Target, input: &[u8]) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let path = folder.join(format!("{:016x}", fingerprint(input)));
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input));
    match kept {
        Ok(()) => eprintln!("{name} fails by {}", path.display()),
        Err(error) => eprintln!("{name} fails by {input:?}, which can't be kept: {error}"),
    }
    resume_unwind(panic);
}

/// FNV-1a.
fn fingerprint(input: &[u8]) -> u64 {
    input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
