//! Deciding what becomes of each thing that the walk meets: which node it is, whether it is new, whether it must be
//! read at all.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use locker_catalog::name::{self, Imported};
use locker_catalog::operation::NodeKind;
use locker_catalog::tree::{self as catalog, Newest};
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{NodeId, VersionId};
use locker_store::files::{self, FileStat};
use locker_store::index::{self, PackState};

use super::budget::{Budget, Permit};
use super::content::{Part, Sealer, Unread, Whole};
use super::walk::{Found, SourceFile, Stamp, shown};
use crate::limits::{CHILDREN_PER_LOOK, IN_FLIGHT_JOBS, STAMP_SETTLE_NS, STREAM_SIZE_MIN};
use crate::locker::Inner;
use crate::progress::Meter;
use crate::reader::Reader;
use crate::tree::{Listed, Tree, original_name};
use crate::{Error, path};

/// Work for the gathering thread, in the order of the walk.
pub(super) enum Job {
    /// A folder was met.
    Folder {
        /// Its node.
        node: NodeId,
        /// Where and how to make it; `None` if it is there.
        create: Option<Place>,
    },
    /// A file that need not be read: its node has this content.
    Unchanged {
        /// Its size in bytes.
        size: u64,
    },
    /// A file to be taken in.
    File(Box<FileJob>),
    /// Something that is left out.
    Skip {
        /// Where it lies.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Where a new node goes.
pub(super) struct Place {
    /// The folder.
    pub(super) parent: NodeId,
    /// Its name and, if they differ, the bytes of its name outside.
    pub(super) name: Imported,
}

/// A file to be taken in.
pub(super) struct FileJob {
    /// The file outside.
    pub(super) source: SourceFile,
    /// Its node.
    pub(super) node: NodeId,
    /// Where and how to make the node; `None` if it is there.
    pub(super) create: Option<Place>,
    /// The versions that it has.
    pub(super) versions: Vec<Existing>,
    /// Whether a part of these is damaged here.
    pub(super) is_damaged: bool,
    /// Whether its stamp may be trusted the next time.
    pub(super) settled: bool,
    /// Its path in the locker, as told to the person.
    pub(super) shown: String,
    /// Where its content comes from.
    pub(super) content: Content,
}

/// A live version of a file that is there.
#[derive(Clone)]
pub(super) struct Existing {
    pub(super) vid: VersionId,
    pub(super) file: FileRef,
    pub(super) mtime_ms: i64,
    pub(super) exec: bool,
}

/// Where the content of a file comes from.
pub(super) enum Content {
    /// A worker reads it whole.
    Whole(Receiver<Result<Whole, Unread>>, Permit),
    /// It comes in parts.
    Parts(Receiver<Part>),
}

/// Plans what the walk finds.
pub(super) struct Planner<'a> {
    inner: &'a Inner,
    sealer: &'a Arc<Sealer>,
    meter: &'a Meter<'a>,
    budget: Budget,
    jobs: Sender<Job>,
    open: Vec<Folder>,
    now_ns: i64,
    /// Something that was stored here is damaged: what is unchanged outside may not be whole here.
    has_lost: bool,
}

/// A folder that the walk is in.
struct Folder {
    node: NodeId,
    shown: String,
    /// What was in it before, by name, once all of it is read; nothing for a folder made in this import.
    children: Option<HashMap<String, Vec<Known>>>,
    /// How many more names are looked up one by one before all is read; `None` before the first.
    looks_left: Option<u64>,
}

/// A child that was there before.
#[derive(Clone)]
struct Known {
    node: NodeId,
    kind: NodeKind,
    /// Its content, if it has exactly one.
    only: Option<Newest>,
}

impl Known {
    fn of(child: Listed) -> Self {
        Self { node: child.id, kind: child.kind, only: child.newest.filter(|_| child.versions == 1) }
    }
}

impl<'a> Planner<'a> {
    /// Plans below a folder, given with its path in the locker.
    ///
    /// # Errors
    /// What reading gives.
    pub(super) fn new(
        inner: &'a Inner,
        sealer: &'a Arc<Sealer>,
        meter: &'a Meter<'a>,
        budget: Budget,
        jobs: Sender<Job>,
        (target, shown): (NodeId, String),
    ) -> Result<Self, Error> {
        let now_ns = i64::try_from(inner.env().now_ms()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        // What is in the target is read when the first thing goes there.
        let target = Folder { node: target, shown, children: None, looks_left: None };
        let mut has_lost = false;
        index::scan_packs(&*sealer.snapshot(), &mut |_, pack| {
            has_lost = pack.state == PackState::Lost;
            if has_lost { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(Self { inner, sealer, meter, budget, jobs, open: vec![target], now_ns, has_lost })
    }

    /// Plans one thing.
    pub(super) fn found(&mut self, found: Found) -> Result<(), Error> {
        let job = match found {
            Found::Leave => {
                self.open.pop();
                return Ok(());
            }
            Found::Skip { path, reason } => Job::Skip { path: shown(&path), reason },
            Found::Enter { name } => self.enter(&name)?,
            Found::File(source) => return self.file(source),
        };
        self.send(job)
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        // The gathering thread has ended: it has told why.
        self.jobs.send(job).map_err(|_| ended())
    }

    fn enter(&mut self, name: &[u8]) -> Result<Job, Error> {
        let imported = name::import(name);
        let known = self.existing(&imported, NodeKind::Folder)?;
        let parent = self.here();
        let shown = path::join(&parent.shown, &imported.name);
        let parent = parent.node;
        Ok(match known {
            Some(Known { node, .. }) => {
                self.open.push(Folder { node, shown, children: None, looks_left: None });
                Job::Folder { node, create: None }
            }
            None => {
                let node = self.new_node(NodeKind::Folder);
                self.open.push(Folder { node, shown, children: Some(HashMap::new()), looks_left: None });
                Job::Folder { node, create: Some(Place { parent, name: imported }) }
            }
        })
    }

    fn file(&mut self, source: SourceFile) -> Result<(), Error> {
        let imported = name::import(&source.name);
        let known = self.existing(&imported, NodeKind::File)?;
        let parent = self.here();
        let (parent, shown) = (parent.node, path::join(&parent.shown, &imported.name));
        let is_damaged = match &known {
            Some(Known { node, .. }) if self.has_lost => self.is_damaged(*node)?,
            _ => false,
        };
        if let Some(Known { only: Some(only), .. }) = &known
            && !is_damaged
            && self.is_unchanged(&source, only)?
        {
            return self.send(Job::Unchanged { size: source.stamp.size });
        }
        let versions = known.as_ref().map_or_else(|| Ok(Vec::new()), |known| self.versions(known.node))?;
        let settled =
            self.now_ns.saturating_sub(source.stamp.mtime_ns.max(source.stamp.ctime_ns)) > STAMP_SETTLE_NS;
        let (node, create) = match known {
            Some(Known { node, .. }) => (node, None),
            None => (self.new_node(NodeKind::File), Some(Place { parent, name: imported })),
        };
        let job = |versions, content| {
            Job::File(Box::new(FileJob {
                source: source.clone(),
                node,
                create,
                versions,
                is_damaged,
                settled,
                shown,
                content,
            }))
        };
        if source.stamp.size < STREAM_SIZE_MIN {
            let permit = self.budget.take(source.stamp.size).ok_or_else(ended)?;
            let (done, ready) = bounded(1);
            let job = job(versions, Content::Whole(ready, permit));
            let sealer = Arc::clone(self.sealer);
            let source = source.clone();
            rayon::spawn(move || {
                let _ = done.send(sealer.whole(&source));
            });
            self.send(job)
        } else {
            let before = self.still(&source, &versions)?;
            let (parts, ready) = bounded(IN_FLIGHT_JOBS);
            self.send(job(versions, Content::Parts(ready)))?;
            match before {
                // Nobody takes it if the import has ended for another reason.
                Some(file) => drop(parts.send(Part::Known(file))),
                None => self.sealer.stream(&source, &self.budget, &parts),
            }
            Ok(())
        }
    }

    /// Whether the file outside is what the locker has, as far as can be told without reading it.
    fn is_unchanged(&self, source: &SourceFile, version: &Newest) -> Result<bool, Error> {
        if version.mtime_ms != source.mtime_ms || version.exec != source.exec {
            return Ok(false);
        }
        let path = source.path.as_os_str().as_bytes();
        let known = files::unchanged(&*self.sealer.snapshot(), path, &stat(&source.stamp))?;
        Ok(known == Some(version.hash))
    }

    /// Whether a part of what a file holds is damaged here.
    fn is_damaged(&self, node: NodeId) -> Result<bool, Error> {
        let (store, snapshot) = (self.inner.store()?, self.sealer.snapshot());
        let reader = Reader::new(self.inner, &store, &snapshot);
        for version in self.versions(node)? {
            if self.sealer.is_damaged(&version.file, &reader)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a large file still is, although it was sealed under an earlier secret.
    fn still(&self, source: &SourceFile, versions: &[Existing]) -> Result<Option<FileRef>, Error> {
        let [only] = versions else { return Ok(None) };
        let (store, snapshot) = (self.inner.store()?, self.sealer.snapshot());
        let reader = Reader::new(self.inner, &store, &snapshot);
        let is_still = self.sealer.is_still(source, &only.file, &reader, (&self.budget, self.meter))?;
        Ok(is_still.then(|| only.file.clone()))
    }

    /// The node of this name and kind in the folder at hand, if it is known.
    fn existing(&mut self, imported: &Imported, kind: NodeKind) -> Result<Option<Known>, Error> {
        let candidates = match self.look_up(&imported.name)? {
            Some(found) => found,
            None => {
                if self.here().children.is_none() {
                    let children = self.children(self.here().node)?;
                    self.here_mut().children = Some(children);
                }
                let children = self.here().children.as_ref();
                children.and_then(|c| c.get(&imported.name)).cloned().unwrap_or_default()
            }
        };
        for candidate in candidates {
            if candidate.kind == kind && self.original(candidate.node, &imported.name)? == imported.orig {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// What has this name in the folder at hand, if the folder is so large that few names are quicker looked up one by
    /// one; `None` if all of it is, or is to be, read.
    fn look_up(&mut self, name: &str) -> Result<Option<Vec<Known>>, Error> {
        let here = self.here();
        if here.children.is_some() || here.looks_left == Some(0) {
            return Ok(None);
        }
        let snapshot = self.sealer.snapshot();
        let tree = Tree::new(&snapshot, self.inner.space_tag())?;
        let looks = match here.looks_left {
            Some(looks) => looks,
            None => catalog::count_children(tree.rows(), here.node)? / CHILDREN_PER_LOOK,
        };
        let found = if looks == 0 { None } else { Some(catalog::named(tree.rows(), here.node, name)?) };
        self.here_mut().looks_left = Some(looks.saturating_sub(1));
        Ok(found.map(|found| found.into_iter().map(Known::of).collect()))
    }

    /// The original bytes of a name, looked up only where an import can have changed them.
    fn original(&self, node: NodeId, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if name.is_ascii() && !name.contains('~') {
            return Ok(None);
        }
        let snapshot = self.sealer.snapshot();
        original_name(Tree::new(&snapshot, self.inner.space_tag())?.rows(), node)
    }

    /// The children of a folder by their own names.
    fn children(&self, folder: NodeId) -> Result<HashMap<String, Vec<Known>>, Error> {
        let snapshot = self.sealer.snapshot();
        let tree = Tree::new(&snapshot, self.inner.space_tag())?;
        let mut children: HashMap<String, Vec<Known>> = HashMap::new();
        let mut twins = Vec::new();
        tree.children(folder, &mut |child| {
            // A shown name with a number may be that of a twin; its own name then has to be looked up.
            if name::unnumbered(&child.displayed).is_some() {
                twins.push(Known::of(child));
            } else {
                children.entry(child.displayed.clone()).or_default().push(Known::of(child));
            }
            ControlFlow::Continue(())
        })?;
        for known in twins {
            children.entry(tree.node(known.node)?.name).or_default().push(known);
        }
        Ok(children)
    }

    fn versions(&self, node: NodeId) -> Result<Vec<Existing>, Error> {
        let snapshot = self.sealer.snapshot();
        let node = Tree::new(&snapshot, self.inner.space_tag())?.node(node)?;
        let existing = node.versions.iter().map(|v| Existing {
            vid: v.vid,
            file: v.file.clone(),
            mtime_ms: v.mtime_ms,
            exec: v.exec,
        });
        Ok(existing.collect())
    }

    fn here(&self) -> &Folder {
        self.open.last().expect("the target is never left")
    }

    fn here_mut(&mut self) -> &mut Folder {
        self.open.last_mut().expect("the target is never left")
    }

    fn new_node(&self, kind: NodeKind) -> NodeId {
        crate::writer::new_node(self.inner.env(), kind)
    }
}

/// A stamp as the store keeps it.
pub(super) fn stat(stamp: &Stamp) -> FileStat {
    let Stamp { dev, inode, size, mtime_ns, ctime_ns } = *stamp;
    FileStat { dev, inode, size, mtime_ns, ctime_ns }
}

/// Why planning stops when the gathering thread has ended, which has told its own reason.
fn ended() -> Error {
    Error::Argument("the import has ended".into())
}
