//! Reading and writing nodes: the one place where a node's row changes, and with it every index and sum that is
//! derived from it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::NodeId;

use super::children;
use super::row::{
    COUNTS, Child, Counts, FOLDERS, Folder, HISTORY, MARKS, Marks, NODES, Row, TRASHED, Undo, after, intact,
    key, op_from_key, op_key,
};
use crate::operation::NodeKind;
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError, WriteRows};

/// No chain of parents is longer than this; a longer one is a ring, which only damage can make.
pub(super) const CHAIN_MAX: usize = 1 << 24;
/// How many links are remembered while one entry is applied.
const LINKS_MAX: usize = 1 << 14;
/// Children read at a time while a folder is walked; few in tests, so that these turn pages too.
const PAGE: usize = if cfg!(test) { 3 } else { 1_024 };

/// Reads the row of a node.
pub(super) fn read(rows: &(impl ReadRows + ?Sized), node: NodeId) -> Result<Option<Row>, RowError> {
    rows.get(NODES, node.as_ref())?.map(|bytes| intact(Row::decode(&bytes))).transpose()
}

/// Reads the sums of a folder.
pub(super) fn folder(rows: &(impl ReadRows + ?Sized), node: NodeId) -> Result<Folder, RowError> {
    let found = rows.get(FOLDERS, node.as_ref())?.map(|bytes| intact(Folder::decode(&bytes)));
    Ok(found.transpose()?.unwrap_or_default())
}

/// Reads the sums of the space.
pub(super) fn counts(rows: &(impl ReadRows + ?Sized)) -> Result<Counts, RowError> {
    let found = rows.get(COUNTS, &[])?.map(|bytes| intact(Counts::decode(&bytes)));
    Ok(found.transpose()?.unwrap_or_default())
}

/// Returns what undoes the operations on `node` after `op`, the latest first.
pub(super) fn undos_after(
    rows: &(impl ReadRows + ?Sized),
    node: NodeId,
    op: &OpOrder,
) -> Result<Vec<(OpOrder, Undo)>, RowError> {
    let from = key(&[node.as_ref(), &op_key(op), &[0]]);
    let mut found = Vec::new();
    rows.scan_back(HISTORY, &from, after(node.as_ref()).as_deref(), &mut |key, value| {
        found.push(read_undo(key, value));
        ControlFlow::Continue(())
    })?;
    intact(found.into_iter().collect())
}

/// Whether a node was there before `entry` and has been in its parent ever since: all later operations on it gave it
/// names.
pub(super) fn only_renamed(
    rows: &(impl ReadRows + ?Sized),
    node: NodeId,
    entry: &EntryOrder,
) -> Result<bool, RowError> {
    let Some(row) = read(rows, node)?.filter(|row| row.created.entry < *entry) else { return Ok(false) };
    let from = key(&[node.as_ref(), &entry.to_key()]);
    let (mut stayed, mut read) = (row.place.by.is_none(), Ok(()));
    rows.scan_back(HISTORY, &from, after(node.as_ref()).as_deref(), &mut |_, value| {
        read = Undo::decode(value).map(|undo| {
            stayed &= undo.place.is_none_or(|place| place.parent == row.place.parent);
        });
        if stayed && read.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    intact(read.map(|()| stayed))
}

/// Returns the last operation that changed `node` after it was created.
pub(super) fn last_undo(rows: &(impl ReadRows + ?Sized), node: NodeId) -> Result<Option<OpOrder>, RowError> {
    let mut found = None;
    rows.scan_back(HISTORY, node.as_ref(), after(node.as_ref()).as_deref(), &mut |key, _| {
        found = Some(key.get(NodeId::LEN..).ok_or(Refusal::Canon).and_then(op_from_key));
        ControlFlow::Break(())
    })?;
    found.map(intact).transpose()
}

/// Returns a page of node ids at or after `start`.
pub(super) fn ids_from(rows: &(impl ReadRows + ?Sized), start: &[u8]) -> Result<Vec<NodeId>, RowError> {
    let mut page = Vec::new();
    rows.scan(NODES, start, None, &mut |key, _| {
        page.push(NodeId::from_slice(key));
        if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    intact(page.into_iter().collect())
}

fn read_undo(key: &[u8], value: &[u8]) -> Result<(OpOrder, Undo), Refusal> {
    Ok((op_from_key(key.get(NodeId::LEN..).ok_or(Refusal::Canon)?)?, Undo::decode(value)?))
}

/// What the walk to ROOT needs of a node.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) parent: NodeId,
    pub(super) kind: NodeKind,
    /// The last entry that is known from the row to have placed the node.
    pub(super) placed: EntryOrder,
}

/// Number and size of nodes.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) files: u64,
    pub(super) folders: u64,
    pub(super) bytes: u64,
}

impl Sum {
    pub(super) fn plus(self, other: Sum) -> Sum {
        Sum {
            files: self.files.saturating_add(other.files),
            folders: self.folders.saturating_add(other.folders),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The nodes of a space, open for change. Links that were read are remembered as long as it lives.
pub(super) struct Nodes<'a> {
    pub(super) rows: &'a mut dyn WriteRows,
    /// Whether changes are made at an earlier place of the total order than the last one.
    pub(super) late: bool,
    links: HashMap<NodeId, Link>,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(rows: &'a mut dyn WriteRows) -> Self {
        Self { rows, late: false, links: HashMap::new() }
    }

    pub(super) fn read(&self, node: NodeId) -> Result<Option<Row>, RowError> {
        read(self.rows, node)
    }

    /// Reads a node that another row names.
    pub(super) fn read_named(&self, node: NodeId) -> Result<Row, RowError> {
        self.read(node)?.ok_or(RowError::Corrupt(Refusal::Node))
    }

    /// Returns the link of a node other than ROOT and TRASH.
    pub(super) fn link(&mut self, node: NodeId) -> Result<Option<Link>, RowError> {
        if let Some(link) = self.links.get(&node) {
            return Ok(Some(*link));
        }
        let Some(row) = self.read(node)? else { return Ok(None) };
        let by = row.place.by.map(|op| op.entry);
        let placed = by.map_or(row.place.moved.entry, |by| by.max(row.place.moved.entry));
        let link = Link { parent: row.place.parent, kind: row.kind, placed };
        if self.links.len() >= LINKS_MAX {
            self.links.clear();
        }
        self.links.insert(node, link);
        Ok(Some(link))
    }

    /// Returns the node and all above it up to ROOT or TRASH, and whether it ended at TRASH.
    pub(super) fn ancestry(&mut self, node: NodeId) -> Result<(Vec<NodeId>, bool), RowError> {
        let (mut chain, mut at) = (Vec::new(), node);
        while at != NodeId::ROOT && at != NodeId::TRASH {
            let link = self.link(at)?.ok_or(RowError::Corrupt(Refusal::Node))?;
            chain.push(at);
            if chain.len() > CHAIN_MAX {
                return Err(RowError::Corrupt(Refusal::Cycle));
            }
            at = link.parent;
        }
        Ok((chain, at == NodeId::TRASH))
    }

    pub(super) fn marks(&self, node: NodeId) -> Result<Marks, RowError> {
        let found = self.rows.get(MARKS, node.as_ref())?.map(|bytes| intact(Marks::decode(&bytes)));
        Ok(found.transpose()?.unwrap_or_default())
    }

    /// Raises the mark on the node's own place.
    pub(super) fn mark_place(&mut self, node: NodeId, entry: EntryOrder) -> Result<(), RowError> {
        let mut marks = self.marks(node)?;
        if marks.place < Some(entry) {
            marks.place = Some(entry);
            self.rows.put(MARKS, node.as_ref(), &marks.encode())?;
        }
        Ok(())
    }

    /// Raises the mark on what is below the node.
    pub(super) fn mark_below(&mut self, node: NodeId, entry: EntryOrder) -> Result<(), RowError> {
        let mut marks = self.marks(node)?;
        if marks.below < Some(entry) {
            marks.below = Some(entry);
            self.rows.put(MARKS, node.as_ref(), &marks.encode())?;
        }
        Ok(())
    }

    /// Puts a node, takes one away or changes one, with its indexes and sums.
    ///
    /// `old` and `new` are the row before and after; both trees must be whole, since the sums of what lies outside
    /// the trash follow the parents up to ROOT. Cost: that of the depth, and of the sub-folders where a folder
    /// enters or leaves the trash.
    pub(super) fn write(
        &mut self,
        node: NodeId,
        old: Option<&Row>,
        new: Option<&Row>,
    ) -> Result<(), RowError> {
        self.count(node, old, new)?;
        self.links.remove(&node);
        match new {
            Some(row) => self.rows.put(NODES, node.as_ref(), &row.encode())?,
            None => self.rows.delete(NODES, node.as_ref())?,
        }
        let stays = matches!((old, new), (Some(old), Some(new))
            if old.place.parent == new.place.parent && old.place.name == new.place.name && old.place.by == new.place.by);
        match (old, new) {
            (Some(old), Some(new)) if stays && new.place.parent != NodeId::TRASH => {
                children::refresh(self.rows, node, old, new)?;
            }
            _ if stays => {}
            _ => {
                if let Some(old) = old {
                    self.unlist(node, old)?;
                }
                if let Some(new) = new {
                    self.list(node, new)?;
                }
            }
        }
        self.sum_folder(old, new)
    }

    fn unlist(&mut self, node: NodeId, row: &Row) -> Result<(), RowError> {
        match &row.place.by {
            Some(by) => self.rows.delete(TRASHED, &key(&[&op_key(by), node.as_ref()])),
            None => children::leave(self.rows, row),
        }
    }

    fn list(&mut self, node: NodeId, row: &Row) -> Result<(), RowError> {
        match &row.place.by {
            Some(by) => self.rows.put(TRASHED, &key(&[&op_key(by), node.as_ref()]), &[]),
            None => children::join(self.rows, node, row),
        }
    }

    /// Keeps the sums of the folders that a node leaves and enters.
    fn sum_folder(&mut self, old: Option<&Row>, new: Option<&Row>) -> Result<(), RowError> {
        let in_folder = |row: &&Row| row.place.parent != NodeId::TRASH;
        let same = old.map(|row| row.place.parent) == new.map(|row| row.place.parent);
        if let Some(row) = old.filter(in_folder) {
            let mut sums = folder(self.rows, row.place.parent)?;
            let own = own_sum(row);
            sums.files = sums.files.saturating_sub(own.files);
            sums.folders = sums.folders.saturating_sub(own.folders);
            sums.bytes = sums.bytes.saturating_sub(own.bytes);
            self.rows.put(FOLDERS, row.place.parent.as_ref(), &sums.encode())?;
        }
        if let Some(row) = new.filter(in_folder) {
            let mut sums = folder(self.rows, row.place.parent)?;
            let own = own_sum(row);
            sums.files = sums.files.saturating_add(own.files);
            sums.folders = sums.folders.saturating_add(own.folders);
            sums.bytes = sums.bytes.saturating_add(own.bytes);
            sums.peak = sums.peak.saturating_add(u64::from(self.late && !same));
            sums.peak = sums.peak.max(sums.children());
            for op in row.versions.iter().map(|v| v.op).chain([row.place.moved]) {
                let (author, seq) = (op.entry.author, op.entry.seq);
                match sums.writers.binary_search_by_key(&author, |(author, _)| *author) {
                    Ok(at) => sums.writers[at].1 = sums.writers[at].1.max(seq),
                    Err(at) => sums.writers.insert(at, (author, seq)),
                }
            }
            self.rows.put(FOLDERS, row.place.parent.as_ref(), &sums.encode())?;
        }
        Ok(())
    }

    /// Keeps the sums of the space.
    fn count(&mut self, node: NodeId, old: Option<&Row>, new: Option<&Row>) -> Result<(), RowError> {
        let mut counts = counts(self.rows)?;
        let before = counts;
        counts.nodes = counts.nodes.saturating_add(u64::from(new.is_some()));
        counts.nodes = counts.nodes.saturating_sub(u64::from(old.is_some()));
        let was_live = self.is_live(old)?;
        let is_live = self.is_live(new)?;
        let below = match old.or(new) {
            Some(row) if row.kind == NodeKind::Folder && old.is_some() && was_live != is_live => {
                sum_below(self.rows, node)?
            }
            _ => Sum::default(),
        };
        if let Some(row) = old.filter(|_| was_live) {
            let own = own_sum(row).plus(below);
            counts.files = counts.files.saturating_sub(own.files);
            counts.folders = counts.folders.saturating_sub(own.folders);
            counts.bytes = counts.bytes.saturating_sub(own.bytes);
        }
        if let Some(row) = new.filter(|_| is_live) {
            let own = own_sum(row).plus(below);
            counts.files = counts.files.saturating_add(own.files);
            counts.folders = counts.folders.saturating_add(own.folders);
            counts.bytes = counts.bytes.saturating_add(own.bytes);
        }
        if counts == before { Ok(()) } else { self.rows.put(COUNTS, &[], &counts.encode()) }
    }

    fn is_live(&mut self, row: Option<&Row>) -> Result<bool, RowError> {
        match row {
            Some(row) => Ok(!self.ancestry(row.place.parent)?.1),
            None => Ok(false),
        }
    }

    /// Returns a page of the children of a folder; see [`children::page`].
    pub(super) fn page(
        &self,
        node: NodeId,
        from: Option<&[u8]>,
    ) -> Result<(Vec<Child>, Option<Vec<u8>>), RowError> {
        children::page(self.rows, node, from, PAGE)
    }
}

/// Sums over all below a folder: files, folders and bytes. Cost: its sub-folders, and the children of folders that
/// have sub-folders.
pub(super) fn sum_below(rows: &(impl ReadRows + ?Sized), node: NodeId) -> Result<Sum, RowError> {
    let mut sum = Sum::default();
    each_folder(rows, node, &mut |sums, _| {
        sum.files = sum.files.saturating_add(sums.files);
        sum.folders = sum.folders.saturating_add(sums.folders);
        sum.bytes = sum.bytes.saturating_add(sums.bytes);
    })?;
    Ok(sum)
}

/// Returns how many levels there are below a folder. Cost: as [`sum_below`].
pub(super) fn height(rows: &(impl ReadRows + ?Sized), node: NodeId) -> Result<u64, RowError> {
    let mut height = 0;
    each_folder(rows, node, &mut |sums, depth| {
        height = height.max(depth + u64::from(sums.children() > 0));
    })?;
    Ok(height)
}

/// Visits the sums of a folder and of all folders below it, each with its depth below the first.
fn each_folder(
    rows: &(impl ReadRows + ?Sized),
    node: NodeId,
    visit: &mut dyn FnMut(&Folder, u64),
) -> Result<(), RowError> {
    let mut open = vec![(node, 0)];
    while let Some((at, depth)) = open.pop() {
        let sums = folder(rows, at)?;
        visit(&sums, depth);
        if sums.folders == 0 {
            continue;
        }
        let mut from = None;
        loop {
            let (page, next) = children::page(rows, at, from.as_deref(), PAGE)?;
            let folders = page.iter().filter(|child| child.kind == NodeKind::Folder);
            open.extend(folders.map(|child| (child.node, depth + 1)));
            from = next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// What a node adds to the sums, without what is below it.
pub(super) fn own_sum(row: &Row) -> Sum {
    match row.kind {
        NodeKind::File => Sum { files: 1, folders: 0, bytes: row.size() },
        NodeKind::Folder | NodeKind::Mount => Sum { files: 0, folders: 1, bytes: 0 },
    }
}
