//! The numbers by which the kernel names files, and the paths that they stand for.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use fuser::{FileType, INodeNo};

/// A number is given once and never again; it follows its file when that is moved.
pub(crate) struct Paths {
    by_number: HashMap<u64, PathBuf>,
    by_path: HashMap<PathBuf, u64>,
    last: u64,
}

impl Paths {
    /// With the root alone.
    pub(crate) fn new(root: &Path) -> Self {
        let first = INodeNo::ROOT.0;
        Self {
            by_number: HashMap::from([(first, root.to_owned())]),
            by_path: HashMap::from([(root.to_owned(), first)]),
            last: first,
        }
    }

    /// The path of a number.
    pub(crate) fn of(&self, number: INodeNo) -> io::Result<&Path> {
        self.by_number.get(&number.0).map(PathBuf::as_path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The path of a name in a folder.
    pub(crate) fn below(&self, folder: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.of(folder)?.join(name))
    }

    /// The number of a path; a new one if it has none.
    pub(crate) fn number_of(&mut self, path: &Path) -> INodeNo {
        if let Some(number) = self.by_path.get(path) {
            return INodeNo(*number);
        }
        self.last += 1;
        self.by_path.insert(path.to_owned(), self.last);
        self.by_number.insert(self.last, path.to_owned());
        INodeNo(self.last)
    }

    /// A path leads nowhere any more.
    pub(crate) fn forget(&mut self, path: &Path) {
        if let Some(number) = self.by_path.remove(path) {
            self.by_number.remove(&number);
        }
    }

    /// A file or folder has another path, and all below it too.
    pub(crate) fn moved(&mut self, from: &Path, to: &Path) {
        self.forget(to);
        let moved: Vec<PathBuf> =
            self.by_path.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for old in moved {
            let Some(number) = self.by_path.remove(&old) else { continue };
            // `join` of nothing would add a slash.
            let new = match old.strip_prefix(from) {
                Ok(rest) if !rest.as_os_str().is_empty() => to.join(rest),
                _ => to.to_owned(),
            };
            self.by_number.insert(number, new.clone());
            self.by_path.insert(new, number);
        }
    }

    /// What a folder holds.
    pub(crate) fn list(&mut self, folder: INodeNo) -> io::Result<Vec<(INodeNo, FileType, OsString)>> {
        let path = self.of(folder)?.to_owned();
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            if let Some(kind) = FileType::from_std(entry.file_type()?) {
                entries.push((self.number_of(&entry.path()), kind, entry.file_name()));
            }
        }
        // A list that is asked for in parts has one order.
        entries.sort_by(|a, b| a.2.cmp(&b.2));
        Ok(entries)
    }
}
