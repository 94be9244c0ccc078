//! Two devices of one person as real processes on loopback: they pair, find one another through a meeting point, and
//! keep equal.

#![allow(clippy::unwrap_used, reason = "test code: a broken surrounding ends the test")]

mod apart;
mod links;
mod pairing;
mod replication;
mod set_back;
