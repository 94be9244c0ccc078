//! From a folder into the home that a locker comes back to: logs first, what lies beside them, then packs.

use std::collections::BTreeMap;

use locker_crypto::id::{PackHash, VerifyingKey};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Ask, LogKind};

use super::folder::Folder;
use crate::Error;
use crate::locker::Inner;
use crate::node::{Asker, Incoming};
use crate::report::{Observer, Progress};

/// Bytes of packs that are made durable in one commit.
const KEEP_BYTES: usize = 64 << 20;

/// Takes over every log and every object that the folder has of them.
pub(super) fn logs(folder: &Folder, inner: &Inner) -> Result<(), Error> {
    let heads = folder.heads()?;
    loop {
        let before = held(inner)?;
        for (log, heads) in &heads {
            // Authors take turns: what one names of another is mostly there.
            let mut next: BTreeMap<VerifyingKey, (u64, u64)> = BTreeMap::new();
            for head in heads {
                let from = before.get(&(*log, head.author)).map_or(0, |seq| seq.saturating_add(1));
                if from <= head.seq {
                    next.insert(head.author, (from, head.seq));
                }
            }
            while !next.is_empty() {
                for author in next.keys().copied().collect::<Vec<_>>() {
                    let Some((from, to)) = next.remove(&author) else { continue };
                    let items = folder.items(*log, &author, from, to)?;
                    let Some(last) = items.last().map(|item| item.seq) else { continue };
                    let incoming = items.into_iter().map(|item| Incoming {
                        ticket: 0,
                        log: *log,
                        bytes: item.bytes,
                        from: Asker::Replica,
                    });
                    let taken = inner.take_items(incoming.collect())?;
                    beside(folder, inner, taken.asks)?;
                    if last < to {
                        next.insert(author, (last + 1, to));
                    }
                }
            }
        }
        // What came before what it needs comes again, as long as that gets on.
        if held(inner)? == before {
            break;
        }
    }
    beside(folder, inner, inner.missing_objects()?)
}

/// Takes over what items name beside the logs, and what that leads to.
fn beside(folder: &Folder, inner: &Inner, asks: Vec<Ask>) -> Result<(), Error> {
    let mut queue = asks;
    while let Some(ask) = queue.pop() {
        for object in folder.objects(&ask)? {
            let more = inner.take_object(&object)?.asks;
            // An epoch that stays unknown is not asked for again.
            queue.extend(more.into_iter().filter(|more| *more != ask));
        }
    }
    Ok(())
}

/// How far the logs are here.
fn held(inner: &Inner) -> Result<BTreeMap<(Log, VerifyingKey), u64>, Error> {
    let mut held = BTreeMap::new();
    for (log, heads) in inner.standing()?.heads {
        held.extend(heads.into_iter().map(|head| ((log, head.author), head.seq)));
    }
    // Pins of this device itself are of no interest.
    held.retain(|(log, author), _| log.kind != LogKind::Pins || *author != inner.keys().device_id());
    Ok(held)
}

/// Copies every pack that is wanted here, is to be copied, and that the folder has.
pub(super) fn packs(
    folder: &Folder,
    inner: &Inner,
    is_meant: &dyn Fn(&PackHash) -> bool,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let (mut done, total) = inner.pack_bytes()?;
    let mut wanted = inner.wanted_packs()?.into_iter().filter(|(hash, _)| is_meant(hash)).peekable();
    while wanted.peek().is_some() {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < KEEP_BYTES
            && let Some((hash, len)) = wanted.next()
        {
            if let Some(pack) = folder.pack(&hash, len)? {
                bytes += pack.len();
                batch.push((hash, pack));
            }
        }
        let _content = inner.turns().rely();
        {
            let store = inner.store()?;
            let mut durable = store.packs().begin_batch(bytes as u64)?;
            for (hash, pack) in &batch {
                durable.add(hash, pack)?;
            }
            durable.finish()?;
        }
        inner.commit(|change| batch.iter().try_for_each(|(hash, _)| change.hold_pack(hash)))?;
        done += bytes as u64;
        observer.progress(Progress { bytes: done, bytes_total: Some(total), ..Progress::default() });
        if observer.is_stopped() {
            return Err(Error::Network("stopped; what is here already stays here".into()));
        }
    }
    Ok(())
}
