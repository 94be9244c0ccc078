//! The database: its pages, its rows, and whether the rows about packs lead to what they say.

use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{PinId, VerifyingKey};
use locker_crypto::pin::PinDelta;
use locker_store::pins::{self, PinScope};
use locker_store::{Snapshot, StoreError, files, index};

use super::Check;
use crate::Error;
use crate::limits::EXCLUSIVE_WAIT;

impl Check<'_> {
    /// Checks the checksums of all pages, if the database can be had alone for it.
    pub(super) fn pages(&mut self) -> Result<(), Error> {
        self.verified.checked += 1;
        let checked = match self.inner.exclusive_store(EXCLUSIVE_WAIT).as_deref_mut() {
            Some(Some(store)) => store.check_integrity(),
            _ => Err(StoreError::Busy),
        };
        match checked {
            Ok(false) => {}
            Ok(true) => self.add(Refusal::Hash, "the database had to be repaired".into()),
            Err(StoreError::Corrupt { what }) => {
                self.has_gap = true;
                self.add(Refusal::Hash, what);
            }
            Err(StoreError::Busy) => self.note(
                "others were at work in the database, so its free pages were not checked; every row in it was".into(),
            ),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Opens every row of every table.
    pub(super) fn rows(&mut self) -> Result<(), Error> {
        let store = self.inner.store()?;
        let told = store.database_bytes()?;
        let mut read = 0;
        store.read()?.check_rows(&mut |block| {
            read += block.bytes;
            if let Some(flaw) = block.flaw {
                self.add(Refusal::Tag, flaw);
            }
            self.checked(block.bytes)
        })?;
        // Pages are not full, and some are free.
        self.meter.add(0, told.saturating_sub(read));
        Ok(())
    }

    /// Follows every row about packs, chunks, pins and remembered contents.
    pub(super) fn index(&mut self) -> Result<(), Error> {
        let store = self.inner.store()?;
        let snapshot = store.read()?;
        index::check(&snapshot, &mut |flaw| {
            if let Some(flaw) = flaw {
                self.add(Refusal::Canon, flaw);
            }
            self.verified.checked += 1;
            self.goes_on()
        })?;
        self.remembered_contents(&snapshot)?;
        self.own_pins(&snapshot)?;
        let keys = self.inner.keys();
        for author in crate::keys::active(&snapshot, &keys.person)? {
            self.pin_deltas(&snapshot, author)?;
        }
        Ok(())
    }

    fn remembered_contents(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let space = self.inner.space_tag();
        let mut failure = None;
        files::scan_file_refs(snapshot, &mut |row| {
            let flaw = match FileRef::decode(row.file_ref()) {
                Err(_) => Some("a remembered content has an unknown form"),
                Ok(file) if !row.is_of(&file.content_hash()) => {
                    Some("a remembered content stands in the place of another")
                }
                Ok(file) => {
                    let is_located = file.records().iter().try_fold(true, |all, record| {
                        Ok::<_, StoreError>(all && index::has_chunk(snapshot, &space, &record.tag())?)
                    });
                    match is_located {
                        Ok(true) => None,
                        Ok(false) => Some("a remembered content has chunks that lie nowhere"),
                        Err(error) => {
                            failure = Some(error);
                            return ControlFlow::Break(());
                        }
                    }
                }
            };
            if let Some(flaw) = flaw {
                self.add(Refusal::Canon, flaw.into());
            }
            self.verified.checked += 1;
            self.goes_on()
        })?;
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What this device holds on to is known. What others do may be heard of later.
    fn own_pins(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let keys = self.inner.keys();
        let scope = PinScope { space: keys.tag, author: keys.device_id() };
        let mut failure = None;
        pins::scan(snapshot, &scope, &mut |hash| {
            match index::pack(snapshot, &hash) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.add(
                        Refusal::Canon,
                        format!("this device holds on to pack {hash}, which is not known"),
                    );
                }
                Err(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            self.verified.checked += 1;
            self.goes_on()
        })?;
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The signed deltas of a device, from the first to the newest.
    fn pin_deltas(&mut self, snapshot: &Snapshot, author: VerifyingKey) -> Result<(), Error> {
        let scope = PinScope { space: self.inner.space_tag(), author };
        let Some((newest, _)) = pins::newest(snapshot, &scope)? else { return Ok(()) };
        let mut before = PinId::ZERO;
        for seq in 0..=newest {
            let Some(bytes) = pins::delta(snapshot, &scope, seq)? else {
                self.add(Refusal::Chain, format!("pins of device {author} are missing"));
                return Ok(());
            };
            let opened = PinDelta::open(&bytes).ok();
            let fits = |delta: &PinDelta| {
                let is_its = delta.author == author && delta.space_tag == scope.space;
                is_its && delta.seq == seq && delta.prev == before
            };
            match opened.filter(|(delta, _)| fits(delta)) {
                Some((_, id)) => before = id,
                None => {
                    self.add(Refusal::Chain, format!("the pins of device {author} are damaged"));
                    return Ok(());
                }
            }
            if self.checked(bytes.len() as u64).is_break() {
                break;
            }
        }
        Ok(())
    }
}
