//! The manifest of a snapshot link: `[1, nodes, packs]` (`docs/spec/07-links.md`, "Snapshot manifest").
//!
//! A part of a tree as it stood, with the FileRefs that lead to its content and the packs in which that lies. It comes from
//! a stranger: everything that a reader will trust (names, places, kinds) is checked while it is read. Never here: where
//! the bytes of a manifest come from, and writing files.

use std::collections::{BTreeMap, HashSet};

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::file_ref::FileRef;
use locker_crypto::pack::PackOp;
use locker_crypto::pack_list;

use crate::name;
use crate::operation::NodeKind;

/// Most nodes of a manifest.
pub const NODES_MAX: usize = 65_536;
/// Most packs of a manifest.
pub const PACKS_MAX: usize = locker_crypto::share::EXTENT_PACKS_MAX;
/// Deepest folder, counted from the top.
pub const DEPTH_MAX: usize = 256;
/// Longest path of a node in bytes.
pub const PATH_LEN_MAX: usize = 4_096;
/// Most bytes of all paths together: what a reader holds to name everything.
pub const PATHS_LEN_MAX: usize = 64 << 20;
/// Longest manifest in bytes.
pub const MANIFEST_LEN_MAX: usize = 64 << 20;

const VERSION: u64 = 1;

/// A state of files that does not change any more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    /// Files and folders, each after its folder.
    pub nodes: Vec<ManifestNode>,
    /// Where every chunk of every file lies, those of manifests included.
    pub packs: Vec<PackOp>,
}

/// A file or folder of a manifest.
#[derive(Clone, PartialEq, Eq)]
pub struct ManifestNode {
    /// Its folder, as an index into the nodes; `None` at the top.
    pub parent: Option<usize>,
    /// Its name there.
    pub name: String,
    /// Its content; `None` for a folder.
    pub file: Option<FileRef>,
    /// Time of last change, unix milliseconds; 0 for a folder.
    pub mtime_ms: i64,
    /// Whether the file may be run as a program.
    pub exec: bool,
}

impl Manifest {
    /// Returns the canonical bytes.
    ///
    /// # Errors
    /// As [`Manifest::decode`], for what must not exist.
    pub fn encode(&self) -> Result<Vec<u8>, Refusal> {
        self.check()?;
        let mut out = Writer::new();
        out.array(3).u64(VERSION).array(self.nodes.len());
        for node in &self.nodes {
            let kind = if node.file.is_some() { NodeKind::File } else { NodeKind::Folder };
            out.array(6)
                .u64(node.parent.map_or(0, |index| index as u64 + 1))
                .text(&node.name)
                .u64(kind.code());
            match &node.file {
                Some(file) => file.write(&mut out),
                None => _ = out.array(0),
            }
            out.i64(node.mtime_ms).bool(node.exec);
        }
        pack_list::write(&self.packs, &mut out);
        if out.len() > MANIFEST_LEN_MAX {
            return Err(Refusal::Limit);
        }
        Ok(out.finish())
    }

    /// Reads a manifest and nothing after it.
    ///
    /// # Errors
    /// [`Refusal::Version`]; [`Refusal::Limit`] for more than [`NODES_MAX`] nodes or [`PACKS_MAX`] packs, deeper than
    /// [`DEPTH_MAX`], longer paths than [`PATH_LEN_MAX`] and [`PATHS_LEN_MAX`], or more than [`MANIFEST_LEN_MAX`] bytes; [`Refusal::Name`] for a name that a locker would not take; [`Refusal::Canon`] for every other
    /// form: a folder that comes later or is none, a file without content, a folder with time or mode, one name or
    /// pack twice; those of [`FileRef::read`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MANIFEST_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let mut from = Reader::new(bytes);
        let len = from.array()?;
        if from.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        if len != 3 {
            return Err(Refusal::Canon);
        }
        let count = from.array()?;
        if count > NODES_MAX {
            return Err(Refusal::Limit);
        }
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(read_node(&mut from)?);
        }
        let packs = pack_list::read(&mut from)?;
        from.finish()?;
        let manifest = Self { nodes, packs };
        manifest.check()?;
        Ok(manifest)
    }

    /// Returns the path of every node, in their order, parts joined by `/`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            // A parent comes first; `check` has seen to it.
            let above = node.parent.and_then(|index| paths.get(index));
            paths.push(above.map_or_else(|| node.name.clone(), |above| format!("{above}/{}", node.name)));
        }
        paths
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.nodes.len() > NODES_MAX || self.packs.len() > PACKS_MAX {
            return Err(Refusal::Limit);
        }
        // How deep each node lies, and how long its path is.
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(self.nodes.len());
        let mut paths_len = 0;
        let mut names: BTreeMap<Option<usize>, HashSet<&str>> = BTreeMap::new();
        for node in &self.nodes {
            name::check(&node.name)?;
            let (depth, path_len) = match node.parent {
                None => (1, node.name.len()),
                Some(index) => {
                    let (depth, len) = places.get(index).ok_or(Refusal::Canon)?;
                    (depth + 1, len + 1 + node.name.len())
                }
            };
            paths_len += path_len;
            if depth > DEPTH_MAX || path_len > PATH_LEN_MAX || paths_len > PATHS_LEN_MAX {
                return Err(Refusal::Limit);
            }
            let in_file = node.parent.is_some_and(|index| self.nodes[index].file.is_some());
            let plain_folder = node.file.is_some() || (node.mtime_ms == 0 && !node.exec);
            if in_file || !plain_folder || !names.entry(node.parent).or_default().insert(&node.name) {
                return Err(Refusal::Canon);
            }
            places.push((depth, path_len));
        }
        let mut hashes = HashSet::new();
        if self.packs.iter().all(|pack| hashes.insert(pack.hash())) { Ok(()) } else { Err(Refusal::Canon) }
    }
}

fn read_node(from: &mut Reader<'_>) -> Result<ManifestNode, Refusal> {
    from.array_of(6)?;
    let parent = match from.u64()? {
        0 => None,
        index => Some(usize::try_from(index - 1).map_err(|_| Refusal::Canon)?),
    };
    let name = from.text()?.to_owned();
    let file = match NodeKind::from_code(from.u64()?)? {
        NodeKind::File => Some(FileRef::read(from)?),
        NodeKind::Folder => {
            from.array_of(0)?;
            None
        }
        NodeKind::Mount => return Err(Refusal::Canon),
    };
    Ok(ManifestNode { parent, name, file, mtime_ms: from.i64()?, exec: from.bool()? })
}

// A FileRef holds keys of chunks; what is printed for people leaves it out.
impl std::fmt::Debug for ManifestNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestNode")
            .field("parent", &self.parent)
            .field("size", &self.file.as_ref().map(FileRef::size))
            .field("mtime_ms", &self.mtime_ms)
            .field("exec", &self.exec)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
