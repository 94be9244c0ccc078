//! Entries of the person's own devices that do not count, or were written ahead of time, and what was written again of
//! them (`docs/spec/04-spaces.md`, "Written again").

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::id::{EntryId, NodeId, PersonId, VersionId};

use super::Space;
use super::row::{self, EntryRow};
use crate::operation::{EntryRef, Meta, Op, version_id};
use crate::order::{EntryOrder, OpOrder, Past};
use crate::rows::{ReadRows, RowError};
use crate::tree::{self, Uncounted, Written};

/// Key of the meta item on ROOT that says of an entry that it was written again, before its id in hexadecimal.
const MARK: &str = "again/";

/// Returns the operation that says of an entry that it was written again. It stands before the others of every entry that
/// does so.
pub fn mark(entry: &EntryId) -> Op {
    Op::Meta(Meta { node: NodeId::ROOT, key: format!("{MARK}{entry}"), value: vec![1] })
}

/// Which entry a mark is about.
fn marked(op: &Op) -> Option<EntryId> {
    let Op::Meta(Meta { node: NodeId::ROOT, key, .. }) = op else { return None };
    let digits = key.strip_prefix(MARK).filter(|digits| digits.len() == 2 * 32 && digits.is_ascii())?;
    let mut id = [0; 32];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(EntryId(id))
}

/// Whether an entry that counts says of another one that it was written again.
fn is_written_again(rows: &dyn ReadRows, id: &EntryId) -> Result<bool, RowError> {
    Ok(tree::meta(rows, NodeId::ROOT, &format!("{MARK}{id}"))?.is_some())
}

/// Names the entries of an author, up to one, that wait for their time, in total order: the last ones, as clocks grow
/// along a chain. Of a forked author those of all branches.
fn waiting_up_to(rows: &dyn ReadRows, tip: &EntryRef) -> Result<Vec<EntryRef>, RowError> {
    let places = row::places(rows, row::DEFERRED, &[], None)?.into_iter();
    let names = places.map(|(_, name)| name);
    Ok(names.filter(|name| name.author == tip.author && name.seq <= tip.seq).collect())
}

/// An entry that does not count, or whose time has not come.
pub struct LostEntry<'a> {
    space: &'a Space,
    rows: &'a dyn ReadRows,
    entry: EntryRow,
    past: Past,
    /// The entry and those of its branch before it that may not count either.
    branch: BTreeSet<EntryId>,
    /// The last place that was looked at, and whether it was known.
    last: Cell<Option<(EntryOrder, bool)>>,
    /// Of the versions that the entry replaces, those that its branch wrote; looked for once.
    replaced: RefCell<Option<BTreeMap<VersionId, Written>>>,
}

impl Space {
    /// Lists the entries of a person's forked devices that do not count and were not written again, in total order.
    ///
    /// Cost: one look for each entry above a fork; nothing without a fork.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn uncounted(&self, rows: &dyn ReadRows, person: &PersonId) -> Result<Vec<EntryRef>, RowError> {
        let mut found = Vec::new();
        for (author, fork) in &self.forks {
            if self.person_of(author) != Some(*person) {
                continue;
            }
            for name in row::names_from(rows, author, fork.first)? {
                if self.is_of_counting_branch(&name) {
                    continue;
                }
                if !is_written_again(rows, &name.id)? {
                    let entry = row::named(rows, &name)?;
                    if !row::is_deferred(rows, &entry)? {
                        found.push((entry.order(), name));
                    }
                }
            }
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Lists what waits for its time at the end of a branch and was not written again, in total order: what this device
    /// wrote under a key that it had before, while its clock was ahead.
    ///
    /// Cost: one look for each entry that waits there; its body is not read.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn put_off(&self, rows: &dyn ReadRows, tip: &EntryRef) -> Result<Vec<EntryRef>, RowError> {
        let waiting = waiting_up_to(rows, tip)?;
        if waiting.is_empty() {
            return Ok(waiting);
        }
        let (branch, mut found) = (self.branch(rows, tip)?, Vec::new());
        for name in waiting.into_iter().filter(|name| branch.contains(&name.id)) {
            if !is_written_again(rows, &name.id)? {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Where the author of an entry that waits for its time is to end, once that is written again, so that it has no
    /// effect when that comes: before all that waits. `None` if more waits that is not written again, which would be
    /// lost then; if the author ended already, or the entry does not wait. Nor does a forked one end: what another home
    /// goes on writing with its key counts.
    ///
    /// Cost: that of [`Space::put_off`] at most.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn end_before(&self, rows: &dyn ReadRows, name: &EntryRef) -> Result<Option<EntryRef>, RowError> {
        let EntryRef { author, .. } = *name;
        let is_over = self.forks.contains_key(&author) || self.access.removed_authors().contains_key(&author);
        if is_over || !row::is_deferred(rows, &row::named(rows, name)?)? {
            return Ok(None);
        }
        // Written again from the first on: of what is left the last one is.
        for other in waiting_up_to(rows, &EntryRef { seq: u64::MAX, ..*name })?.iter().rev() {
            if other.id != name.id && !is_written_again(rows, &other.id)? {
                return Ok(None);
            }
        }
        let none = EntryRef { author, seq: 0, id: EntryId::ZERO };
        Ok(Some(self.frontier_of(rows, &author)?.unwrap_or(none)))
    }

    /// Names an entry and all before it in its branch, down to the first number that is forked, or that waits for its
    /// time; with it what waited there as well, and was written again before its time came.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn branch(&self, rows: &dyn ReadRows, tip: &EntryRef) -> Result<BTreeSet<EntryId>, RowError> {
        let first = self.forks.get(&tip.author).map_or(u64::MAX, |fork| fork.first);
        let mut waiting = waiting_up_to(rows, tip)?;
        waiting.retain(|name| name.seq < first);
        let (mut branch, mut at): (BTreeSet<EntryId>, _) =
            (waiting.iter().map(|name| name.id).collect(), *tip);
        let mut before = waiting.iter().map(|name| name.seq).min();
        while let Some(seq) = before.and_then(|seq| seq.checked_sub(1)) {
            let held = row::held(rows, &tip.author, seq)?;
            let [id] = held[..] else { break };
            if !is_written_again(rows, &id)? {
                break;
            }
            branch.insert(id);
            before = Some(seq);
        }
        while at.seq >= first {
            let Some(entry) = row::entry(rows, &at)? else { break };
            branch.insert(at.id);
            let Some(seq) = at.seq.checked_sub(1) else { break };
            at = EntryRef { seq, id: entry.prev, ..at };
        }
        Ok(branch)
    }

    /// Reads an entry that [`Space::uncounted`] or [`Space::put_off`] names.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn lost<'a>(&'a self, rows: &'a dyn ReadRows, name: &EntryRef) -> Result<LostEntry<'a>, RowError> {
        let entry = row::named(rows, name)?;
        let past = self.past(rows, &entry)?;
        let branch = self.branch(rows, name)?;
        let (last, replaced) = (Cell::new(None), RefCell::new(None));
        Ok(LostEntry { space: self, rows, entry, past, branch, last, replaced })
    }
}

impl LostEntry<'_> {
    /// The entries that the one which counts at a place wrote again.
    fn written_again_at(&self, order: &EntryOrder) -> Result<Vec<EntryId>, RowError> {
        let entry = self.space.counting_at(self.rows, order)?;
        Ok(entry.map_or_else(Vec::new, |entry| entry.body.ops.iter().map_while(marked).collect()))
    }

    /// Of the versions that the entry replaces those that its branch wrote, the entry itself included.
    fn replaced_versions(&self) -> Result<BTreeMap<VersionId, Written>, RowError> {
        let bases = self.entry.body.ops.iter().filter_map(|op| match op {
            Op::Content(op) => Some(&op.bases),
            _ => None,
        });
        let bases: BTreeSet<VersionId> = bases.flatten().copied().collect();
        let mut found = BTreeMap::new();
        let mut at = self.entry.name();
        while !bases.is_empty() && self.branch.contains(&at.id) {
            let entry = row::named(self.rows, &at)?;
            for (index, op) in (0..=u16::MAX).zip(&entry.body.ops) {
                let Op::Content(op) = op else { continue };
                let vid = version_id(&OpOrder { entry: entry.order(), index });
                if bases.contains(&vid) {
                    found.insert(vid, Written::of(op));
                }
            }
            let Some(seq) = at.seq.checked_sub(1) else { break };
            at = EntryRef { seq, id: entry.prev, ..at };
        }
        Ok(found)
    }
}

impl Uncounted for LostEntry<'_> {
    fn order(&self) -> EntryOrder {
        self.entry.order()
    }

    fn ops(&self) -> &[Op] {
        &self.entry.body.ops
    }

    fn knew(&self, entry: &EntryOrder) -> Result<bool, RowError> {
        if self.past.knows(&entry.author, entry.seq) {
            return Ok(true);
        }
        if let Some((_, known)) = self.last.get().filter(|(order, _)| order == entry) {
            return Ok(known);
        }
        let again = self.written_again_at(entry)?;
        let known = !again.is_empty() && again.iter().all(|id| self.branch.contains(id));
        self.last.set(Some((*entry, known)));
        Ok(known)
    }

    fn version(&self, vid: &VersionId) -> Result<Option<Written>, RowError> {
        if let Some(replaced) = &*self.replaced.borrow() {
            return Ok(replaced.get(vid).cloned());
        }
        let replaced = self.replaced_versions()?;
        let found = replaced.get(vid).cloned();
        *self.replaced.borrow_mut() = Some(replaced);
        Ok(found)
    }
}
