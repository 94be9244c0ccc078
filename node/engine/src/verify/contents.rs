//! The contents: every version that any file has or had, down to the key of each chunk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;

use locker_catalog::tree::{self as catalog, Standing};
use locker_crypto::Refusal;
use locker_crypto::chunk::{COMMITMENT_LEN, Opener};
use locker_crypto::file_ref::{ChunkRecord, FileRef};
use locker_crypto::id::{NodeId, PackHash};
use locker_store::index::{self, PackState};
use locker_store::packs::PackReader;
use locker_store::{Snapshot, Store};

use super::Check;
use crate::Error;
use crate::kept::{Keeper, Kept};
use crate::limits::{FINDINGS_MAX, OPEN_PACKS};
use crate::locker::Inner;
use crate::reader::Reader;
use crate::tree::Tree;

impl Check<'_> {
    /// Every version that any file has or had.
    pub(super) fn contents(&mut self) -> Result<(), Error> {
        if self.inner.depot().is_some() {
            // What files there are, this device cannot tell.
            return Ok(());
        }
        let store = self.inner.store()?;
        let snapshot = store.read()?;
        let tree = Tree::replayed(&snapshot, self.inner.space_tag());
        let mut contents = Contents {
            inner: self.inner,
            store: &store,
            snapshot: &snapshot,
            reader: Reader::new(self.inner, &store, &snapshot),
            open: HashMap::new(),
        };
        let mut failure = None;
        let keeper = Keeper::new(self.inner, &store, &snapshot);
        catalog::walk_versions(tree.rows(), &mut |node, version, standing| {
            self.verified.checked += 1;
            // What is past and was let go is not damaged.
            let checked = match standing {
                Standing::Live => contents.file(&version.file),
                Standing::Past => keeper.state(&version.file).and_then(|kept| match kept {
                    Kept::Gone => Ok(()),
                    Kept::Here | Kept::Elsewhere(_) => contents.file(&version.file),
                }),
            };
            match checked {
                // What is still to come from other devices is not damaged.
                Ok(()) | Err(Error::Network(_)) => {}
                Err(Error::Integrity { why, what }) => match shown_path(&tree, node) {
                    Ok(shown) => {
                        self.add(why, format!("{shown}: {what}"));
                        if self.verified.damaged_files.len() < FINDINGS_MAX {
                            self.verified.damaged_files.push(shown);
                        }
                    }
                    Err(error) => failure = Some(error),
                },
                Err(error) => failure = Some(error),
            }
            if failure.is_some() { ControlFlow::Break(()) } else { self.goes_on() }
        })?;
        failure.map_or(Ok(()), Err)
    }
}

/// Says what is wrong with a file for a cause that lies below it.
fn say(error: Error, what: &str) -> Error {
    match error {
        Error::Integrity { why, .. } => Error::damaged(what, why),
        other => other,
    }
}

fn shown_path(tree: &Tree<'_>, node: NodeId) -> Result<String, Error> {
    Ok(match tree.path(node)? {
        Some(path) => path,
        None => format!("{} (in the trash)", tree.node(node)?.name),
    })
}

struct Contents<'a> {
    inner: &'a Inner,
    store: &'a Store,
    snapshot: &'a Snapshot,
    reader: Reader<'a>,
    open: HashMap<PackHash, PackReader>,
}

impl Contents<'_> {
    /// Checks that every chunk of a file lies somewhere under its own key. The bytes themselves were checked with the
    /// packs.
    fn file(&mut self, file: &FileRef) -> Result<(), Error> {
        let map = self.reader.map(file, &(0..file.size()));
        let map = map.map_err(|error| say(error, "the list of its parts is damaged"))?;
        if file.level() > 0 {
            file.records().iter().try_for_each(|record| self.chunk(record))?;
        }
        map.records().iter().try_for_each(|record| self.chunk(record))
    }

    fn chunk(&mut self, record: &ChunkRecord) -> Result<(), Error> {
        let mut failure = Error::damaged("a part of it is not here", Refusal::Hash);
        let mut is_in_lost_pack = false;
        for place in index::places(self.snapshot, &self.inner.space_tag(), &record.tag())? {
            let Some(pack) = index::pack(self.snapshot, &place.pack)? else { continue };
            match pack.state {
                PackState::Present { .. } => {}
                PackState::Wanted | PackState::Released | PackState::Away => return Ok(()),
                PackState::Lost => {
                    is_in_lost_pack = true;
                    continue;
                }
                PackState::Deleting => continue,
            }
            let head = place.offset..place.offset.saturating_add(COMMITMENT_LEN as u32);
            let commitment = self.pack(place.pack, pack.len).and_then(|file| Ok(file.read_range(head)?));
            let commitment = commitment.map_err(|error| say(error, "a part of it is damaged"))?;
            let commitment: [u8; COMMITMENT_LEN] = commitment
                .try_into()
                .map_err(|_| Error::damaged("a part of it is damaged", Refusal::Canon))?;
            match Opener::new(&record.key, record.len, &commitment) {
                Ok(_) => return Ok(()),
                Err(why) => failure = Error::damaged("a part of it is located wrongly", why),
            }
        }
        // A damaged pack may still hold this chunk whole: only opening it tells.
        if is_in_lost_pack {
            self.reader.open_whole(record).map(|_| ()).map_err(|error| say(error, "a part of it is damaged"))
        } else {
            Err(failure)
        }
    }

    fn pack(&mut self, hash: PackHash, len: u32) -> Result<&PackReader, Error> {
        if self.open.len() >= OPEN_PACKS && !self.open.contains_key(&hash) {
            self.open.clear();
        }
        Ok(match self.open.entry(hash) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.store.packs().open(&hash, len)?),
        })
    }
}
