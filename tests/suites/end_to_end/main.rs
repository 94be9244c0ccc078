//! One device, from outside: what goes in comes out, what is organised stays organised, what is asked of two processes
//! at once is done, and nothing of it can be read on the disk without the keys.
//!
//! `LOCKER_BIG=1` makes the large file 3 GiB instead of 96 MiB.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test, and skipped parts are told on standard error"
)]

mod leave;
mod many;
mod organise;
mod passphrase;
mod ranges;
mod round_trip;
mod secrecy;
mod together;
