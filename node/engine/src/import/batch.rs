//! Batches of an import, each made durable as a whole, one after another.
//!
//! A file is told as saved when its batch is committed, and a batch is committed when all packs that its files need are
//! durable (`docs/spec/08-at-rest.md`, "Order of a write").

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use crossbeam_channel::Receiver;
use locker_catalog::operation::Op;
use locker_crypto::id::{ContentHash, NodeId};
use locker_store::{Store, failpoints, files};

use super::content::Sealer;
use super::gather::worker_died;
use super::packs::Packed;
use super::plan::stat;
use super::walk::SourceFile;
use crate::Error;
use crate::locker::Inner;
use crate::report::Observer;
use crate::writer::Change;

/// What becomes durable together.
#[derive(Default)]
pub(super) struct Batch {
    /// Packs that are being written.
    pub(super) packs: Vec<Receiver<Result<Packed, Error>>>,
    /// Their bytes.
    pub(super) pack_bytes: u64,
    /// Operations, in their order.
    pub(super) ops: Vec<Op>,
    /// Files whose operations are among them.
    pub(super) files: Vec<Saved>,
}

/// A file that is saved with its batch.
pub(super) struct Saved {
    /// Where it came from.
    pub(super) source: SourceFile,
    /// Whether its stamp may be trusted the next time.
    pub(super) settled: bool,
    /// Its path in the locker, as told to the person.
    pub(super) shown: String,
    /// Hash of its content.
    pub(super) hash: ContentHash,
    /// The FileRef to be remembered; `None` if it was known.
    pub(super) learned: Option<Vec<u8>>,
}

/// Makes batches durable.
pub(super) struct Committer<'a> {
    /// The locker.
    pub(super) inner: &'a Inner,
    /// Its store.
    pub(super) store: &'a Store,
    /// Who looks chunks up.
    pub(super) sealer: &'a Sealer,
    /// Who is told what is saved.
    pub(super) observer: &'a dyn Observer,
}

impl Committer<'_> {
    /// Takes batches until there are no more; adds the bytes of the packs that are durable to `new_bytes`.
    ///
    /// # Errors
    /// The first one ends it: what was told as saved before is.
    pub(super) fn run(&self, batches: &Receiver<Batch>, new_bytes: &mut u64) -> Result<(), Error> {
        for batch in batches {
            let bytes = batch.pack_bytes;
            self.commit(batch)?;
            *new_bytes += bytes;
        }
        Ok(())
    }

    fn commit(&self, batch: Batch) -> Result<(), Error> {
        let Batch { packs, ops, files, .. } = batch;
        if packs.is_empty() && ops.is_empty() && files.is_empty() {
            return Ok(());
        }
        let mut pack_ops = Vec::with_capacity(packs.len());
        if !packs.is_empty() {
            // Whoever wrote them has seen that there is room.
            let mut durable = self.store.packs().begin_batch(0)?;
            for pack in packs {
                let Packed { op, written } = pack.recv().map_err(|_| worker_died())??;
                durable.take(written)?;
                pack_ops.push(op);
            }
            durable.finish()?;
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
