//! The corpus, and for a moment mutations of it.

use std::time::{Duration, Instant};
#[cfg(fuzzing)]
use std::{collections::BTreeSet, fs};

use fuzz::{TARGETS, driver};

/// For how long mutations of a target's corpus are tried.
const MOMENT: Duration = Duration::from_millis(500);

#[test]
fn the_corpus_holds() {
    for &(name, target) in TARGETS {
        let kept = driver::corpus(name).unwrap_or_else(|error| panic!("the corpus of {name}: {error}"));
        assert!(kept.len() >= 5, "{name} has a corpus");
        for (path, input) in kept {
            println!("{}", path.display());
            target(&input);
        }
        target(b"");
    }
}

#[cfg(fuzzing)]
#[test]
fn every_corpus_has_its_target() {
    let folders = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).expect("there is a corpus");
    let folders: BTreeSet<_> =
        folders.map(|folder| folder.expect("it can be read").file_name().into_string()).collect();
    assert_eq!(folders, TARGETS.iter().map(|(name, _)| Ok((*name).to_owned())).collect());
}

#[test]
fn mutations_of_the_corpus_hold() {
    // The same in every run, so that a change fails by what it changes; FUZZ_SEED tries others, as `make fuzz` does.
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("FUZZ_SEED={seed}");
    for &(name, target) in TARGETS {
        let seeds = driver::corpus(name).expect("a corpus").into_iter().map(|(_, input)| input).collect();
        let mut mutator = driver::Mutator::new(seed, seeds);
        let start = Instant::now();
        while start.elapsed() < MOMENT {
            driver::run(name, target, &mutator.input());
        }
    }
}
