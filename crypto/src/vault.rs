//! The vault key and what it seals on this device: its own wrap under a passphrase, values of the database, keyed
//! hashes of names (`docs/spec/08-at-rest.md`).
//!
//! | Room | Holds |
//! |---|---|
//! | [`wrap`], [`unwrap`] | `LKV1`: the vault key under a passphrase |
//! | [`stretch`], [`StretchCost`] | Argon2id, for wraps and link passphrases |
//! | [`TableKey`] | one value of a table sealed under its row key |
//! | [`NameHash`], [`DedupIndexKey`] | keyed hashes that stand in row keys in the place of what they hash |
//!
//! Never here: files, the keyring of the system, or when to lock.

mod stretch;
mod table;
mod wrap;

pub use stretch::{SALT_LEN, StretchCost, stretch};
pub use table::{DedupIndexKey, NameHash, TableKey, VALUE_OVERHEAD};
pub use wrap::{WRAP_LEN, unwrap, wrap};

#[cfg(test)]
mod tests;
