//! Whether the content of a version is still kept: what is in the trash, or was replaced, goes after its time
//! (`docs/spec/08-at-rest.md`, "Keeping").

use std::collections::BTreeSet;

use locker_crypto::file_ref::{ChunkRecord, FileRef};
use locker_crypto::id::{PackHash, SpaceTag};
use locker_store::index::{self, PackState};
use locker_store::{Snapshot, Store, pins, unneeded};

use crate::Error;
use crate::locker::Inner;
use crate::reader::Reader;

/// How it stands with a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All of it is here, or was to be here: what is damaged or still to come is kept too.
    Here,
    /// These packs of it were let go here and are held by other devices.
    Elsewhere(BTreeSet<PackHash>),
    /// Some of it was let go for good.
    Gone,
}

/// Looks in one state of the database.
pub(crate) struct Keeper<'a> {
    snapshot: &'a Snapshot,
    space: SpaceTag,
    reader: Reader<'a>,
}

impl<'a> Keeper<'a> {
    /// Looks at the contents of the home space.
    pub(crate) fn new(inner: &'a Inner, store: &'a Store, snapshot: &'a Snapshot) -> Self {
        Self { snapshot, space: inner.space_tag(), reader: Reader::new(inner, store, snapshot) }
    }

    /// How it stands with a content. Of a large one its manifests are read.
    ///
    /// # Errors
    /// What reading gives. A manifest that is damaged or not here is none: more than that it is kept cannot be said.
    pub(crate) fn state(&self, file: &FileRef) -> Result<Kept, Error> {
        let mut elsewhere = BTreeSet::new();
        let is_kept = self.are_kept(file.records(), &mut elsewhere)?;
        if !is_kept {
            return Ok(Kept::Gone);
        }
        if file.level() > 0 && elsewhere.is_empty() {
            match self.reader.map(file, &(0..file.size())) {
                Ok(map) if !self.are_kept(map.records(), &mut elsewhere)? => return Ok(Kept::Gone),
                Ok(_) | Err(Error::Integrity { .. } | Error::Network(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(if elsewhere.is_empty() { Kept::Here } else { Kept::Elsewhere(elsewhere) })
    }

    fn are_kept(&self, chunks: &[ChunkRecord], elsewhere: &mut BTreeSet<PackHash>) -> Result<bool, Error> {
        for record in chunks {
            let tag = record.tag();
            let places = index::places(self.snapshot, &self.space, &tag)?;
            if places.is_empty() {
                // Only what was let go has no place. What is still waited for and has none is damage, not age.
                if unneeded::since(self.snapshot, &self.space, &tag)?.is_none() {
                    return Ok(false);
                }
                continue;
            }
            let (mut is_here, mut held) = (false, None);
            for place in places {
                match index::pack(self.snapshot, &place.pack)?.map(|pack| pack.state) {
                    Some(
                        PackState::Present { .. } | PackState::Wanted | PackState::Lost | PackState::Away,
                    ) => {
                        is_here = true;
                    }
                    Some(PackState::Released)
                        if pins::is_pinned_by_any(self.snapshot, &self.space, &place.pack)? =>
                    {
                        held = Some(place.pack);
                    }
                    Some(PackState::Released | PackState::Deleting) | None => {}
                }
            }
            match held {
                _ if is_here => {}
                Some(pack) => drop(elsewhere.insert(pack)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
