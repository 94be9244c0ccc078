//! Two devices of one person as real processes: they pair, find one another through a meeting point on loopback or on the
//! local network, and keep equal.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test; figures and skipped parts are told on standard error"
)]

mod apart;
mod copies;
mod doctor;
mod healing;
mod held;
mod kills;
mod lan;
mod links;
mod pairing;
mod rates;
mod reborn;
mod replication;
mod room;
mod rules;
mod set_back;
