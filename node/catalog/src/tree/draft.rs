//! Operations that are planned to be written (`docs/spec/04-spaces.md`, "Written again" and "Stranded"): what they make,
//! and where things go that are to be in a folder which is in the trash, or nowhere.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use locker_crypto::id::NodeId;

use super::children;
use super::nodes;
use super::row::{META, Row, after, decode_meta, intact, key, op_from_key};
use crate::operation::{Move, NodeKind, Op, version_id};
use crate::order::OpOrder;
use crate::rows::{ReadRows, RowError};

/// Nodes that are looked at below a folder.
const BELOW_MAX: usize = 65_536;
/// Children read at a time.
const PAGE: usize = if cfg!(test) { 3 } else { 128 };

/// Sees a node.
type Visit<'a> = dyn FnMut(NodeId, &Row) -> Result<ControlFlow<()>, RowError> + 'a;

/// Operations on the tree as it stands.
pub(super) struct Draft<'a> {
    rows: &'a dyn ReadRows,
    /// In this order.
    pub(super) ops: Vec<Op>,
    /// Where these place nodes.
    placed: HashMap<NodeId, Placed>,
}

/// Where a node is by a draft.
struct Placed {
    kind: NodeKind,
    parent: NodeId,
    /// Whether it is made.
    is_new: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(rows: &'a dyn ReadRows) -> Self {
        Self { rows, ops: Vec::new(), placed: HashMap::new() }
    }

    /// What these operations make of a node that is not there, or was kept in the trash only.
    pub(super) fn made(&self, node: NodeId) -> Option<NodeKind> {
        self.placed.get(&node).filter(|placed| placed.is_new).map(|placed| placed.kind)
    }

    /// Whether a node is there, or is made.
    pub(super) fn has(&self, node: NodeId) -> Result<bool, RowError> {
        Ok(node == NodeId::ROOT || self.placed.contains_key(&node) || nodes::read(self.rows, node)?.is_some())
    }

    /// Moves a node, or makes it.
    pub(super) fn place(&mut self, kind: NodeKind, op: Move) -> Result<(), RowError> {
        let is_new = match self.placed.get(&op.node) {
            Some(placed) => placed.is_new,
            None => nodes::read(self.rows, op.node)?.is_none_or(|row| row.is_as_kept()),
        };
        self.placed.insert(op.node, Placed { kind, parent: op.parent, is_new });
        self.ops.push(Op::Move(op));
        Ok(())
    }

    /// Brings a thing back out of the trash in which it lies under `top`.
    pub(super) fn take_out(&mut self, node: NodeId, row: &Row, top: NodeId) -> Result<(), RowError> {
        let from = if top == node { row.place.from } else { row.place.parent };
        let parent = self.folder_for(from, node)?;
        let (name, kind) = (row.place.name.clone(), row.kind);
        self.place(kind, Move { node, parent, name, kind: kind.code() })
    }

    /// The topmost node in the trash on the way up from a node, itself included, with what put it there.
    pub(super) fn trashed_above(&self, node: NodeId) -> Result<Option<(NodeId, OpOrder)>, RowError> {
        let mut at = node;
        for _ in 0..nodes::CHAIN_MAX {
            if let Some(placed) = self.placed.get(&at) {
                at = placed.parent;
                continue;
            }
            let Some(row) = nodes::read(self.rows, at)? else { return Ok(None) };
            if let Some(by) = row.place.by {
                return Ok(Some((at, by)));
            }
            at = row.place.parent;
        }
        Ok(None)
    }

    /// Where something goes that is to be in `folder`: there, or if that lies in the trash, where it was taken from; ROOT
    /// if nothing of the way is left, or if it leads through `node` itself.
    pub(super) fn folder_for(&self, folder: NodeId, node: NodeId) -> Result<NodeId, RowError> {
        let (mut target, mut at, mut left) = (folder, folder, HashSet::new());
        loop {
            if at == NodeId::ROOT {
                return Ok(target);
            }
            if at == node || !left.insert(at) {
                return Ok(NodeId::ROOT);
            }
            if let Some(placed) = self.placed.get(&at) {
                match placed.kind {
                    NodeKind::Folder => at = placed.parent,
                    _ => return Ok(NodeId::ROOT),
                }
                continue;
            }
            match nodes::read(self.rows, at)? {
                Some(row) if row.kind != NodeKind::Folder => return Ok(NodeId::ROOT),
                Some(row) if row.place.by.is_some() => {
                    target = row.place.from;
                    at = target;
                }
                Some(row) => at = row.place.parent,
                None => return Ok(NodeId::ROOT),
            }
        }
    }
}

/// Visits a node and all below it, until `visit` breaks. Says whether that was all: false if there were more nodes than
/// are looked at.
pub(super) fn each_below(
    rows: &dyn ReadRows,
    node: NodeId,
    row: Row,
    visit: &mut Visit<'_>,
) -> Result<bool, RowError> {
    let (mut open, mut seen) = (vec![(node, row)], 0);
    while let Some((node, row)) = open.pop() {
        if visit(node, &row)?.is_break() {
            return Ok(true);
        }
        if row.kind != NodeKind::Folder {
            continue;
        }
        let mut from = None;
        loop {
            let (page, next) = children::made(rows, node.as_ref(), from.as_deref(), PAGE)?;
            seen += page.len();
            if seen > BELOW_MAX {
                return Ok(false);
            }
            for (_, child) in page {
                if let Some(row) = nodes::read(rows, child.node)? {
                    open.push((child.node, row));
                }
            }
            from = next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(true)
}

/// The name in ROOT of a file whose place nobody knows.
pub(super) fn recovered_name(content: &OpOrder) -> String {
    format!("recovered {}", version_id(content))
}

/// The last value of a meta item, an empty one included, and what wrote it.
pub(super) fn last_meta(
    rows: &dyn ReadRows,
    node: NodeId,
    item: &str,
) -> Result<Option<(OpOrder, Vec<u8>)>, RowError> {
    let prefix = key(&[node.as_ref(), &rows.keyed(item.as_bytes())]);
    let mut found = None;
    rows.scan_back(META, &prefix, after(&prefix).as_deref(), &mut |key, value| {
        let at = key.get(prefix.len()..).ok_or(locker_crypto::Refusal::Canon).and_then(op_from_key);
        found = Some(at.and_then(|at| Ok((at, decode_meta(value)?.1))));
        ControlFlow::Break(())
    })?;
    intact(found.transpose())
}
