//! A new device joins a person (`docs/spec/07-links.md`, section 6; bytes: `docs/spec/12-sync.md`,
//! section 4).
//!
//! ```text
//! new (initiates)                     old (holds the ticket)
//!   Noise message 1  ─────────────►     refused unless it is under the ticket
//!   ◄─────────────  Noise message 2
//!   Noise message 3, NAME  ───────►
//!        both show six digits; the user confirms on both
//!   CONFIRM  ─────────────────────►
//!   ◄─────────────────────  CONFIRM
//!   ◄────────────  WELCOME: PersonId     from here on only after both confirmed
//!   ENROL: keys, name, pop_sig  ──►
//!   ◄────────  GRANT: log, PUK, boxes
//!   DONE  ────────────────────────►
//! ```
//!
//! The name is no secret: the old device must show it beside the digits. The PersonId goes before ENROL because pop_sig
//! signs it. Each frame on the wire carries one Noise message of at most 65,535 bytes; inside the channel runs a
//! stream of frames of its own.
//!
//! Misuse that breaks it: confirming without comparing the digits; a ticket that goes on after [`Runs`] ended it.

mod channel;
mod machine;
mod message;
mod runs;

pub use machine::{NewDevice, NewStep, OldDevice, OldStep};
pub use message::{Custody, Enrol, Grant, Name, Role};
pub use runs::Runs;

#[cfg(test)]
mod tests;
