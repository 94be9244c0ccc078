//! Two devices of one person as real processes on loopback: they pair, find one another through a meeting point, and
//! keep equal.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test, and figures are told"
)]

mod kills;
mod pairing;
mod replication;
