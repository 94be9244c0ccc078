//! Going through folders outside the locker, in directory order, without following links.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{DirEntry, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use locker_catalog::name;

use crate::Error;
use crate::limits::IMPORT_DEPTH_MAX;

/// What the walk meets, in an order in which every folder comes before what lies in it, and is left after it.
pub(super) enum Found {
    /// A folder; what follows lies in it until its [`Found::Leave`].
    Enter {
        /// Its name as bytes.
        name: Vec<u8>,
    },
    /// The folder entered last is done.
    Leave,
    /// A plain file.
    File(SourceFile),
    /// Something that is left out.
    Skip {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A plain file outside the locker.
#[derive(Clone)]
pub(super) struct SourceFile {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its name as bytes.
    pub(super) name: Vec<u8>,
    /// What the system knows of it.
    pub(super) stamp: Stamp,
    /// Modification time in unix milliseconds, rounded down.
    pub(super) mtime_ms: i64,
    /// Whether its owner may run it.
    pub(super) exec: bool,
}

/// By what a file is recognised as unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) dev: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
}

impl Stamp {
    /// Takes it from what the system tells.
    pub(super) fn of(meta: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            dev: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// One of the paths that a person named.
pub(super) struct Top {
    path: PathBuf,
    /// The name under which it comes in.
    pub(super) name: OsString,
    meta: Metadata,
}

/// Looks at what a person named, before anything is done.
///
/// # Errors
/// [`Error::Missing`] and [`Error::Io`] if one of `paths` cannot be looked at.
pub(super) fn tops(paths: &[&Path]) -> Result<Vec<Top>, Error> {
    let look = |path: &&Path| {
        let meta = std::fs::symlink_metadata(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Missing(path.to_path_buf()),
            _ => Error::io("cannot read", *path, e),
        })?;
        Ok(Top { path: path.to_path_buf(), name: top_name(path)?, meta })
    };
    paths.iter().map(look).collect()
}

/// Walks `tops`, each as a child of the target. `is_own` tells what belongs to the locker itself. What fails below is
/// skipped with its reason.
///
/// # Errors
/// Those of `visit`.
pub(super) fn walk(
    tops: &[Top],
    is_own: &dyn Fn(&Metadata) -> bool,
    visit: &mut dyn FnMut(Found) -> Result<(), Error>,
) -> Result<(), Error> {
    for Top { path, name, meta } in tops {
        visit_one(path.clone(), name.clone(), meta.clone(), 0, is_own, visit)?;
    }
    Ok(())
}

/// The last part of a path; for `/home/..` and the like that of the folder it means.
fn top_name(path: &Path) -> Result<OsString, Error> {
    if let Some(name) = path.file_name() {
        return Ok(name.to_owned());
    }
    let full = path.canonicalize().map_err(|e| Error::io("cannot read", path, e))?;
    full.file_name()
        .map(ToOwned::to_owned)
        .ok_or_else(|| Error::Argument(format!("{} has no name; name the folders in it", path.display())))
}

fn visit_one(
    path: PathBuf,
    name: OsString,
    meta: Metadata,
    depth: usize,
    is_own: &dyn Fn(&Metadata) -> bool,
    visit: &mut dyn FnMut(Found) -> Result<(), Error>,
) -> Result<(), Error> {
    let kind = meta.file_type();
    let name = name.into_vec();
    if kind.is_file() {
        if crate::leave::is_record(&path) {
            let reason = "it is a record of an export".into();
            return visit(Found::Skip { path, reason });
        }
        let exec = meta.mode() & 0o100 != 0;
        let mtime_ms = meta.mtime().saturating_mul(1_000) + meta.mtime_nsec() / 1_000_000;
        return visit(Found::File(SourceFile { path, name, stamp: Stamp::of(&meta), mtime_ms, exec }));
    }
    let reason = if !kind.is_dir() {
        kind_reason(kind)
    } else if is_own(&meta) {
        "it is the locker's own home"
    } else if depth >= IMPORT_DEPTH_MAX {
        "it lies too deep; put it in by itself"
    } else {
        return visit_folder(path, name, depth, is_own, visit);
    };
    visit(Found::Skip { path, reason: reason.into() })
}

fn visit_folder(
    path: PathBuf,
    name: Vec<u8>,
    depth: usize,
    is_own: &dyn Fn(&Metadata) -> bool,
    visit: &mut dyn FnMut(Found) -> Result<(), Error>,
) -> Result<(), Error> {
    let entries: io::Result<Vec<DirEntry>> = std::fs::read_dir(&path).and_then(Iterator::collect);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return visit(Found::Skip { path, reason: format!("it cannot be read: {error}") }),
    };
    order(&mut entries);
    visit(Found::Enter { name })?;
    for entry in entries {
        match entry.path().symlink_metadata() {
            Ok(meta) => visit_one(entry.path(), entry.file_name(), meta, depth + 1, is_own, visit)?,
            Err(error) => {
                visit(Found::Skip { path: entry.path(), reason: format!("it cannot be read: {error}") })?;
            }
        }
    }
    visit(Found::Leave)
}

/// Orders what is in a folder by inode: on most disks this is the order in which the content lies. Names that are one here
/// come together, in the order of their bytes: which of them keeps its name must not depend on where the disk put it.
fn order(entries: &mut [DirEntry]) {
    let key = |entry: &DirEntry| name::collision_key(&name::import(entry.file_name().as_bytes()).name);
    let mut first: HashMap<String, u64> = HashMap::with_capacity(entries.len());
    for entry in &*entries {
        first.entry(key(entry)).and_modify(|ino| *ino = entry.ino().min(*ino)).or_insert(entry.ino());
    }
    if first.len() == entries.len() {
        entries.sort_by_key(DirEntryExt::ino);
    } else {
        entries.sort_by_cached_key(|entry| (first.get(&key(entry)).copied(), entry.file_name()));
    }
}

fn kind_reason(kind: std::fs::FileType) -> &'static str {
    if kind.is_symlink() {
        "it is a symbolic link"
    } else if kind.is_fifo() {
        "it is a pipe"
    } else if kind.is_socket() {
        "it is a socket"
    } else {
        "it is a device"
    }
}

/// A path as text for people: bytes that are not UTF-8 are shown as such.
pub(super) fn shown(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}
