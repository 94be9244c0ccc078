//! Merging: operations, logs, membership and the tree of a space.
//!
//! This crate is pure. It is given opened entries and ordered rows and decides what they mean; two devices with the
//! same set of entries end in the same state in whatever order these arrived. It never touches a disk, a wire, a
//! clock or a key.

pub mod access;
pub mod brake;
pub mod clock;
pub mod epochs;
pub mod fork;
pub mod log;
pub mod manifest;
pub mod name;
pub mod operation;
pub mod order;
pub mod roster;
pub mod rows;
pub mod space;
mod strike;
pub mod tree;
