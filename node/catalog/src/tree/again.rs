//! Writing again what an entry said that does not count (`docs/spec/04-spaces.md`, "Written again").
//!
//! This file plans: given the operations of such an entry and the tree as it stands, it names the operations that give
//! them their effect now. Node ids and FileRefs are the same; where the tree has gone on meanwhile, nothing of that is
//! undone: what the author of the entry did not know stays. In doubt a thing is kept.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{NodeId, VersionId};

use super::draft::{Draft, each_below, last_meta, recovered_name};
use super::history::Contents;
use super::nodes;
use super::row::{Row, Version};
use crate::operation::{Content, Keep, Meta, Move, NodeKind, Op, Trash};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError};

/// A content of a file, by what it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it consists of.
    pub file: FileRef,
    /// Time of last change, in unix milliseconds.
    pub mtime_ms: i64,
    /// Whether it may be run as a program.
    pub exec: bool,
}

impl Written {
    /// The content that an operation writes.
    pub fn of(op: &Content) -> Self {
        Self { file: op.file.clone(), mtime_ms: op.mtime_ms, exec: op.exec }
    }

    /// Whether it is the content of a version.
    pub(super) fn is_in(&self, version: &Version) -> bool {
        version.file == self.file && version.mtime_ms == self.mtime_ms && version.exec == self.exec
    }
}

/// What is known of an entry that does not count.
pub trait Uncounted {
    /// Its place.
    fn order(&self) -> EntryOrder;

    /// Its operations.
    fn ops(&self) -> &[Op];

    /// Whether its author knew what stands at this place now, or what was written again there.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    fn knew(&self, entry: &EntryOrder) -> Result<bool, RowError>;

    /// What a version consisted of that an earlier entry of its branch wrote, which does not count either.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    fn version(&self, vid: &VersionId) -> Result<Option<Written>, RowError>;
}

/// A part of what is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// In this order.
    pub ops: Vec<Op>,
    /// Where to go on once these have taken effect; `None` at the end.
    pub next: Option<usize>,
}

/// Plans what gives the tree operations of `entry`, from the one numbered `from` on, their effect. Operations that do not
/// concern the tree are left to the caller.
///
/// Cost: that of its operations; of one that trashed a folder, what is in it.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn again(rows: &dyn ReadRows, entry: &dyn Uncounted, from: usize) -> Result<Again, RowError> {
    let mut plan = Plan { rows, entry, draft: Draft::new(rows), written: HashSet::new() };
    for (index, op) in entry.ops().iter().enumerate().skip(from) {
        match op {
            // The version that it replaces has no name yet.
            Op::Content(op) if plan.written.contains(&op.node) => {
                return Ok(Again { ops: plan.draft.ops, next: Some(index) });
            }
            Op::Move(op) => plan.place(op)?,
            Op::Content(op) => plan.write(op, index)?,
            Op::Trash(op) => plan.trash(*op)?,
            Op::Meta(op) => plan.meta(op)?,
            Op::Keep(op) => plan.keep(op)?,
            _ => {}
        }
    }
    Ok(Again { ops: plan.draft.ops, next: None })
}

struct Plan<'a> {
    rows: &'a dyn ReadRows,
    entry: &'a dyn Uncounted,
    draft: Draft<'a>,
    /// Files that got a content by this plan.
    written: HashSet<NodeId>,
}

impl Plan<'_> {
    fn place(&mut self, op: &Move) -> Result<(), RowError> {
        let Ok(kind) = NodeKind::from_code(op.kind) else { return Ok(()) };
        if let Some(row) = nodes::read(self.rows, op.node)? {
            let is_there =
                row.place.by.is_none() && row.place.parent == op.parent && row.place.name == op.name;
            let is_later =
                row.place.moved.entry > self.entry.order() && !self.entry.knew(&row.place.moved.entry)?;
            // A later move stands, unless the thing is in the trash: this author took it out, or knew nothing of that.
            if row.kind != kind || is_there || (is_later && row.place.by.is_none()) {
                return Ok(());
            }
        }
        let parent = self.draft.folder_for(op.parent, op.node)?;
        self.draft.place(kind, Move { parent, ..op.clone() })
    }

    fn write(&mut self, op: &Content, index: usize) -> Result<(), RowError> {
        let Some(row) = nodes::read(self.rows, op.node)? else {
            match self.draft.made(op.node) {
                Some(NodeKind::File) => {}
                // What made it has no effect; the content is not lost for that.
                None => self.make(op, index)?,
                Some(_) => return Ok(()),
            }
            self.push_content(op, Vec::new());
            return Ok(());
        };
        let written = Written::of(op);
        if row.kind != NodeKind::File || row.versions.iter().any(|version| written.is_in(version)) {
            return Ok(());
        }
        self.take_out(op.node, &row)?;
        let bases = self.bases(op, &row)?;
        self.push_content(op, bases);
        Ok(())
    }

    fn push_content(&mut self, op: &Content, bases: Vec<VersionId>) {
        self.written.insert(op.node);
        self.draft.ops.push(Op::Content(Content { bases, ..op.clone() }));
    }

    /// Makes a file for a content whose node is not there.
    fn make(&mut self, op: &Content, index: usize) -> Result<(), RowError> {
        let at = OpOrder { entry: self.entry.order(), index: u16::try_from(index).unwrap_or(u16::MAX) };
        let (name, kind) = (recovered_name(&at), NodeKind::File);
        self.draft.place(kind, Move { node: op.node, parent: NodeId::ROOT, name, kind: kind.code() })
    }

    /// The live versions that a content replaces: those that its author named and knew, by the names they have now.
    fn bases(&self, op: &Content, row: &Row) -> Result<Vec<VersionId>, RowError> {
        let mut earlier = Vec::new();
        for vid in &op.bases {
            earlier.extend(self.entry.version(vid)?);
        }
        let mut bases = BTreeSet::new();
        for version in &row.versions {
            // Two branches give one name to two versions: the name alone says nothing.
            let is_named = op.bases.binary_search(&version.vid).is_ok();
            let is_again = earlier.iter().any(|written| written.is_in(version));
            if (is_named || is_again) && self.entry.knew(&version.op.entry)? {
                bases.insert(version.vid);
            }
        }
        Ok(bases.into_iter().collect())
    }

    fn keep(&mut self, op: &Keep) -> Result<(), RowError> {
        let kept = Written { file: op.file.clone(), mtime_ms: op.mtime_ms, exec: op.exec };
        let is_kept = match nodes::read(self.rows, op.node)? {
            Some(row) => Contents::read(self.rows, op.node, row)?.has(&op.vid, &kept),
            None => false,
        };
        if !is_kept {
            self.draft.ops.push(Op::Keep(op.clone()));
        }
        Ok(())
    }

    fn trash(&mut self, op: Trash) -> Result<(), RowError> {
        if self.draft.made(op.node).is_some() {
            self.draft.ops.push(Op::Trash(op));
            return Ok(());
        }
        let Some(row) = nodes::read(self.rows, op.node)? else { return Ok(()) };
        if self.draft.trashed_above(op.node)?.is_none() && self.knew_all(op.node, row)? {
            self.draft.ops.push(Op::Trash(op));
        }
        Ok(())
    }

    /// Whether the author knew a node as it is now, and all below it.
    fn knew_all(&self, node: NodeId, row: Row) -> Result<bool, RowError> {
        let mut knew = true;
        let is_whole = each_below(self.rows, node, row, &mut |_, row| {
            let written = row.versions.iter().filter(|version| !version.is_kept());
            let versions = written.map(|version| &version.op.entry);
            for entry in std::iter::once(&row.place.moved.entry).chain(versions) {
                if !self.entry.knew(entry)? {
                    knew = false;
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(knew && is_whole)
    }

    fn meta(&mut self, op: &Meta) -> Result<(), RowError> {
        let is_node = self.draft.has(op.node)?;
        let stands = match last_meta(self.rows, op.node, &op.key)? {
            Some((at, value)) => {
                value == op.value || (at.entry > self.entry.order() && !self.entry.knew(&at.entry)?)
            }
            None => op.value.is_empty(),
        };
        if is_node && !stands {
            self.draft.ops.push(Op::Meta(op.clone()));
        }
        Ok(())
    }

    /// Brings a thing back out of the trash that this author did not know to be there.
    fn take_out(&mut self, node: NodeId, row: &Row) -> Result<(), RowError> {
        let Some((top, by)) = self.draft.trashed_above(node)? else { return Ok(()) };
        if self.entry.knew(&by.entry)? { Ok(()) } else { self.draft.take_out(node, row, top) }
    }
}
