//! How far the logs of a depot reach, and their items on the way out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use locker_crypto::entry::Envelope;
use locker_crypto::id::{EpochId, SpaceTag, VerifyingKey};
use locker_crypto::pin::PinHead;
use locker_store::Reads;
use locker_store::opaque::{self, Chain};
use locker_store::pins::{self, PinScope};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Head, LogKind};
use locker_sync::session::Item;

use super::Depot;
use crate::Error;
use crate::keys::person_log;
use crate::person_chains::PersonChains;

/// The epochs that the entries of a space were sealed under, and the bytes of these. Reads them all.
pub(super) fn survey<R: Reads>(reads: &R, space: &SpaceTag) -> Result<(BTreeSet<EpochId>, u64), Error> {
    let (mut epochs, mut len) = (BTreeSet::new(), 0);
    for author in opaque::authors(reads, space)? {
        opaque::scan(reads, &Chain { space: *space, author }, 0, &mut |_, _, bytes| {
            len += bytes.len() as u64;
            if let Ok(envelope) = Envelope::parse(bytes) {
                epochs.insert(envelope.header().epoch);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok((epochs, len))
}

impl Depot {
    /// The newest item of every author in every log.
    ///
    /// # Errors
    /// [`Error::Integrity`] if something is damaged; what reading gives.
    pub(crate) fn heads<R: Reads>(&self, reads: &R) -> Result<Vec<(Log, Vec<Head>)>, Error> {
        let space = self.charge.tag;
        let person = PersonChains::of(&person_log(reads, &self.charge.person)?);
        let mut entries = Vec::new();
        for author in opaque::authors(reads, &space)? {
            let newest = opaque::newest(reads, &Chain { space, author })?;
            entries.extend(newest.map(|(seq, id)| Head { author, seq, id: id.0 }));
        }
        let mut pins = Vec::new();
        for author in self.roster(reads)?.brought_in {
            let newest = self.pin_heads.newest(reads, &PinScope { space, author })?;
            pins.extend(newest.map(|PinHead { seq, id }| Head { author, seq, id: id.0 }));
        }
        Ok(vec![
            (self.person_log(), person.heads.into_values().collect()),
            (self.entry_log(), entries),
            (self.pin_log(), pins),
        ])
    }

    /// Authors of whom two entries share a number, with the first such number. Reads the numbers of all entries.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn forked<R: Reads>(&self, reads: &R) -> Result<BTreeMap<VerifyingKey, u64>, Error> {
        let space = self.charge.tag;
        let mut forked = BTreeMap::new();
        for author in opaque::authors(reads, &space)? {
            let mut last = None;
            opaque::scan(reads, &Chain { space, author }, 0, &mut |seq, _, _| {
                if last == Some(seq) {
                    forked.insert(author, seq);
                    return ControlFlow::Break(());
                }
                last = Some(seq);
                ControlFlow::Continue(())
            })?;
        }
        Ok(forked)
    }

    /// Loads items of one author from a number on: at least one if any is held, then as many as fit; all branches of one
    /// number together.
    ///
    /// # Errors
    /// [`Error::Integrity`] if something is damaged; what reading gives.
    pub(crate) fn items<R: Reads>(
        &self,
        reads: &R,
        log: Log,
        author: &VerifyingKey,
        from: u64,
        to: u64,
        bytes_max: u64,
    ) -> Result<Vec<Item>, Error> {
        let mut items: Vec<Item> = Vec::new();
        let mut bytes = 0;
        let mut add = |seq: u64, item: &[u8]| {
            let is_full = bytes >= bytes_max && items.last().is_some_and(|last| last.seq != seq);
            if seq > to || is_full {
                return ControlFlow::Break(());
            }
            bytes += item.len() as u64;
            items.push(Item { seq, bytes: item.to_vec() });
            ControlFlow::Continue(())
        };
        let space = self.charge.tag;
        if log == self.entry_log() {
            opaque::scan(reads, &Chain { space, author: *author }, from, &mut |seq, _, item| add(seq, item))?;
        } else if log == self.pin_log() {
            let scope = PinScope { space, author: *author };
            for seq in from..=to {
                let Some(delta) = pins::delta(reads, &scope, seq)? else { break };
                if add(seq, &delta).is_break() {
                    break;
                }
            }
        } else if log == self.person_log() && log.kind == LogKind::Person {
            let mut entries = person_log(reads, &self.charge.person)?;
            entries.retain(|entry| entry.author == *author && entry.seq >= from);
            entries.sort_by_key(|entry| (entry.seq, entry.id));
            for entry in entries {
                if add(entry.seq, &entry.to_bytes(&self.charge.person)).is_break() {
                    break;
                }
            }
        }
        Ok(items)
    }
}
