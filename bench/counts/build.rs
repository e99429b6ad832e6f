//! Tells the program which compiler built it.

use std::{env, process::Command};

fn main() {
    let rustc = env::var("RUSTC").expect("cargo sets it");
    let version = Command::new(rustc).arg("--version").output().expect("it compiles this");
    let version = String::from_utf8(version.stdout).expect("a version is ASCII");
    // Such as "rustc 1.95.0 (59807616e 2026-04-14)".
    let number = version.split_whitespace().nth(1).expect("the second word is the version");
    println!("cargo:rustc-env=COMPILER={number}-{}", env::var("TARGET").expect("cargo sets it"));
    println!("cargo:rerun-if-changed=build.rs");
}
