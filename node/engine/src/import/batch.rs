//! Gathering: sealed chunks into packs, packs and operations into durable batches.
//!
//! A file is told as saved when its batch is committed, and a batch is committed when all packs that its files need are
//! durable. A long file commits full packs on its way, so that an import that is stopped finds them again.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crossbeam_channel::Receiver;
use locker_catalog::operation::{Content as ContentOp, Meta, Move, NodeKind, Op};
use locker_crypto::Refusal;
use locker_crypto::chunk::ChunkKind;
use locker_crypto::file_ref::{FileRef, FileRefBuilder};
use locker_crypto::id::{ChunkTag, ContentHash, NodeId};
use locker_crypto::pack::{PackBody, PackOp, Packer};
use locker_store::{PackBatch, Store, failpoints, files};

use super::content::{Part, Prepared, Sealer, Unread, Whole};
use super::plan::{Content, FileJob, Job, Place, stat};
use super::walk::SourceFile;
use crate::Error;
use crate::limits::{BATCH_FILES, BATCH_PACK_BYTES, BATCH_TIME};
use crate::locker::Inner;
use crate::progress::Meter;
use crate::report::{Added, Observer, Skipped};
use crate::tree::ORIGINAL_NAME;
use crate::writer::Change;

/// Gathers jobs into batches.
pub(super) struct Batch<'a> {
    inner: &'a Inner,
    store: &'a Store,
    sealer: &'a Sealer,
    observer: &'a dyn Observer,
    meter: &'a Meter<'a>,
    added: &'a mut Added,
    packer: Packer,
    /// Chunks committed since the import began: a worker may have looked before.
    written: HashSet<ChunkTag>,
    /// Chunks in packs of the open batch.
    pending_tags: Vec<ChunkTag>,
    packs: Option<PackBatch<'a>>,
    pack_ops: Vec<PackOp>,
    pack_bytes: u64,
    ops: Vec<Op>,
    files: Vec<Saved>,
    /// When the last batch was committed.
    committed: Duration,
}

/// A file whose operations are in the open batch.
struct Saved {
    source: SourceFile,
    settled: bool,
    shown: String,
    hash: ContentHash,
    /// The FileRef to be remembered; `None` if it was known.
    learned: Option<Vec<u8>>,
}

impl<'a> Batch<'a> {
    /// Starts with nothing gathered.
    pub(super) fn new(
        inner: &'a Inner,
        store: &'a Store,
        sealer: &'a Sealer,
        observer: &'a dyn Observer,
        meter: &'a Meter<'a>,
        added: &'a mut Added,
    ) -> Self {
        Self {
            inner,
            store,
            sealer,
            observer,
            meter,
            added,
            packer: Packer::new(),
            written: HashSet::new(),
            pending_tags: Vec::new(),
            packs: None,
            pack_ops: Vec::new(),
            pack_bytes: 0,
            ops: Vec::new(),
            files: Vec::new(),
            committed: inner.env().elapsed(),
        }
    }

    /// Takes jobs until there are no more, and commits everything.
    pub(super) fn run(mut self, jobs: Receiver<Job>) -> Result<(), Error> {
        for job in jobs {
            match job {
                Job::Folder { node, create } => {
                    self.added.folders += 1;
                    if let Some(place) = create {
                        self.create(node, NodeKind::Folder, place);
                    }
                }
                Job::Unchanged { size } => {
                    self.added.files += 1;
                    self.added.unchanged += 1;
                    self.added.bytes += size;
                    self.meter.add(1, size);
                }
                Job::Skip { path, reason } => self.skip(path, reason),
                Job::File(file) => self.file(*file)?,
            }
            if self.files.len() >= BATCH_FILES
                || self.pack_bytes >= BATCH_PACK_BYTES
                || self.ops.len() >= 4 * BATCH_FILES
                || self.inner.env().elapsed().saturating_sub(self.committed) >= BATCH_TIME
            {
                self.commit()?;
            }
        }
        self.commit()
    }

    fn skip(&mut self, path: String, reason: String) {
        self.added.skipped.push(Skipped { path, reason });
    }

    fn create(&mut self, node: NodeId, kind: NodeKind, place: Place) {
        let Place { parent, name } = place;
        self.ops.push(Op::Move(Move { node, parent, name: name.name, kind: kind.code() }));
        if let Some(original) = name.orig {
            self.ops.push(Op::Meta(Meta { node, key: ORIGINAL_NAME.into(), value: original }));
        }
    }

    fn file(&mut self, job: FileJob) -> Result<(), Error> {
        let FileJob { source, node, create, versions, settled, shown, content } = job;
        let taken = match content {
            Content::Whole(ready, permit) => {
                let whole = ready.recv().map_err(|_| worker_died())?;
                let taken = self.whole(&source, whole);
                drop(permit);
                taken
            }
            Content::Parts(parts) => self.parts(&source, &parts),
        };
        let (file, is_new) = match taken {
            Ok(taken) => taken,
            Err(Unread::Skip(reason)) => {
                self.skip(super::walk::shown(&source.path), reason);
                return Ok(());
            }
            Err(Unread::Fatal(error)) => return Err(error),
        };
        self.added.files += 1;
        self.added.bytes += file.size();
        let hash = file.content_hash();
        let same = matches!(versions.as_slice(), [only]
            if only.hash == hash && only.mtime_ms == source.mtime_ms && only.exec == source.exec);
        if same {
            self.added.unchanged += 1;
        } else {
            if let Some(place) = create {
                self.create(node, NodeKind::File, place);
            }
            let mut bases: Vec<_> = versions.iter().map(|v| v.vid).collect();
            bases.sort_unstable();
            self.ops.push(Op::Content(ContentOp {
                node,
                bases,
                file: file.clone(),
                mtime_ms: source.mtime_ms,
                exec: source.exec,
            }));
        }
        let learned = (is_new && file.level() == 0).then(|| file.encode());
        self.meter.add(1, 0);
        self.files.push(Saved { source, settled, shown, hash, learned });
        Ok(())
    }

    /// Packs a file that was read whole. Gives its FileRef, and whether that is new.
    fn whole(
        &mut self,
        source: &SourceFile,
        whole: Result<Whole, Unread>,
    ) -> Result<(FileRef, bool), Unread> {
        match whole? {
            Whole::Known(file) => {
                self.meter.add(0, file.size());
                Ok((file, false))
            }
            Whole::New { hash, chunks } => {
                let mut builder = FileRefBuilder::new(self.sealer.keys());
                self.packer.start_file(source.stamp.size);
                for chunk in chunks {
                    builder.push(&chunk.record).map_err(refused)?;
                    self.pack(&chunk)?;
                    self.meter.add(0, u64::from(chunk.record.len));
                }
                Ok((self.end_file(builder, hash)?, true))
            }
        }
    }

    /// Packs a file that comes in parts.
    fn parts(&mut self, source: &SourceFile, parts: &Receiver<Part>) -> Result<(FileRef, bool), Unread> {
        let keys = self.sealer.keys();
        let mut builder = FileRefBuilder::new(keys);
        self.packer.start_file(source.stamp.size);
        loop {
            match parts.recv().map_err(|_| worker_died())? {
                Part::Chunk(ready, permit) => {
                    let chunk = ready.recv().map_err(|_| worker_died())??;
                    builder.push(&chunk.record).map_err(refused)?;
                    self.pack(&chunk)?;
                    self.meter.add(0, u64::from(chunk.record.len));
                    drop(permit);
                    if self.pack_bytes >= BATCH_PACK_BYTES {
                        self.commit_packs()?;
                    }
                }
                Part::End(hash) => return Ok((self.end_file(builder, hash)?, true)),
                Part::Unread(reason) => {
                    // Its chunks that are packed already stay unreferenced until they are collected or used.
                    let closed = self.packer.end_file();
                    self.keep(closed)?;
                    return Err(Unread::Skip(reason));
                }
            }
        }
    }

    /// Seals the manifests of a file and closes its last pack.
    fn end_file(&mut self, builder: FileRefBuilder<'_>, hash: ContentHash) -> Result<FileRef, Error> {
        let (file, manifests) = builder.finish(hash).map_err(Error::Refused)?;
        for manifest in manifests {
            let chunk = self.sealer.prepare(ChunkKind::Manifest, &manifest.plain)?;
            self.pack(&chunk)?;
        }
        let closed = self.packer.end_file();
        self.keep(closed)?;
        Ok(file)
    }

    /// Puts a chunk into the packs, unless it is there or on its way.
    fn pack(&mut self, chunk: &Prepared) -> Result<(), Error> {
        let Some(sealed) = &chunk.sealed else { return Ok(()) };
        if self.written.contains(&sealed.tag) || !self.packer.claim(sealed.tag) {
            return Ok(());
        }
        let closed = self.packer.push(sealed).map_err(Error::Refused)?;
        self.keep(closed)
    }

    /// Writes a closed pack under a temporary name.
    fn keep(&mut self, closed: Option<PackBody>) -> Result<(), Error> {
        let Some(body) = closed else { return Ok(()) };
        let packs = match &mut self.packs {
            Some(packs) => packs,
            None => self.packs.insert(self.store.packs().begin_batch(BATCH_PACK_BYTES)?),
        };
        let hash = packs.add_new(body.bytes())?;
        let (bytes, op) = body.named(hash);
        self.pack_bytes += bytes.len() as u64;
        self.pending_tags.extend(op.locs().iter().map(|loc| loc.tag));
        self.pack_ops.push(op);
        Ok(())
    }

    /// Makes the full packs of a file durable that is still being read.
    fn commit_packs(&mut self) -> Result<(), Error> {
        let (ops, files) = (std::mem::take(&mut self.ops), std::mem::take(&mut self.files));
        let result = self.write();
        (self.ops, self.files) = (ops, files);
        result
    }

    /// Makes everything gathered durable and tells so.
    fn commit(&mut self) -> Result<(), Error> {
        let closed = std::mem::take(&mut self.packer).finish();
        self.keep(closed)?;
        self.write()
    }

    fn write(&mut self) -> Result<(), Error> {
        self.committed = self.inner.env().elapsed();
        if let Some(packs) = self.packs.take() {
            packs.finish()?;
        }
        let pack_ops = std::mem::take(&mut self.pack_ops);
        let ops = std::mem::take(&mut self.ops);
        let files = std::mem::take(&mut self.files);
        if pack_ops.is_empty() && ops.is_empty() && files.is_empty() {
            return Ok(());
        }
        self.inner.commit(|change| {
            check_places(change, &ops)?;
            for pack in &pack_ops {
                change.add_pack(pack)?;
            }
            for op in ops {
                change.push(op)?;
            }
            for file in &files {
                if let Some(learned) = &file.learned {
                    files::put_file_ref(change.txn(), &file.hash, learned);
                }
                if file.settled {
                    let path = file.source.path.as_os_str().as_bytes();
                    files::put_stat(change.txn(), path, &stat(&file.source.stamp), &file.hash);
                }
            }
            Ok(())
        })?;
        failpoint(failpoints::ACK_BEFORE)?;
        self.sealer.renew(self.store.read()?);
        self.written.extend(self.pending_tags.drain(..));
        self.added.new_bytes += std::mem::take(&mut self.pack_bytes);
        for file in &files {
            self.observer.saved(&file.shown);
        }
        failpoint(failpoints::ACK_AFTER)
    }
}

/// Checks that no folder or file that these operations write to lies in the trash: they were looked up before, and what
/// is written to something that is known to be in the trash is lost with it.
fn check_places(change: &Change<'_, '_>, ops: &[Op]) -> Result<(), Error> {
    let mut fine = HashSet::from([NodeId::ROOT]);
    for op in ops {
        let place = match op {
            Op::Move(create) => {
                // Whatever is made here lies where its folder does.
                let folder = create.parent;
                fine.insert(create.node);
                folder
            }
            Op::Content(content) => content.node,
            _ => continue,
        };
        if fine.insert(place) && change.is_within(place, NodeId::TRASH)? {
            return Err(Error::Displaced);
        }
    }
    Ok(())
}

/// A step at which the crash laboratory can stop the process.
fn failpoint(point: &'static str) -> Result<(), Error> {
    failpoints::reach(point).map_err(|e| Error::io("cannot tell of", "what was saved", e))
}

fn refused(why: Refusal) -> Unread {
    Unread::Fatal(Error::Refused(why))
}

/// A worker ended without an answer: it has panicked, or the plan was given up.
fn worker_died() -> Error {
    Error::Argument("the import was given up".into())
}
