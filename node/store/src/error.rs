//! Why the store could not do what was asked; one enum, a variant wherever a caller would act differently
//! (`docs/spec/08-at-rest.md`, "Errors").

use std::io;
use std::path::{Path, PathBuf};

use locker_catalog::rows::RowError;
use locker_crypto::Refusal;
use locker_crypto::id::PackHash;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database or a file of the home is not what was written. Nothing is repaired or written over: the caller
    /// stops and reports an integrity failure.
    #[error("the locker's own data is damaged: {what}")]
    Corrupt {
        /// What was looked at, in words, without names or secrets.
        what: String,
    },
    /// The pack file differs from its hash or length. The caller marks the pack lost and takes it from elsewhere.
    #[error("pack {pack} is damaged")]
    Damaged {
        /// The pack.
        pack: PackHash,
    },
    /// There is no such pack file.
    #[error("pack {pack} is not here")]
    Absent {
        /// The pack.
        pack: PackHash,
    },
    /// The caller's own bytes were refused: a pack that is not named by its hash, too long or empty.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The disk is full, or so nearly full that new content is refused. Deleting still works.
    #[error("the disk is full")]
    Full,
    /// The file system is read-only.
    #[error("the file system is read-only")]
    ReadOnly,
    /// Somebody else has the database or this partial pack open, or readers are still alive where none may be.
    #[error("the database or a pack is in use")]
    Busy,
    /// Another process has this home open.
    #[error("the locker is already open{}", match pid { Some(pid) => format!(" in process {pid}"), None => String::new() })]
    Locked {
        /// The other process, where it could be read.
        pid: Option<u32>,
    },
    /// Made by a newer locker. Nothing was touched.
    #[error("this home was made by a newer locker (format {found}, this program knows {known})")]
    NewerFormat {
        /// The format number found.
        found: u64,
        /// The newest one that this program knows.
        known: u64,
    },
    /// The folder is not the home of a locker.
    #[error("{} is not the home of a locker", path.display())]
    NotAHome {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds something else, or a locker already: nothing is begun in it.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A symbolic link where the locker keeps a file or folder of its own, or another user's file.
    #[error("{} is refused: it is a symbolic link, of another kind, or belongs to another user", path.display())]
    Unsafe {
        /// What was found.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{what} failed on {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier commit, sync or page failed; this handle acknowledges nothing any more. Close it and open it again.
    #[error("an earlier write failed: the store must be opened again")]
    Poisoned,
}

impl StoreError {
    /// Names damage.
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        StoreError::Corrupt { what: what.into() }
    }

    /// Sorts an error of the operating system.
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly,
            _ => StoreError::Io { what, path: path.to_owned(), source },
        }
    }
}

impl From<StoreError> for RowError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { .. } => RowError::Corrupt(Refusal::Tag),
            other => RowError::Storage(Box::new(other)),
        }
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Corrupt(why) => StoreError::corrupt(format!("a row: {why}")),
            RowError::Storage(source) => match source.downcast::<StoreError>() {
                Ok(own) => *own,
                Err(_) => StoreError::Poisoned,
            },
            _ => StoreError::Poisoned,
        }
    }
}
