//! The index of children and the names they are shown under (`docs/spec/05-tree.md`, "Names").
//!
//! Children of one folder with one collision key are a group. Its first member keeps its name, the others take the
//! least numbers whose names are free. A numbered name can meet only the first of the group that has this very key
//! ([`crate::name::unnumbered`] has one answer), so that a group needs to know of the others only which of its
//! numbers are taken in this way: no other name is looked at when a child comes or goes.
//!
//! A group that gets another member, or of which a member gets another content, is noted among the twins
//! ([`super::row::TWINS`]): it may hold something to fold ([`super::fold`]).

use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::NodeId;

use super::row::{CHILDREN, Child, OP_KEY_LEN, Row, TWINS, after, intact, key, op_from_key, op_key};
use crate::name::{collision_key, numbered, unnumbered};
use crate::order::OpOrder;
use crate::rows::{ReadRows, RowError, WriteRows};

/// Into how many parts the children of a folder can be divided: by the first half of a byte of their keyed hashes.
pub const CHILDREN_PARTS: u8 = 16;

/// Adds the child to its group.
pub(super) fn join(rows: &mut dyn WriteRows, node: NodeId, row: &Row) -> Result<(), RowError> {
    let group = Group::of(rows, row.place.parent, collision_key(&row.place.name));
    let was_empty = group.next(rows, &group.prefix)?.is_none();
    let own = group.member(&row.created);
    let number = match group.before(rows, &own)? {
        None => 0,
        Some(before) => group.free_number(rows, before.number)?,
    };
    rows.put(CHILDREN, &own, &Child::of(node, row, number).encode())?;
    if was_empty {
        return group.key_changed_hands(rows);
    }
    group.note_twins(rows)?;
    group.renumber(rows, behind(&own), number)
}

/// Removes the child from its group.
pub(super) fn leave(rows: &mut dyn WriteRows, row: &Row) -> Result<(), RowError> {
    let group = Group::of(rows, row.place.parent, collision_key(&row.place.name));
    let own = group.member(&row.created);
    rows.delete(CHILDREN, &own)?;
    if group.next(rows, &group.prefix)?.is_none() {
        return group.key_changed_hands(rows);
    }
    match group.before(rows, &own)? {
        Some(before) => group.renumber(rows, own, before.number),
        None => {
            let Some((first, mut child)) = group.next(rows, &group.prefix)? else { return Ok(()) };
            child.number = 0;
            rows.put(CHILDREN, &first, &child.encode())?;
            group.renumber(rows, behind(&first), 0)
        }
    }
}

/// Writes anew what is shown of a child that stays in its group. `old` is its row before.
pub(super) fn refresh(rows: &mut dyn WriteRows, node: NodeId, old: &Row, row: &Row) -> Result<(), RowError> {
    let group = Group::of(rows, row.place.parent, collision_key(&row.place.name));
    let own = group.member(&row.created);
    let number = number_at(rows, &own)?;
    rows.put(CHILDREN, &own, &Child::of(node, row, number).encode())?;
    // A first content makes no new twins: a group with a file without any stays noted.
    if old.versions.is_empty() { Ok(()) } else { group.note_twins(rows) }
}

/// Returns the name under which a child is shown.
pub(super) fn displayed(rows: &dyn ReadRows, row: &Row) -> Result<String, RowError> {
    let own = Group::of(rows, row.place.parent, collision_key(&row.place.name)).member(&row.created);
    Ok(numbered(&row.place.name, number_at(rows, &own)?))
}

/// Finds the child that is shown under a name with this collision key. Cost: that of its group.
pub(super) fn find(rows: &dyn ReadRows, folder: NodeId, name: &str) -> Result<Option<Child>, RowError> {
    let wanted = collision_key(name);
    if let Some((_, first)) = {
        let group = Group::of(rows, folder, wanted.clone());
        group.next(rows, &group.prefix)?
    } {
        return Ok(Some(first));
    }
    let Some((original, number)) = unnumbered(&wanted) else { return Ok(None) };
    let found = Group::of(rows, folder, original).first_numbered(rows, number)?;
    Ok(found.map(|(_, child)| child).filter(|child| child.number == number))
}

/// Visits the children of a folder. The order is that of keyed hashes: stable, and without meaning.
pub(super) fn each(
    rows: &(impl ReadRows + ?Sized),
    folder: NodeId,
    visit: &mut dyn FnMut(Child) -> ControlFlow<()>,
) -> Result<(), RowError> {
    each_within(rows, folder.as_ref(), after(folder.as_ref()), visit)
}

/// Visits those of one of [`CHILDREN_PARTS`] parts.
pub(super) fn each_part(
    rows: &(impl ReadRows + ?Sized),
    folder: NodeId,
    part: u8,
    visit: &mut dyn FnMut(Child) -> ControlFlow<()>,
) -> Result<(), RowError> {
    let begin = |part: u8| key(&[folder.as_ref(), &[part << 4]]);
    let to = if part + 1 < CHILDREN_PARTS { Some(begin(part + 1)) } else { after(folder.as_ref()) };
    each_within(rows, &begin(part), to, visit)
}

/// Visits the children of a folder with the collision key of a name, in the order of their creation.
pub(super) fn each_of_group(
    rows: &(impl ReadRows + ?Sized),
    folder: NodeId,
    name: &str,
    visit: &mut dyn FnMut(Child) -> ControlFlow<()>,
) -> Result<(), RowError> {
    let group = group_key(rows, folder, name);
    each_within(rows, &group, after(&group), visit)
}

fn each_within(
    rows: &(impl ReadRows + ?Sized),
    from: &[u8],
    to: Option<Vec<u8>>,
    visit: &mut dyn FnMut(Child) -> ControlFlow<()>,
) -> Result<(), RowError> {
    let mut read = Ok(());
    rows.scan(CHILDREN, from, to.as_deref(), &mut |_, value| match Child::decode(value) {
        Ok(child) => visit(child),
        Err(why) => {
            read = Err(why);
            ControlFlow::Break(())
        }
    })?;
    intact(read)
}

/// Returns up to `limit` children after the given key, and the key to go on from, if there may be more.
///
/// The order is that of keyed hashes: stable, and without meaning.
pub(super) fn page(
    rows: &(impl ReadRows + ?Sized),
    folder: NodeId,
    after_key: Option<&[u8]>,
    limit: usize,
) -> Result<(Vec<Child>, Option<Vec<u8>>), RowError> {
    let from = after_key.map_or_else(|| folder.0.to_vec(), behind);
    let (mut children, mut next) = (Vec::new(), None);
    rows.scan(CHILDREN, &from, after(folder.as_ref()).as_deref(), &mut |key, value| {
        children.push(Child::decode(value));
        if children.len() < limit {
            return ControlFlow::Continue(());
        }
        next = Some(key.to_vec());
        ControlFlow::Break(())
    })?;
    let children = children.into_iter().collect();
    Ok((intact(children)?, next))
}

/// A child with the operation that made it.
pub(super) type Made = (OpOrder, Child);

/// Returns the key of the group of a name: what stands before the creating operation in the keys of its members.
pub(super) fn group_key(rows: &(impl ReadRows + ?Sized), folder: NodeId, name: &str) -> Vec<u8> {
    Group::of(rows, folder, collision_key(name)).prefix
}

/// Returns up to `limit` members of a group in the order of their creation, or children of a folder by its id, after
/// the given key, and the key to go on from, if there may be more.
pub(super) fn made(
    rows: &(impl ReadRows + ?Sized),
    prefix: &[u8],
    after_key: Option<&[u8]>,
    limit: usize,
) -> Result<(Vec<Made>, Option<Vec<u8>>), RowError> {
    let from = after_key.map_or_else(|| prefix.to_vec(), behind);
    let (mut children, mut last) = (Vec::new(), None);
    rows.scan(CHILDREN, &from, after(prefix).as_deref(), &mut |key, value| {
        let op =
            key.len().checked_sub(OP_KEY_LEN).ok_or(Refusal::Canon).and_then(|at| op_from_key(&key[at..]));
        children.push(op.and_then(|op| Ok((op, Child::decode(value)?))));
        last = Some(key.to_vec());
        if children.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let next = last.filter(|_| children.len() >= limit);
    Ok((intact(children.into_iter().collect())?, next))
}

fn number_at(rows: &dyn ReadRows, member: &[u8]) -> Result<u32, RowError> {
    match rows.get(CHILDREN, member)? {
        Some(value) => Ok(intact(Child::decode(&value))?.number),
        None => Ok(0),
    }
}

/// The children of one folder with one collision key.
struct Group {
    folder: NodeId,
    key: String,
    prefix: Vec<u8>,
}

type Member = (Vec<u8>, Child);

impl Group {
    fn of(rows: &(impl ReadRows + ?Sized), folder: NodeId, key: String) -> Self {
        let prefix = self::key(&[folder.as_ref(), &rows.keyed(key.as_bytes())]);
        Self { folder, key, prefix }
    }

    fn member(&self, created: &OpOrder) -> Vec<u8> {
        key(&[&self.prefix, &op_key(created)])
    }

    /// Returns the first member at or after `from`.
    fn next(&self, rows: &(impl ReadRows + ?Sized), from: &[u8]) -> Result<Option<Member>, RowError> {
        let mut found = None;
        rows.scan(CHILDREN, from, after(&self.prefix).as_deref(), &mut |key, value| {
            found = Some((key.to_vec(), Child::decode(value)));
            ControlFlow::Break(())
        })?;
        found.map(|(key, child)| Ok((key, intact(child)?))).transpose()
    }

    /// Returns the last member before `member`.
    fn before(&self, rows: &(impl ReadRows + ?Sized), member: &[u8]) -> Result<Option<Child>, RowError> {
        let mut found = None;
        rows.scan_back(CHILDREN, &self.prefix, Some(member), &mut |_, value| {
            found = Some(Child::decode(value));
            ControlFlow::Break(())
        })?;
        found.map(intact).transpose()
    }

    /// Returns the first member with at least this number.
    fn first_numbered(
        &self,
        rows: &(impl ReadRows + ?Sized),
        number: u32,
    ) -> Result<Option<Member>, RowError> {
        let mut found = None;
        rows.scan(CHILDREN, &self.prefix, after(&self.prefix).as_deref(), &mut |key, value| {
            match Child::decode(value) {
                Ok(child) if child.number < number => ControlFlow::Continue(()),
                other => {
                    found = Some((key.to_vec(), other));
                    ControlFlow::Break(())
                }
            }
        })?;
        found.map(|(key, child)| Ok((key, intact(child)?))).transpose()
    }

    /// Returns the least number after `last`, from 2, whose name no group has as its own.
    fn free_number(&self, rows: &(impl ReadRows + ?Sized), last: u32) -> Result<u32, RowError> {
        let mut number = last.saturating_add(1).max(2);
        loop {
            let other = Group::of(rows, self.folder, numbered(&self.key, number));
            if other.next(rows, &other.prefix)?.is_none() {
                return Ok(number);
            }
            number = number.saturating_add(1);
        }
    }

    /// Numbers the members at or after `from`, the one before having the number `last`; stops at the first that
    /// keeps its own.
    fn renumber(&self, rows: &mut dyn WriteRows, from: Vec<u8>, last: u32) -> Result<(), RowError> {
        let (mut from, mut last) = (from, last);
        while let Some((key, mut child)) = self.next(rows, &from)? {
            let number = self.free_number(rows, last)?;
            if child.number == number {
                break;
            }
            child.number = number;
            rows.put(CHILDREN, &key, &child.encode())?;
            (from, last) = (behind(&key), number);
        }
        Ok(())
    }

    /// Notes that something of this group may be there to be folded. Two of one author never are: each author knows
    /// what it made itself.
    fn note_twins(&self, rows: &mut dyn WriteRows) -> Result<(), RowError> {
        let (members, _) = made(rows, &self.prefix, None, 3)?;
        match members.as_slice() {
            [] | [_] => Ok(()),
            [(one, _), (other, _)] if one.entry.author == other.entry.author => Ok(()),
            _ => rows.put(TWINS, &self.prefix, &[]),
        }
    }

    /// This group has just got its first member or lost its last one: another group may have to give the name up,
    /// or may take it.
    fn key_changed_hands(&self, rows: &mut dyn WriteRows) -> Result<(), RowError> {
        let Some((original, number)) = unnumbered(&self.key) else { return Ok(()) };
        let other = Group::of(rows, self.folder, original);
        let Some((key, _)) = other.first_numbered(rows, number)? else { return Ok(()) };
        let Some(before) = other.before(rows, &key)? else { return Ok(()) };
        other.renumber(rows, key, before.number)
    }
}

/// Returns the first key after `key`.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
