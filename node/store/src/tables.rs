//! Every table of the database: its name, its key and its value in words (`docs/spec/08-at-rest.md`, "Tables").
//!
//! Rows are given as they are before sealing. Neighbouring rows of a table lie in one block (`block.rs`), and a block is
//! what redb keeps: under the key of its first row, nonce 24 || XChaCha20-Poly1305 under the key of its table with
//! AD = table || 00 || key, so that a block moved to another key or table does not open. Keys are random ids, hashes,
//! keyed hashes and counters, never a name; those of the first rows of blocks stand in the open. Integers in values are
//! little-endian; counters in keys are big-endian, so that the order of the bytes is the order of the numbers. A row of
//! an unexpected length is damage.
//!
//! | Table | Key | Value |
//! |---|---|---|
//! | `settings` | id u16 | bytes; ids below 0x0100 belong to the store (below), the others to the engine |
//! | `keyring` | kind u8, then the id of that kind | secret, 32 B |
//! | `objects` | ObjectHash 32 | the object's bytes |
//! | `bundles` | SpaceTag 16, EpochId 32, ObjectHash 32 | empty; the object is a box bundle of that epoch |
//! | `person` | PersonId 32, EntryId 32 | the signed `LKP1` entry |
//! | `packs` | PackHash 32 | number u32, len u32 (0: not known yet), state u8, verified_at u64 (unix seconds), then SpaceTag 16 of each space that has it |
//! | `pack-locs` | PackHash 32 | for each chunk in order: ChunkTag 16, sealed_len u32; offsets are the sums |
//! | `pack-numbers` | number u32 | PackHash 32 |
//! | `pack-recent` | PackHash 32 | empty; packs written since the last clean closing |
//! | `chunks` | SpaceTag 16, ChunkTag 16 | for each place: pack number u32, offset u32, sealed_len u32 |
//! | `scopes` | SpaceTag 16, PackHash 32 | empty; the packs of a space |
//! | `namings` | SpaceTag 16, PackHash 32 | hlc u64, author 32: the last operation that names the pack in the space |
//! | `unneeded` | SpaceTag 16, ChunkTag 16 | u32: the day of running on which no file was first seen to need the chunk |
//! | `ended-links` | LinkTag 16 | u32: the day of running on which the link was first seen to be over |
//! | `unpinned` | PackHash 32 | u32: the day of running on which a replica first saw that nobody pins the pack |
//! | `opaque` | SpaceTag 16, author 32, seq u64, EntryId 32 | an entry as it was signed, on a device that cannot open it |
//! | `replicas` | device 32 | unix seconds, bytes kept, quota, packs refused, each u64: what a replica said last |
//! | `replica-packs` | device 32, PackHash 32 | u64: when a replica last said that it holds the pack, unix seconds |
//! | `pins` | SpaceTag 16, author 32, PackHash 32 | empty; a standing pin |
//! | `pin-deltas` | SpaceTag 16, author 32, seq u64 | the signed `LKG1` delta |
//! | `remembered` | device 32, kind of log u8, SpaceTag 16, author 32 | number of items u64, unix seconds u64: how far another device was, and when it went back |
//! | `files` | BLAKE3.keyed_hash(KDF("dedup-index", VK), b3 of the file) 32 | FileRef bytes |
//! | `stats` | keyed hash of the absolute path 16 | dev u64, inode u64, size u64, mtime_ns i64, ctime_ns i64, ContentHash 32 |
//! | `addresses` | device_vk 32 | for each place, the last first, at most 4: IPv6 or mapped IPv4 16, port u16 |
//! | `leases` | PackHash 32 | u32: for how many seconds another device was promised that the pack stays here |
//! | `audits` | device_vk 32 | last proof, last failure u64, misses u32, proofs, set back u64, a silence if any |
//! | `manifests` | SpaceTag 16, ChunkTag 16, part u16 | plain bytes of a manifest chunk whose pack is away, at most 60,000 a part |
//! | `link-uses` | LinkTag 16 | u64: how often the link was used here |
//! | `rows/…` | SpaceTag 16, then the catalog's key | the catalog's value; one table for each table of the catalog |
//!
//! | State of a pack | Byte | Means |
//! |---|---|---|
//! | wanted | 0 | named by an operation, not here |
//! | present | 1 | durable here |
//! | lost | 2 | was present; the file is gone or damaged |
//! | deleting | 3 | its file is being removed; start-up finishes this |
//! | released | 4 | let go here on purpose; another device still pins it |
//! | away | 5 | needed, and let go here on purpose: other devices were proved to hold it |
//!
//! | Setting of the store | Id | Value |
//! |---|---|---|
//! | format | 0 | u64, 1 |
//! | next pack number | 1 | u64 |
//! | number of rows in `packs` | 2 | u64; a sweep that counts another number deletes nothing |
//! | clean | 3 | u64: 1 after a clean closing, 0 while open |
//!
//! Two more keys are derived like table keys and only hash: `keyed rows` for what the catalog must not show in keys
//! (BLAKE3 keyed, over SpaceTag || bytes, 16 B), `keyed paths` for the absolute paths of `stats`.

use std::borrow::Cow;

/// The name of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TableName {
    /// One of the store.
    Own(&'static str),
    /// One of the catalog.
    Rows(&'static str),
}

impl TableName {
    /// Returns the name that redb and the associated data carry.
    pub(crate) fn text(self) -> Cow<'static, str> {
        match self {
            TableName::Own(name) => Cow::Borrowed(name),
            TableName::Rows(name) => Cow::Owned(format!("rows/{name}")),
        }
    }
}

/// The format of all tables together.
pub(crate) const FORMAT: u64 = 1;

pub(crate) const SETTINGS: TableName = TableName::Own("settings");
pub(crate) const KEYRING: TableName = TableName::Own("keyring");
pub(crate) const OBJECTS: TableName = TableName::Own("objects");
pub(crate) const BUNDLES: TableName = TableName::Own("bundles");
pub(crate) const PERSON: TableName = TableName::Own("person");
pub(crate) const PACKS: TableName = TableName::Own("packs");
pub(crate) const PACK_LOCS: TableName = TableName::Own("pack-locs");
pub(crate) const PACK_NUMBERS: TableName = TableName::Own("pack-numbers");
pub(crate) const PACK_RECENT: TableName = TableName::Own("pack-recent");
pub(crate) const CHUNKS: TableName = TableName::Own("chunks");
pub(crate) const SCOPES: TableName = TableName::Own("scopes");
pub(crate) const NAMINGS: TableName = TableName::Own("namings");
pub(crate) const UNNEEDED: TableName = TableName::Own("unneeded");
pub(crate) const ENDED_LINKS: TableName = TableName::Own("ended-links");
pub(crate) const UNPINNED: TableName = TableName::Own("unpinned");
pub(crate) const OPAQUE: TableName = TableName::Own("opaque");
pub(crate) const REPLICAS: TableName = TableName::Own("replicas");
pub(crate) const REPLICA_PACKS: TableName = TableName::Own("replica-packs");
pub(crate) const PINS: TableName = TableName::Own("pins");
pub(crate) const PIN_DELTAS: TableName = TableName::Own("pin-deltas");
pub(crate) const REMEMBERED: TableName = TableName::Own("remembered");
pub(crate) const FILES: TableName = TableName::Own("files");
pub(crate) const STATS: TableName = TableName::Own("stats");
pub(crate) const ADDRESSES: TableName = TableName::Own("addresses");
pub(crate) const LEASES: TableName = TableName::Own("leases");
pub(crate) const AUDITS: TableName = TableName::Own("audits");
pub(crate) const MANIFESTS: TableName = TableName::Own("manifests");
pub(crate) const LINK_USES: TableName = TableName::Own("link-uses");
pub(crate) const KEYED_ROWS: &str = "keyed rows";
pub(crate) const KEYED_PATHS: &str = "keyed paths";
