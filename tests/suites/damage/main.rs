//! Bytes that turn, files that are cut or gone, disks that are full: everything is noticed before use, nothing wrong is
//! given out, nothing is made anew over what was there (`docs/spec/08-at-rest.md`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test, and counts and skipped parts are told on standard error"
)]

mod commands;
mod database;
mod each_byte;
mod full_disk;
mod home_files;
mod packs;
mod stopped;
mod whole;
