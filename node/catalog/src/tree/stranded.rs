//! Writing again what counts and has no effect, since it stood on what does not count: a file in a folder, a content of
//! a file, that a device made which was ended where that was not known yet (`docs/spec/04-spaces.md`, "Stranded").
//!
//! This file plans. Nothing is noted of what was written again: a content names the stranded one among those that it
//! replaces, a node that is there was placed by a later move, and what is past is told by what it consists of. In doubt a
//! thing is kept, but what somebody replaced or deleted who had seen it does not come back: it is in the history, or in
//! the trash.

mod deleted;
mod keep;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use locker_crypto::id::{NodeId, VerifyingKey, VersionId};

use super::again::Written;
use super::draft::{Draft, each_below, last_meta, recovered_name};
use super::history::Contents;
use super::nodes;
use super::row::{Row, Version};
use crate::name;
use crate::operation::{Content, Meta, Move, NodeKind, Op, version_id};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError};

/// Missing folders on the way up from a node that are made again.
const MISSING_MAX: usize = 256;

/// Files of which it is remembered what contents they had.
const READ_MAX: usize = 16;

/// Operations without effect, and who knew which.
pub trait Stranded {
    /// Those of the devices of one person, for want of the node or folder that they name, in total order.
    fn ops(&self) -> &[(OpOrder, Op)];

    /// Moves and contents of authors who were ended before them, in total order.
    fn refused(&self) -> &[(OpOrder, Op)];

    /// Whether a device is one of that person.
    fn is_ours(&self, device: &VerifyingKey) -> bool;

    /// Whether the author of `entry` knew another entry, or wrote it; of one entry that is so.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    fn knew(&self, entry: &EntryOrder, other: &EntryOrder) -> Result<bool, RowError>;
}

/// Which stranded operations are to be written again.
pub struct Turn<'a> {
    /// Those of whom it is the turn.
    pub is_due: &'a dyn Fn(&OpOrder) -> bool,
    /// Those that were tried, and are left as they are.
    pub is_left: &'a dyn Fn(&OpOrder) -> bool,
    /// Those that were kept once (a `keep` was written for them), which are not kept again.
    pub is_kept: &'a dyn Fn(&OpOrder) -> bool,
    /// About how many operations are planned at most.
    pub most: usize,
    /// The clock from which on what was replaced or deleted is kept.
    pub since: u64,
}

impl Turn<'_> {
    fn takes(&self, at: &OpOrder) -> bool {
        (self.is_due)(at) && !(self.is_left)(at)
    }
}

/// A move and what wrote it.
type Placed<'a> = (OpOrder, &'a Move);

/// Operations by the node that they are about, in total order.
type ByNode<'a, T> = HashMap<NodeId, Vec<(OpOrder, &'a T)>>;

/// Plans what gives stranded operations their effect, each with what is to be written for it, in this order. What is to
/// be written for one may rest on what is written for those before it. Nothing if all of them have it, or want none any
/// more. What is found is named by what stands for it: the stranded operation, for a file without content the one that
/// wrote what it gets, for one in the trash its version.
///
/// Cost: one look for each operation without effect; of a trashed folder that an ended device had brought back, what is
/// in it.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn rescue(
    rows: &dyn ReadRows,
    stranded: &dyn Stranded,
    turn: &Turn<'_>,
) -> Result<Vec<(OpOrder, Vec<Op>)>, RowError> {
    let mut plan = Plan::new(rows, stranded, turn);
    for (at, op) in stranded.ops().iter().filter(|(at, _)| turn.takes(at)) {
        match op {
            Op::Move(op) => plan.place(at, op)?,
            Op::Content(op) => plan.write(at, op)?,
            Op::Meta(op) => plan.meta(at, op)?,
            _ => {}
        }
        if !plan.take(*at) {
            return Ok(plan.found);
        }
    }
    let mut refused: BTreeMap<NodeId, OfNode<'_>> = BTreeMap::new();
    for (at, op) in stranded.refused() {
        match op {
            Op::Move(op) => refused.entry(op.node).or_default().ops.push(*at),
            Op::Content(op) => {
                let of_node = refused.entry(op.node).or_default();
                of_node.ops.push(*at);
                of_node.contents.push((*at, op));
            }
            _ => {}
        }
    }
    for (node, OfNode { ops, contents }) in refused {
        if !plan.fill(node, &contents)? || !plan.take_out(node, &ops)? {
            return Ok(plan.found);
        }
    }
    plan.keep()?;
    Ok(plan.found)
}

/// What ended authors did on a node.
#[derive(Default)]
struct OfNode<'a> {
    ops: Vec<OpOrder>,
    /// Those of them that are contents.
    contents: Vec<(OpOrder, &'a Content)>,
}

struct Plan<'a> {
    rows: &'a dyn ReadRows,
    stranded: &'a dyn Stranded,
    turn: &'a Turn<'a>,
    draft: Draft<'a>,
    /// Operations of the draft that are told already.
    told: usize,
    found: Vec<(OpOrder, Vec<Op>)>,
    /// Stranded moves.
    moves: ByNode<'a, Move>,
    /// Moves of authors who were ended.
    ground: ByNode<'a, Move>,
    /// What was put into the trash and was not there, by whom.
    trashed: HashMap<NodeId, Vec<OpOrder>>,
    /// Contents without effect.
    contents: HashMap<(NodeId, VersionId), &'a Content>,
    /// Versions that stranded contents replaced, by whom.
    replaced: HashMap<(NodeId, VersionId), Vec<OpOrder>>,
    /// Versions that contents of ended authors replaced, by whom.
    refused: HashMap<(NodeId, VersionId), Vec<OpOrder>>,
    /// The last stranded value of each meta item.
    metas: HashMap<(NodeId, &'a str), OpOrder>,
    /// Files whose contents were read.
    read: RefCell<HashMap<NodeId, Rc<Contents>>>,
    /// Stranded contents that files get by this plan.
    written: HashMap<NodeId, HashSet<VersionId>>,
}

impl<'a> Plan<'a> {
    fn new(rows: &'a dyn ReadRows, stranded: &'a dyn Stranded, turn: &'a Turn<'a>) -> Self {
        let mut plan = Self {
            rows,
            stranded,
            turn,
            draft: Draft::new(rows),
            told: 0,
            found: Vec::new(),
            moves: HashMap::new(),
            ground: HashMap::new(),
            trashed: HashMap::new(),
            contents: HashMap::new(),
            replaced: HashMap::new(),
            refused: HashMap::new(),
            metas: HashMap::new(),
            read: RefCell::default(),
            written: HashMap::new(),
        };
        // What replay refuses whatever it stands on was nobody's to see.
        let fits = |op: &Move| {
            let is_named = name::check(&op.name).is_ok() && NodeKind::from_code(op.kind).is_ok();
            is_named && is_node(op.node) && op.parent != NodeId::TRASH
        };
        for (at, op) in stranded.refused() {
            match op {
                Op::Move(op) if fits(op) => plan.ground.entry(op.node).or_default().push((*at, op)),
                Op::Content(op) => {
                    plan.contents.insert((op.node, version_id(at)), op);
                    for vid in &op.bases {
                        plan.refused.entry((op.node, *vid)).or_default().push(*at);
                    }
                }
                _ => {}
            }
        }
        for (at, op) in stranded.ops() {
            match op {
                Op::Move(op) if fits(op) => plan.moves.entry(op.node).or_default().push((*at, op)),
                Op::Trash(op) => plan.trashed.entry(op.node).or_default().push(*at),
                Op::Content(op) => {
                    plan.contents.insert((op.node, version_id(at)), op);
                    for vid in &op.bases {
                        plan.replaced.entry((op.node, *vid)).or_default().push(*at);
                    }
                }
                Op::Meta(op) => _ = plan.metas.insert((op.node, &op.key), *at),
                _ => {}
            }
        }
        plan
    }

    /// Notes what the draft has got for an operation. Says whether there is room for more.
    fn take(&mut self, at: OpOrder) -> bool {
        let ops = self.draft.ops[self.told..].to_vec();
        self.told = self.draft.ops.len();
        if !ops.is_empty() {
            self.found.push((at, ops));
        }
        self.told < self.turn.most
    }

    fn place(&mut self, at: &OpOrder, op: &Move) -> Result<(), RowError> {
        // Of several the last one stands, whoever wrote it: what is written for one is later than all.
        if self.last_stranded(op.node).is_none_or(|(last, _)| last != *at) {
            return Ok(());
        }
        let Ok(kind) = NodeKind::from_code(op.kind) else { return Ok(()) };
        if let Some(row) = nodes::read(self.rows, op.node)? {
            let is_gone = match row.place.by {
                Some(by) => self.stranded.knew(&by.entry, &at.entry)?,
                None => false,
            };
            // What was kept in the trash is where nobody wanted it.
            let is_placed = !row.is_as_kept() && (row.place.moved >= *at || is_gone);
            if row.kind != kind || is_placed {
                return Ok(());
            }
        }
        if self.deleted_by(at, op.node, op.parent)?.is_some() {
            return Ok(());
        }
        let parent = self.folder_for(at, op.parent, op.node)?;
        self.draft.place(kind, Move { parent, ..op.clone() })
    }

    fn write(&mut self, at: &OpOrder, op: &Content) -> Result<(), RowError> {
        let vid = version_id(at);
        let others = self.replaced.get(&(op.node, vid)).map_or(&[][..], Vec::as_slice);
        if !is_node(op.node) || self.is_known_to_any(others, at)? {
            return Ok(());
        }
        let row = nodes::read(self.rows, op.node)?;
        let bases = self.bases_of(op, row.as_ref())?;
        match row.filter(|row| !row.is_as_kept()) {
            Some(row) => {
                let contents = self.contents_of(op.node, &row)?;
                let is_done =
                    contents.replaced_by.contains_key(&vid) || contents.was_live(&vid, &Written::of(op));
                if row.kind != NodeKind::File || is_done {
                    return Ok(());
                }
                // Whoever trashed it may have seen a name without this content: it is to be had from there.
                if let Some((top, by)) = self.draft.trashed_above(op.node)?
                    && !self.stranded.knew(&by.entry, &at.entry)?
                    && self.trashed_by(at, op.node)?.is_none()
                {
                    self.bring_out(op.node, &row, top)?;
                }
            }
            None => match self.draft.made(op.node) {
                Some(NodeKind::File) => {}
                Some(_) => return Ok(()),
                None => {
                    if !self.make(at, op.node)? {
                        return Ok(());
                    }
                }
            },
        }
        self.written.entry(op.node).or_default().insert(vid);
        self.push_content(at, Content { bases, ..op.clone() });
        Ok(())
    }

    /// What a content replaces: what it names, and of the versions that are there those that are, or were written again for,
    /// what it replaces in its turn.
    fn bases_of(&self, op: &Content, row: Option<&Row>) -> Result<Vec<VersionId>, RowError> {
        let mut bases = op.bases.clone();
        let Some(row) = row.filter(|row| !row.versions.is_empty()) else { return Ok(bases) };
        let (mut before, mut open): (HashSet<VersionId>, _) = (HashSet::new(), op.bases.clone());
        while let Some(vid) = open.pop() {
            if before.insert(vid)
                && let Some(content) = self.contents.get(&(op.node, vid))
            {
                open.extend(&content.bases);
            }
        }
        let contents = self.contents_of(op.node, row)?;
        let is_before = |version: &&Version| {
            let again = self.written_again(op.node, version, &contents);
            before.contains(&version.vid) || again.is_some_and(|vid| before.contains(&vid))
        };
        bases.extend(row.versions.iter().filter(is_before).map(|version| version.vid));
        Ok(bases)
    }

    /// Writes a content, in the place of the one that has no effect too.
    fn push_content(&mut self, at: &OpOrder, mut op: Content) {
        op.bases.push(version_id(at));
        op.bases.sort_unstable();
        op.bases.dedup();
        self.draft.ops.push(Op::Content(op));
    }

    /// Makes a file where it was for whoever wrote into it. Says whether it is one that nobody deleted.
    fn make(&mut self, at: &OpOrder, node: NodeId) -> Result<bool, RowError> {
        let kind = NodeKind::File;
        let last = self.last_place(at, node, kind)?;
        if self.deleted_by(at, node, last.map_or(NodeId::ROOT, |(_, last)| last.parent))?.is_some() {
            return Ok(false);
        }
        let (parent, name) = match last {
            Some((_, last)) => (self.folder_for(at, last.parent, node)?, last.name.clone()),
            None => (NodeId::ROOT, recovered_name(at)),
        };
        self.draft.place(kind, Move { node, parent, name, kind: kind.code() })?;
        Ok(true)
    }

    fn meta(&mut self, at: &OpOrder, op: &Meta) -> Result<(), RowError> {
        if self.metas.get(&(op.node, op.key.as_str())) != Some(at) {
            return Ok(());
        }
        let stands = match last_meta(self.rows, op.node, &op.key)? {
            Some((last, value)) => value == op.value || last > *at,
            None => op.value.is_empty(),
        };
        if !stands && self.draft.has(op.node)? {
            self.draft.ops.push(Op::Meta(op.clone()));
        }
        Ok(())
    }

    /// Gives a file the contents that it had for whoever moved it, if it has none. Says whether there is room for more.
    fn fill(&mut self, node: NodeId, contents: &[(OpOrder, &Content)]) -> Result<bool, RowError> {
        let Some(row) = nodes::read(self.rows, node)? else { return Ok(true) };
        let is_bare = row.kind == NodeKind::File && row.versions.is_empty();
        if !is_bare || self.written.contains_key(&node) || self.draft.trashed_above(node)?.is_some() {
            return Ok(true);
        }
        // What was written again for another one says nothing of what that one had seen.
        let moved =
            self.moves.get(&node).and_then(|moves| moves.last()).map_or(row.place.moved, |last| last.0);
        if !(self.turn.is_due)(&moved) || !self.stranded.is_ours(&moved.entry.author) {
            return Ok(true);
        }
        let mut first = None;
        for (at, op) in contents {
            let version = (node, version_id(at));
            let others = self.refused.get(&version).map_or(&[][..], Vec::as_slice);
            let is_over = self.replaced.contains_key(&version) || self.knew_any(&moved.entry, others)?;
            if !is_over && !(self.turn.is_left)(at) && self.stranded.knew(&moved.entry, &at.entry)? {
                self.push_content(at, (*op).clone());
                first.get_or_insert(*at);
            }
        }
        Ok(first.is_none_or(|first| self.take(first)))
    }

    /// Takes files out of the trash for whoever wrote into them: for him they were not there, since operations that have
    /// no effect had brought them back. Says whether there is room for more.
    fn take_out(&mut self, node: NodeId, back: &[OpOrder]) -> Result<bool, RowError> {
        let Some(row) = nodes::read(self.rows, node)? else { return Ok(true) };
        let Some((top, by)) = self.draft.trashed_above(node)? else { return Ok(true) };
        // Who trashed it and knew of that wanted it gone all the same.
        let mut unknown = Vec::new();
        for at in back {
            if !self.stranded.knew(&by.entry, &at.entry)? {
                unknown.push(*at);
            }
        }
        if unknown.is_empty() {
            return Ok(true);
        }
        let mut found = Vec::new();
        each_below(self.rows, node, row, &mut |file, row| {
            for version in &row.versions {
                if self.is_brought_back(top, file, row, version, by, &unknown)? {
                    found.push((file, row.clone(), version.op));
                    break;
                }
            }
            let is_full = self.told + found.len() >= self.turn.most;
            Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        for (file, row, op) in found {
            self.bring_out(file, &row, top)?;
            if !self.take(op) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a file out of the trash, in which it lies under `top`: to where the last stranded move wants it, or where it
    /// was.
    fn bring_out(&mut self, file: NodeId, row: &Row, top: NodeId) -> Result<(), RowError> {
        if self.draft.trashed_above(file)?.is_none() {
            return Ok(());
        }
        if let Some((at, op)) = self.last_stranded(file)
            && at > row.place.moved
            && op.kind == row.kind.code()
            && self.deleted_by(&at, file, op.parent)?.is_none()
        {
            let parent = self.folder_for(&at, op.parent, file)?;
            return self.draft.place(row.kind, Move { parent, ..op.clone() });
        }
        self.draft.take_out(file, row, top)
    }

    /// Whether a version of a file in the trash was written by one of the person's devices who knew that it had been put
    /// there, and that it was brought back.
    fn is_brought_back(
        &self,
        top: NodeId,
        file: NodeId,
        row: &Row,
        version: &Version,
        by: OpOrder,
        back: &[OpOrder],
    ) -> Result<bool, RowError> {
        let op = version.op;
        let is_ours = op > by && self.stranded.is_ours(&op.entry.author) && self.turn.takes(&op);
        if !is_ours || !self.stranded.knew(&op.entry, &by.entry)? || !self.knew_any(&op.entry, back)? {
            return Ok(false);
        }
        // What was written again says nothing of what its author had seen.
        if self.written_again(file, version, &*self.contents_of(file, row)?).is_some() {
            return Ok(false);
        }
        let mut at = file;
        for _ in 0..MISSING_MAX {
            if self.trashed_by(&op, at)?.is_some() {
                return Ok(false);
            }
            match nodes::read(self.rows, at)? {
                Some(row) if at != top => at = row.place.parent,
                _ => break,
            }
        }
        Ok(true)
    }

    /// The version without effect that was written again as this one.
    fn written_again(&self, node: NodeId, version: &Version, contents: &Contents) -> Option<VersionId> {
        let is_same = |vid: &&VersionId| {
            self.contents.get(&(node, **vid)).is_some_and(|op| Written::of(op).is_in(version))
        };
        contents.absent.get(&version.op)?.iter().find(is_same).copied()
    }

    /// The contents of a file, read once as long as few other ones are asked for.
    fn contents_of(&self, node: NodeId, row: &Row) -> Result<Rc<Contents>, RowError> {
        let mut read = self.read.borrow_mut();
        if let Some(contents) = read.get(&node) {
            return Ok(Rc::clone(contents));
        }
        let contents = Rc::new(Contents::read(self.rows, node, row.clone())?);
        if read.len() >= READ_MAX {
            read.clear();
        }
        read.insert(node, Rc::clone(&contents));
        Ok(contents)
    }

    fn knew_any(&self, entry: &EntryOrder, ops: &[OpOrder]) -> Result<bool, RowError> {
        for op in ops {
            if self.stranded.knew(entry, &op.entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_known_to_any(&self, ops: &[OpOrder], at: &OpOrder) -> Result<bool, RowError> {
        for op in ops {
            if op != at && self.stranded.knew(&op.entry, &at.entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last stranded move of a node that is not left.
    fn last_stranded(&self, node: NodeId) -> Option<Placed<'a>> {
        let moves = self.moves.get(&node)?.iter().rev();
        moves.copied().find(|(at, _)| !(self.turn.is_left)(at))
    }

    /// Where a node that is missing is to be, and by what: by the last stranded move, or where it was for the author of an
    /// operation.
    fn last_place(&self, at: &OpOrder, node: NodeId, kind: NodeKind) -> Result<Option<Placed<'a>>, RowError> {
        if let Some(last) = self.last_stranded(node).filter(|(_, op)| op.kind == kind.code()) {
            return Ok(Some(last));
        }
        for (other, op) in self.ground.get(&node).map_or(&[][..], Vec::as_slice).iter().rev() {
            if op.kind == kind.code() && self.stranded.knew(&at.entry, &other.entry)? {
                return Ok(Some((*other, op)));
            }
        }
        Ok(None)
    }

    /// The folders that are missing on the way up from one, the lowest first, and the first one that is not.
    fn missing(&self, at: &OpOrder, folder: NodeId) -> Result<(Vec<Placed<'a>>, NodeId), RowError> {
        let mut found: Vec<Placed<'a>> = Vec::new();
        let mut next = folder;
        while found.len() < MISSING_MAX && !self.draft.has(next)? {
            match self.last_place(at, next, NodeKind::Folder)? {
                Some(last) if found.iter().all(|(_, other)| other.node != last.1.node) => found.push(last),
                _ => break,
            }
            next = found.last().map_or(NodeId::ROOT, |(_, op)| op.parent);
        }
        Ok((found, next))
    }

    /// Where something goes that is to be in `folder`, which is made again if it is missing; if somebody deleted it, where it
    /// was.
    fn folder_for(&mut self, at: &OpOrder, folder: NodeId, node: NodeId) -> Result<NodeId, RowError> {
        let (missing, first) = self.missing(at, folder)?;
        let mut target = first;
        for (placed, op) in missing.into_iter().rev() {
            // Who knew that and went on with it had it back.
            let is_gone = match self.trashed_by(&placed, op.node)? {
                Some(by) => !self.stranded.knew(&at.entry, &by.entry)?,
                None => false,
            };
            if !is_gone {
                let parent = self.draft.folder_for(target, op.node)?;
                self.draft.place(NodeKind::Folder, Move { parent, ..op.clone() })?;
                target = op.node;
            }
        }
        self.draft.folder_for(target, node)
    }
}

/// Whether an id is one of a node that can be made.
fn is_node(id: NodeId) -> bool {
    id != NodeId::ROOT && id != NodeId::TRASH
}
