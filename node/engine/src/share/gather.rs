//! What a snapshot link gives: the nodes, and the packs in which every chunk of every file lies.

use std::collections::{BTreeMap, HashSet};

use locker_catalog::manifest::{Manifest, ManifestNode, NODES_MAX, PACKS_MAX};
use locker_crypto::Refusal;
use locker_crypto::chunk::{ChunkKind, DedupKeys};
use locker_crypto::cut::Cutter;
use locker_crypto::file_ref::{ChunkRecord, FileMap, FileRef, FileRefBuilder};
use locker_crypto::id::{ChunkTag, ContentHash, NodeId, PackHash};
use locker_crypto::pack::{Loc, PackBody, PackOp, Packer, SealedChunk};
use locker_store::index::{self, PackState};
use locker_store::{PackBatch, Snapshot, Store};

use crate::Error;
use crate::locker::Inner;
use crate::reader::Reader;
use crate::report::Kind;
use crate::tree::{Kinded, Newest, Tree};

/// What was gathered.
pub(super) struct Gathered {
    pub(super) manifest: Manifest,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Gathered {
    /// The packs of the files.
    pub(super) fn packs(&self) -> Vec<PackHash> {
        self.manifest.packs.iter().map(PackOp::hash).collect()
    }
}

/// Says why something cannot be shared as it is.
pub(super) fn refused(why: Refusal, what: &str) -> Error {
    match why {
        Refusal::Limit => Error::Limit(format!(
            "{what} is too much for one link: it gives at most {NODES_MAX} files and folders in {PACKS_MAX} packs"
        )),
        why => Error::Refused(why),
    }
}

/// Gathers a file or folder and all below it, as it stands now.
pub(super) fn gather(
    store: &Store,
    snapshot: &Snapshot,
    tree: &Tree<'_>,
    inner: &Inner,
    node: NodeId,
) -> Result<Gathered, Error> {
    let reader = Reader::new(inner, store, snapshot);
    let mut gatherer = Gatherer {
        snapshot,
        tree,
        inner,
        reader,
        nodes: Vec::new(),
        packs: BTreeMap::new(),
        seen: HashSet::new(),
        files: 0,
        bytes: 0,
    };
    if node == NodeId::ROOT {
        gatherer.children(NodeId::ROOT, None)?;
    } else {
        let listed = tree.listed(node)?;
        gatherer.node(node, &listed.displayed, None)?;
    }
    let Gatherer { nodes, packs, files, bytes, .. } = gatherer;
    Ok(Gathered { manifest: Manifest { nodes, packs: packs.into_values().collect() }, files, bytes })
}

struct Gatherer<'a> {
    snapshot: &'a Snapshot,
    tree: &'a Tree<'a>,
    inner: &'a Inner,
    reader: Reader<'a>,
    nodes: Vec<ManifestNode>,
    packs: BTreeMap<PackHash, PackOp>,
    /// Chunks that lie in one of the packs.
    seen: HashSet<ChunkTag>,
    files: u64,
    bytes: u64,
}

impl Gatherer<'_> {
    fn children(&mut self, folder: NodeId, parent: Option<usize>) -> Result<(), Error> {
        for child in self.tree.sorted_children(folder)? {
            self.node(child.id, &child.displayed, parent)?;
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId, name: &str, parent: Option<usize>) -> Result<(), Error> {
        if self.nodes.len() >= NODES_MAX {
            return Err(refused(Refusal::Limit, name));
        }
        let node = self.tree.node(id)?;
        let index = self.nodes.len();
        let place = ManifestNode { parent, name: name.to_owned(), file: None, mtime_ms: 0, exec: false };
        match node.kind() {
            Kind::Folder => {
                self.nodes.push(place);
                self.children(id, Some(index))
            }
            Kind::File => {
                // A file without content is one that another device is still writing about.
                let Some(version) = node.newest() else { return Ok(()) };
                self.file(&version.file, name)?;
                self.files += 1;
                self.bytes += version.file.size();
                let file = Some(version.file.clone());
                self.nodes.push(ManifestNode {
                    file,
                    mtime_ms: version.mtime_ms,
                    exec: version.exec,
                    ..place
                });
                Ok(())
            }
            // What lies in another space is shared from there.
            Kind::Mount => Ok(()),
        }
    }

    /// Notes the packs of every chunk of a file, those of its manifests included.
    fn file(&mut self, file: &FileRef, name: &str) -> Result<(), Error> {
        let mut map = FileMap::new(file);
        while let Some(record) = map.wanted() {
            self.chunk(record, name)?;
            let plain = self.reader.open_whole(record)?;
            map.feed(&plain).map_err(|why| Error::damaged(name, why))?;
        }
        for record in map.records() {
            self.chunk(record, name)?;
        }
        Ok(())
    }

    fn chunk(&mut self, record: &ChunkRecord, name: &str) -> Result<(), Error> {
        let tag = record.tag();
        if self.seen.contains(&tag) {
            return Ok(());
        }
        let places = index::places(self.snapshot, &self.inner.space_tag(), &tag)?;
        let mut chosen = None;
        for place in &places {
            let Some(pack) = index::pack(self.snapshot, &place.pack)? else { continue };
            let is_here = matches!(pack.state, PackState::Present { .. });
            if chosen.is_none() || is_here {
                chosen = Some((place.pack, pack.len));
            }
            if is_here {
                break;
            }
        }
        let (hash, len) = chosen.ok_or_else(|| Error::damaged(name, Refusal::Hash))?;
        let mut offset = 0;
        let mut locs = Vec::new();
        for loc in index::locs(self.snapshot, &hash)? {
            locs.push(Loc { tag: loc.tag, offset, sealed_len: loc.sealed_len });
            offset += loc.sealed_len;
            self.seen.insert(loc.tag);
        }
        let op =
            PackOp::new(hash, len, locs).map_err(|why| Error::damaged("a row of the pack index", why))?;
        self.packs.insert(hash, op);
        if self.packs.len() > PACKS_MAX {
            return Err(refused(Refusal::Limit, name));
        }
        Ok(())
    }
}

/// Stores a manifest as a file in packs of its own. They are durable when this returns, and named by nothing yet.
pub(super) fn store_manifest(inner: &Inner, manifest: &[u8]) -> Result<(FileRef, Vec<PackOp>), Error> {
    let store = inner.store()?;
    let own = inner.keys();
    let dedup = own.dedup()?;
    let (cutter, keys) = (Cutter::new(dedup), DedupKeys::new(dedup));
    let mut builder = FileRefBuilder::new(&keys);
    let mut kept = Kept { batch: store.packs().begin_batch(manifest.len() as u64)?, packs: Vec::new() };
    let mut packer = Packer::new();
    packer.start_file(manifest.len() as u64);
    let mut rest = manifest;
    while !rest.is_empty() {
        let (plain, after) = rest.split_at(cutter.next(rest));
        let key = keys.chunk_key(ChunkKind::Data, plain);
        let len = u32::try_from(plain.len()).expect("a chunk has 4 MiB at most");
        builder.push(&ChunkRecord { key: key.clone(), len }).map_err(Error::Refused)?;
        kept.chunk(&mut packer, SealedChunk::seal(key, plain).map_err(Error::Refused)?)?;
        rest = after;
    }
    let hash = ContentHash(*blake3::hash(manifest).as_bytes());
    let (file, pieces) = builder.finish(hash).map_err(Error::Refused)?;
    for piece in pieces {
        kept.chunk(&mut packer, SealedChunk::seal(piece.key, &piece.plain).map_err(Error::Refused)?)?;
    }
    kept.keep(packer.end_file())?;
    kept.keep(packer.finish())?;
    kept.batch.finish()?;
    Ok((file, kept.packs))
}

struct Kept<'s> {
    batch: PackBatch<'s>,
    packs: Vec<PackOp>,
}

impl Kept<'_> {
    fn chunk(&mut self, packer: &mut Packer, chunk: SealedChunk) -> Result<(), Error> {
        if packer.claim(chunk.tag) {
            let closed = packer.push(&chunk).map_err(Error::Refused)?;
            self.keep(closed)?;
        }
        Ok(())
    }

    fn keep(&mut self, closed: Option<PackBody>) -> Result<(), Error> {
        if let Some(body) = closed {
            let hash = self.batch.add_new(body.bytes())?;
            self.packs.push(body.named(hash));
        }
        Ok(())
    }
}
