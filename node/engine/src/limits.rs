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
pub(crate) const BATCH_PACK_BYTES: u64 = 64 << 20;
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
/// Before it reads them it asks the database so often: a short import is over by then.
pub(crate) const KNOWN_TAGS_AFTER: u32 = 512;
/// Names that an import looks up one by one in a folder before it reads all that is in it: one for so many children.
pub(crate) const CHILDREN_PER_LOOK: u64 = 64;
/// How often a file is read again that changes while it is read.
pub(crate) const READ_TRIES: u32 = 3;
/// A file changed so shortly before its stamp was taken may change again without a new stamp: it is read again.
pub(crate) const STAMP_SETTLE_NS: i64 = 2_000_000_000;
/// Bytes of one file that `get` holds, opened and to be written.
pub(crate) const EXPORT_AHEAD_BYTES: usize = 32 << 20;
/// Large files that `get` writes side by side: while one waits for the disk, others are opened.
pub(crate) const EXPORT_WRITERS: usize = 3;
/// From this size on, on the average, files are large.
pub(crate) const EXPORT_LARGE: u64 = 1 << 20;
/// Proofs that a device is asked for in a day (`docs/decisions/0019-audits.md`).
pub(crate) const AUDITS_PER_DAY: u32 = 24;
/// The same of one that is new, or failed not long ago, and in one run of `audit`.
pub(crate) const AUDITS_PER_DAY_CLOSE: u32 = 480;
/// So often one question without an answer is a failure …
pub(crate) const MISSES_MAX: u32 = 3;
/// … with at least so many seconds from one time to the next.
pub(crate) const MISS_PAUSE_S: u64 = 1_200;
/// For how many seconds a proof or a failure counts.
pub(crate) const PROOF_FRESH_S: u64 = 7 * 86_400;
/// For how many seconds others promise to keep what is let go here.
pub(crate) const LEASE_S: u32 = 86_400;
/// How long a replica is still found under the slot that it had before the present one, in seconds: 90 days.
pub(crate) const OLDER_SLOT_S: u64 = 90 * 86_400;
/// How many of the devices that it ended a home remembers; the oldest go first.
pub(crate) const REMOVALS_NOTED_MAX: usize = 64;
/// For how many days at least, by the clock and of running, a key of the person is heard that another one followed …
pub(crate) const OLDER_KEY_DAYS: u32 = 90;
/// … and how many of them at once, with the one in use half as many as a knock holds; the oldest go first.
pub(crate) const OLDER_KEYS_MAX: u32 = 15;
/// Most copies on other devices that can be asked for.
pub(crate) const COPIES_MAX: u32 = 8;
/// Packs that a reader keeps open; with more it begins anew.
pub(crate) const OPEN_PACKS: usize = 64;
/// Most reports of progress in a second.
pub(crate) const PROGRESS_HZ: u32 = 10;
/// From so many children on, a folder that is listed is read by several threads …
pub(crate) const LIST_ALONE_MAX: u64 = 4_096;
/// … at most so many.
pub(crate) const LIST_THREADS_MAX: usize = 4;
/// Up to so many files and folders, `status` tells the hash of the tree unasked: every one is read for it.
pub(crate) const STATE_HASH_QUICK_NODES: u64 = 20_000;
/// Keys that this home had before and remembers, for what it wrote under them.
pub(crate) const REBIRTHS_MAX: usize = 64;
/// Drives that a device knows.
pub(crate) const DRIVES_MAX: usize = 64;
/// Files that a drill draws by lot and reads …
pub(crate) const DRILL_FILES: usize = 16;
/// … to the last byte up to this size, …
pub(crate) const DRILL_WHOLE_BYTES_MAX: u64 = 64 << 20;
/// … and so much of larger ones.
pub(crate) const DRILL_PART_BYTES: u64 = 4 << 20;
/// Bytes of entries that wait in memory for the secret of their epoch; what finds no room is pulled again later.
pub(crate) const UNOPENED_BYTES_MAX: usize = 64 << 20;
/// Box bundles of one epoch that are kept: each device that adds another one makes one.
pub(crate) const BUNDLES_PER_EPOCH_MAX: usize = 16;
/// Findings that `verify` names one by one.
pub(crate) const FINDINGS_MAX: usize = 1_000;
/// Days of running for which what lies in the trash, and versions that were replaced, are kept.
pub(crate) const KEEP_DAYS: u32 = 30;
/// The same, in milliseconds.
pub(crate) const KEEP_MS: u64 = KEEP_DAYS as u64 * 86_400_000;
/// Days of running that are remembered one by one, so that none counts twice.
pub(crate) const DAYS_REMEMBERED: usize = 64;
/// References to chunks that `gc` holds in memory at a time, 8 bytes each; with more it walks the files once for each such
/// part.
pub(crate) const REFERENCES_MAX: usize = 2_000_000;
/// A pack is made anew when less than 1 / n of it is needed.
pub(crate) const NEEDED_FRACTION: u64 = 2;
/// A pack below this length is small …
pub(crate) const SMALL_PACK_BYTES: u32 = 1 << 20;
/// … and more small ones than these are put together.
pub(crate) const SMALL_PACKS_MAX: usize = 64;
/// Bytes that are copied into new packs before the old ones go.
pub(crate) const REPACK_BYTES: u64 = 256 << 20;
/// Chunks that are copied before the old packs go.
pub(crate) const REPACK_CHUNKS: usize = 65_536;
/// Packs that are let go in one commit.
pub(crate) const RELEASE_PACKS: usize = 512;
/// Packs that are pinned in one commit; a delta has at most 8,192.
pub(crate) const PIN_PACKS: usize = 4_096;
/// Rows on needs that are written in one commit.
pub(crate) const NEED_ROWS: usize = 16_384;
/// How often `gc` begins anew because the locker was changed while it looked.
pub(crate) const LOOKS_MAX: u32 = 4;
/// Packs that reads found damaged and that wait to be looked at as a whole.
pub(crate) const SUSPECTS_MAX: usize = 1_024;
/// How long `verify` waits to have the database alone, so that its pages can be checked as well as its rows.
pub(crate) const EXCLUSIVE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Files and folders that can be pinned.
pub(crate) const PINNED_MAX: usize = 1_024;
/// Packs of which it is written in one commit that they are not waited for.
pub(crate) const RULE_PACKS: usize = 4_096;
/// Files that are let go in one go because the rule does not ask for them.
pub(crate) const EXCESS_MAX: usize = 16_384;
/// Lists of large files that are fetched in one go.
pub(crate) const MANIFESTS_PER_LOOK: usize = 64;

/// How much of a replaced content is compared with what it had before, and how many are in one go.
pub(crate) const BEGIN_BYTES: u64 = 16;
pub(crate) const BEGINS_PER_LOOK: usize = 4_096;

/// Items of logs that came to a depot before what they need, and their bytes; the oldest go first.
pub(crate) const EARLY_ITEMS: usize = 4_096;
pub(crate) const EARLY_BYTES: usize = 8 << 20;

/// Entries of person logs that are known to be good, and the longest that are; larger ones are checked at each reading.
pub(crate) const CHECKED_ENTRIES: usize = 1_024;
pub(crate) const CHECKED_ENTRY_BYTES: usize = 4_096;
