//! The home directory: who may read it, which format it has, that one process holds it (`docs/spec/08-at-rest.md`,
//! "Home").
//!
//! ```text
//! LOCKER          "locker home 1\n"
//! lock            locked by the running process, its number inside
//! locker.redb     the database, every value sealed (`.new`, `.untold`: while a home begins)
//! reserve         given up when the disk is full
//! vault/          wraps of the vault key
//! packs/xx/…      one file per pack, named by its hash under its first two digits
//! packs/tmp/      packs being written
//! packs/partial/  packs being fetched, each under its hash
//! ```
//! Directories are 0700 and files 0600 whatever the umask; what is found looser is tightened. Symbolic links are
//! refused. Nothing here knows what the files contain.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::failpoints::{self, reach};
use crate::{StoreError, limits};

#[cfg(test)]
mod tests;

/// The newest format of a home that this program knows.
pub const HOME_FORMAT: u64 = 1;

const MARK: &str = "LOCKER";
const MARK_NEW: &str = "LOCKER.new";
const LOCK: &str = "lock";
const VAULT: &str = "vault";
const DATABASE: &str = "locker.redb";
const DATABASE_NEW: &str = "locker.redb.new";
const DATABASE_UNTOLD: &str = "locker.redb.untold";
const RESERVE: &str = "reserve";
const PACKS: &str = "packs";
const TMP: &str = "tmp";
const PARTIAL: &str = "partial";

/// An opened home. This process holds it until the value is dropped.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Home {
    /// Begins a home in a folder that is missing or empty, and locks it.
    ///
    /// A home whose beginning was interrupted before it had a database is begun again. Syncs a few files.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] if the folder holds anything else or a complete home; [`StoreError::Unsafe`],
    /// [`StoreError::Locked`], [`StoreError::NewerFormat`], [`StoreError::Full`], [`StoreError::ReadOnly`] and
    /// [`StoreError::Io`] as they say.
    pub fn init(path: &Path) -> Result<Self, StoreError> {
        match fs::symlink_metadata(path) {
            Ok(_) => check_kind(path, Kind::Folder)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    fs::create_dir_all(parent)
                        .map_err(|error| StoreError::io("creating a folder", parent, error))?;
                }
                make_folder(path)?;
            }
            Err(error) => return Err(StoreError::io("looking at the home", path, error)),
        }
        if path.join(MARK).symlink_metadata().is_ok() {
            read_mark(path)?;
            if path.join(DATABASE).symlink_metadata().is_ok() || holds_packs(path)? {
                return Err(StoreError::NotEmpty { path: path.to_owned() });
            }
        } else if has_strangers(path)? {
            return Err(StoreError::NotEmpty { path: path.to_owned() });
        }
        set_mode(path, 0o700)?;
        let lock = take_lock(path)?;
        // Nobody was told of it, and the vault that is made next does not open it.
        remove_file(&path.join(DATABASE_UNTOLD))?;
        replace_file(path, MARK, format!("locker home {HOME_FORMAT}\n").as_bytes())?;
        for folder in [VAULT, PACKS, "packs/tmp", "packs/partial"] {
            make_folder(&path.join(folder))?;
        }
        sync_folder(&path.join(PACKS))?;
        sync_folder(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens a home and locks it; tightens modes that are too wide.
    ///
    /// # Errors
    /// [`StoreError::NotAHome`] without a format file, [`StoreError::NewerFormat`], [`StoreError::Corrupt`] if the
    /// format file is not one, [`StoreError::Locked`], [`StoreError::Unsafe`], [`StoreError::ReadOnly`],
    /// [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match fs::symlink_metadata(path) {
            Ok(_) => check_kind(path, Kind::Folder)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotAHome { path: path.to_owned() });
            }
            Err(error) => return Err(StoreError::io("looking at the home", path, error)),
        }
        read_mark(path)?;
        set_mode(path, 0o700)?;
        let lock = take_lock(path)?;
        set_mode(&path.join(MARK), 0o600)?;
        for folder in [VAULT, PACKS, "packs/tmp", "packs/partial"] {
            let folder = path.join(folder);
            make_folder(&folder)?;
            check_kind(&folder, Kind::Folder)?;
            set_mode(&folder, 0o700)?;
        }
        let home = Self { path: path.to_owned(), _lock: lock };
        for file in home.files(VAULT)? {
            set_mode(&home.path.join(VAULT).join(file), 0o600)?;
        }
        Ok(home)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a database has been made in this home.
    pub fn has_database(&self) -> bool {
        self.database().symlink_metadata().is_ok()
    }

    /// Lists the names of the files in `vault/`, sorted.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] if one is not a plain file; [`StoreError::Io`].
    pub fn vault_files(&self) -> Result<Vec<String>, StoreError> {
        self.files(VAULT)
    }

    /// Reads a file of `vault/`; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is longer than [`limits::VAULT_FILE_BYTES_MAX`]; [`StoreError::Unsafe`],
    /// [`StoreError::Io`].
    pub fn read_vault(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.vault_path(name)?;
        let mut bytes = Vec::new();
        let file = match open_file(&path, OpenOptions::new().read(true)) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        file.take(limits::VAULT_FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| StoreError::io("reading", &path, error))?;
        if bytes.len() as u64 > limits::VAULT_FILE_BYTES_MAX {
            return Err(StoreError::corrupt("a vault file is too long"));
        }
        Ok(Some(bytes))
    }

    /// Writes a file of `vault/` durably, over an earlier one: after a crash the old or the new bytes stand there.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`], [`StoreError::Io`]; the old file then stands.
    pub fn write_vault(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.vault_path(name)?;
        replace_file(&self.path.join(VAULT), name, bytes)
    }

    /// Removes a file of `vault/` durably, if it is there.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::Io`].
    pub fn remove_vault(&self, name: &str) -> Result<(), StoreError> {
        remove_file(&self.vault_path(name)?)?;
        sync_folder(&self.path.join(VAULT))
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(crate) fn new_database(&self) -> PathBuf {
        self.path.join(DATABASE_NEW)
    }

    /// Takes a complete new database under a name that lasts, but under which it is not yet the home's.
    pub(crate) fn complete_database(&self) -> Result<(), StoreError> {
        self.rename_database(DATABASE_NEW, DATABASE_UNTOLD, failpoints::DB_CREATED)
    }

    /// Makes a complete new database the home's, if there is one: from now on the home is never begun again. Opening the
    /// store does it too.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`], [`StoreError::Io`]. It can be tried again.
    pub fn adopt_database(&self) -> Result<(), StoreError> {
        if self.has_database() || self.path.join(DATABASE_UNTOLD).symlink_metadata().is_err() {
            return Ok(());
        }
        self.rename_database(DATABASE_UNTOLD, DATABASE, failpoints::DB_TOLD)
    }

    fn rename_database(&self, from: &str, to: &str, point: &'static str) -> Result<(), StoreError> {
        let path = self.path.join(to);
        reach(point)
            .and_then(|()| fs::rename(self.path.join(from), &path))
            .map_err(|error| StoreError::io("creating the database", &path, error))?;
        sync_folder(&self.path)
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.path.join(RESERVE)
    }

    pub(crate) fn packs(&self) -> PathBuf {
        self.path.join(PACKS)
    }

    pub(crate) fn packs_tmp(&self) -> PathBuf {
        self.path.join(PACKS).join(TMP)
    }

    pub(crate) fn packs_partial(&self) -> PathBuf {
        self.path.join(PACKS).join(PARTIAL)
    }

    fn vault_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err(StoreError::Unsafe { path: PathBuf::from(name) });
        }
        Ok(self.path.join(VAULT).join(name))
    }

    fn files(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.path.join(folder);
        let mut names = Vec::new();
        for name in list(&folder)? {
            check_kind(&folder.join(&name), Kind::File)?;
            // What an interrupted writing left is not a file of the vault.
            if let Some(name) = name.into_string().ok().filter(|name| !name.ends_with(".new")) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// What a path must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Folder,
    /// A plain file.
    File,
}

/// Refuses symbolic links, other kinds and other owners.
pub(crate) fn check_kind(path: &Path, kind: Kind) -> Result<(), StoreError> {
    let found = fs::symlink_metadata(path).map_err(|error| StoreError::io("looking at", path, error))?;
    let right = match kind {
        Kind::Folder => found.is_dir(),
        Kind::File => found.is_file(),
    };
    if !right || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(StoreError::Unsafe { path: path.to_owned() });
    }
    Ok(())
}

/// Opens a file without following a link in its last part; new ones are 0600 whatever the umask.
pub(crate) fn open_file(path: &Path, options: &OpenOptions) -> Result<File, StoreError> {
    let mut options = options.clone();
    // The flag constants of the platform are small positive numbers.
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            StoreError::Unsafe { path: path.to_owned() }
        }
        _ => StoreError::io("opening", path, error),
    })?;
    let found = file.metadata().map_err(|error| StoreError::io("looking at", path, error))?;
    if !found.is_file() {
        return Err(StoreError::Unsafe { path: path.to_owned() });
    }
    Ok(file)
}

/// Creates a file that must not exist yet, 0600.
pub(crate) fn create_file(path: &Path) -> Result<File, StoreError> {
    let file = open_file(path, OpenOptions::new().read(true).write(true).create_new(true))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(|error| StoreError::io("setting the mode", path, error))?;
    Ok(file)
}

/// Creates a directory 0700 if it is missing; tells whether it was.
pub(crate) fn make_folder(path: &Path) -> Result<bool, StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            set_mode(path, 0o700)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(StoreError::io("creating a folder", path, error)),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StoreError::io("syncing", path, error))
}

/// Removes a file, if it is there; tells whether it was.
pub(crate) fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("removing", path, error)),
    }
}

/// Lists the names in a directory.
pub(crate) fn list(folder: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let failed = |error| StoreError::io("listing", folder, error);
    fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.file_name()).map_err(failed))
        .collect()
}

/// Takes away the rights of others, if there are any.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    let found = fs::symlink_metadata(path).map_err(|error| StoreError::io("looking at", path, error))?;
    if found.file_type().is_symlink() {
        return Err(StoreError::Unsafe { path: path.to_owned() });
    }
    if found.mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| StoreError::io("setting the mode", path, error))
}

/// Writes a file under a temporary name, syncs it, renames it and syncs the directory.
fn replace_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    remove_file(&new)?;
    let failed = |error| StoreError::io("writing", &path, error);
    let written = create_file(&new).and_then(|mut file| {
        file.write_all(bytes).and_then(|()| reach(failpoints::FILE_WRITTEN)).map_err(failed)?;
        file.sync_all().map_err(failed)
    });
    if let Err(error) = written {
        // The first failure is what the caller must hear; a leftover is removed by the next writing.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    fs::rename(&new, &path).and_then(|()| reach(failpoints::FILE_RENAMED)).map_err(failed)?;
    sync_folder(folder)
}

fn read_mark(home: &Path) -> Result<(), StoreError> {
    let path = home.join(MARK);
    let file = match open_file(&path, OpenOptions::new().read(true)) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::NotAHome { path: home.to_owned() });
        }
        other => other?,
    };
    let mut text = Vec::new();
    file.take(65).read_to_end(&mut text).map_err(|error| StoreError::io("reading", &path, error))?;
    let number = text
        .strip_prefix(b"locker home ")
        .and_then(|rest| rest.strip_suffix(b"\n"))
        .filter(|digits| !digits.is_empty() && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or_else(|| StoreError::corrupt("the format file of the home"))?;
    if number > HOME_FORMAT {
        return Err(StoreError::NewerFormat { found: number, known: HOME_FORMAT });
    }
    Ok(())
}

fn take_lock(home: &Path) -> Result<File, StoreError> {
    let path = home.join(LOCK);
    let opened = open_file(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false));
    let (mut file, is_writable) = match opened {
        Err(StoreError::ReadOnly) => (open_file(&path, OpenOptions::new().read(true))?, false),
        other => (other?, true),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Only to be helpful: without a number the refusal stands as well.
            let _ = file.take(32).read_to_string(&mut text);
            return Err(StoreError::Locked { pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(StoreError::io("locking", &path, error.into())),
    }
    if !is_writable {
        return Ok(file);
    }
    set_mode(&path, 0o600)?;
    file.set_len(0)
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
        .or_else(|error| if error.kind() == io::ErrorKind::StorageFull { Ok(()) } else { Err(error) })
        .map_err(|error| StoreError::io("writing", &path, error))?;
    Ok(file)
}

/// Whether a folder without a format file holds more than an interrupted beginning leaves.
fn has_strangers(home: &Path) -> Result<bool, StoreError> {
    Ok(list(home)?.iter().any(|name| name != LOCK && name != MARK_NEW))
}

fn holds_packs(home: &Path) -> Result<bool, StoreError> {
    let packs = home.join(PACKS);
    Ok(packs.symlink_metadata().is_ok() && list(&packs)?.iter().any(|name| name != TMP && name != PARTIAL))
}
