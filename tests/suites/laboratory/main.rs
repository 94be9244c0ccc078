//! The laboratory: disks that lose power, fail, are full or read-only, and clocks that jump. Whatever happens: what was
//! acknowledged is there, nothing is half, nothing needs a hand (`docs/laboratory.md`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test, and counts and skipped parts are told on standard error"
)]

mod clocks;
mod disks;
mod faults;
mod power_cuts;

use std::path::Path;

/// The program that serves disks.
fn disk_server() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_locker-lab-disks"))
}

/// A number from the environment, else the one given.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}
