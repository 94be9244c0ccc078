//! Copies on other devices: what was proved, what was promised, and what may be let go here on the strength of both
//! (`docs/spec/12-sync.md`, "Proofs" and "Leases"; `docs/spec/08-at-rest.md`, "Letting go").
//!
//! | Room | Holds |
//! |---|---|
//! | `challenge` | what a holder is asked for: pure |
//! | `standing` | what proofs and failures of a device come to: pure |
//! | `lease` | what this device promises to others |
//! | `rule` | what this device is to keep |
//! | `free` | letting go what enough others were proved to hold, and getting it back |
//!
//! Never here: who is asked when; that is the node's (`node/prove.rs`, `node/audit.rs`).

mod challenge;
mod free;
mod lease;
mod rule;
mod standing;

pub(crate) use self::challenge::Challenge;
pub(crate) use self::free::{free, keep_to_rule, pin};
pub(crate) use self::lease::Freeing;
pub use self::rule::Rule;
pub(crate) use self::rule::Ruled;
pub(crate) use self::standing::{Proof, Standing, note_set_back};
