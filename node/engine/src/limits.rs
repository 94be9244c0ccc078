//! Every bound of the engine: what may be under way at once, and how much is done in one step.

/// Bytes of files that are read and sealed ahead of the packs, in plain and sealed form together about twice this.
pub(crate) const IN_FLIGHT_BYTES: u64 = 16 << 20;
/// Pieces of work ahead of the packs; when full, the walk waits.
pub(crate) const IN_FLIGHT_JOBS: usize = 512;
/// A file of at least this size is cut as a stream; a smaller one is read whole by one worker.
pub(crate) const STREAM_SIZE_MIN: u64 = locker_crypto::pack::SOLID_SIZE_MIN;
/// Bytes read at once for the cutter: a multiple of the longest chunk. So much stays in memory until the last chunk of
/// it is sealed.
pub(crate) const READ_WINDOW: usize = 2 * locker_crypto::cut::CHUNK_LEN_MAX;
/// A batch is committed when it has so many files …
pub(crate) const BATCH_FILES: usize = 4_000;
/// … or so many bytes of packs.
pub(crate) const BATCH_PACK_BYTES: u64 = 256 << 20;
/// … or when so much time has passed since the last commit: with many small batches an import on a slow disk would spend
/// its time in syncing, with rare ones a kill would cost too much.
pub(crate) const BATCH_TIME: std::time::Duration = std::time::Duration::from_secs(1);
/// Threads of an import that write packs: while one hashes, another waits for the disk.
pub(crate) const PACK_WRITERS: usize = 2;
/// Closed packs, of 16 MiB at most, that wait for one of them: none, gathering waits.
pub(crate) const PACKS_QUEUED: usize = 0;
/// Closed batches that wait to be committed; when full, gathering waits.
pub(crate) const BATCHES_QUEUED: usize = 1;
/// Operations of one log entry (`docs/spec/10-limits.md`: 1,024) and room left in its body.
pub(crate) const ENTRY_OPS: usize = 1_000;
/// Bytes of operations in one log entry; the limit of the body is 262,140.
pub(crate) const ENTRY_BYTES: usize = 64_000;
/// Deepest folder that is taken in below one argument; the tree's own limit is 256.
pub(crate) const IMPORT_DEPTH_MAX: usize = 250;
/// Chunks of a space that an import keeps in mind, about 16 bytes each; with more of them it asks the database.
pub(crate) const KNOWN_TAGS_MAX: usize = 2_000_000;
/// How often a file is read again that changes while it is read.
pub(crate) const READ_TRIES: u32 = 3;
/// A file changed so shortly before its stamp was taken may change again without a new stamp: it is read again.
pub(crate) const STAMP_SETTLE_NS: i64 = 2_000_000_000;
/// Files written at once by `get`.
pub(crate) const EXPORT_AHEAD_BYTES: usize = 32 << 20;
/// Packs that a reader keeps open; with more it begins anew.
pub(crate) const OPEN_PACKS: usize = 64;
/// Most reports of progress in a second.
pub(crate) const PROGRESS_HZ: u32 = 10;
/// Findings that `verify` names one by one.
pub(crate) const FINDINGS_MAX: usize = 1_000;
/// Packs that reads found damaged and that wait to be looked at as a whole.
pub(crate) const SUSPECTS_MAX: usize = 1_024;
/// How long `verify` waits to have the database alone, so that its pages can be checked as well as its rows.
pub(crate) const EXCLUSIVE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);
