//! The tree written down as plainly as possible: replay from empty, in total order, in memory. What the tests
//! compare with.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::encode::Writer;
use locker_crypto::id::NodeId;

use super::TreeEntry;
use super::limits::Limits;
use crate::name;
use crate::operation::{Op, version_id};
use crate::order::OpOrder;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelNode {
    pub(super) parent: NodeId,
    pub(super) name: String,
    pub(super) kind: u64,
    pub(super) created: OpOrder,
    pub(super) moved: OpOrder,
    pub(super) from: NodeId,
    pub(super) by: Option<OpOrder>,
    /// FileRef, time, mark and operation by version id.
    pub(super) versions: BTreeMap<[u8; 16], (Vec<u8>, i64, bool, OpOrder)>,
}

#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<NodeId, ModelNode>,
    pub(super) meta: BTreeMap<(NodeId, String), Vec<u8>>,
    pub(super) no_effect: Vec<(OpOrder, Refusal)>,
    /// Versions that were live and are not any more, each with the operation that named it as base.
    pub(super) replaced: BTreeSet<[u8; 16]>,
    /// Versions that were kept for a file that was there.
    pub(super) kept: BTreeSet<[u8; 16]>,
}

impl Model {
    pub(super) fn replay<'a>(entries: impl IntoIterator<Item = &'a TreeEntry>, limits: &Limits) -> Self {
        let mut entries: Vec<&TreeEntry> = entries.into_iter().collect();
        entries.sort_by_key(|entry| entry.order);
        let mut model = Self::default();
        for entry in entries {
            for op in &entry.ops {
                let at = OpOrder { entry: entry.order, index: op.index };
                if let Err(why) = op.verdict.and_then(|()| model.step(entry, &op.op, at, limits)) {
                    model.no_effect.push((at, why));
                }
            }
        }
        model
    }

    /// The node and its parents, up to but not with ROOT or TRASH.
    fn ancestry(&self, node: NodeId) -> Vec<NodeId> {
        let (mut chain, mut at) = (Vec::new(), node);
        while at != NodeId::ROOT && at != NodeId::TRASH {
            assert!(!chain.contains(&at), "a ring");
            chain.push(at);
            at = self.nodes[&at].parent;
        }
        chain
    }

    fn is_under(&self, node: NodeId, folder: NodeId) -> bool {
        if folder == NodeId::ROOT { self.top(node).is_none() } else { self.ancestry(node).contains(&folder) }
    }

    /// T: the topmost trashed node at or above this one.
    pub(super) fn top(&self, node: NodeId) -> Option<NodeId> {
        self.ancestry(node).last().copied().filter(|top| self.nodes[top].parent == NodeId::TRASH)
    }

    fn lift(&self, top: NodeId) -> NodeId {
        let (mut seen, mut parent) = (vec![top], self.nodes[&top].from);
        while let Some(next) = self.top(parent) {
            if seen.contains(&next) {
                return NodeId::ROOT;
            }
            seen.push(next);
            parent = self.nodes[&next].from;
        }
        parent
    }

    fn is_folder(&self, node: NodeId) -> bool {
        node == NodeId::ROOT || self.nodes.get(&node).is_some_and(|n| n.kind == 1)
    }

    fn fresh(&self, entry: &TreeEntry, node: NodeId) -> bool {
        let node = &self.nodes[&node];
        let mut written = node.versions.iter().filter(|(vid, (.., op))| version_id(op).0 == **vid);
        !knows(entry, &node.moved) || written.any(|(_, (.., op))| !knows(entry, op))
    }

    fn height(&self, node: NodeId) -> usize {
        let below = self.nodes.iter().filter(|(_, n)| n.parent == node);
        below.map(|(child, _)| 1 + self.height(*child)).max().unwrap_or(0)
    }

    fn step(&mut self, entry: &TreeEntry, op: &Op, at: OpOrder, limits: &Limits) -> Result<(), Refusal> {
        match op {
            Op::Move(op) => {
                name::check(&op.name)?;
                if op.kind > 2 {
                    return Err(Refusal::Canon);
                }
                let (node, mut parent) = (op.node, op.parent);
                let special = [NodeId::ROOT, NodeId::TRASH].contains(&node) || parent == NodeId::TRASH;
                let old = self.nodes.get(&node).cloned();
                if special || old.as_ref().is_some_and(|n| n.kind != op.kind) || !self.is_folder(parent) {
                    return Err(Refusal::Node);
                }
                if let Some(scope) = entry.scope {
                    let inside = self.is_folder(scope) && self.is_under(parent, scope);
                    match &old {
                        None if !self.is_folder(scope) => return Err(Refusal::Scope),
                        None if !inside => parent = scope,
                        Some(old) if !inside || !self.strictly_under(old, scope) => {
                            return Err(Refusal::Scope);
                        }
                        _ => {}
                    }
                }
                if let Some(top) = self.top(parent) {
                    if knows(entry, &self.nodes[&top].by.unwrap()) {
                        return Err(Refusal::Node);
                    }
                    parent = self.lift(top);
                }
                if self.ancestry(parent).contains(&node) {
                    return Err(Refusal::Cycle);
                }
                if old.as_ref().is_none_or(|old| old.parent != parent) {
                    let depth = self.ancestry(parent).len() + 1 + self.height(node);
                    let children = self.nodes.values().filter(|n| n.parent == parent).count() as u64;
                    let nodes = (self.nodes.len() + usize::from(old.is_none())) as u64;
                    if depth as u64 > limits.depth || children >= limits.children || nodes > limits.nodes {
                        return Err(Refusal::Limit);
                    }
                }
                let (created, versions) =
                    old.map_or((at, BTreeMap::new()), |old| (old.created, old.versions));
                let (name, kind, from) = (op.name.clone(), op.kind, NodeId::ZERO);
                let new = ModelNode { parent, name, kind, created, moved: at, from, by: None, versions };
                self.nodes.insert(node, new);
            }
            Op::Content(op) => {
                if self.nodes.get(&op.node).is_none_or(|n| n.kind != 0) {
                    return Err(Refusal::Node);
                }
                self.check_scope(entry, op.node)?;
                let top = self.top(op.node).filter(|top| !knows(entry, &self.nodes[top].by.unwrap()));
                let lifted = top.map(|top| self.lift(top));
                let node = self.nodes.get_mut(&op.node).unwrap();
                let made = node.created;
                let is_as_kept = node.by == Some(made) && node.versions.values().all(|(.., op)| *op == made);
                let bases: Vec<[u8; 16]> = op.bases.iter().map(|vid| vid.0).collect();
                let own = version_id(&at).0;
                let is_base = |vid: &[u8; 16]| *vid == own || bases.contains(vid);
                if node.versions.keys().filter(|vid| !is_base(vid)).count() >= limits.versions {
                    return Err(Refusal::Limit);
                }
                self.replaced.extend(node.versions.keys().filter(|vid| is_base(vid)));
                node.versions.retain(|vid, _| !is_base(vid));
                node.versions.insert(version_id(&at).0, (op.file.encode(), op.mtime_ms, op.exec, at));
                if let Some(parent) = lifted {
                    (node.parent, node.from, node.by) = (parent, NodeId::ZERO, None);
                    node.moved = if is_as_kept { at } else { node.moved };
                }
            }
            Op::Trash(op) => {
                if !self.nodes.contains_key(&op.node) {
                    return Err(Refusal::Node);
                }
                self.check_scope(entry, op.node)?;
                if self.top(op.node).is_some() {
                    return Err(Refusal::Node);
                }
                if self.fresh(entry, op.node) {
                    return Err(Refusal::Fresh);
                }
                let node = self.nodes.get_mut(&op.node).unwrap();
                let parent = node.parent;
                (node.parent, node.from, node.by) = (NodeId::TRASH, parent, Some(at));
                self.lift_fresh(entry, op.node, parent);
            }
            Op::Meta(op) => {
                if op.node != NodeId::ROOT && !self.nodes.contains_key(&op.node) {
                    return Err(Refusal::Node);
                }
                self.check_scope(entry, op.node)?;
                self.meta.insert((op.node, op.key.clone()), op.value.clone());
            }
            Op::Keep(op) => {
                name::check(&op.name)?;
                if [NodeId::ROOT, NodeId::TRASH].contains(&op.node) {
                    return Err(Refusal::Node);
                }
                if entry.scope.is_some() {
                    return Err(Refusal::Scope);
                }
                let vid = op.vid.0;
                match self.nodes.get(&op.node) {
                    Some(node) if node.kind != 0 => return Err(Refusal::Node),
                    Some(_) => _ = self.kept.insert(vid),
                    None if self.nodes.len() as u64 >= limits.nodes => return Err(Refusal::Limit),
                    None => {
                        let from = if self.is_folder(op.parent) { op.parent } else { NodeId::ROOT };
                        let kept = (op.file.encode(), op.mtime_ms, op.exec, at);
                        let node = ModelNode {
                            parent: NodeId::TRASH,
                            name: op.name.clone(),
                            kind: 0,
                            created: at,
                            moved: at,
                            from,
                            by: Some(at),
                            versions: BTreeMap::from([(vid, kept)]),
                        };
                        self.nodes.insert(op.node, node);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn lift_fresh(&mut self, entry: &TreeEntry, folder: NodeId, parent: NodeId) {
        let below = self.nodes.iter().filter(|(_, n)| n.parent == folder);
        for child in below.map(|(child, _)| *child).collect::<Vec<_>>() {
            if self.fresh(entry, child) {
                self.nodes.get_mut(&child).unwrap().parent = parent;
            } else {
                self.lift_fresh(entry, child, parent);
            }
        }
    }

    fn strictly_under(&self, node: &ModelNode, scope: NodeId) -> bool {
        node.parent != NodeId::TRASH && self.is_under(node.parent, scope)
    }

    fn check_scope(&self, entry: &TreeEntry, node: NodeId) -> Result<(), Refusal> {
        let Some(scope) = entry.scope else { return Ok(()) };
        let inside = match self.nodes.get(&node) {
            Some(row) => self.is_folder(scope) && self.strictly_under(row, scope),
            None => scope == NodeId::ROOT,
        };
        if inside { Ok(()) } else { Err(Refusal::Scope) }
    }

    /// The state as its specification writes it.
    pub(super) fn state_hash(&self) -> [u8; 32] {
        let op_item = |w: &mut Writer, op: &OpOrder| {
            let OpOrder { entry, index } = op;
            w.array(4).u64(entry.hlc).bytes(entry.author.as_ref()).u64(entry.seq).u64((*index).into());
        };
        let mut w = Writer::new();
        for (id, n) in &self.nodes {
            w.array(9).bytes(id.as_ref()).bytes(n.parent.as_ref()).text(&n.name).u64(n.kind);
            op_item(&mut w, &n.created);
            op_item(&mut w, &n.moved);
            w.bytes(n.from.as_ref());
            match &n.by {
                Some(by) => op_item(&mut w, by),
                None => drop(w.array(0)),
            }
            w.array(n.versions.len());
            for (vid, (file, mtime, exec, _)) in &n.versions {
                w.array(4).bytes(vid).raw(file).i64(*mtime).bool(*exec);
            }
        }
        for ((node, key), value) in self.meta.iter().filter(|(_, value)| !value.is_empty()) {
            w.array(3).bytes(node.as_ref()).text(key).bytes(value);
        }
        *blake3::hash(&w.finish()).as_bytes()
    }
}

fn knows(entry: &TreeEntry, op: &OpOrder) -> bool {
    op.entry == entry.order || entry.past.knows(&op.entry.author, op.entry.seq)
}
