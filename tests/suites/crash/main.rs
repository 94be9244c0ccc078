//! Ended at every step of a write (`docs/spec/08-at-rest.md`, "Order of a write"): nothing that was acknowledged is lost,
//! everything that is there is whole, and the next command goes on.
//!
//! The binary has failpoints (`cargo lab`); at the chosen step the process ends at once, with no code of its own running
//! any more. Further kills come from outside, at random moments.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test, and counts are told on standard error"
)]

mod add;
mod gc;
mod init;
mod other;
