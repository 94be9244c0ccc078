//! The steps of a write at which the crash laboratory can stop the process or fail the disk (feature `failpoints`).
//!
//! With the feature off [`reach`] is empty. With it on, a point is set by `fail::cfg(name, action)`; the action
//! `return(…)` takes one of
//!
//! | Argument | What happens at the point |
//! |---|---|
//! | `abort` | the process ends at once, with a signal that it sends itself |
//! | `kill` | the process is killed, as by `kill -9` |
//! | `enospc` | the step fails with "no space left" |
//! | anything else | the step fails with an I/O error |
//!
//! The order of the points is the order of `docs/spec/08-at-rest.md`, "Order of a write"; [`ALL`] lists them.

use std::io;

/// A partial file of a pack exists, of full length and without content.
pub const PARTIAL_CREATED: &str = "partial-created";
/// A group that was fetched is written at its place, not synced.
pub const PARTIAL_WRITTEN: &str = "partial-written";
/// Everything of a partial file was compared with the hash; nothing of it is synced.
pub const PARTIAL_CHECKED: &str = "partial-checked";
/// A temporary file of a pack exists, empty.
pub const PACK_TEMP_CREATED: &str = "pack-temp-created";
/// Its bytes are written, not synced.
pub const PACK_WRITTEN: &str = "pack-written";
/// Its bytes are synced.
pub const PACK_SYNCED: &str = "pack-synced";
/// It has its final name, not durably.
pub const PACK_RENAMED: &str = "pack-renamed";
/// The name is durable; no row names the pack yet.
pub const PACK_DIR_SYNCED: &str = "pack-dir-synced";
/// All rows of a transaction are decided, none is written.
pub const DB_BEFORE_COMMIT: &str = "db-before-commit";
/// Rows are handed to redb, the commit is not begun.
pub const DB_WRITTEN: &str = "db-written";
/// The commit is durable; the caller does not know yet.
pub const DB_AFTER_COMMIT: &str = "db-after-commit";
/// For the engine: just before it tells the caller.
pub const ACK_BEFORE: &str = "ack-before";
/// For the engine: just after.
pub const ACK_AFTER: &str = "ack-after";
/// For the engine: pins of packs are dropped, nothing else is done to these yet.
pub const DELETE_UNPINNED: &str = "delete-unpinned";
/// A pack is marked as being deleted; its file is still there.
pub const DELETE_MARKED: &str = "delete-marked";
/// Its file is unlinked, not durably.
pub const DELETE_UNLINKED: &str = "delete-unlinked";
/// The unlinking is durable; the row is still there.
pub const DELETE_DIR_SYNCED: &str = "delete-dir-synced";
/// A file of the home (`LOCKER`, `vault/…`) is written under its temporary name.
pub const FILE_WRITTEN: &str = "file-written";
/// It has its final name, not durably.
pub const FILE_RENAMED: &str = "file-renamed";
/// A new database is complete under its temporary name.
pub const DB_CREATED: &str = "db-created";
/// What can be told once of a new database was told; the home does not have it yet.
pub const DB_TOLD: &str = "db-told";

/// Every point.
pub const ALL: &[&str] = &[
    FILE_WRITTEN,
    FILE_RENAMED,
    DB_CREATED,
    DB_TOLD,
    PARTIAL_CREATED,
    PARTIAL_WRITTEN,
    PARTIAL_CHECKED,
    PACK_TEMP_CREATED,
    PACK_WRITTEN,
    PACK_SYNCED,
    PACK_RENAMED,
    PACK_DIR_SYNCED,
    DB_BEFORE_COMMIT,
    DB_WRITTEN,
    DB_AFTER_COMMIT,
    ACK_BEFORE,
    ACK_AFTER,
    DELETE_UNPINNED,
    DELETE_MARKED,
    DELETE_UNLINKED,
    DELETE_DIR_SYNCED,
];

/// Stands at a step: does nothing unless the laboratory has set something for it.
///
/// # Errors
/// The injected one, to be treated as if the step itself had failed.
#[inline]
pub fn reach(point: &'static str) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(point, |how| {
        match how.as_deref() {
            Some("abort") => std::process::abort(),
            Some("kill") => {
                let killed =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                Err(killed.err().unwrap_or(rustix::io::Errno::INTR).into())
            }
            Some("enospc") => Err(io::ErrorKind::StorageFull.into()),
            _ => Err(io::Error::other("injected")),
        }
    });
    let _ = point;
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "failpoints")]
mod tests;
