//! Every number of this crate that bounds memory, disk or a file (`docs/spec/10-limits.md`).

/// Memory that redb may use for pages: 32 MiB (its own default is 1 GiB).
pub const CACHE_BYTES: usize = 32 << 20;
/// Longest pack in bytes.
pub const PACK_BYTES_MAX: u64 = 16_777_216;
/// Most chunks in one pack.
pub const PACK_CHUNKS_MAX: usize = 4_096;
/// Size of the file that is given up when the disk is full, so that deleting still works.
pub const RESERVE_BYTES: u64 = 16 << 20;
/// Free space below which new packs are refused.
pub const LOW_WATER_BYTES: u64 = 64 << 20;
/// What may be kept in memory of what opening a database writes, where its disk cannot be written.
pub const OVERLAY_BYTES_MAX: u64 = 64 << 20;
/// Largest file of `vault/`.
pub const VAULT_FILE_BYTES_MAX: u64 = 1 << 20;
/// Open temporary files of one batch of packs; when there are more, the oldest are synced and renamed first.
pub const BATCH_OPEN_FILES: usize = 64;
/// Largest database whose checksums are all verified on every opening; a larger one is checked after a crash (by
/// redb) and on request.
pub const CHECKED_ON_OPEN_BYTES: u64 = 64 << 20;
/// Database size from which every commit also saves what makes reopening after a crash quick.
pub const QUICK_REPAIR_BYTES: u64 = 256 << 20;
/// In a smaller database every n-th commit does.
pub const QUICK_REPAIR_EVERY: u64 = 32;

/// Growth of the database beyond a quarter since its opening from which on it is compacted on closing.
pub const COMPACT_GROWTH_BYTES: u64 = 8 << 20;
/// Largest database that is compacted on closing.
pub const COMPACT_BYTES_MAX: u64 = 256 << 20;

/// Sizes that differ between a server, a phone and a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`CACHE_BYTES`].
    pub cache_bytes: usize,
    /// See [`RESERVE_BYTES`]; 0 keeps no reserve.
    pub reserve_bytes: u64,
    /// See [`LOW_WATER_BYTES`].
    pub low_water_bytes: u64,
    /// See [`CHECKED_ON_OPEN_BYTES`].
    pub checked_on_open_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cache_bytes: CACHE_BYTES,
            reserve_bytes: RESERVE_BYTES,
            low_water_bytes: LOW_WATER_BYTES,
            checked_on_open_bytes: CHECKED_ON_OPEN_BYTES,
        }
    }
}
