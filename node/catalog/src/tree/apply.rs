//! One entry takes effect: the steps of each operation (`docs/spec/05-tree.md`, "Replay" and "Trash").
//!
//! The same steps serve an entry at the end of the total order and one that comes late and is applied in place. In
//! place a step first makes sure that nothing later touched or looked at what it reads and writes
//! ([`super::late`] says why that is enough); where it cannot, it stops with [`Stop::Rewind`].

use std::collections::HashSet;

use locker_crypto::Refusal;
use locker_crypto::id::{NodeId, VerifyingKey, VersionId};

use super::TreeEntry;
use super::limits::Limits;
use super::nodes::{self, Nodes};
use super::row::{
    HISTORY, META, ORDER, PROBLEMS, Place, Replaced, Row, Touch, Undo, Version, encode_meta, key, op_key,
};
use crate::name;
use crate::operation::{Content, Keep, Meta, Move, NodeKind, Op, version_id};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{RowError, WriteRows};

/// Changes of one entry that stand in one row; few in tests, so that these fill several.
const TOUCHES_PER_PART: usize = if cfg!(test) { 2 } else { 1_024 };

/// Why a step ends without effect.
pub(super) enum Stop {
    /// The operation has none.
    Refused(Refusal),
    /// It cannot be applied in place.
    Rewind,
    /// The rows failed.
    Row(RowError),
}

impl From<RowError> for Stop {
    fn from(error: RowError) -> Self {
        Stop::Row(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

/// How an entry went.
pub(super) enum Outcome {
    /// All of it took effect, but for what stands among the problems now.
    Applied,
    /// It came late and must be replayed at its place, with all after it.
    Rewind,
}

/// Gives all operations of `entry` their effect; `late`: at a place before other entries.
pub(super) fn apply_entry(
    rows: &mut dyn WriteRows,
    entry: &TreeEntry,
    limits: &Limits,
    late: bool,
) -> Result<Outcome, RowError> {
    let mut nodes = Nodes::new(rows);
    nodes.late = late;
    let mut replay =
        Replay { nodes, entry, limits, late, marked: HashSet::new(), touches: Vec::new(), part: 0 };
    for op in &entry.ops {
        let at = OpOrder { entry: entry.order, index: op.index };
        let done = op.verdict.map_err(Stop::from).and_then(|()| replay.step(&op.op, at));
        match done {
            Ok(()) => {}
            Err(Stop::Refused(why)) => {
                replay.nodes.rows.put(PROBLEMS, &op_key(&at), why.code().as_bytes())?;
            }
            Err(Stop::Rewind) => {
                replay.flush()?;
                return Ok(Outcome::Rewind);
            }
            Err(Stop::Row(error)) => return Err(error),
        }
    }
    replay.flush()?;
    Ok(Outcome::Applied)
}

/// Returns the key of one part of what an entry changed.
pub(super) fn order_key(entry: &EntryOrder, part: u32) -> Vec<u8> {
    key(&[&entry.to_key(), &part.to_be_bytes()])
}

/// The parents of a node, from the first one up.
struct Chain {
    folders: Vec<NodeId>,
    /// The topmost node below TRASH, if the chain ends there.
    trashed: Option<NodeId>,
}

struct Replay<'a> {
    nodes: Nodes<'a>,
    entry: &'a TreeEntry,
    limits: &'a Limits,
    late: bool,
    /// Folders that already carry the mark of this entry.
    marked: HashSet<NodeId>,
    touches: Vec<Touch>,
    part: u32,
}

impl Replay<'_> {
    fn step(&mut self, op: &Op, at: OpOrder) -> Result<(), Stop> {
        let (node, done) = match op {
            Op::Move(op) => (op.node, self.step_move(op, at)),
            Op::Content(op) => (op.node, self.step_content(op, at)),
            Op::Trash(op) => (op.node, self.step_trash(op.node, at)),
            Op::Meta(op) => (op.node, self.step_meta(op, at)),
            Op::Keep(op) => (op.node, self.step_keep(op, at)),
            _ => return Ok(()),
        };
        // Whatever was refused might have an effect once an earlier operation on this node has come.
        let by_state = !matches!(done, Ok(()) | Err(Stop::Refused(Refusal::Name | Refusal::Canon)));
        if by_state && node != NodeId::ROOT && node != NodeId::TRASH {
            self.nodes.mark_place(node, self.entry.order)?;
        }
        done
    }

    fn step_move(&mut self, op: &Move, at: OpOrder) -> Result<(), Stop> {
        name::check(&op.name)?;
        let kind = NodeKind::from_code(op.kind)?;
        let node = op.node;
        if node == NodeId::ROOT || node == NodeId::TRASH || op.parent == NodeId::TRASH {
            return Err(Refusal::Node.into());
        }
        self.expect_place_settled(node)?;
        let row = self.nodes.read(node)?;
        if row.as_ref().is_some_and(|row| row.kind != kind) || !self.is_folder(op.parent)? {
            return Err(Refusal::Node.into());
        }
        let before = row.as_ref().map(|row| self.chain_over(node, row)).transpose()?;
        let (parent, chain) = self.allowed_parent(op.parent, before.as_ref())?;
        let (parent, chain) = self.lifted_parent(parent, chain)?;
        if parent == node || chain.folders.contains(&node) {
            return Err(Refusal::Cycle.into());
        }
        // Whoever looked up through a folder saw what it is and what is over it, not its name.
        if row.as_ref().is_none_or(|row| row.place.parent != parent) {
            if row.as_ref().is_none_or(|row| row.kind == NodeKind::Folder) {
                self.expect_below_settled(node)?;
            }
            self.check_room(node, row.as_ref(), parent, &chain)?;
        }
        let place = Place { parent, name: op.name.clone(), moved: at, from: NodeId::ZERO, by: None };
        let Some(row) = row else {
            let row = Row { place, kind, created: at, versions: Vec::new() };
            self.nodes.write(node, None, Some(&row))?;
            return Ok(self.touch(at, node, None)?);
        };
        self.mark_later(node, &chain)?;
        let moved = Row { place, ..row.clone() };
        self.change(node, &row, &moved, at, Undo::of_place(row.place.clone()))
    }

    /// Step "author restricted to folder S": returns the parent that a writer may use.
    fn allowed_parent(&mut self, parent: NodeId, before: Option<&Chain>) -> Result<(NodeId, Chain), Stop> {
        let chain = self.chain(parent)?;
        let Some(scope) = self.entry.scope else { return Ok((parent, chain)) };
        if !self.is_folder(scope)? {
            return Err(Refusal::Scope.into());
        }
        match before {
            Some(before) if !is_below(scope, before) || !is_below(scope, &chain) => {
                Err(Refusal::Scope.into())
            }
            None if !is_below(scope, &chain) => Ok((scope, self.chain(scope)?)),
            _ => Ok((parent, chain)),
        }
    }

    /// Step "parent lies in the trash": returns the parent that is used instead.
    fn lifted_parent(&mut self, parent: NodeId, chain: Chain) -> Result<(NodeId, Chain), Stop> {
        let Some(top) = chain.trashed else { return Ok((parent, chain)) };
        if self.knows_trash_of(top)? {
            return Err(Refusal::Node.into());
        }
        let parent = self.lift(top)?;
        Ok((parent, self.chain(parent)?))
    }

    /// Step "depth, children, nodes within the limits".
    fn check_room(
        &mut self,
        node: NodeId,
        row: Option<&Row>,
        parent: NodeId,
        chain: &Chain,
    ) -> Result<(), Stop> {
        let sums = nodes::folder(self.nodes.rows, parent)?;
        let children = if self.late { sums.peak } else { sums.children() };
        let below = match row {
            Some(row) if row.kind == NodeKind::Folder => nodes::height(self.nodes.rows, node)?,
            _ => 0,
        };
        let depth = chain.folders.len() as u64 + 1 + below;
        let nodes = nodes::counts(self.nodes.rows)?.nodes.saturating_add(u64::from(row.is_none()));
        if children < self.limits.children && depth <= self.limits.depth && nodes <= self.limits.nodes {
            return Ok(());
        }
        // An earlier operation that makes room in this folder would change the answer.
        self.nodes.mark_place(parent, self.entry.order)?;
        Err(if self.late { Stop::Rewind } else { Refusal::Limit.into() })
    }

    fn step_content(&mut self, op: &Content, at: OpOrder) -> Result<(), Stop> {
        let node = op.node;
        self.expect_place_settled(node)?;
        let Some(row) = self.nodes.read(node)?.filter(|row| row.kind == NodeKind::File) else {
            return Err(Refusal::Node.into());
        };
        let chain = self.chain_over(node, &row)?;
        self.expect_in_scope(node, &chain)?;
        let mut after = row.clone();
        let mut undo = Undo::default();
        if let Some(top) = chain.trashed
            && !self.knows_trash_of(top)?
        {
            if row.place.by == Some(row.created) {
                // What comes later may have written into it.
                self.expect_versions_settled(node)?;
            }
            // What was only kept is placed by this; else it was placed before.
            let moved = if row.is_as_kept() { at } else { row.place.moved };
            let parent = self.lift(top)?;
            let chain = self.chain(parent)?;
            self.expect_room_for_lift(parent)?;
            self.mark_later(node, &chain)?;
            self.nodes.mark_place(node, self.entry.order)?;
            undo.place = Some(row.place.clone());
            after.place = Place { parent, from: NodeId::ZERO, by: None, moved, ..row.place.clone() };
        }
        let (vid, file) = (version_id(&at), op.file.clone());
        let added = Version { vid, file, mtime_ms: op.mtime_ms, exec: op.exec, op: at };
        // Last, since it corrects later operations, which nothing would take back on a rewind.
        undo.content = Some(self.replace_versions(node, &mut after, &op.bases, added)?);
        self.change(node, &row, &after, at, undo)
    }

    /// Puts `added` into the versions of `row` in place of `bases`. Operations on the node that come after, if
    /// any, are corrected: they no longer remove what is removed here, and may remove `added`.
    fn replace_versions(
        &mut self,
        node: NodeId,
        row: &mut Row,
        bases: &[VersionId],
        added: Version,
    ) -> Result<Replaced, Stop> {
        let later =
            if self.late { nodes::undos_after(self.nodes.rows, node, &added.op)? } else { Vec::new() };
        let (mut here, mut most) = (row.clone(), row.versions.len());
        for (op, undo) in &later {
            Undo { content: undo.content.clone(), ..Undo::default() }.revert(op, &mut here);
            most = most.max(here.versions.len());
        }
        // What was kept under the id that this one has is not beside it.
        let is_base = |v: &Version| v.vid == added.vid || bases.binary_search(&v.vid).is_ok();
        let (removed, kept): (Vec<_>, Vec<_>) = here.versions.into_iter().partition(is_base);
        let most = if self.late { most } else { kept.len() };
        if most >= self.limits.versions {
            return Err(if self.late { Stop::Rewind } else { Refusal::Limit.into() });
        }
        let is_removed = |v: &Version| removed.iter().any(|r| r.vid == v.vid);
        row.versions.retain(|v| !is_removed(v));
        let mut added = Some(added);
        for (op, mut undo) in later.into_iter().rev() {
            let Some(content) = &mut undo.content else { continue };
            let (gone, rest) = std::mem::take(&mut content.removed).into_iter().partition(is_removed);
            content.removed = rest;
            let gone: Vec<Version> = gone;
            content.absent.extend(gone.iter().map(|v| v.vid));
            if let Some(at) =
                added.as_ref().and_then(|added| content.absent.iter().position(|vid| *vid == added.vid))
            {
                content.absent.remove(at);
                content.removed.extend(added.take());
            }
            self.nodes.rows.put(HISTORY, &key(&[node.as_ref(), &op_key(&op)]), &undo.encode())?;
        }
        row.versions.extend(added);
        row.versions.sort_by_key(|v| v.vid);
        let absent = bases.iter().filter(|vid| removed.iter().all(|v| v.vid != **vid)).copied().collect();
        Ok(Replaced { removed, absent })
    }

    fn step_trash(&mut self, node: NodeId, at: OpOrder) -> Result<(), Stop> {
        if node == NodeId::ROOT || node == NodeId::TRASH {
            return Err(Refusal::Node.into());
        }
        self.expect_place_settled(node)?;
        let Some(row) = self.nodes.read(node)? else { return Err(Refusal::Node.into()) };
        match row.kind {
            NodeKind::File => self.expect_versions_settled(node)?,
            NodeKind::Folder | NodeKind::Mount => self.expect_below_settled(node)?,
        }
        let chain = self.chain_over(node, &row)?;
        self.expect_in_scope(node, &chain)?;
        if chain.trashed.is_some() {
            return Err(Refusal::Node.into());
        }
        if self.is_fresh(&row) {
            return Err(Refusal::Fresh.into());
        }
        let parent = row.place.parent;
        let mut trashed = row.clone();
        trashed.place.from = parent;
        trashed.place.parent = NodeId::TRASH;
        trashed.place.by = Some(at);
        self.nodes.mark_place(node, self.entry.order)?;
        self.change(node, &row, &trashed, at, Undo::of_place(row.place.clone()))?;
        if row.kind == NodeKind::Folder { self.lift_fresh(node, parent, at) } else { Ok(()) }
    }

    /// Lifts every fresh node below `top` to `parent`. Cost: the folders below it, and the children of those that
    /// have sub-folders or may hold something fresh.
    fn lift_fresh(&mut self, top: NodeId, parent: NodeId, at: OpOrder) -> Result<(), Stop> {
        let mut open = vec![top];
        while let Some(folder) = open.pop() {
            let sums = nodes::folder(self.nodes.rows, folder)?;
            let known = sums.writers.iter().all(|(author, seq)| self.knows_entry(author, *seq));
            if known && sums.folders == 0 {
                continue;
            }
            let mut from = None;
            loop {
                let (page, next) = self.nodes.page(folder, from.as_deref())?;
                for child in page {
                    if known {
                        open.extend((child.kind == NodeKind::Folder).then_some(child.node));
                        continue;
                    }
                    let row = self.nodes.read_named(child.node)?;
                    if self.is_fresh(&row) {
                        self.lift_one(child.node, &row, parent, at)?;
                    } else if row.kind == NodeKind::Folder {
                        open.push(child.node);
                    }
                }
                from = next;
                if from.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn lift_one(&mut self, node: NodeId, row: &Row, parent: NodeId, at: OpOrder) -> Result<(), Stop> {
        self.expect_room_for_lift(parent)?;
        let mut lifted = row.clone();
        lifted.place.parent = parent;
        self.nodes.mark_place(node, self.entry.order)?;
        self.change(node, row, &lifted, at, Undo::of_place(row.place.clone()))
    }

    /// A lift is never refused, but one that comes late may take the room of a later create.
    fn expect_room_for_lift(&mut self, parent: NodeId) -> Result<(), Stop> {
        let is_full = self.late && nodes::folder(self.nodes.rows, parent)?.peak >= self.limits.children;
        if is_full { Err(Stop::Rewind) } else { Ok(()) }
    }

    fn step_meta(&mut self, op: &Meta, at: OpOrder) -> Result<(), Stop> {
        let node = op.node;
        if node == NodeId::ROOT {
            if self.entry.scope.is_some_and(|scope| scope != NodeId::ROOT) {
                return Err(Refusal::Scope.into());
            }
        } else {
            let Some(row) = self.nodes.read(node)? else { return Err(Refusal::Node.into()) };
            if row.created > at {
                return Err(Stop::Rewind);
            }
            if self.entry.scope.is_some() {
                self.expect_place_settled(node)?;
                let chain = self.chain_over(node, &row)?;
                self.expect_in_scope(node, &chain)?;
            }
        }
        let hash = self.nodes.rows.keyed(op.key.as_bytes());
        let row = encode_meta(&op.key, &op.value);
        self.nodes.rows.put(META, &key(&[node.as_ref(), &hash, &op_key(&at)]), &row)?;
        Ok(self.touch(at, node, Some(hash))?)
    }

    fn step_keep(&mut self, op: &Keep, at: OpOrder) -> Result<(), Stop> {
        name::check(&op.name)?;
        let node = op.node;
        if node == NodeId::ROOT || node == NodeId::TRASH {
            return Err(Refusal::Node.into());
        }
        if self.entry.scope.is_some() {
            return Err(Refusal::Scope.into());
        }
        let file = op.file.clone();
        let kept = Version { vid: op.vid, file, mtime_ms: op.mtime_ms, exec: op.exec, op: at };
        match self.nodes.read(node)? {
            Some(row) if row.created < at => {
                if row.kind != NodeKind::File {
                    return Err(Refusal::Node.into());
                }
                let undo = Undo { kept: Some(kept), ..Undo::default() };
                self.nodes.rows.put(HISTORY, &key(&[node.as_ref(), &op_key(&at)]), &undo.encode())?;
                Ok(self.touch(at, node, None)?)
            }
            // What comes later may have looked for it, or made it.
            _ if self.late => Err(Stop::Rewind),
            _ => {
                if nodes::counts(self.nodes.rows)?.nodes >= self.limits.nodes {
                    return Err(Refusal::Limit.into());
                }
                let from = if self.is_folder(op.parent)? { op.parent } else { NodeId::ROOT };
                let (name, parent) = (op.name.clone(), NodeId::TRASH);
                let place = Place { parent, name, moved: at, from, by: Some(at) };
                let row = Row { place, kind: NodeKind::File, created: at, versions: vec![kept] };
                self.nodes.write(node, None, Some(&row))?;
                Ok(self.touch(at, node, None)?)
            }
        }
    }

    /// Writes a node over its earlier row and keeps what undoes it.
    fn change(&mut self, node: NodeId, old: &Row, new: &Row, at: OpOrder, undo: Undo) -> Result<(), Stop> {
        self.nodes.rows.put(HISTORY, &key(&[node.as_ref(), &op_key(&at)]), &undo.encode())?;
        self.nodes.write(node, Some(old), Some(new))?;
        Ok(self.touch(at, node, None)?)
    }

    fn touch(&mut self, at: OpOrder, node: NodeId, meta: Option<[u8; 16]>) -> Result<(), RowError> {
        self.touches.push(Touch { index: at.index, node, meta });
        if self.touches.len() >= TOUCHES_PER_PART { self.flush() } else { Ok(()) }
    }

    /// Writes down what was changed since the last time.
    fn flush(&mut self) -> Result<(), RowError> {
        if self.part > 0 && self.touches.is_empty() {
            return Ok(());
        }
        let value = Touch::encode_all(&self.touches);
        self.nodes.rows.put(ORDER, &order_key(&self.entry.order, self.part), &value)?;
        self.touches.clear();
        self.part += 1;
        Ok(())
    }

    fn is_folder(&mut self, node: NodeId) -> Result<bool, Stop> {
        if node == NodeId::ROOT {
            return Ok(true);
        }
        if self.nodes.link(node)?.is_some_and(|link| link.kind == NodeKind::Folder) {
            return Ok(true);
        }
        // If it is created by an earlier operation, this one may find it.
        self.nodes.mark_below(node, self.entry.order)?;
        Ok(false)
    }

    /// Follows the parents from the folder `first` up, makes sure that none of them came or left its parent later, and
    /// leaves a mark on each.
    fn chain(&mut self, first: NodeId) -> Result<Chain, Stop> {
        let (folders, in_trash) = self.nodes.ancestry(first)?;
        if self.late {
            folders.iter().try_for_each(|folder| self.expect_parent_settled(*folder))?;
            if !in_trash {
                self.expect_place_settled(NodeId::ROOT)?;
            }
        }
        self.mark_chain(&folders, self.entry.order)?;
        Ok(Chain { trashed: if in_trash { folders.last().copied() } else { None }, folders })
    }

    /// Follows the parents of a node; one that lies directly in the trash is its own topmost node.
    fn chain_over(&mut self, node: NodeId, row: &Row) -> Result<Chain, Stop> {
        if row.place.parent == NodeId::TRASH {
            return Ok(Chain { folders: Vec::new(), trashed: Some(node) });
        }
        self.chain(row.place.parent)
    }

    fn mark_chain(&mut self, folders: &[NodeId], entry: EntryOrder) -> Result<(), RowError> {
        for folder in folders {
            if entry != self.entry.order || self.marked.insert(*folder) {
                self.nodes.mark_below(*folder, entry)?;
            }
        }
        Ok(())
    }

    /// A node that is placed late carries its later operations with it: they now lie below its new parents.
    fn mark_later(&mut self, node: NodeId, chain: &Chain) -> Result<(), RowError> {
        if self.late
            && let Some(last) = nodes::last_undo(self.nodes.rows, node)?
            && last.entry > self.entry.order
        {
            self.mark_chain(&chain.folders, last.entry)?;
        }
        Ok(())
    }

    /// `lift(T)`: where what is lifted out of the trashed node `top` goes.
    fn lift(&mut self, top: NodeId) -> Result<NodeId, Stop> {
        let mut seen = vec![top];
        let mut parent = self.nodes.read_named(top)?.place.from;
        while let Some(next) = self.chain(parent)?.trashed {
            if seen.contains(&next) {
                return Ok(NodeId::ROOT);
            }
            seen.push(next);
            parent = self.nodes.read_named(next)?.place.from;
        }
        Ok(parent)
    }

    fn expect_in_scope(&mut self, node: NodeId, chain: &Chain) -> Result<(), Stop> {
        let Some(scope) = self.entry.scope else { return Ok(()) };
        // The answer hangs on where the node is.
        self.nodes.mark_place(node, self.entry.order)?;
        if self.is_folder(scope)? && is_below(scope, chain) { Ok(()) } else { Err(Refusal::Scope.into()) }
    }

    fn expect_place_settled(&mut self, node: NodeId) -> Result<(), Stop> {
        if !self.late {
            return Ok(());
        }
        let placed = if node == NodeId::ROOT { None } else { self.nodes.link(node)?.map(|link| link.placed) };
        let last = placed.max(self.nodes.marks(node)?.place);
        if last > Some(self.entry.order) { Err(Stop::Rewind) } else { Ok(()) }
    }

    /// The same for a folder on the way up: a later new name leaves it where it is.
    fn expect_parent_settled(&mut self, folder: NodeId) -> Result<(), Stop> {
        let entry = self.entry.order;
        if self.nodes.marks(folder)?.place > Some(entry) {
            return Err(Stop::Rewind);
        }
        match self.nodes.link(folder)? {
            Some(link) if link.placed > entry && !nodes::only_renamed(self.nodes.rows, folder, &entry)? => {
                Err(Stop::Rewind)
            }
            _ => Ok(()),
        }
    }

    fn expect_below_settled(&mut self, node: NodeId) -> Result<(), Stop> {
        if self.late && self.nodes.marks(node)?.below > Some(self.entry.order) {
            return Err(Stop::Rewind);
        }
        Ok(())
    }

    fn expect_versions_settled(&mut self, node: NodeId) -> Result<(), Stop> {
        let last = if self.late { nodes::last_undo(self.nodes.rows, node)? } else { None };
        if last.is_some_and(|op| op.entry > self.entry.order) { Err(Stop::Rewind) } else { Ok(()) }
    }

    fn is_fresh(&self, row: &Row) -> bool {
        !self.knows(&row.place.moved) || row.versions.iter().any(|v| !self.knows(&v.op) && !v.is_kept())
    }

    fn knows_trash_of(&self, top: NodeId) -> Result<bool, RowError> {
        let by = self.nodes.read_named(top)?.place.by.ok_or(RowError::Corrupt(Refusal::Node))?;
        Ok(self.knows(&by))
    }

    /// Whether an operation that is already applied lies in the past of this entry, or in the entry itself.
    fn knows(&self, op: &OpOrder) -> bool {
        self.knows_entry(&op.entry.author, op.entry.seq)
    }

    fn knows_entry(&self, author: &VerifyingKey, seq: u64) -> bool {
        (*author == self.entry.order.author && seq == self.entry.order.seq)
            || self.entry.past.knows(author, seq)
    }
}

/// Whether what has these parents is strictly below `scope`; of a parent's own chain: whether it is `scope` or below.
fn is_below(scope: NodeId, chain: &Chain) -> bool {
    if scope == NodeId::ROOT { chain.trashed.is_none() } else { chain.folders.contains(&scope) }
}
