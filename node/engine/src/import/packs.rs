//! Writing packs while the next ones are gathered: hash, outboard, disk, on threads of their own.

use crossbeam_channel::{Receiver, Sender, bounded};
use locker_crypto::pack::{PackBody, PackOp};
use locker_store::{PackStore, WrittenPack};

use super::gather::worker_died;
use crate::Error;
use crate::limits::PACKS_QUEUED;

/// A pack that lies on the disk under a temporary name.
pub(super) struct Packed {
    /// The operation that names it and its chunks.
    pub(super) op: PackOp,
    /// The file.
    pub(super) written: WrittenPack,
}

struct Order {
    body: PackBody,
    done: Sender<Result<Packed, Error>>,
}

/// Where closed packs go. When all writers are busy, whoever has one more waits.
pub(super) struct PackQueue(Sender<Order>);

/// One of those who write packs.
#[derive(Clone)]
pub(super) struct PackWriter(Receiver<Order>);

/// Makes a queue and its writer, to be cloned for each thread that writes.
pub(super) fn queue() -> (PackQueue, PackWriter) {
    let (queue, orders) = bounded(PACKS_QUEUED);
    (PackQueue(queue), PackWriter(orders))
}

impl PackQueue {
    /// Has a pack written; the result comes by the channel.
    pub(super) fn write(&self, body: PackBody) -> Result<Receiver<Result<Packed, Error>>, Error> {
        let (done, ready) = bounded(1);
        self.0.send(Order { body, done }).map_err(|_| worker_died())?;
        Ok(ready)
    }
}

impl PackWriter {
    /// Writes packs until the queue is given up.
    pub(super) fn run(&self, store: &PackStore) {
        for Order { body, done } in &self.0 {
            let packed = store
                .write_new(body.bytes())
                .map_err(Error::from)
                .map(|written| Packed { op: body.named(written.hash()), written });
            // Nobody waits when the import has ended; the file goes with what is dropped here.
            let _ = done.send(packed);
        }
    }
}
