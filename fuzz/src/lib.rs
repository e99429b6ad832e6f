//! Fuzz targets for all that reads input from outside.
//!
//! A target is a function of bytes that panics where a property doesn't hold: never a panic of the decoder's
//! own, and what each file in `targets/` says besides. `tests/kept.rs` replays the corpus and tries mutations of
//! it briefly; `make fuzz` goes on for long, by libFuzzer where the machine has it.
//!
//! To add a target: a file in `targets/`, a line in [`TARGETS`], and a few inputs in `corpus/NAME/`.

pub mod driver;
mod targets;

/// A function of bytes.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("clusters", targets::clusters::run),
    ("connecting", targets::connecting::run),
    ("envelopes", targets::envelopes::run),
    ("filters", targets::filters::run),
    ("frames", targets::frames::run),
    ("longpoll", targets::longpoll::run),
    ("metas", targets::metas::run),
    ("patterns", targets::patterns::run),
    ("replication", targets::replication::run),
    ("sessions", targets::sessions::run),
    ("terms", targets::terms::run),
    ("tokens", targets::tokens::run),
    ("version_1", targets::version_1::run),
    ("version_2", targets::version_2::run),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
