//! Plain copies out of the locker, and bytes of a file. How the destination appears whole or not at all: [`Place`].

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use cap_std::fs::Dir;
use locker_crypto::id::NodeId;
use rayon::prelude::*;

use crate::locker::Inner;
use crate::place::{Place, Temporary, file_mode, finish_file, make_file, make_folder};
use crate::progress::Meter;
use crate::reader::Reader;
use crate::report::{Got, Observer};
use crate::tree::{Kinded, Newest, Node, Tree};
use crate::{Error, path};

/// Files handed to the workers at once.
const FILES_AT_ONCE: usize = 256;

/// Writes a plain copy of `from` to `to`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Exists`] if the destination is taken; [`Error::Integrity`]; [`Error::Full`] and
/// [`Error::Io`] from the disk. The destination is then untouched.
pub(crate) fn get(inner: &Inner, from: &str, to: &Path, observer: &dyn Observer) -> Result<Got, Error> {
    let _content = inner.turns().rely();
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag());
    let node = tree.resolve(from)?;
    let place = choose(&tree, node, to)?;
    place.check_outside(store.home().path())?;
    let reader = Reader::new(&store, &snapshot, inner.space_tag());
    let (files, bytes) = tree.count_below(node)?;
    let meter = Meter::new(observer, inner.env(), Some((files, bytes)));
    let export = Export { inner, tree: &tree, reader: &reader, meter: &meter, to: &place.shown };
    let temporary = place.temporary(inner.env());
    let got = export.top(node, from, &temporary)?;
    place.publish(temporary)?;
    Ok(got)
}

/// Where a copy of `node` goes: into a folder that exists, under the thing's own name, or to that name; everything goes
/// only into an empty folder.
fn choose(tree: &Tree<'_>, node: NodeId, to: &Path) -> Result<Place, Error> {
    match std::fs::metadata(to) {
        Ok(meta) if meta.is_dir() && node != NodeId::ROOT => {
            Place::in_folder(to, OsString::from_vec(tree.outside_name(node)?))
        }
        Ok(meta) if !meta.is_dir() => Err(Error::Exists(to.display().to_string())),
        _ => Place::named(to, node == NodeId::ROOT),
    }
}

struct Export<'a> {
    inner: &'a Inner,
    tree: &'a Tree<'a>,
    reader: &'a Reader<'a>,
    meter: &'a Meter<'a>,
    /// The destination, as errors name it.
    to: &'a Path,
}

/// A file to be written.
struct Planned {
    node: Node,
    name: OsString,
    path: String,
}

impl Export<'_> {
    fn top(&self, node: NodeId, from: &str, temporary: &Temporary<'_>) -> Result<Got, Error> {
        let shown = path::split(from)?.join("/");
        if node != NodeId::ROOT {
            let found = self.tree.node(node)?;
            if !found.is_folder() {
                let planned = Planned { node: found, name: temporary.name.clone(), path: shown };
                let bytes = self.file(temporary.parent, &planned)?;
                return Ok(Got { files: 1, bytes });
            }
        }
        let io = |e| Error::io("cannot write", self.to, e);
        let dir = make_folder(temporary.parent, &temporary.name).map_err(io)?;
        self.folder(&dir, node, &shown)
    }

    /// Writes all that is in a folder, files side by side.
    fn folder(&self, dir: &Dir, node: NodeId, shown: &str) -> Result<Got, Error> {
        let mut got = Got::default();
        let mut folders = Vec::new();
        let mut files = Vec::new();
        let mut used = std::collections::HashSet::new();
        let mut failure = None;
        self.tree.children(node, &mut |child| {
            let mut step = || -> Result<(), Error> {
                let mut name = self.tree.outside_name(child.id)?;
                if !used.insert(name.clone()) {
                    name = child.displayed.clone().into_bytes();
                    used.insert(name.clone());
                }
                let name = OsString::from_vec(name);
                let path = path::join(shown, &child.displayed);
                if child.is_folder() {
                    folders.push((child.id, name, path));
                } else {
                    files.push(Planned { node: self.tree.node(child.id)?, name, path });
                    if files.len() >= FILES_AT_ONCE {
                        self.files(dir, &mut files, &mut got)?;
                    }
                }
                Ok(())
            };
            match step() {
                Ok(()) => std::ops::ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    std::ops::ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        self.files(dir, &mut files, &mut got)?;
        for (id, name, path) in folders {
            let io = |e| Error::io("cannot write", self.to, e);
            let below = make_folder(dir, &name).map_err(io)?;
            let more = self.folder(&below, id, &path)?;
            got.files += more.files;
            got.bytes += more.bytes;
        }
        Ok(got)
    }

    fn files(&self, dir: &Dir, files: &mut Vec<Planned>, got: &mut Got) -> Result<(), Error> {
        let written: Result<Vec<u64>, Error> =
            files.par_iter().map(|planned| self.file(dir, planned)).collect();
        got.files += files.len() as u64;
        got.bytes += written?.iter().sum::<u64>();
        files.clear();
        Ok(())
    }

    /// Writes one file with its time and mode; gives its size.
    fn file(&self, dir: &Dir, planned: &Planned) -> Result<u64, Error> {
        let io = |e: std::io::Error| Error::io("cannot write", self.to, e);
        let version = planned.node.newest();
        let file = make_file(dir, &planned.name).map_err(io)?;
        let Some(version) = version else { return Ok(0) };
        let content = &version.file;
        let mut out = BufWriter::with_capacity(1 << 18, &file);
        self.reader.copy(content, 0..u64::MAX, &mut out, &planned.path, &mut |n| self.meter.add(0, n))?;
        out.flush().map_err(io)?;
        drop(out);
        let mode = file_mode(version.exec, self.inner.umask());
        finish_file(&file, mode, version.mtime_ms).map_err(io)?;
        self.meter.add(1, 0);
        Ok(content.size())
    }
}

/// Writes bytes of a file to `out`; see [`crate::Locker::read`].
pub(crate) fn read(
    inner: &Inner,
    from: &str,
    offset: u64,
    length: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let _content = inner.turns().rely();
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag());
    let shown = path::split(from)?.join("/");
    let id = tree.resolve(from)?;
    if id == NodeId::ROOT {
        return Err(Error::IsFolder("/".into()));
    }
    let node = tree.node(id)?;
    if node.is_folder() {
        return Err(Error::IsFolder(shown));
    }
    let Some(version) = node.newest() else { return Ok(()) };
    let end = length.map_or(u64::MAX, |length| offset.saturating_add(length));
    let reader = Reader::new(&store, &snapshot, inner.space_tag());
    reader.copy(&version.file, offset..end, out, &shown, &mut |_| {})?;
    out.flush().map_err(|e| Error::io("cannot write", Path::new("the output"), e))
}
