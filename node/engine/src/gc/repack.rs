//! Copying needed chunks, still sealed, out of packs that are hardly needed (`docs/spec/03-content.md`, "Repacking").
//!
//! New packs are durable and named like any others; the old ones are let go by another look, since all that is needed of
//! them is stored twice then.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use locker_crypto::id::{ChunkTag, PackHash};
use locker_crypto::pack::{PackBody, PackOp, Packer, SealedChunk};
use locker_crypto::secret::ChunkKey;
use locker_store::packs::{PackReader, file_len};
use locker_store::{PackBatch, Store, index};

use super::decide::{Facts, is_mostly_unneeded};
use super::survey::Survey;
use super::{Look, Pass};
use crate::Error;
use crate::limits::{BATCH_PACK_BYTES, REPACK_BYTES, REPACK_CHUNKS};

/// Pack files kept open while chunks are copied.
const OPEN_PACKS: usize = 64;

/// Where a chunk lies that is to be copied.
struct Piece {
    pack: PackHash,
    pack_len: u32,
    offset: u32,
    sealed_len: u32,
}

/// A pack with its chunks.
type Source<'f> = (&'f Facts, Vec<(ChunkTag, Piece)>);

/// What is to be copied, in the order of the tags.
type Pieces = BTreeMap<ChunkTag, Piece>;

impl Pass<'_> {
    /// Copies what is needed of packs into new ones, as much as one look may. [`Look::Again`] if anything was copied.
    pub(super) fn repack(
        &mut self,
        store: &Store,
        survey: &mut Survey<'_>,
        packs: &[&Facts],
    ) -> Result<Look, Error> {
        let some = some_of(survey, packs)?;
        if some.is_empty() {
            return Ok(Look::Done);
        }
        let needed = survey.needed_in(&some.iter().map(|(facts, _)| facts.number).collect())?;
        let keys = survey.keys_of(&needed)?;
        let (mut sources, mut pieces) = (Vec::new(), Pieces::new());
        for (facts, locs) in some {
            let wanted = locs.into_iter().filter(|(tag, _)| needed.contains(tag));
            let wanted: Vec<(ChunkTag, Piece)> = wanted.collect();
            // The padding of a pack derives from the key of its first chunk; a chunk that no file ever named has none that
            // is known here. Its time will be over.
            if wanted.iter().all(|(tag, _)| keys.contains_key(tag)) {
                pieces.extend(wanted);
                sources.push(facts);
            }
        }
        // One small pack instead of another one gains nothing.
        if sources.len() < 2 && !sources.iter().any(|facts| is_mostly_unneeded(facts)) {
            return Ok(Look::Done);
        }
        let mut copying =
            Copying { pass: self, store, batch: None, ops: Vec::new(), bytes: 0, open: HashMap::new() };
        let mut packer = Packer::new();
        packer.start_file(0);
        for (tag, piece) in &pieces {
            if !copying.pass.manners.may_go_on(copying.pass.inner) {
                return Ok(Look::Busy);
            }
            let Some(key) = keys.get(tag) else { continue };
            let chunk = copying.read(*tag, piece, key)?;
            packer.claim(*tag);
            let closed = packer.push(&chunk).map_err(Error::Refused)?;
            copying.keep(closed)?;
        }
        copying.keep(packer.finish())?;
        copying.commit()?;
        self.note_done(sources);
        Ok(Look::Again)
    }
}

/// As many packs, with their chunks, as one look copies.
fn some_of<'f>(survey: &Survey<'_>, packs: &[&'f Facts]) -> Result<Vec<Source<'f>>, Error> {
    let (mut some, mut bytes, mut chunks) = (Vec::new(), 0, 0);
    for facts in packs {
        let mut offset = 0;
        let locs = index::locs(survey.snapshot(), &facts.hash)?;
        bytes += facts.holds.needed();
        chunks += locs.len();
        if !some.is_empty() && (bytes > REPACK_BYTES || chunks > REPACK_CHUNKS) {
            break;
        }
        let pieces = locs.into_iter().map(|loc| {
            let piece = Piece { pack: facts.hash, pack_len: facts.len, offset, sealed_len: loc.sealed_len };
            offset += loc.sealed_len;
            (loc.tag, piece)
        });
        some.push((*facts, pieces.collect()));
    }
    Ok(some)
}

/// New packs on their way.
struct Copying<'c, 'p, 's> {
    pass: &'c mut Pass<'p>,
    store: &'s Store,
    batch: Option<PackBatch<'s>>,
    ops: Vec<PackOp>,
    bytes: u64,
    open: HashMap<PackHash, PackReader>,
}

impl Copying<'_, '_, '_> {
    /// Reads a sealed chunk, compared with the hash of its pack.
    fn read(&mut self, tag: ChunkTag, piece: &Piece, key: &ChunkKey) -> Result<SealedChunk, Error> {
        if self.open.len() >= OPEN_PACKS && !self.open.contains_key(&piece.pack) {
            self.open.clear();
        }
        let reader = match self.open.entry(piece.pack) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.store.packs().open(&piece.pack, piece.pack_len)?),
        };
        let bytes = reader.read_range(piece.offset..piece.offset.saturating_add(piece.sealed_len))?;
        self.pass.meter.add(0, piece.sealed_len.into());
        Ok(SealedChunk { key: key.clone(), tag, bytes })
    }

    /// Writes a closed pack under a temporary name; several are made durable and named in one commit.
    fn keep(&mut self, closed: Option<PackBody>) -> Result<(), Error> {
        let Some(body) = closed else { return Ok(()) };
        let batch = match &mut self.batch {
            Some(batch) => batch,
            None => self.batch.insert(self.store.packs().begin_batch(BATCH_PACK_BYTES)?),
        };
        let hash = batch.add_new(body.bytes())?;
        self.bytes += body.bytes().len() as u64;
        self.ops.push(body.named(hash));
        if self.bytes >= BATCH_PACK_BYTES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Error> {
        if let Some(batch) = self.batch.take() {
            batch.finish()?;
        }
        self.bytes = 0;
        let ops = std::mem::take(&mut self.ops);
        if ops.is_empty() {
            return Ok(());
        }
        self.pass.inner.commit(|change| ops.iter().try_for_each(|op| change.add_pack(op)))?;
        self.pass.written += ops.len() as u64;
        self.pass.written_bytes += ops.iter().map(|op| file_len(op.len())).sum::<u64>();
        self.pass.pause();
        Ok(())
    }
}
