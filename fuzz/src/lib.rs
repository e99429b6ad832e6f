//! Fuzz targets for all that reads input from outside.
//!
//! A target is a function of bytes that panics where a property doesn't hold: never a panic of the decoder's
//! own, and what each file in `targets/` says besides. `tests/kept.rs` replays the corpus and tries mutations of
//! it briefly; `make fuzz` goes on for long, by libFuzzer where the machine has it.
//!
//! To add a target: a file in `targets/`, or in a crate's `fuzzing` module if it needs private items; a line in
//! [`TARGETS`], and a few inputs in `corpus/NAME/`.

pub mod driver;
mod targets;

/// A function of bytes.
pub type Target = fn(&[u8]);

/// All targets, by name. Without `--cfg fuzzing` these are only the targets that need no private items.
pub const TARGETS: &[(&str, Target)] = &[
    ("clusters", targets::clusters::run),
    #[cfg(fuzzing)]
    ("compressing", adsum_channels::fuzzing::compressing),
    #[cfg(fuzzing)]
    ("connecting", adsum_channels::fuzzing::connecting),
    #[cfg(fuzzing)]
    ("envelopes", adsum_pubsub::fuzzing::envelopes),
    ("filters", targets::filters::run),
    #[cfg(fuzzing)]
    ("frames", adsum_channels::fuzzing::frames),
    #[cfg(fuzzing)]
    ("inflating", adsum_channels::fuzzing::inflating),
    #[cfg(fuzzing)]
    ("longpoll", adsum_channels::fuzzing::longpoll),
    ("metas", targets::metas::run),
    ("patterns", targets::patterns::run),
    ("replication", targets::replication::run),
    #[cfg(fuzzing)]
    ("sessions", adsum_channels::fuzzing::sessions),
    #[cfg(fuzzing)]
    ("terms", adsum_channels::fuzzing::terms),
    ("tokens", targets::tokens::run),
    #[cfg(fuzzing)]
    ("version_1", adsum_channels::fuzzing::version_1),
    #[cfg(fuzzing)]
    ("version_2", adsum_channels::fuzzing::version_2),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
