//! The person log `LKP1`: which devices a person has, which root key counts, where the home space is
//! (`docs/spec/02-identity.md`, "Person log").
//!
//! | Room | Holds |
//! |---|---|
//! | [`Op`] | the operations, their bytes and the signatures inside them |
//! | [`Envelope`], [`Body`], [`Entry`] | the layout of an entry, read and written |
//! | [`Author`] | writing: `genesis`, `add_device`, `remove_device`, `recover`, `set_root`, `set_home`, `replace_device` |
//! | [`seal_key_box`] and others | PUK boxes, the way back, sealed device names, the dedup secret of the home space |
//! | [`Roster`] | a log checked in one given order, from genesis on |
//!
//! Never here: what concurrent entries make of one another. That needs all entries and is `locker-catalog`'s
//! membership; it reads the operations from here.

mod boxes;
mod entry;
mod op;
mod roster;
mod write;

pub use boxes::{
    KEY_BOX_LEN, PUK_BACK_LEN, dedup_meta_key, master_meta_key, meta_generation, name_meta_key, open_back,
    open_dedup, open_key_box, open_meta, open_name, seal_back, seal_dedup, seal_key_box, seal_meta,
    seal_name,
};
pub use entry::{Body, DEPS_MAX, Entry, Envelope, HEADER_LEN, Head, OPS_MAX};
pub use op::{DEVICE_NAME_LEN_MAX, Enrolment, Frontier, Op, Removal};
pub use roster::Roster;
pub use write::{Author, Candidate, Made, Place, Recovery, Succession};

#[cfg(test)]
mod tests;
