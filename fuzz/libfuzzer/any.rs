//! Runs the target that the environment names as FUZZ_TARGET.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    fuzz::target(&name).unwrap_or_else(|| panic!("no target is named {name:?}"))
});

fuzz_target!(|data: &[u8]| TARGET(data));
