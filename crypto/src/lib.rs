//! Keys and sealed bytes of the locker: identity, key hierarchy, chunks and packs, log envelopes, capabilities,
//! links, pairing and the vault.
//!
//! This crate is pure. It never reads a clock, a random source, a file or a socket: bytes, times and dice come as
//! arguments and go out as return values. Every byte layout is described in `docs/spec`; the vectors in
//! `docs/spec/vectors` are run by this crate's tests.

pub mod aead;
pub mod capability;
pub mod capsule;
pub mod certificate;
pub mod chunk;
pub mod cut;
pub mod deposit;
pub mod derive;
pub mod encode;
pub mod entry;
pub mod epoch;
mod error;
pub mod file_ref;
pub mod id;
pub mod identity;
mod layout;
pub mod link;
pub mod pack;
pub mod pack_list;
pub mod pairing;
pub mod person;
pub mod phrase;
pub mod pin;
pub mod rendezvous;
#[cfg(test)]
mod sample;
pub mod sealed_box;
pub mod secret;
pub mod share;
pub mod sign;
pub mod vault;

pub use error::Refusal;
