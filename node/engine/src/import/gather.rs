//! Gathering: sealed chunks into packs, packs and operations into batches, in the order of the walk.
//!
//! Nothing here waits for the disk: packs go to [`super::packs`], batches to [`super::batch`]. A batch that is closed
//! may be under way while the next one is gathered; they become durable one after another. A long file gives full packs
//! away on its way, so that an import that is stopped finds them again.

use std::collections::HashSet;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use locker_catalog::operation::{Content as ContentOp, Meta, Move, NodeKind, Op};
use locker_crypto::Refusal;
use locker_crypto::chunk::ChunkKind;
use locker_crypto::file_ref::{FileRef, FileRefBuilder};
use locker_crypto::id::{ChunkTag, ContentHash, NodeId};
use locker_crypto::pack::{PackBody, Packer};

use super::batch::{Batch, Saved};
use super::content::{Part, Prepared, Sealer, Unread, Whole};
use super::packs::PackQueue;
use super::plan::{Content, FileJob, Job, Place};
use super::walk::SourceFile;
use crate::Error;
use crate::limits::{BATCH_FILES, BATCH_PACK_BYTES, BATCH_TIME};
use crate::locker::Inner;
use crate::progress::Meter;
use crate::report::{Added, Skipped};
use crate::tree::ORIGINAL_NAME;

/// Gathers jobs into batches.
pub(super) struct Gatherer<'a> {
    inner: &'a Inner,
    sealer: &'a Sealer,
    meter: &'a Meter<'a>,
    added: &'a mut Added,
    packs: PackQueue,
    batches: Sender<Batch>,
    packer: Packer,
    /// Chunks that this import has put into packs. A worker may have looked before; and since batches become durable in
    /// their order, a later one may build on them at once.
    packed: HashSet<ChunkTag>,
    batch: Batch,
    /// When the open batch was begun.
    begun: Duration,
}

impl<'a> Gatherer<'a> {
    /// Starts with nothing gathered.
    pub(super) fn new(
        inner: &'a Inner,
        sealer: &'a Sealer,
        meter: &'a Meter<'a>,
        added: &'a mut Added,
        packs: PackQueue,
        batches: Sender<Batch>,
    ) -> Self {
        Self {
            inner,
            sealer,
            meter,
            added,
            packs,
            batches,
            packer: Packer::new(),
            packed: HashSet::new(),
            batch: Batch::default(),
            begun: inner.env().elapsed(),
        }
    }

    /// Takes jobs until there are no more or the work is to stop, and gives everything away.
    pub(super) fn run(mut self, jobs: Receiver<Job>) -> Result<(), Error> {
        for job in jobs {
            if let Err(stopped) = self.meter.check() {
                self.close()?;
                return Err(stopped);
            }
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
            if self.batch.files.len() >= BATCH_FILES
                || self.batch.pack_bytes >= BATCH_PACK_BYTES
                || self.batch.ops.len() >= 4 * BATCH_FILES
                || self.inner.env().elapsed().saturating_sub(self.begun) >= BATCH_TIME
            {
                self.close()?;
            }
        }
        self.close()
    }

    fn skip(&mut self, path: String, reason: String) {
        self.added.skipped.push(Skipped { path, reason });
    }

    fn create(&mut self, node: NodeId, kind: NodeKind, place: Place) {
        let Place { parent, name } = place;
        self.batch.ops.push(Op::Move(Move { node, parent, name: name.name, kind: kind.code() }));
        if let Some(original) = name.orig {
            self.batch.ops.push(Op::Meta(Meta { node, key: ORIGINAL_NAME.into(), value: original }));
        }
    }

    fn file(&mut self, job: FileJob) -> Result<(), Error> {
        let FileJob { source, node, create, versions, is_damaged, settled, shown, content } = job;
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
            if only.file.content_hash() == hash && only.mtime_ms == source.mtime_ms && only.exec == source.exec
                // Sealed under another secret it takes the place of what is damaged.
                && (!is_damaged || only.file == file));
        if same {
            self.added.unchanged += 1;
        } else {
            if let Some(place) = create {
                self.create(node, NodeKind::File, place);
            }
            let mut bases: Vec<_> = versions.iter().map(|v| v.vid).collect();
            bases.sort_unstable();
            self.batch.ops.push(Op::Content(ContentOp {
                node,
                bases,
                file: file.clone(),
                mtime_ms: source.mtime_ms,
                exec: source.exec,
            }));
        }
        let learned = (is_new && file.level() == 0).then(|| file.encode());
        self.meter.add(1, 0);
        self.batch.files.push(Saved { source, settled, shown, hash, learned });
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
                    self.meter.check()?;
                    if self.batch.pack_bytes >= BATCH_PACK_BYTES {
                        self.close_packs()?;
                    }
                }
                Part::Known(file) => {
                    self.meter.add(0, file.size());
                    let closed = self.packer.end_file();
                    self.keep(closed)?;
                    return Ok((file, false));
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
        if !self.packed.insert(sealed.tag) || !self.packer.claim(sealed.tag) {
            return Ok(());
        }
        let closed = self.packer.push(sealed).map_err(Error::Refused)?;
        self.keep(closed)
    }

    /// Has a closed pack written.
    fn keep(&mut self, closed: Option<PackBody>) -> Result<(), Error> {
        let Some(body) = closed else { return Ok(()) };
        self.batch.pack_bytes += body.bytes().len() as u64;
        self.batch.packs.push(self.packs.write(body)?);
        Ok(())
    }

    /// Gives away the full packs of a file that is still being read.
    fn close_packs(&mut self) -> Result<(), Error> {
        let packs = std::mem::take(&mut self.batch.packs);
        let pack_bytes = std::mem::take(&mut self.batch.pack_bytes);
        self.send(Batch { packs, pack_bytes, ..Batch::default() })
    }

    /// Gives away everything gathered.
    fn close(&mut self) -> Result<(), Error> {
        let closed = std::mem::take(&mut self.packer).finish();
        self.keep(closed)?;
        let batch = std::mem::take(&mut self.batch);
        self.send(batch)
    }

    fn send(&mut self, batch: Batch) -> Result<(), Error> {
        self.begun = self.inner.env().elapsed();
        // Whoever makes batches durable has ended: it tells why.
        self.batches.send(batch).map_err(|_| worker_died())
    }
}

fn refused(why: Refusal) -> Unread {
    Unread::Fatal(Error::Refused(why))
}

/// Another thread of the import ended without an answer: it has panicked, or tells why itself.
pub(super) fn worker_died() -> Error {
    Error::Argument("the import was given up".into())
}
