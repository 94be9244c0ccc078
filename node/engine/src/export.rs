//! Plain copies out of the locker, and bytes of a file. How the destination appears whole or not at all: [`Place`].

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cap_std::fs::Dir;
use locker_crypto::id::NodeId;
use locker_store::direct::DirectWriter;
use rayon::prelude::*;

use crate::leave::{Records, Written};
use crate::limits::{EXPORT_LARGE, EXPORT_WRITERS};
use crate::locker::Inner;
use crate::place::{Place, Temporary, file_mode, finish_file, make_file, make_folder};
use crate::progress::{Meter, Stoppable};
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
/// [`Error::Io`] from the disk; [`Error::Stopped`]. The destination is then untouched.
pub(crate) fn get(inner: &Inner, from: &str, to: &Path, observer: &dyn Observer) -> Result<Got, Error> {
    let got = copy_out(inner, from, to, observer);
    inner.judge_suspects();
    got
}

fn copy_out(inner: &Inner, from: &str, to: &Path, observer: &dyn Observer) -> Result<Got, Error> {
    let _content = inner.turns().rely();
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    let node = tree.resolve(from)?;
    let place = choose(&tree, node, to)?;
    place.check_outside(store.home().path())?;
    let meter = Meter::new(observer, inner.env(), Some(tree.count_below(node)?));
    let reader = Reader::new(inner, &store, &snapshot).asking_others().while_wanted(&meter);
    let export =
        Export { inner, tree: &tree, reader: &reader, meter: &meter, to: &place.shown, records: None };
    let temporary = place.temporary(inner.env());
    let got = export.top(node, from, &temporary)?;
    place.publish(temporary)?;
    Ok(got)
}

/// Writes everything to `to`, with records beside it; see [`crate::Locker::leave`].
///
/// # Errors
/// As [`get`].
pub(crate) fn leave(inner: &Inner, to: &Path, observer: &dyn Observer) -> Result<Got, Error> {
    let left = copy_all_out(inner, to, observer);
    inner.judge_suspects();
    left
}

fn copy_all_out(inner: &Inner, to: &Path, observer: &dyn Observer) -> Result<Got, Error> {
    let _content = inner.turns().rely();
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    let place = choose(&tree, NodeId::ROOT, to)?;
    place.check_outside(store.home().path())?;
    let io = |e| Error::io("cannot write", place.shown.as_path(), e);
    let meter = Meter::new(observer, inner.env(), Some(tree.count_below(NodeId::ROOT)?));
    let reader = Reader::new(inner, &store, &snapshot).asking_others().while_wanted(&meter);
    let temporary = place.temporary(inner.env());
    let dir = make_folder(temporary.parent, &temporary.name).map_err(io)?;
    temporary.note(&dir).map_err(io)?;
    let mut taken = HashSet::new();
    tree.children(NodeId::ROOT, &mut |child| {
        taken.insert(child.displayed);
        ControlFlow::Continue(())
    })?;
    let records = Records::begin(&dir, inner.env().now_ms(), &|name| taken.contains(name)).map_err(io)?;
    let export = Export {
        inner,
        tree: &tree,
        reader: &reader,
        meter: &meter,
        to: &place.shown,
        records: Some(Mutex::new(records)),
    };
    let got = export.folder(&dir, NodeId::ROOT, &Both::default())?;
    if let Some(records) = export.records {
        records.into_inner().unwrap_or_else(PoisonError::into_inner).finish().map_err(io)?;
    }
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
    /// What is noted beside the files.
    records: Option<Mutex<Records>>,
}

/// A file to be written.
struct Planned {
    node: Node,
    name: OsString,
    path: Both,
    /// Number of the version if several are written.
    number: Option<usize>,
}

/// Where something lies in the locker, and below the destination.
#[derive(Default)]
struct Both {
    shown: String,
    outside: Vec<u8>,
}

impl Both {
    fn join(&self, shown: &str, outside: &[u8]) -> Self {
        let between: &[u8] = if self.outside.is_empty() { b"" } else { b"/" };
        Self { shown: path::join(&self.shown, shown), outside: [&self.outside, between, outside].concat() }
    }
}

impl Export<'_> {
    fn top(&self, node: NodeId, from: &str, temporary: &Temporary<'_>) -> Result<Got, Error> {
        let path = Both { shown: path::split(from)?.join("/"), outside: Vec::new() };
        let io = |e| self.cannot_write(e);
        if node != NodeId::ROOT {
            let found = self.tree.node(node)?;
            if !found.is_folder() {
                let file = make_file(temporary.parent, &temporary.name).map_err(io)?;
                temporary.note(&file).map_err(io)?;
                let bytes = self.fill(&file, &found, &path.shown)?;
                return Ok(Got { files: 1, bytes });
            }
        }
        let dir = make_folder(temporary.parent, &temporary.name).map_err(io)?;
        temporary.note(&dir).map_err(io)?;
        self.folder(&dir, node, &path)
    }

    /// Writes all that is in a folder, files side by side.
    fn folder(&self, dir: &Dir, node: NodeId, path: &Both) -> Result<Got, Error> {
        let mut got = Got::default();
        let mut folders = Vec::new();
        let mut files = Vec::new();
        let mut used = HashSet::new();
        let mut failure = None;
        self.tree.children(node, &mut |child| {
            let mut step = || -> Result<(), Error> {
                let mut name = self.tree.outside_name(child.id)?;
                if !used.insert(name.clone()) {
                    name = child.displayed.clone().into_bytes();
                    used.insert(name.clone());
                }
                let path = path.join(&child.displayed, &name);
                if child.is_folder() {
                    folders.push((child.id, OsString::from_vec(name), path));
                    return Ok(());
                }
                self.plan(self.tree.node(child.id)?, name, path, &mut used, &mut files);
                if files.len() >= FILES_AT_ONCE { self.files(dir, &mut files, &mut got) } else { Ok(()) }
            };
            match step() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        self.files(dir, &mut files, &mut got)?;
        for (id, name, path) in folders {
            let below = make_folder(dir, &name).map_err(|e| self.cannot_write(e))?;
            self.note(|records| records.folder(&path.shown, &path.outside))?;
            let more = self.folder(&below, id, &path)?;
            got.files += more.files;
            got.bytes += more.bytes;
        }
        Ok(got)
    }

    /// Plans a file. Of several versions that wait for a decision the newest one is written; all of them where nothing
    /// is to be left behind.
    fn plan(
        &self,
        node: Node,
        name: Vec<u8>,
        path: Both,
        used: &mut HashSet<Vec<u8>>,
        files: &mut Vec<Planned>,
    ) {
        let name = OsString::from_vec(name);
        if self.records.is_none() || node.versions.len() < 2 {
            files.push(Planned { node, name, path, number: None });
            return;
        }
        for number in 2..=node.versions.len() {
            let mut other = node.clone();
            other.versions = vec![node.versions[number - 1].clone()];
            let (mut k, mut shown) = (number, numbered(&node.displayed, number));
            while !used.insert(shown.clone().into_bytes()) {
                k += 1;
                shown = numbered(&node.displayed, k);
            }
            let folder = path.outside.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let outside = [&path.outside[..folder], shown.as_bytes()].concat();
            let path = Both { shown: path.shown.clone(), outside };
            files.push(Planned { node: other, name: shown.into(), path, number: Some(number) });
        }
        files.push(Planned { node, name, path, number: Some(1) });
    }

    fn note(&self, write: impl FnOnce(&mut Records) -> std::io::Result<()>) -> Result<(), Error> {
        let Some(records) = &self.records else { return Ok(()) };
        write(&mut records.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|e| self.cannot_write(e))
    }

    fn cannot_write(&self, error: std::io::Error) -> Error {
        Error::io("cannot write", self.to, error)
    }

    fn files(&self, dir: &Dir, files: &mut Vec<Planned>, got: &mut Got) -> Result<(), Error> {
        let written: Result<Vec<u64>, Error> = match files.as_slice() {
            // By itself it has all workers for its chunks.
            [only] => self.file(dir, only).map(|bytes| vec![bytes]),
            many if are_large(many) => self.large_files(dir, many),
            many => many.par_iter().map(|planned| self.file(dir, planned)).collect(),
        };
        got.files += files.len() as u64;
        got.bytes += written?.iter().sum::<u64>();
        for Planned { node, path, number, .. } in &*files {
            let (path, outside) = (path.shown.as_str(), path.outside.as_slice());
            let written = Written { path, outside, version: node.newest(), number: *number };
            self.note(|records| records.file(&written))?;
        }
        files.clear();
        Ok(())
    }

    /// Writes files on threads of their own, which may wait for the disk while the workers open what is next.
    fn large_files(&self, dir: &Dir, files: &[Planned]) -> Result<Vec<u64>, Error> {
        let next = AtomicUsize::new(0);
        let write = || -> Result<Vec<u64>, Error> {
            let mut written = Vec::new();
            while let Some(planned) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                // The others begin nothing more.
                let bytes =
                    self.file(dir, planned).inspect_err(|_| next.store(files.len(), Ordering::Relaxed));
                written.push(bytes?);
            }
            Ok(written)
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..EXPORT_WRITERS.min(files.len())).map(|_| scope.spawn(write)).collect();
            let mut written = Vec::with_capacity(files.len());
            for writer in writers {
                written.extend(writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(written)
        })
    }

    /// Makes and writes one file; gives its size.
    fn file(&self, dir: &Dir, planned: &Planned) -> Result<u64, Error> {
        self.meter.check()?;
        let file = make_file(dir, &planned.name).map_err(|e| self.cannot_write(e))?;
        self.fill(&file, &planned.node, &planned.path.shown)
    }

    /// Writes what a file holds, with its time and mode; gives its size.
    fn fill(&self, file: &File, node: &Node, shown: &str) -> Result<u64, Error> {
        let io = |e| self.cannot_write(e);
        self.meter.check()?;
        let Some(version) = node.newest() else { return Ok(0) };
        let content = &version.file;
        let mut out = Stoppable { out: DirectWriter::new(file, content.size()), meter: self.meter };
        let copied = self.reader.copy(content, 0..u64::MAX, &mut out, shown, &mut |n| self.meter.add(0, n));
        self.meter.check()?;
        copied?;
        out.out.finish().map_err(io)?;
        let mode = file_mode(version.exec, self.inner.umask());
        finish_file(file, mode, version.mtime_ms).map_err(io)?;
        self.meter.add(1, 0);
        Ok(content.size())
    }
}

/// Whether files are so large that each has work for all workers.
fn are_large(files: &[Planned]) -> bool {
    let sizes = files.iter().filter_map(|planned| planned.node.newest()).map(|version| version.file.size());
    sizes.sum::<u64>() >= EXPORT_LARGE * files.len() as u64
}

/// A name with a number before its extension.
fn numbered(name: &str, number: usize) -> String {
    match name.rfind('.').filter(|dot| *dot > 0) {
        Some(dot) => format!("{} (version {number}){}", &name[..dot], &name[dot..]),
        None => format!("{name} (version {number})"),
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
    let done = copy_bytes(inner, from, offset, length, out);
    inner.judge_suspects();
    done
}

fn copy_bytes(
    inner: &Inner,
    from: &str,
    offset: u64,
    length: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let _content = inner.turns().rely();
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
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
    let reader = Reader::new(inner, &store, &snapshot).asking_others();
    reader.copy(&version.file, offset..end, out, &shown, &mut |_| {})?;
    out.flush().map_err(|e| Error::io("cannot write", Path::new("the output"), e))
}
