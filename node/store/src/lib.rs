//! What a locker keeps on disk: a database whose every value is sealed, and the pack store, behind one wall.
//!
//! - [`home`]: the directory: modes, format, lock.
//! - [`Store`]: opening, reading ([`Snapshot`]) and changing ([`WriteTxn`]) the database; deleting packs.
//! - [`rows`]: the catalog's rows of one space.
//! - [`settings`], [`keyring`], [`objects`], [`persons`], [`index`], [`unneeded`], [`pins`], [`files`], [`links`], [`addresses`], [`opaque`], [`replicas`]: one module for each kind of
//!   row of the store's own; `tables.rs` has every key and value in words.
//! - [`packs`]: pack files and their outboards; [`direct`]: writing past the page cache.
//!
//! Everything here is synchronous and may block on the disk. No type of redb leaves the crate; no file name, no path
//! and no secret enters a key or an error. Pure decisions (what is referenced, what may be deleted) are made above.

mod block;
mod error;
mod health;
mod seal;
mod tables;

pub mod addresses;
pub mod audits;
mod database;
pub mod direct;
pub mod failpoints;
pub mod files;
pub mod home;
pub mod index;
pub mod keyring;
pub mod leases;
pub mod limits;
pub mod links;
pub mod manifests;
pub mod objects;
pub mod opaque;
pub mod packs;
pub mod persons;
pub mod pins;
pub mod remembered;
pub mod replicas;
mod reserve;
pub mod rows;
pub mod settings;
mod snapshot;
mod store;
#[cfg(test)]
mod test_kit;
mod transaction;
mod trial;
pub mod unneeded;
mod wiped;

pub use error::StoreError;
pub use home::Home;
pub use limits::Limits;
pub use packs::{PackBatch, PackStore, WrittenPack};
pub use snapshot::{BlockChecked, Reads, Snapshot, View};
pub use store::{Dice, Recovery, Store};
pub use transaction::WriteTxn;
pub use trial::DiskTrial;
