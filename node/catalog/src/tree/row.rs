//! Rows of the tree: what stands in each table, and its encoding (`docs/spec/08-at-rest.md`, "Tables of the tree").
//!
//! Every value is one canonical array that begins with the number 1, its version. Nothing here reads or writes a
//! table.

use std::fmt;

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{ContentHash, NodeId, VerifyingKey, VersionId};

use crate::operation::{NodeKind, version_id};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{RowError, Table};

/// Node id → [`Row`].
pub(super) const NODES: Table = Table("tree_nodes");
/// Node id, operation → [`Undo`]: what the node was before that operation.
pub(super) const HISTORY: Table = Table("tree_history");
/// Folder id, hash of the collision key, creating operation → [`Child`].
pub(super) const CHILDREN: Table = Table("tree_children");
/// Folder id, hash of the collision key → nothing. Children of one folder with one collision key that may be there to be
/// folded; looked at by [`super::fold`], which takes the row away.
pub(super) const TWINS: Table = Table("tree_twins");
/// Folder id → [`Folder`].
pub(super) const FOLDERS: Table = Table("tree_folders");
/// Trashing operation, node id → nothing.
pub(super) const TRASHED: Table = Table("tree_trashed");
/// Node id → [`Marks`].
pub(super) const MARKS: Table = Table("tree_marks");
/// Entry, part → what the entry changed: [`Touch`]es in the order of the changes. Part 0 is always there.
pub(super) const ORDER: Table = Table("tree_order");
/// Operation → the name of the refusal for which it has no effect.
pub(super) const PROBLEMS: Table = Table("tree_problems");
/// Node id, hash of the key, operation → key and value.
pub(super) const META: Table = Table("tree_meta");
/// Nothing → [`Counts`].
pub(super) const COUNTS: Table = Table("tree_counts");

/// Size of the key of an operation: entry and BE16 index.
pub(super) const OP_KEY_LEN: usize = EntryOrder::KEY_LEN + 2;

const VERSION: u64 = 1;

/// Returns bytes whose order is the total order of operations.
pub(super) fn op_key(op: &OpOrder) -> [u8; OP_KEY_LEN] {
    let mut key = [0; OP_KEY_LEN];
    key[..EntryOrder::KEY_LEN].copy_from_slice(&op.entry.to_key());
    key[EntryOrder::KEY_LEN..].copy_from_slice(&op.index.to_be_bytes());
    key
}

/// Reads an operation's key.
pub(super) fn op_from_key(key: &[u8]) -> Result<OpOrder, Refusal> {
    let (entry, index) = key.split_at_checked(EntryOrder::KEY_LEN).ok_or(Refusal::Canon)?;
    let entry = EntryOrder::from_key(entry).ok_or(Refusal::Canon)?;
    let index = u16::from_be_bytes(index.try_into().map_err(|_| Refusal::Canon)?);
    Ok(OpOrder { entry, index })
}

/// Turns a refused stored row into an integrity failure.
pub(super) fn intact<T>(read: Result<T, Refusal>) -> Result<T, RowError> {
    read.map_err(RowError::Corrupt)
}

/// Joins the parts of a key.
pub(super) fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Returns the first key after all that begin with `prefix`; `None` if there is none.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// A node as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) kind: NodeKind,
    pub(super) created: OpOrder,
    /// Live versions, ascending by id.
    pub(super) versions: Vec<Version>,
}

/// Where a node is and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: NodeId,
    pub(super) name: String,
    /// The last effective move.
    pub(super) moved: OpOrder,
    /// The parent before, of a node directly in the trash; else zeros.
    pub(super) from: NodeId,
    /// The trashing operation, of a node directly in the trash.
    pub(super) by: Option<OpOrder>,
}

/// One content of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Version {
    /// Its id, derived from the operation.
    pub vid: VersionId,
    /// What it consists of.
    pub file: FileRef,
    /// Time of last change, in unix milliseconds.
    pub mtime_ms: i64,
    /// Whether it may be run as a program.
    pub exec: bool,
    /// The operation that wrote it.
    pub op: OpOrder,
}

impl fmt::Debug for Version {
    /// Leaves out the keys of the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version").field("vid", &self.vid).field("op", &self.op).finish_non_exhaustive()
    }
}

impl Version {
    /// Whether it was kept: the operation did not write it, but gave it back to its file.
    pub(super) fn is_kept(&self) -> bool {
        self.vid != version_id(&self.op)
    }
}

impl Row {
    /// Returns the version that is shown: the last one in total order.
    pub(super) fn newest(&self) -> Option<&Version> {
        self.versions.iter().max_by_key(|v| v.op)
    }

    /// Whether it is as a `keep` made it: nobody put it into the trash, took it out since, or wrote into it.
    pub(super) fn is_as_kept(&self) -> bool {
        self.place.by == Some(self.created) && self.versions.iter().all(|v| v.op == self.created)
    }

    /// Returns the size of the version that is shown.
    pub(super) fn size(&self) -> u64 {
        self.newest().map_or(0, |v| v.file.size())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(5).u64(VERSION).u64(self.kind.code()).bytes(&op_key(&self.created));
        self.place.write(&mut w);
        w.array(self.versions.len());
        self.versions.iter().for_each(|v| v.write(&mut w));
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 5)?;
        let kind = NodeKind::from_code(r.u64()?)?;
        let created = op_from_key(r.bytes()?)?;
        let place = Place::read(&mut r)?;
        let versions = list(&mut r, Version::read)?;
        r.finish()?;
        Ok(Self { place, kind, created, versions })
    }
}

impl Place {
    fn write(&self, w: &mut Writer) {
        w.array(5).bytes(self.parent.as_ref()).text(&self.name).bytes(&op_key(&self.moved));
        w.bytes(self.from.as_ref());
        optional_op(w, self.by.as_ref());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Refusal> {
        r.array_of(5)?;
        Ok(Self {
            parent: NodeId(r.fixed()?),
            name: r.text()?.to_owned(),
            moved: op_from_key(r.bytes()?)?,
            from: NodeId(r.fixed()?),
            by: read_optional_op(r)?,
        })
    }
}

impl Version {
    fn write(&self, w: &mut Writer) {
        w.array(5).bytes(self.vid.as_ref()).i64(self.mtime_ms).bool(self.exec).bytes(&op_key(&self.op));
        self.file.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Refusal> {
        r.array_of(5)?;
        Ok(Self {
            vid: VersionId(r.fixed()?),
            mtime_ms: r.i64()?,
            exec: r.bool()?,
            op: op_from_key(r.bytes()?)?,
            file: FileRef::read(r)?,
        })
    }
}

/// What undoes one operation at one node. An operation that created the node has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Undo {
    /// The place before, if the operation changed it.
    pub(super) place: Option<Place>,
    /// What a content operation removed; it added the version with its own id.
    pub(super) content: Option<Replaced>,
    /// A version that was replaced before it came here: none of the live ones, before or after.
    pub(super) kept: Option<Version>,
}

/// The bases of a content operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replaced {
    /// Those that were live.
    pub(super) removed: Vec<Version>,
    /// Those that were not: an operation applied late may still bring them, before this one.
    pub(super) absent: Vec<VersionId>,
}

impl Undo {
    /// What undoes a change of the place alone.
    pub(super) fn of_place(before: Place) -> Self {
        Self { place: Some(before), ..Self::default() }
    }

    /// The versions that are past by the operation.
    pub(super) fn past(self) -> impl Iterator<Item = Version> {
        self.content.into_iter().flat_map(|content| content.removed).chain(self.kept)
    }

    /// Takes the operation `op` back from `row`.
    pub(super) fn revert(self, op: &OpOrder, row: &mut Row) {
        if let Some(place) = self.place {
            row.place = place;
        }
        if let Some(content) = self.content {
            row.versions.retain(|v| v.op != *op);
            row.versions.extend(content.removed);
            row.versions.sort_by_key(|v| v.vid);
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(3).u64(VERSION);
        match &self.place {
            Some(place) => place.write(&mut w),
            None => drop(w.array(0)),
        }
        match (&self.content, &self.kept) {
            (_, Some(kept)) => kept.write(w.array(1)),
            (Some(content), None) => {
                w.array(2).array(content.removed.len());
                content.removed.iter().for_each(|v| v.write(&mut w));
                w.bytes(&content.absent.iter().flat_map(|vid| vid.0).collect::<Vec<u8>>());
            }
            (None, None) => drop(w.array(0)),
        }
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 3)?;
        let mut ahead = r.clone();
        let place = if ahead.array()? == 0 {
            r = ahead;
            None
        } else {
            Some(Place::read(&mut r)?)
        };
        let mut kept = None;
        let content = match r.array()? {
            0 => None,
            1 => {
                kept = Some(Version::read(&mut r)?);
                None
            }
            2 => Some(Replaced { removed: list(&mut r, Version::read)?, absent: ids(r.bytes()?)? }),
            _ => return Err(Refusal::Canon),
        };
        r.finish()?;
        Ok(Self { place, content, kept })
    }
}

fn ids(bytes: &[u8]) -> Result<Vec<VersionId>, Refusal> {
    let (ids, rest) = bytes.as_chunks::<{ VersionId::LEN }>();
    if rest.is_empty() { Ok(ids.iter().map(|id| VersionId(*id)).collect()) } else { Err(Refusal::Canon) }
}

/// What a listing shows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) node: NodeId,
    /// 0 if it is shown under its own name, else the number that is put into it.
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) kind: NodeKind,
    /// Number of live versions.
    pub(super) versions: usize,
    /// Size, hash, time and mark of the newest version.
    pub(super) newest: Option<Newest>,
}

/// What a listing shows of the newest version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Size in bytes.
    pub size: u64,
    /// Hash of the whole content.
    pub hash: ContentHash,
    /// Time of last change, in unix milliseconds.
    pub mtime_ms: i64,
    /// Whether it may be run as a program.
    pub exec: bool,
}

impl Child {
    /// Makes what a listing shows of `row`.
    pub(super) fn of(node: NodeId, row: &Row, number: u32) -> Self {
        let newest = row.newest().map(|version| Newest {
            size: version.file.size(),
            hash: version.file.content_hash(),
            mtime_ms: version.mtime_ms,
            exec: version.exec,
        });
        let (name, versions) = (row.place.name.clone(), row.versions.len());
        Self { node, number, name, kind: row.kind, versions, newest }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(7).u64(VERSION).bytes(self.node.as_ref()).u64(self.number.into()).text(&self.name);
        w.u64(self.kind.code()).u64(self.versions as u64);
        match &self.newest {
            Some(n) => w.array(4).u64(n.size).bytes(n.hash.as_ref()).i64(n.mtime_ms).bool(n.exec),
            None => w.array(0),
        };
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 7)?;
        let (node, number) = (NodeId(r.fixed()?), r.u32()?);
        let name = r.text()?.to_owned();
        let kind = NodeKind::from_code(r.u64()?)?;
        let versions = usize::try_from(r.u64()?).map_err(|_| Refusal::Canon)?;
        let newest = match r.array()? {
            0 => None,
            4 => Some(Newest {
                size: r.u64()?,
                hash: ContentHash(r.fixed()?),
                mtime_ms: r.i64()?,
                exec: r.bool()?,
            }),
            _ => return Err(Refusal::Canon),
        };
        r.finish()?;
        Ok(Self { node, number, name, kind, versions, newest })
    }
}

/// Sums over the direct children of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) files: u64,
    /// Folders and mounts.
    pub(super) folders: u64,
    /// Sizes of the files.
    pub(super) bytes: u64,
    /// At least as many as the folder ever had, at any place of the total order.
    pub(super) peak: u64,
    /// Of each author at least the last entry that moved a child or wrote a live version of one.
    pub(super) writers: Vec<(VerifyingKey, u64)>,
}

impl Folder {
    /// Number of children.
    pub(super) fn children(&self) -> u64 {
        self.files.saturating_add(self.folders)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(6).u64(VERSION).u64(self.files).u64(self.folders).u64(self.bytes).u64(self.peak);
        w.array(self.writers.len());
        for (author, seq) in &self.writers {
            w.array(2).bytes(author.as_ref()).u64(*seq);
        }
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 6)?;
        let (files, folders, bytes, peak) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let writers = list(&mut r, |r| {
            r.array_of(2)?;
            Ok((VerifyingKey(r.fixed()?), r.u64()?))
        })?;
        r.finish()?;
        Ok(Self { files, folders, bytes, peak, writers })
    }
}

/// Which later entries forbid that an operation on this node is applied in place. Never lowered: too great a mark
/// only costs time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The last entry that touched the node's existence or place, or that looked at it from there.
    pub(super) place: Option<EntryOrder>,
    /// The last entry that touched or looked at anything over this node: as a parent, or as a parent's parent.
    pub(super) below: Option<EntryOrder>,
}

impl Marks {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(3).u64(VERSION);
        for mark in [&self.place, &self.below] {
            w.bytes(mark.as_ref().map(EntryOrder::to_key).as_ref().map_or(&[], |key| &key[..]));
        }
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 3)?;
        let mut mark = || match r.bytes()? {
            [] => Ok(None),
            key => EntryOrder::from_key(key).map(Some).ok_or(Refusal::Canon),
        };
        let marks = Self { place: mark()?, below: mark()? };
        r.finish()?;
        Ok(marks)
    }
}

/// One change that an entry made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    /// The operation of the entry.
    pub(super) index: u16,
    /// The node.
    pub(super) node: NodeId,
    /// The hash of the key, if a meta item of the node was set.
    pub(super) meta: Option<[u8; 16]>,
}

impl Touch {
    pub(super) fn encode_all(touches: &[Touch]) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(2).u64(VERSION).array(touches.len());
        for touch in touches {
            w.array(3).u64(touch.index.into()).bytes(touch.node.as_ref());
            w.bytes(touch.meta.as_ref().map_or(&[], |key| &key[..]));
        }
        w.finish()
    }

    pub(super) fn decode_all(bytes: &[u8]) -> Result<Vec<Touch>, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 2)?;
        let touches = list(&mut r, |r| {
            r.array_of(3)?;
            let index = u16::try_from(r.u64()?).map_err(|_| Refusal::Canon)?;
            let node = NodeId(r.fixed()?);
            let meta = match r.bytes()? {
                [] => None,
                key => Some(key.try_into().map_err(|_| Refusal::Canon)?),
            };
            Ok(Touch { index, node, meta })
        })?;
        r.finish()?;
        Ok(touches)
    }
}

/// How much there is in a space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All nodes, those in the trash included: what the limit on nodes is about.
    pub nodes: u64,
    /// Files outside the trash.
    pub files: u64,
    /// Folders and mounts outside the trash.
    pub folders: u64,
    /// Sum of the sizes of these files, each in its newest version.
    pub bytes: u64,
}

impl Counts {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(5).u64(VERSION).u64(self.nodes).u64(self.files).u64(self.folders).u64(self.bytes);
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 5)?;
        let counts = Self { nodes: r.u64()?, files: r.u64()?, folders: r.u64()?, bytes: r.u64()? };
        r.finish()?;
        Ok(counts)
    }
}

/// A meta item as it stands in a row.
pub(super) fn encode_meta(key: &str, value: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(3).u64(VERSION).text(key).bytes(value);
    w.finish()
}

/// Reads a meta item.
pub(super) fn decode_meta(bytes: &[u8]) -> Result<(String, Vec<u8>), Refusal> {
    let mut r = Reader::new(bytes);
    begin(&mut r, 3)?;
    let item = (r.text()?.to_owned(), r.bytes()?.to_vec());
    r.finish()?;
    Ok(item)
}

/// Reads the head of a row and its version.
fn begin(r: &mut Reader<'_>, len: usize) -> Result<(), Refusal> {
    r.array_of(len)?;
    if r.u64()? == VERSION { Ok(()) } else { Err(Refusal::Version) }
}

fn list<'a, T>(
    r: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let len = r.array()?;
    (0..len).map(|_| read(r)).collect()
}

fn optional_op(w: &mut Writer, op: Option<&OpOrder>) {
    match op {
        Some(op) => w.bytes(&op_key(op)),
        None => w.bytes(&[]),
    };
}

fn read_optional_op(r: &mut Reader<'_>) -> Result<Option<OpOrder>, Refusal> {
    match r.bytes()? {
        [] => Ok(None),
        key => op_from_key(key).map(Some),
    }
}
