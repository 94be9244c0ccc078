//! Folding: what two devices took in apart becomes one again (`docs/spec/05-tree.md`, "Folding").
//!
//! This file plans; whoever has the right to write signs what it plans. A plan is a function of the tree: made again
//! after a part of it took effect, here or on another device, it goes on where that part ended.
//!
//! **Where to look.** A pair can only come to be where a child joins others of its collision key, or gets another
//! content; the index of children notes these groups ([`super::children`]). [`fold`] looks at what is noted and
//! nothing else, and names the groups in which it found nothing, to be taken off the list by [`settle`].
//!
//! **The same target on every device.** Folders that are to become one are a *union*, and what is in them is looked at
//! together, from the top down: so the folder into which all of one path goes is the first one made of that path,
//! however far another device has come. A target that a later step emptied in turn would, with two devices at it, let
//! things fall out of the folder in which it was trashed.

use std::collections::{HashMap, HashSet};

use locker_crypto::id::NodeId;

use super::children::{self, Made};
use super::limits::WRITER;
use super::nodes;
use super::row::{TWINS, intact};
use super::{Counted, Newest};
use crate::operation::{Move, NodeKind, Op, Trash};
use crate::order::{EntryOrder, OpOrder, Past};
use crate::rows::{ReadRows, RowError, WriteRows};

/// Children read at a time while a folder is emptied; few in tests, so that these turn pages too.
const PAGE: usize = if cfg!(test) { 3 } else { 128 };
/// Members of one group that are compared with one another; later ones are left as they are.
const GROUP_MAX: usize = 1_024;
/// Groups taken off the list in one step.
const SETTLED_MAX: usize = 4_096;
/// Pasts of entries that are remembered.
const PASTS_MAX: usize = 256;

/// How much one step may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most operations.
    pub ops: usize,
    /// Most groups for which there are operations.
    pub groups: usize,
}

/// One step of folding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    /// What is to be written, in this order; nothing if nothing is to be folded.
    pub ops: Vec<Op>,
    /// Groups in which nothing is to be folded: for [`settle`].
    pub settled: Vec<Vec<u8>>,
    /// Groups for which there are operations.
    pub folded: Vec<Vec<u8>>,
    /// Whether not all that is noted was looked at: after this step another one is to follow.
    pub is_part: bool,
}

impl Fold {
    /// Whether there is nothing to do, now and until the tree changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.settled.is_empty()
    }
}

/// Whether any group is noted at all. Cost: one look.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn has_twins(rows: &dyn ReadRows) -> Result<bool, RowError> {
    let mut any = false;
    rows.scan(TWINS, &[], None, &mut |_, _| {
        any = true;
        std::ops::ControlFlow::Break(())
    })?;
    Ok(any)
}

/// Plans one step. Its operations are valid on this tree in this order, under the limits of a writer.
///
/// Cost: grows with what is noted and with the operations that are planned; not with the tree.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn fold(rows: &dyn ReadRows, counted: &dyn Counted, bounds: Bounds) -> Result<Fold, RowError> {
    let mut noted = Vec::new();
    rows.scan(TWINS, &[], None, &mut |key, _| {
        noted.push(key.to_vec());
        std::ops::ControlFlow::Continue(())
    })?;
    let mut plan = Plan::new(rows, counted, bounds.ops);
    let mut fold = Fold::default();
    for group in noted {
        let is_full = plan.ops.len() >= bounds.ops || fold.folded.len() >= bounds.groups;
        if is_full || fold.settled.len() >= SETTLED_MAX {
            fold.is_part = true;
            break;
        }
        match plan.group(&group)? {
            Seen::Work => fold.folded.push(group),
            Seen::Nothing => fold.settled.push(group),
            Seen::Waits => {}
        }
    }
    fold.ops = plan.ops;
    Ok(fold)
}

/// Takes groups off the list. They are noted again when anything joins them.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn settle(rows: &mut dyn WriteRows, groups: &[Vec<u8>]) -> Result<(), RowError> {
    groups.iter().try_for_each(|group| rows.delete(TWINS, group))
}

/// What is in a group.
enum Seen {
    /// Something was planned.
    Work,
    /// Nothing to fold.
    Nothing,
    /// Nothing that can be done now: the folder lies in the trash, is to be folded itself, or a file has no content yet.
    Waits,
}

/// How a folder stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It and all above it are single.
    Single,
    /// It or one above it is of a union: what is in it is folded with that.
    Joined,
    /// It lies in the trash.
    Trashed,
    /// There is no such folder.
    Gone,
}

struct Plan<'a> {
    rows: &'a dyn ReadRows,
    counted: &'a dyn Counted,
    ops: Vec<Op>,
    ops_max: usize,
    /// Nodes that an operation of this plan is about.
    touched: HashSet<NodeId>,
    /// Unions that were worked on, by their first folder, and whether to the end.
    worked: HashMap<NodeId, bool>,
    /// How many children a folder gets by this plan.
    grown: HashMap<NodeId, u64>,
    standings: HashMap<NodeId, Standing>,
    pasts: HashMap<EntryOrder, Option<Past>>,
}

impl<'a> Plan<'a> {
    fn new(rows: &'a dyn ReadRows, counted: &'a dyn Counted, ops_max: usize) -> Self {
        Self {
            rows,
            counted,
            ops: Vec::new(),
            ops_max,
            touched: HashSet::new(),
            worked: HashMap::new(),
            grown: HashMap::new(),
            standings: HashMap::new(),
            pasts: HashMap::new(),
        }
    }

    fn group(&mut self, group: &[u8]) -> Result<Seen, RowError> {
        let folder = intact(NodeId::from_slice(group.get(..NodeId::LEN).unwrap_or_default()))?;
        match self.standing(folder)? {
            Standing::Single => {}
            Standing::Joined | Standing::Trashed => return Ok(Seen::Waits),
            Standing::Gone => return Ok(Seen::Nothing),
        }
        let (members, _) = children::made(self.rows, group, None, GROUP_MAX)?;
        let before = self.ops.len();
        let waits = self.drop_doubles(&members)?;
        for union in self.unions(members)?.into_iter().filter(|union| union.len() > 1) {
            self.fold_union(&union)?;
        }
        Ok(match (self.ops.len() > before, waits) {
            (true, _) => Seen::Work,
            (false, true) => Seen::Waits,
            (false, false) => Seen::Nothing,
        })
    }

    /// Says how a folder stands, by all that is above it.
    fn standing(&mut self, folder: NodeId) -> Result<Standing, RowError> {
        let (mut chain, mut at) = (Vec::new(), folder);
        let mut standing = loop {
            if at == NodeId::ROOT {
                break Standing::Single;
            }
            if let Some(known) = self.standings.get(&at) {
                break *known;
            }
            let Some(row) = nodes::read(self.rows, at)? else { break Standing::Gone };
            if row.place.by.is_some() {
                self.standings.insert(at, Standing::Trashed);
                break Standing::Trashed;
            }
            let parent = row.place.parent;
            chain.push((at, row));
            if chain.len() > nodes::CHAIN_MAX {
                return Err(RowError::Corrupt(locker_crypto::Refusal::Cycle));
            }
            at = parent;
        };
        while let Some((node, row)) = chain.pop() {
            if standing == Standing::Single {
                let group = children::group_key(self.rows, row.place.parent, &row.place.name);
                let (members, _) = children::made(self.rows, &group, None, GROUP_MAX)?;
                let unions = self.unions(members)?;
                if unions.iter().any(|union| union.len() > 1 && union.contains(&node)) {
                    standing = Standing::Joined;
                }
            }
            self.standings.insert(node, standing);
        }
        Ok(standing)
    }

    /// Joins folders, in the order of their creation: each to the first single one that its author did not know.
    fn unions(&mut self, mut members: Vec<Made>) -> Result<Vec<Vec<NodeId>>, RowError> {
        members.retain(|(_, child)| child.kind == NodeKind::Folder);
        members.sort_by_key(|(created, _)| *created);
        let mut unions: Vec<(OpOrder, Vec<NodeId>)> = Vec::new();
        for (created, child) in members {
            let mut place = None;
            for (at, (first, _)) in unions.iter().enumerate() {
                if self.is_apart(first, &created)? {
                    place = Some(at);
                    break;
                }
            }
            match place {
                Some(at) => unions[at].1.push(child.node),
                None => unions.push((created, vec![child.node])),
            }
        }
        Ok(unions.into_iter().map(|(_, union)| union).collect())
    }

    /// Trashes files that are the same as one made before. Says whether a file has no content to compare yet.
    fn drop_doubles(&mut self, members: &[Made]) -> Result<bool, RowError> {
        let (mut kept, mut waits): (Vec<&Made>, bool) = (Vec::new(), false);
        for member in members.iter().filter(|(_, child)| child.kind == NodeKind::File) {
            let mut is_double = false;
            for first in &kept {
                let is_empty = first.1.versions == 0 || member.1.versions == 0;
                if (is_empty || is_same(first, member)) && self.is_apart(&first.0, &member.0)? {
                    waits |= is_empty;
                    is_double = !is_empty;
                }
                if is_double {
                    break;
                }
            }
            if !is_double {
                kept.push(member);
            } else if self.ops.len() < self.ops_max {
                self.trash(member.1.node);
            }
        }
        Ok(waits)
    }

    /// Empties the later folders of a union into the first one. Says whether it came to the end.
    fn fold_union(&mut self, union: &[NodeId]) -> Result<bool, RowError> {
        let Some((first, later)) = union.split_first() else { return Ok(true) };
        if let Some(is_whole) = self.worked.get(first) {
            return Ok(*is_whole);
        }
        let mut is_whole = true;
        for folder in later {
            let is_done = self.empty(*folder, *first, union)? && self.has_room();
            if is_done {
                self.trash(*folder);
            }
            is_whole &= is_done;
        }
        self.worked.insert(*first, is_whole);
        Ok(is_whole)
    }

    /// Moves all that is in a later folder of a union into the first one. Says whether it is empty then.
    fn empty(&mut self, folder: NodeId, first: NodeId, union: &[NodeId]) -> Result<bool, RowError> {
        let (mut from, mut is_empty) = (None, true);
        loop {
            let (page, next) = children::made(self.rows, folder.as_ref(), from.as_deref(), PAGE)?;
            for member in page {
                if !self.has_room() {
                    return Ok(false);
                }
                is_empty &= self.child(&member, first, union)?;
            }
            from = next;
            if from.is_none() {
                return Ok(is_empty);
            }
        }
    }

    /// Moves one child, or trashes it if it is a double. Says whether it has left its folder then.
    fn child(&mut self, member: &Made, first: NodeId, union: &[NodeId]) -> Result<bool, RowError> {
        let child = &member.1;
        if self.touched.contains(&child.node) {
            // By a union that reaches into several of these folders: it was trashed there.
            return Ok(true);
        }
        match child.kind {
            NodeKind::File if self.is_double(member, union)? => {
                self.trash(child.node);
                return Ok(true);
            }
            NodeKind::Folder => {
                let below = self.union_of(child, union)?;
                if below.len() > 1 {
                    let is_whole = self.fold_union(&below)?;
                    if below.first() != Some(&child.node) {
                        return Ok(is_whole);
                    }
                    if !self.has_room() {
                        return Ok(false);
                    }
                }
            }
            NodeKind::File | NodeKind::Mount => {}
        }
        let grown = self.grown.entry(first).or_default();
        if nodes::folder(self.rows, first)?.children().saturating_add(*grown) >= WRITER.children {
            return Ok(false);
        }
        *grown += 1;
        self.touched.insert(child.node);
        let (node, name, kind) = (child.node, child.name.clone(), child.kind.code());
        self.ops.push(Op::Move(Move { node, parent: first, name, kind }));
        Ok(true)
    }

    /// The folders of a union's children that are to become one with this child, which is among them.
    fn union_of(&mut self, child: &super::row::Child, union: &[NodeId]) -> Result<Vec<NodeId>, RowError> {
        let members = self.of_name(&child.name, union)?;
        let unions = self.unions(members)?;
        Ok(unions.into_iter().find(|union| union.contains(&child.node)).unwrap_or_default())
    }

    /// Whether a file is the same as one of its name in the union that was made before.
    fn is_double(&mut self, member: &Made, union: &[NodeId]) -> Result<bool, RowError> {
        let mut members = self.of_name(&member.1.name, union)?;
        members.retain(|(created, child)| child.kind == NodeKind::File && *created <= member.0);
        members.sort_by_key(|(created, _)| *created);
        let mut kept: Vec<Made> = Vec::new();
        for other in members {
            let mut is_double = false;
            for first in &kept {
                is_double |= is_same(first, &other) && self.is_apart(&first.0, &other.0)?;
            }
            if other.1.node == member.1.node {
                return Ok(is_double);
            }
            if !is_double {
                kept.push(other);
            }
        }
        Ok(false)
    }

    /// The children of a union with one collision key.
    fn of_name(&self, name: &str, union: &[NodeId]) -> Result<Vec<Made>, RowError> {
        let mut members = Vec::new();
        for folder in union {
            let group = children::group_key(self.rows, *folder, name);
            members.extend(children::made(self.rows, &group, None, GROUP_MAX)?.0);
        }
        Ok(members)
    }

    /// Whether neither author knew what the other one made.
    fn is_apart(&mut self, one: &OpOrder, other: &OpOrder) -> Result<bool, RowError> {
        let (earlier, later) = (one.min(other), one.max(other));
        if earlier.entry.author == later.entry.author {
            return Ok(false);
        }
        if !self.pasts.contains_key(&later.entry) {
            if self.pasts.len() >= PASTS_MAX {
                self.pasts.clear();
            }
            self.pasts.insert(later.entry, self.counted.past(self.rows, &later.entry)?);
        }
        // What does not count any more is about to be replayed: nothing is folded by it.
        let past = self.pasts.get(&later.entry).and_then(Option::as_ref);
        Ok(past.is_some_and(|past| !past.knows(&earlier.entry.author, earlier.entry.seq)))
    }

    fn trash(&mut self, node: NodeId) {
        if self.touched.insert(node) {
            self.ops.push(Op::Trash(Trash { node }));
        }
    }

    fn has_room(&self) -> bool {
        self.ops.len() < self.ops_max
    }
}

/// Whether two files have one and the same content each, and both the same.
fn is_same((_, one): &Made, (_, other): &Made) -> bool {
    let content = |newest: &Option<Newest>| newest.map(|newest| (newest.size, newest.hash));
    one.versions == 1 && other.versions == 1 && content(&one.newest) == content(&other.newest)
}
