//! What a folder holds, for comparing two of them: names as bytes, content, times to the millisecond, executable or not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::files::walk;

/// One thing of a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder. Its own time is not kept by the locker.
    Folder,
    /// A file.
    File {
        /// Bytes.
        len: u64,
        /// BLAKE3 of the content.
        b3: blake3::Hash,
        /// Modification time in unix milliseconds.
        mtime: i64,
        /// Whether its owner may execute it.
        exec: bool,
    },
}

/// The files and folders below a folder, by path. Links, pipes and sockets are not in it: the locker leaves them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<Vec<u8>, Node>);

impl Tree {
    /// Reads a folder, every byte of it.
    pub fn of(folder: &Path) -> Self {
        let mut tree = BTreeMap::new();
        for path in walk(folder) {
            let about = fs::symlink_metadata(&path).unwrap();
            let node = if about.is_dir() {
                Node::Folder
            } else if about.is_file() {
                Node::File {
                    len: about.len(),
                    b3: hash(&path),
                    mtime: about.mtime() * 1_000 + about.mtime_nsec().div_euclid(1_000_000),
                    exec: about.permissions().mode() & 0o100 != 0,
                }
            } else {
                continue;
            };
            tree.insert(path.strip_prefix(folder).unwrap().as_os_str().as_bytes().to_vec(), node);
        }
        Self(tree)
    }

    /// How many files it has.
    pub fn files(&self) -> usize {
        self.0.values().filter(|node| matches!(node, Node::File { .. })).count()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.0.values().map(|node| if let Node::File { len, .. } = node { *len } else { 0 }).sum()
    }

    /// Asserts that two trees are equal, and names the first differences.
    #[track_caller]
    pub fn assert_same(&self, other: &Tree) {
        let differences = self.differences(other);
        let shown = differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
        assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
    }

    /// What is not equal in two trees, a line for each thing.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, node) in &self.0 {
            let shown = path.escape_ascii();
            match other.0.get(path) {
                None => lines.push(format!("missing: {shown}")),
                Some(found) if found != node => lines.push(format!("{shown}: {node:?} became {found:?}")),
                Some(_) => {}
            }
        }
        let strange = other.0.keys().filter(|path| !self.0.contains_key(*path));
        lines.extend(strange.map(|path| format!("not expected: {}", path.escape_ascii())));
        lines
    }
}

/// BLAKE3 of a file.
pub fn hash(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).unwrap()).unwrap();
    hasher.finalize()
}
