//! The kit of the suites that look at the whole program from outside: homes, commands, trees of files, seeds, searches.
//!
//! The suites (`tests/suites`) run the built `locker` binary as a person or a script would and look at what is on the
//! disk. Nothing here links the product's code, so no test can pass because both sides share a fault. Tests of single
//! rooms stand in their crates.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test, and seeds and skipped parts are told on standard error"
)]

pub mod capture;
pub mod cluster;
pub mod deeds;
pub mod dice;
pub mod enclosure;
pub mod faults;
pub mod files;
pub mod home;
pub mod internet;
pub mod lab;
pub mod media;
pub mod power;
pub mod program;
pub mod search;
pub mod snapshot;
pub mod tree;
pub mod wait;

pub use cluster::{Meeting, Up};
pub use dice::Dice;
pub use home::Home;
pub use program::{Outcome, Program};
pub use tree::Tree;
