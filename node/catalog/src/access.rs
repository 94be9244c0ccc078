//! Who may do what in a space, judged by what an author knew (`docs/spec/04-spaces.md`, "Who may write").
//!
//! [`Access::resolve`] takes the operations on membership of a space, few even in a large one, and finds which of
//! them have effect; [`Access::judge`] then says of any operation of any entry whether its author may do it. Both
//! depend on the set of operations alone, never on the order in which they arrived.

mod contest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use contest::{Court, Grants};
use locker_crypto::Refusal;
use locker_crypto::id::{NodeId, PersonId, VerifyingKey};

use crate::operation::{EntryRef, Grant, MemberKey, Op, Role};
use crate::order::{EntryOrder, OpOrder, Past};

/// One operation that membership depends on: 4, 5, 7 or 10, with its place and what its author knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessOp {
    /// Its place in the total order.
    pub at: OpOrder,
    /// All counting entries that its entry reaches; earlier operations of the same entry are known too.
    pub past: Past,
    /// What it does.
    pub act: Act,
}

/// What an operation on membership does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Gives a member a role: more, less or none.
    Grant(Grant),
    /// Ends an author: so many of its entries count.
    RemoveAuthor {
        /// The author that ends.
        author: VerifyingKey,
        /// Number of its entries that count.
        count: u64,
    },
    /// Lists a token, whose issuer may revoke it.
    Share {
        /// First block id of the token.
        token: [u8; 32],
        /// The key of its link.
        link_sign: VerifyingKey,
    },
}

impl Act {
    /// Takes what concerns membership out of an operation; `None` if nothing does.
    pub fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Member(grant) | Op::Role(grant) => Some(Act::Grant(grant.clone())),
            Op::RemoveAuthor(last) => Some(Act::RemoveAuthor { author: last.author, count: count(last) }),
            Op::Share(share) => Some(Act::Share { token: share.token, link_sign: share.link_sign }),
            _ => None,
        }
    }
}

/// How many entries a frontier lets count: `(0, zeros)` names an author of which none was accepted.
pub fn count(last: &EntryRef) -> u64 {
    let none = last.seq == 0 && last.id == locker_crypto::id::EntryId::ZERO;
    if none { 0 } else { last.seq.saturating_add(1) }
}

/// Most members of a space.
pub const MEMBERS_MAX: usize = 256;

/// What is known about authors besides the operations of the space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authors {
    /// Who wrote the genesis entry, which may do everything; unknown before it is there.
    pub genesis: Option<VerifyingKey>,
    /// To whom each device belongs, by the person logs ([`crate::roster::Roster::brought_in`]).
    pub persons: BTreeMap<VerifyingKey, PersonId>,
}

impl Authors {
    /// The members that `author` can stand for: its person, and itself as a link or guest.
    fn members(&self, author: &VerifyingKey) -> impl Iterator<Item = MemberKey> {
        let person = self.persons.get(author).map(|person| MemberKey(person.0));
        person.into_iter().chain([MemberKey(author.0)])
    }

    fn is_of(&self, author: &VerifyingKey, member: &MemberKey) -> bool {
        self.members(author).any(|own| own == *member)
    }

    fn are_one_person(&self, a: &VerifyingKey, b: &VerifyingKey) -> bool {
        a == b || self.persons.get(a).is_some_and(|person| self.persons.get(b) == Some(person))
    }

    fn is_genesis(&self, entry: &EntryOrder) -> bool {
        entry.seq == 0 && Some(entry.author) == self.genesis
    }
}

/// What an operation needs of its author's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Any role.
    Member,
    /// Write or manage.
    Write,
    /// Manage.
    Manage,
    /// Nothing: another reason than the role allows it.
    Nothing,
}

impl Need {
    fn met_by(self, role: Role) -> bool {
        match self {
            Need::Nothing => true,
            Need::Member => role != Role::None,
            Need::Write => matches!(role, Role::Write | Role::Manage),
            Need::Manage => role == Role::Manage,
        }
    }
}

/// One thing that an author wants to do, at one place.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) at: OpOrder,
    pub(crate) past: &'a Past,
    pub(crate) need: Need,
}

impl Claim<'_> {
    fn knows(&self, other: &OpOrder) -> bool {
        (self.at.entry == other.entry && self.at.index > other.index)
            || self.past.knows(&other.entry.author, other.entry.seq)
    }
}

/// The rights in a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    authors: Authors,
    ops: Vec<AccessOp>,
    grants: Grants,
    /// Why an operation has no effect.
    void: Vec<Option<Refusal>>,
    /// What strikes, standing or not.
    removals: Vec<Removal>,
    /// Which removals stand.
    standing: Vec<bool>,
}

/// An operation that takes rights away.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Removal {
    /// Index of its operation.
    op: usize,
    takes: Takes,
    /// Whether it takes away any operation on membership, if it stands: most do not.
    strikes: bool,
}

/// What a removal takes from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Takes {
    /// An author ends.
    Author { author: VerifyingKey, count: u64 },
    /// A member's role shrinks to this one; its authors count below these numbers, others below their first entry.
    Role { member: MemberKey, role: Role, counts: BTreeMap<VerifyingKey, u64> },
}

impl Access {
    /// Resolves the operations on membership, in any order; one listed twice counts once.
    ///
    /// Cost: grows with the cube of the number of removals, and for each change of an existing role with the number
    /// of operations before it. Ordinary entries play no part.
    pub fn resolve(authors: Authors, ops: impl IntoIterator<Item = AccessOp>) -> Self {
        let ops: BTreeMap<OpOrder, AccessOp> = ops.into_iter().map(|op| (op.at, op)).collect();
        let ops: Vec<AccessOp> = ops.into_values().collect();
        let grants = contest::grants(&ops);
        let removals = contest::removals(&authors, &ops, &grants);
        let all: Vec<usize> = (0..ops.len()).collect();
        let (void, standing) = Court::new(&authors, &ops, &grants, &removals, all).decide();
        Self { authors, ops, grants, void, removals, standing }
    }

    /// Says whether the author of an entry may do one of its operations.
    ///
    /// # Errors
    /// [`Refusal::Rights`] if its role by its own past does not allow it, or a lowering that it did not know takes it
    /// away; [`Refusal::Frontier`] if its author was removed before it. An operation that this version does not
    /// understand is refused as [`Refusal::Version`], a malformed one for its own reason.
    pub fn judge(&self, at: OpOrder, past: &Past, op: &Op) -> Result<(), Refusal> {
        match op {
            Op::Unknown(_) => return Err(Refusal::Version),
            Op::Malformed(_, why) => return Err(*why),
            _ => {}
        }
        if let Ok(i) = self.ops.binary_search_by_key(&at, |op| op.at) {
            return self.void[i].map_or(Ok(()), Err);
        }
        let need = self.need(&Claim { at, past, need: Need::Nothing }, op);
        self.allow(&Claim { at, past, need })
    }

    /// Says whether an entry as a whole is one of a member at its place. Such entries can be anchors of forks.
    ///
    /// # Errors
    /// As [`Access::judge`].
    pub fn judge_entry(&self, entry: EntryOrder, past: &Past) -> Result<(), Refusal> {
        self.allow(&Claim { at: OpOrder { entry, index: 0 }, past, need: Need::Member })
    }

    /// Returns the members as all operations that count have left them, without removed ones.
    pub fn members(&self) -> BTreeMap<MemberKey, Role> {
        self.grants.keys().map(|key| (*key, self.role(key))).filter(|(_, role)| *role != Role::None).collect()
    }

    /// Says whether a grant may be written: a space has room for [`MEMBERS_MAX`] members. This binds the writer alone.
    ///
    /// # Errors
    /// [`Refusal::Limit`] if it would add one more.
    pub fn check_room(&self, grant: &Grant) -> Result<(), Refusal> {
        let members = self.members();
        let adds = grant.role != Role::None && !members.contains_key(&grant.member);
        if adds && members.len() >= MEMBERS_MAX { Err(Refusal::Limit) } else { Ok(()) }
    }

    /// Returns the role of `author` as all operations that count have left it: what it may write next.
    pub fn role_of(&self, author: &VerifyingKey) -> Role {
        let removed = |(r, stands): (&Removal, &bool)| {
            *stands && matches!(r.takes, Takes::Author { author: ended, .. } if ended == *author)
        };
        if self.removals.iter().zip(&self.standing).any(removed) {
            return Role::None;
        }
        let members = self.authors.members(author);
        let roles = members.map(|key| self.role(&key));
        roles.max_by_key(|role| (Need::Write.met_by(*role), *role)).unwrap_or_default()
    }

    /// Returns authors that were removed, and how many entries of each still count.
    pub fn removed_authors(&self) -> BTreeMap<VerifyingKey, u64> {
        let mut ends = BTreeMap::new();
        for (removal, _) in self.removals.iter().zip(&self.standing).filter(|(_, stands)| **stands) {
            if let Takes::Author { author, count } = removal.takes {
                let end: &mut u64 = ends.entry(author).or_default();
                *end = (*end).max(count);
            }
        }
        ends
    }

    /// Whether an author is known: a device of some person, or a key that some operation made a member.
    pub fn knows_author(&self, author: &VerifyingKey) -> bool {
        self.authors.persons.contains_key(author)
            || Some(*author) == self.authors.genesis
            || self.grants.contains_key(&MemberKey(author.0))
    }

    /// Returns authors whose entries may be judged differently by `self` than by `before`, each with the first
    /// sequence number from which they may.
    pub fn changed_since(&self, before: &Access) -> BTreeMap<VerifyingKey, u64> {
        let mut changed = BTreeMap::new();
        let keys = self.changed_keys(before);
        let known = self.authors.persons.keys().chain(before.authors.persons.keys());
        let links = self.grants.keys().chain(before.grants.keys()).map(|key| VerifyingKey(key.0));
        let authors: BTreeSet<VerifyingKey> = known.copied().chain(links).collect();
        for author in authors {
            let moved = self.authors.persons.get(&author) != before.authors.persons.get(&author);
            let touched = |access: &Access| access.authors.members(&author).any(|key| keys.contains(&key));
            let since = match (self.ends(&author), before.ends(&author)) {
                _ if moved || touched(self) || touched(before) => 0,
                (now, then) if now != then => {
                    now.iter().chain(&then).map(|(_, count)| *count).min().unwrap_or(0)
                }
                _ => continue,
            };
            changed.insert(author, since);
        }
        // What takes or gives rights is judged as one of a ring; its own verdict may turn without any of the above.
        let then: BTreeMap<OpOrder, Option<Refusal>> = before.verdicts().collect();
        for (at, _) in self.verdicts().filter(|(at, now)| then.get(at).is_some_and(|then| then != now)) {
            let since = changed.entry(at.entry.author).or_insert(at.entry.seq);
            *since = (*since).min(at.entry.seq);
        }
        changed
    }

    fn verdicts(&self) -> impl Iterator<Item = (OpOrder, Option<Refusal>)> {
        self.ops.iter().zip(&self.void).map(|(op, void)| (op.at, *void))
    }

    /// Standing removals that concern an author, with the number of its entries that each lets count.
    fn ends(&self, author: &VerifyingKey) -> Vec<(OpOrder, u64)> {
        let standing = self.removals.iter().zip(&self.standing).filter(|(_, stands)| **stands);
        let end =
            |(r, _): (&Removal, &bool)| Some((self.ops[r.op].at, r.takes.count(&self.authors, author)?));
        standing.filter_map(end).collect()
    }

    /// Keys with a grant that has effect on one side only, other than as a removal alone.
    fn changed_keys(&self, before: &Access) -> BTreeSet<MemberKey> {
        let valid = |access: &Access| -> BTreeMap<OpOrder, MemberKey> {
            let all = access.grants.iter().flat_map(|(key, list)| list.iter().map(move |i| (*i, *key)));
            let with_effect = all.filter(|(i, _)| access.void[*i].is_none());
            with_effect.map(|(i, key)| (access.ops[i].at, key)).collect()
        };
        let (now, then) = (valid(self), valid(before));
        let differing = now.iter().filter(|(at, _)| !then.contains_key(at));
        differing.chain(then.iter().filter(|(at, _)| !now.contains_key(at))).map(|(_, key)| *key).collect()
    }

    fn role(&self, key: &MemberKey) -> Role {
        contest::merged_role(&self.ops, &self.grants, |i| self.void[i].is_none(), key)
    }

    fn need(&self, claim: &Claim<'_>, op: &Op) -> Need {
        contest::need(&self.authors, &self.ops, claim, op)
    }

    fn allow(&self, claim: &Claim<'_>) -> Result<(), Refusal> {
        let court = Court::new(&self.authors, &self.ops, &self.grants, &self.removals, Vec::new());
        court.allow(claim, &self.standing, |i| self.void[i].is_none())
    }
}

/// What a role allows, for those who write: whether `role` may do `op` at all.
pub fn role_allows(role: Role, op: &Op) -> bool {
    base_need(op).met_by(role)
}

/// What an operation needs when no other reason allows it.
fn base_need(op: &Op) -> Need {
    match op {
        Op::Move(_)
        | Op::Content(_)
        | Op::Trash(_)
        | Op::Epoch(_)
        | Op::Share(_)
        | Op::Snapshot(_)
        | Op::Pack(_)
        | Op::Meta(_)
        | Op::Keep(_) => Need::Write,
        Op::Policy(policy) if policy.node != NodeId::ROOT => Need::Write,
        Op::Heartbeat(_) => Need::Member,
        Op::Member(_)
        | Op::Role(_)
        | Op::Revoke(_)
        | Op::Cut(_)
        | Op::RemoveAuthor(_)
        | Op::Confirm(_)
        | Op::Policy(_)
        | Op::Unknown(_)
        | Op::Malformed(..) => Need::Manage,
    }
}
