//! redb behind the wall: opening without ever making a new database over an old one, and its errors in our words
//! (`docs/spec/08-at-rest.md`, "Database").

use std::fs::OpenOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, TableDefinition,
    TableError, TransactionError, WriteTransaction,
};

use crate::health::Health;
use crate::home::{create_file, open_file};
use crate::{Limits, StoreError, home};

/// An opened database. Closing one writes to it, which damaged pages can make panic: that is caught here, since
/// there is nothing left to tell anybody.
pub(crate) struct Opened {
    /// Always there until dropped.
    database: Option<Database>,
}

impl Opened {
    /// Begins to read the last commit.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        self.get()?.begin_read()
    }

    /// Begins to write; waits for another writer.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, TransactionError> {
        self.get()?.begin_write()
    }

    /// Closes the database and says how that went.
    pub(crate) fn close(mut self) -> Result<(), DatabaseError> {
        self.database.take().map_or(Ok(()), Database::close)
    }

    /// Gives the database alone to a call that needs it so.
    pub(crate) fn get_mut(&mut self) -> Result<&mut Database, StoreError> {
        self.database.as_mut().ok_or(StoreError::Poisoned)
    }

    fn get(&self) -> Result<&Database, TransactionError> {
        self.database.as_ref().ok_or(TransactionError::Storage(StorageError::DatabaseClosed))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let database = self.database.take();
        // The next opening repairs what this closing could not write.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

/// Every table of redb maps bytes to bytes.
pub(crate) fn definition(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

/// Makes an empty database in a file that must not exist, and closes it.
pub(crate) fn create(path: &Path, cache_bytes: usize) -> Result<Opened, StoreError> {
    let file = create_file(path)?;
    open_backend(path, file, cache_bytes, false)
}

/// Opens a database that is there. Up to [`Limits::checked_on_open_bytes`] every page's checksum is verified.
///
/// # Errors
/// [`StoreError::Corrupt`] for whatever is not a whole database: missing, empty, cut short, altered.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Opened, StoreError> {
    match home::check_kind(path, home::Kind::File) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::corrupt("the database is missing"));
        }
        other => other?,
    }
    home::set_mode(path, 0o600)?;
    let file = open_file(path, OpenOptions::new().read(true).write(true))?;
    let len = file.metadata().map_err(|error| StoreError::io("looking at", path, error))?.len();
    if len == 0 {
        // redb would begin a new database in an empty file.
        return Err(StoreError::corrupt("the database is empty"));
    }
    open_backend(path, file, limits.cache_bytes, len <= limits.checked_on_open_bytes)
}

fn open_backend(
    path: &Path,
    file: std::fs::File,
    cache_bytes: usize,
    check: bool,
) -> Result<Opened, StoreError> {
    let errors = Errors::new(path);
    // A panic here has no handle to poison: nothing was opened.
    Health::default().guard(|| {
        let backend = FileBackend::new(file).map_err(|error| errors.database(error))?;
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(check)
            .create_with_backend(backend)
            .map_err(|error| errors.database(error))?;
        Ok(Opened { database: Some(database) })
    })
}

/// Turns redb's errors into ours.
#[derive(Clone, Debug)]
pub(crate) struct Errors {
    path: PathBuf,
}

impl Errors {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn storage(&self, error: StorageError) -> StoreError {
        match error {
            StorageError::Io(source)
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::InvalidData
                        | std::io::ErrorKind::UnexpectedEof
                        | std::io::ErrorKind::InvalidInput
                ) =>
            {
                StoreError::corrupt("the database file")
            }
            StorageError::Io(source) => StoreError::io("the database", &self.path, source),
            StorageError::Corrupted(_) => StoreError::corrupt("the database"),
            _ => StoreError::Poisoned,
        }
    }

    pub(crate) fn database(&self, error: DatabaseError) -> StoreError {
        match error {
            DatabaseError::DatabaseAlreadyOpen
            | DatabaseError::LockProtocolMismatch
            | DatabaseError::TransactionInProgress => StoreError::Busy,
            DatabaseError::Storage(error) => self.storage(error),
            _ => StoreError::corrupt("the database cannot be repaired or has an unknown form"),
        }
    }

    pub(crate) fn transaction(&self, error: TransactionError) -> StoreError {
        match error {
            TransactionError::Storage(error) => self.storage(error),
            _ => StoreError::Busy,
        }
    }

    pub(crate) fn table(&self, error: TableError) -> StoreError {
        match error {
            TableError::Storage(error) => self.storage(error),
            _ => StoreError::corrupt("a table of the database is of another kind"),
        }
    }

    pub(crate) fn commit(&self, error: CommitError) -> StoreError {
        match error {
            CommitError::Storage(error) => self.storage(error),
            _ => StoreError::Poisoned,
        }
    }
}
