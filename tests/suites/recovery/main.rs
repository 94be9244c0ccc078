//! Everything back from the 24 words, as real processes: from a device that still runs, from its folder, from a drive; and
//! what is refused on the way. T67 and the recovery part of T23 and T32 by id.

#![allow(clippy::unwrap_used, reason = "test code: a broken surrounding ends the test")]

mod drill;
mod drives;
mod phrase;
mod replica;
mod revoked;
mod whole;
