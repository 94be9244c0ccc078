//! redb behind the wall: opening without ever making a new database over an old one, and its errors in our words
//! (`docs/spec/08-at-rest.md`, "Database").

mod overlay;
mod watched;

use std::fs::{File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition, TableError, TransactionError, WriteTransaction,
};

use crate::health::Health;
use crate::home::{create_file, open_file};
use crate::{Limits, StoreError, home};
use overlay::Overlay;
use watched::{LastError, Watched};

/// An opened database. Closing one writes to it, which damaged pages can make panic: that is caught here, since
/// there is nothing left to tell anybody.
pub(crate) struct Opened {
    /// Always there until dropped.
    database: Option<Database>,
    errors: Errors,
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

    /// Closes the database; nothing can be asked of it any more.
    pub(crate) fn shut(&mut self) {
        let database = self.database.take();
        // The next opening repairs what this closing could not write.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }

    /// Closes the database and says how that went.
    pub(crate) fn close(mut self) -> Result<(), DatabaseError> {
        self.database.take().map_or(Ok(()), Database::close)
    }

    /// Gives the database alone to a call that needs it so.
    pub(crate) fn get_mut(&mut self) -> Result<&mut Database, StoreError> {
        self.database.as_mut().ok_or(StoreError::Poisoned)
    }

    /// What turns its errors into ours.
    pub(crate) fn errors(&self) -> &Errors {
        &self.errors
    }

    fn get(&self) -> Result<&Database, TransactionError> {
        self.database.as_ref().ok_or(TransactionError::Storage(StorageError::DatabaseClosed))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Every table of redb maps bytes to bytes.
pub(crate) fn definition(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

/// Makes an empty database in a file that must not exist, and closes it.
pub(crate) fn create(path: &Path, cache_bytes: usize) -> Result<Opened, StoreError> {
    let file = create_file(path)?;
    open_backend(path, cache_bytes, false, |errors| {
        FileBackend::new(file).map_err(|error| errors.database(error))
    })
}

/// Opens a database that is there. Up to [`Limits::checked_on_open_bytes`] every page's checksum is verified.
///
/// # Errors
/// [`StoreError::Corrupt`] for whatever is not a whole database: missing, empty, cut short, altered;
/// [`StoreError::ReadOnly`] where [`open_to_read`] may work.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Opened, StoreError> {
    let (file, check) = open_file_of(path, OpenOptions::new().read(true).write(true), limits)?;
    open_backend(path, limits.cache_bytes, check, |errors| {
        FileBackend::new(file).map_err(|error| errors.database(error))
    })
}

/// Opens a database that is there without writing to its disk. What a commit would write is lost with the handle: whoever
/// opens so begins none.
///
/// # Errors
/// [`StoreError::Corrupt`]; [`StoreError::ReadOnly`] if more would have to be put right than memory is given to.
pub(crate) fn open_to_read(path: &Path, limits: &Limits) -> Result<Opened, StoreError> {
    let (file, check) = open_file_of(path, OpenOptions::new().read(true), limits)?;
    open_backend(path, limits.cache_bytes, check, |_| {
        Overlay::new(file).map_err(|error| StoreError::io("looking at", path, error))
    })
}

/// Opens the file of a database, and says whether all its checksums are to be verified.
fn open_file_of(path: &Path, how: &OpenOptions, limits: &Limits) -> Result<(File, bool), StoreError> {
    match home::check_kind(path, home::Kind::File) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::corrupt("the database is missing"));
        }
        other => other?,
    }
    home::set_mode(path, 0o600)?;
    let file = open_file(path, how)?;
    let len = file.metadata().map_err(|error| StoreError::io("looking at", path, error))?.len();
    if len == 0 {
        // redb would begin a new database in an empty file.
        return Err(StoreError::corrupt("the database is empty"));
    }
    Ok((file, len <= limits.checked_on_open_bytes))
}

fn open_backend<B: StorageBackend>(
    path: &Path,
    cache_bytes: usize,
    check: bool,
    backend: impl FnOnce(&Errors) -> Result<B, StoreError>,
) -> Result<Opened, StoreError> {
    let errors = Errors::new(path);
    // A panic here has no handle to poison: nothing was opened.
    Health::default().guard(|| {
        let backend = backend(&errors)?;
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(check)
            .create_with_backend(Watched::new(backend, errors.last.clone()))
            .map_err(|error| errors.database(error))?;
        Ok(Opened { database: Some(database), errors: errors.clone() })
    })
}

/// Turns redb's errors into ours.
#[derive(Clone, Debug)]
pub(crate) struct Errors {
    path: PathBuf,
    last: LastError,
}

impl Errors {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), last: LastError::default() }
    }

    pub(crate) fn storage(&self, error: StorageError) -> StoreError {
        if let (StorageError::PreviousIo, Some(last)) = (&error, self.last.get())
            && !is_of_content(&last)
        {
            // Another thread may have been told.
            return StoreError::io("the database", &self.path, last);
        }
        match error {
            StorageError::Io(source) if is_of_content(&source) => StoreError::corrupt("the database file"),
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

/// Whether an error is one of what the file holds, and not of the disk.
fn is_of_content(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput)
}
