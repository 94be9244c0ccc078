//! A device whose key more than one home has, or had: it was restored from an older copy, or copied
//! (`docs/spec/08-at-rest.md`, "A restored or copied home"). So is one whose clock was ahead when it wrote
//! (`docs/spec/04-spaces.md`, "Future clocks").
//!
//! | Room | Holds |
//! |---|---|
//! | [`doubt`] | what shows that the key is not this home's alone; from then on nothing is signed with it |
//! | [`ahead`] | what the clock is worth; whether the key wrote ahead of time |
//! | [`succession`] | the new key: drawn here, brought in by another device, taken |
//! | [`again`] | what entries said that do not count since then is written again |
//!
//! Never here: when a session asks for it, which is [`crate::node`]'s.

mod again;
mod ahead;
mod doubt;
mod succession;
#[cfg(test)]
mod tests;

pub(crate) use self::again::{Due, Left, Wrote};
pub(crate) use self::doubt::{Doubt, Sign};
pub(crate) use self::succession::{Rebirth, rebirths};
