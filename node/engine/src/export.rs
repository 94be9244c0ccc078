//! Plain copies out of the locker (`docs/spec/08-at-rest.md`, "Writing outside the home").
//!
//! Everything is written below an open folder handle under a temporary name, synced, and renamed: the destination
//! appears whole or not at all. No path string is followed inside it, so a link put there meanwhile is never written
//! through.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, PermissionsExt};
use locker_crypto::id::NodeId;
use rayon::prelude::*;

use crate::locker::Inner;
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
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag());
    let node = tree.resolve(from)?;
    let place = Place::choose(&tree, node, to)?;
    place.check_outside(store.home().path())?;
    let reader = Reader::new(&store, &snapshot, inner.space_tag());
    let (files, bytes) = tree.count_below(node)?;
    let meter = Meter::new(observer, inner.env(), Some((files, bytes)));
    let export = Export { inner, tree: &tree, reader: &reader, meter: &meter, to: &place.shown };
    let temporary = Temporary { parent: &place.parent, name: place.temporary(inner) };
    let got = export.top(node, from, &temporary)?;
    place.publish(&temporary.name)?;
    std::mem::forget(temporary);
    Ok(got)
}

/// Where the copy goes: an open folder and a free name in it.
struct Place {
    parent: Dir,
    name: OsString,
    shown: PathBuf,
}

impl Place {
    fn choose(tree: &Tree<'_>, node: NodeId, to: &Path) -> Result<Self, Error> {
        let (folder, name) = match std::fs::metadata(to) {
            // Into a folder that exists, under the thing's own name; everything goes only into an empty one.
            Ok(meta) if meta.is_dir() && node != NodeId::ROOT => {
                (to.to_path_buf(), OsString::from_vec(tree.outside_name(node)?))
            }
            Ok(meta) if !meta.is_dir() => return Err(Error::Exists(to.display().to_string())),
            _ => {
                let name = to.file_name().ok_or_else(|| {
                    Error::Argument(format!("{} has no name of its own; name a folder in it", to.display()))
                })?;
                let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                (parent.to_path_buf(), name.to_owned())
            }
        };
        let parent = Dir::open_ambient_dir(&folder, ambient_authority())
            .map_err(|e| Error::io("cannot open", folder.as_path(), e))?;
        let shown = folder.join(&name);
        let taken = match parent.symlink_metadata(&name) {
            Ok(meta) if node == NodeId::ROOT && meta.is_dir() => {
                let mut entries = parent.read_dir(&name).map_err(|e| Error::io("cannot read", &shown, e))?;
                entries.next().is_some()
            }
            Ok(_) => true,
            Err(_) => false,
        };
        if taken { Err(Error::Exists(shown.display().to_string())) } else { Ok(Self { parent, name, shown }) }
    }

    /// Refuses to write into the locker itself.
    fn check_outside(&self, home: &Path) -> Result<(), Error> {
        let real = |path: &Path| path.canonicalize().map_err(|e| Error::io("cannot open", path, e));
        let folder = real(self.shown.parent().unwrap_or(Path::new("/")))?;
        if folder.starts_with(real(home)?) {
            return Err(Error::Argument(format!(
                "{} lies in the locker's own home; name a place outside it",
                self.shown.display()
            )));
        }
        Ok(())
    }

    /// A name beside the destination that nobody else uses.
    fn temporary(&self, inner: &Inner) -> OsString {
        let mut random = [0; 8];
        inner.env().dice().fill_bytes(&mut random);
        format!(".locker-{:016x}.part", u64::from_le_bytes(random)).into()
    }

    /// Gives the copy its name, if that is still free, and makes it durable.
    fn publish(&self, temporary: &OsString) -> Result<(), Error> {
        use rustix::fs::{RenameFlags, renameat_with};
        let io = |e: std::io::Error| Error::io("cannot write", self.shown.as_path(), e);
        let folder = readable(&self.parent).map_err(io)?;
        // One sync of the whole file system costs less than one for each of many files.
        rustix::fs::syncfs(&folder).map_err(|e| io(e.into()))?;
        let quiet = renameat_with(
            &self.parent,
            temporary.as_os_str(),
            &self.parent,
            self.name.as_os_str(),
            RenameFlags::NOREPLACE,
        );
        match quiet {
            Ok(()) => {}
            // An empty folder may be replaced, as may nothing at all on a file system without this flag.
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS)
                if self.is_free_or_empty() =>
            {
                self.parent.rename(temporary, &self.parent, &self.name).map_err(io)?;
            }
            Err(rustix::io::Errno::EXIST) => return Err(Error::Exists(self.shown.display().to_string())),
            Err(error) => return Err(io(error.into())),
        }
        rustix::fs::fsync(&folder).map_err(|e| io(e.into()))
    }

    fn is_free_or_empty(&self) -> bool {
        match self.parent.read_dir(&self.name) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

/// What is being written; removed again unless it was given its name.
struct Temporary<'p> {
    parent: &'p Dir,
    name: OsString,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.parent.remove_file(&self.name).is_err() {
            let _ = self.parent.remove_dir_all(&self.name);
        }
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
        temporary.parent.create_dir(&temporary.name).map_err(io)?;
        let dir = temporary.parent.open_dir_nofollow_or(&temporary.name).map_err(io)?;
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
            dir.create_dir(&name).map_err(io)?;
            let below = dir.open_dir_nofollow_or(&name).map_err(io)?;
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
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = dir.open_with(&planned.name, &options).map_err(io)?;
        let Some(version) = version else { return Ok(0) };
        let content = &version.file;
        let mut out = BufWriter::with_capacity(1 << 18, &file);
        self.reader.copy(content, 0..u64::MAX, &mut out, &planned.path, &mut |n| self.meter.add(0, n))?;
        out.flush().map_err(io)?;
        drop(out);
        let mode = self.inner.export_mode(version.exec);
        file.set_permissions(cap_std::fs::Permissions::from_mode(mode)).map_err(io)?;
        set_mtime(&file, version.mtime_ms).map_err(io)?;
        self.meter.add(1, 0);
        Ok(content.size())
    }
}

fn set_mtime(file: &cap_std::fs::File, mtime_ms: i64) -> std::io::Result<()> {
    let time = rustix::fs::Timespec {
        tv_sec: mtime_ms.div_euclid(1_000),
        tv_nsec: mtime_ms.rem_euclid(1_000) * 1_000_000,
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// The same folder, opened so that it can be synced; a handle of a path alone cannot.
fn readable(dir: &Dir) -> std::io::Result<std::os::fd::OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, ".", flags, rustix::fs::Mode::empty())?)
}

/// Opening a folder without following a link in its last part.
trait NoFollow {
    fn open_dir_nofollow_or(&self, name: &OsString) -> std::io::Result<Dir>;
}

impl NoFollow for Dir {
    fn open_dir_nofollow_or(&self, name: &OsString) -> std::io::Result<Dir> {
        let fd = rustix::fs::openat(
            self,
            name.as_os_str(),
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        Ok(Dir::from_std_file(std::fs::File::from(fd)))
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
