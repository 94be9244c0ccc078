//! `verify`: every stored byte and every reference, in both directions.
//!
//! | Step | Checks |
//! |---|---|
//! | database | checksums of all its pages |
//! | person log, entries | layout, signatures, chains; every entry opens under its epoch |
//! | packs | every byte of pack and outboard against the pack's name |
//! | contents | every version that any file has or had: its chunks are located, and their keys belong to what lies there |

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use locker_catalog::operation::Body;
use locker_catalog::space::Space;
use locker_catalog::tree::{self as catalog, Standing};
use locker_crypto::Refusal;
use locker_crypto::chunk::{COMMITMENT_LEN, Opener};
use locker_crypto::entry::{AuthorHead, EntryHeader, Envelope};
use locker_crypto::file_ref::{ChunkRecord, FileRef};
use locker_crypto::id::{NodeId, PackHash};
use locker_store::index::{self, Pack, PackState};
use locker_store::packs::PackReader;
use locker_store::{Reads, Snapshot, Store, StoreError};
use rayon::prelude::*;

use crate::Error;
use crate::kept::{Keeper, Kept};
use crate::keys::Keys;
use crate::limits::{FINDINGS_MAX, OPEN_PACKS};
use crate::locker::Inner;
use crate::progress::Meter;
use crate::reader::Reader;
use crate::report::{Observer, Problem, Verified};
use crate::tree::Tree;

/// Packs handed to the workers at once.
const PACKS_AT_ONCE: usize = 64;

/// Checks everything.
pub(crate) fn verify(inner: &Inner, observer: &dyn Observer) -> Result<Verified, Error> {
    let mut found = Findings::default();
    if let Some(store) = inner.exclusive_store().as_mut() {
        match store.check_integrity() {
            Ok(false) => {}
            Ok(true) => found.add(Refusal::Hash, "the database had to be repaired".into()),
            Err(StoreError::Corrupt { what }) => found.add(Refusal::Hash, what),
            Err(error) => return Err(error.into()),
        }
    }
    // Nothing goes while it is checked.
    let _content = inner.turns().rely();
    let store = inner.store()?;
    let snapshot = store.read()?;
    found.verified.checked += 1;
    logs(inner, &snapshot, &mut found)?;
    let bad = packs(inner, &store, &snapshot, observer, &mut found)?;
    contents(inner, &store, &snapshot, &bad, &mut found)?;
    Ok(found.verified)
}

#[derive(Default)]
struct Findings {
    verified: Verified,
}

impl Findings {
    fn add(&mut self, why: Refusal, message: String) {
        self.verified.bad += 1;
        if self.verified.problems.len() < FINDINGS_MAX {
            self.verified.problems.push(Problem { code: why.code().into(), message });
        }
    }
}

/// Every entry of the person log and of the space log.
fn logs(inner: &Inner, snapshot: &Snapshot, found: &mut Findings) -> Result<(), Error> {
    let keys = inner.keys();
    found.verified.checked += 1;
    if let Err(error) = crate::keys::devices(snapshot, &keys.person, &keys.person_keys) {
        match error {
            Error::Integrity { why, .. } => found.add(why, "the person log is damaged".into()),
            other => return Err(other),
        }
    }
    let rows = snapshot.rows(keys.tag);
    let space = Space::open(&rows, keys.space, keys.device_id())?;
    for head in space.heads(&rows)? {
        let mut known = Known::default();
        space.sealed_from(&rows, &head.author, 0, &mut |bytes| {
            found.verified.checked += 1;
            found.verified.checked_bytes += bytes.len() as u64;
            match check_entry(&keys, snapshot, bytes, &known) {
                Ok(head) => known.add(head),
                Err(why) => found.add(why, format!("a log entry of device {} is damaged", head.author)),
            }
            ControlFlow::Continue(())
        })?;
        if !known.last.iter().any(|last| last.seq == head.seq && last.id == head.id) {
            found.add(Refusal::Chain, format!("log entries of device {} are missing", head.author));
        }
    }
    Ok(())
}

/// The entries of an author that the next ones may follow: one, or of a forked author one for each branch.
#[derive(Default)]
struct Known {
    /// With the greatest number so far.
    last: Vec<AuthorHead>,
    /// With the number before that.
    before: Vec<AuthorHead>,
}

impl Known {
    /// What an entry follows; if it follows nothing here, what it should follow.
    fn followed_by(&self, header: &EntryHeader) -> Option<&AuthorHead> {
        let is_beside = self.last.first().is_some_and(|last| last.seq == header.seq);
        let candidates = if is_beside { &self.before } else { &self.last };
        candidates.iter().find(|head| head.id == header.prev).or(candidates.first())
    }

    fn add(&mut self, head: AuthorHead) {
        if self.last.first().is_none_or(|last| last.seq < head.seq) {
            self.before = std::mem::take(&mut self.last);
        }
        self.last.push(head);
    }
}

/// Everything that can be said of one entry: layout, key, signature, space, chain, seal, body.
fn check_entry(keys: &Keys, snapshot: &Snapshot, bytes: &[u8], known: &Known) -> Result<AuthorHead, Refusal> {
    let envelope = Envelope::parse(bytes)?;
    envelope.verify()?;
    envelope.check_space(&keys.space)?;
    let header = envelope.header();
    envelope.check_chain(known.followed_by(header), None)?;
    let key = keys.log_key(snapshot, &header.epoch).map_err(|_| Refusal::Epoch)?;
    Body::read(envelope.open(Some(&key))?)?;
    Ok(AuthorHead { seq: header.seq, id: envelope.id() })
}

/// Every pack; gives those that are bad.
fn packs(
    inner: &Inner,
    store: &Store,
    snapshot: &Snapshot,
    observer: &dyn Observer,
    found: &mut Findings,
) -> Result<BTreeSet<PackHash>, Error> {
    let mut all: Vec<(PackHash, Pack)> = Vec::new();
    index::scan_packs(snapshot, &mut |hash, pack| {
        // What is still to come from others, or was let go, is not stored here.
        if matches!(pack.state, PackState::Present { .. } | PackState::Lost) {
            all.push((hash, pack));
        }
        ControlFlow::Continue(())
    })?;
    let bytes = all.iter().map(|(_, pack)| u64::from(pack.len)).sum();
    let meter = Meter::new(observer, inner.env(), Some((all.len() as u64, bytes)));
    let mut bad = BTreeSet::new();
    for group in all.chunks(PACKS_AT_ONCE) {
        let results: Vec<Result<(), StoreError>> = group
            .par_iter()
            .map(|(hash, pack)| {
                let result = match pack.state {
                    PackState::Present { .. } => store.packs().verify(hash, pack.len),
                    _ => Err(StoreError::Absent { pack: *hash }),
                };
                meter.add(1, u64::from(pack.len));
                result
            })
            .collect();
        for ((hash, pack), result) in group.iter().zip(results) {
            found.verified.checked += 1;
            match result {
                Ok(()) => found.verified.checked_bytes += locker_store::packs::file_len(pack.len),
                Err(error @ (StoreError::Poisoned | StoreError::Full)) => return Err(error.into()),
                // Not there, damaged, something else in its place, or a disk that cannot read it.
                Err(error) => {
                    bad.insert(*hash);
                    found.add(Refusal::Hash, error.to_string());
                }
            }
        }
    }
    Ok(bad)
}

/// Every version that any file has or had.
fn contents(
    inner: &Inner,
    store: &Store,
    snapshot: &Snapshot,
    bad: &BTreeSet<PackHash>,
    found: &mut Findings,
) -> Result<(), Error> {
    let tree = Tree::new(snapshot, inner.space_tag());
    let mut check = Contents {
        inner,
        store,
        snapshot,
        reader: Reader::new(store, snapshot, inner.space_tag()),
        bad,
        open: HashMap::new(),
    };
    let keeper = Keeper::new(store, snapshot, inner.space_tag());
    let mut failure = None;
    catalog::walk_versions(tree.rows(), &mut |node, version, standing| {
        found.verified.checked += 1;
        // What is past and was let go is not damaged.
        let checked = match standing {
            Standing::Live => check.file(&version.file),
            Standing::Past => keeper.state(&version.file).and_then(|kept| match kept {
                Kept::Gone => Ok(()),
                Kept::Here | Kept::Elsewhere(_) => check.file(&version.file),
            }),
        };
        match checked {
            // What is still to come from other devices is not damaged.
            Ok(()) | Err(Error::Network(_)) => ControlFlow::Continue(()),
            Err(Error::Integrity { why, what }) => {
                let shown = match shown_path(&tree, node) {
                    Ok(shown) => shown,
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                };
                found.add(why, format!("{shown}: {what}"));
                if found.verified.damaged_files.len() < FINDINGS_MAX {
                    found.verified.damaged_files.push(shown);
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
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
    bad: &'a BTreeSet<PackHash>,
    open: HashMap<PackHash, PackReader>,
}

impl Contents<'_> {
    /// Checks that every chunk of a file lies somewhere under its own key. The bytes themselves were checked with the
    /// packs.
    fn file(&mut self, file: &FileRef) -> Result<(), Error> {
        let map = self.reader.map(file, &(0..file.size()))?;
        if file.level() > 0 {
            file.records().iter().try_for_each(|record| self.chunk(record))?;
        }
        map.records().iter().try_for_each(|record| self.chunk(record))
    }

    fn chunk(&mut self, record: &ChunkRecord) -> Result<(), Error> {
        let mut failure = Error::damaged("a part of it is not here", Refusal::Hash);
        let mut is_in_bad_pack = false;
        for place in index::places(self.snapshot, &self.inner.space_tag(), &record.tag())? {
            if self.bad.contains(&place.pack) {
                is_in_bad_pack = true;
                continue;
            }
            let Some(pack) = index::pack(self.snapshot, &place.pack)? else { continue };
            match pack.state {
                PackState::Wanted | PackState::Released => return Ok(()),
                PackState::Deleting => continue,
                PackState::Present { .. } | PackState::Lost => {}
            }
            let head = place.offset..place.offset.saturating_add(COMMITMENT_LEN as u32);
            let commitment = self.pack(place.pack, pack.len)?.read_range(head)?;
            let commitment: [u8; COMMITMENT_LEN] =
                commitment.try_into().map_err(|_| Error::damaged("a pack", Refusal::Canon))?;
            match Opener::new(&record.key, record.len, &commitment) {
                Ok(_) => return Ok(()),
                Err(why) => failure = Error::damaged("a part of it is located wrongly", why),
            }
        }
        // A damaged pack may still hold this chunk whole: only opening it tells.
        if is_in_bad_pack { self.reader.open_whole(record).map(|_| ()) } else { Err(failure) }
    }

    fn pack(&mut self, hash: PackHash, len: u32) -> Result<&PackReader, Error> {
        if self.open.len() >= OPEN_PACKS && !self.open.contains_key(&hash) {
            self.open.clear();
        }
        Ok(match self.open.entry(hash) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(self.store.packs().open(&hash, len)?)
            }
        })
    }
}
