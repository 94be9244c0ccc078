//! Membership of a space as a contest of removals: roles by past, and who takes what from whom.

use std::collections::BTreeMap;

use locker_crypto::Refusal;
use locker_crypto::id::VerifyingKey;

use super::{AccessOp, Act, Authors, Claim, Need, Removal, Takes, base_need, count};
use crate::operation::{Grant, MemberKey, Op, Role};
use crate::strike::{Contest, Fate, Reach, Set, resolve};

impl Takes {
    /// How many entries of `author` it lets count; `None` if it does not concern the author.
    pub(super) fn count(&self, authors: &Authors, author: &VerifyingKey) -> Option<u64> {
        match self {
            Takes::Author { author: ended, count } => (ended == author).then_some(*count),
            Takes::Role { member, counts, .. } => {
                authors.is_of(author, member).then(|| counts.get(author).copied().unwrap_or(0))
            }
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Takes::Author { .. } => Refusal::Frontier,
            Takes::Role { .. } => Refusal::Rights,
        }
    }
}

/// Finds the operations that take rights away: every `remove_author`, and each grant of less than the member had by
/// the grant's own past, as that past by itself resolves.
pub(super) fn removals(authors: &Authors, ops: &[AccessOp]) -> Vec<Removal> {
    let mut removals: Vec<Removal> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        match &op.act {
            Act::RemoveAuthor { author, count } => {
                removals.push(Removal { op: i, takes: Takes::Author { author: *author, count: *count } });
            }
            Act::Grant(grant) => {
                let before = role_seen(authors, ops, &removals, i, grant);
                if takes_from(grant.role, before) {
                    let counts = grant.valid_from.iter().map(|last| (last.author, count(last))).collect();
                    let takes = Takes::Role { member: grant.member, role: grant.role, counts };
                    removals.push(Removal { op: i, takes });
                }
            }
            Act::Share { .. } => {}
        }
    }
    removals
}

/// Whether `role` lacks something that `before` had.
fn takes_from(role: Role, before: Role) -> bool {
    match before {
        Role::None => false,
        Role::Read => !matches!(role, Role::Read | Role::Write | Role::Manage),
        Role::Write => !matches!(role, Role::Write | Role::Manage),
        Role::Deposit => !matches!(role, Role::Deposit | Role::Manage),
        Role::Manage => role != Role::Manage,
    }
}

/// The role of the member of a grant, in a world that ends with what the grant's author knew.
fn role_seen(authors: &Authors, ops: &[AccessOp], removals: &[Removal], grant: usize, of: &Grant) -> Role {
    let claim = claim(ops, grant);
    let same_key = |op: &AccessOp| matches!(&op.act, Act::Grant(other) if other.member == of.member);
    if !ops[..grant].iter().any(|op| same_key(op) && claim.knows(&op.at)) {
        return Role::None;
    }
    let known: Vec<usize> = (0..grant).filter(|i| claim.knows(&ops[*i].at)).collect();
    let (void, _) = Court::new(authors, ops, removals, known.clone()).decide();
    merged_role(ops, |i| known.binary_search(&i).is_ok() && void[i].is_none(), &of.member)
}

/// Merges the grants on one key: of two that know one another the later; of concurrent ones a removal, else the
/// later in total order.
pub(super) fn merged_role(ops: &[AccessOp], counts: impl Fn(usize) -> bool, key: &MemberKey) -> Role {
    let mut last: Vec<usize> = Vec::new();
    for (i, op) in ops.iter().enumerate().rev() {
        if matches!(&op.act, Act::Grant(grant) if grant.member == *key) && counts(i) {
            let superseded = last.iter().any(|later| claim(ops, *later).knows(&op.at));
            if !superseded {
                last.push(i);
            }
        }
    }
    let role = |i: &usize| match &ops[*i].act {
        Act::Grant(grant) => grant.role,
        _ => Role::None,
    };
    if last.iter().any(|i| role(i) == Role::None) {
        return Role::None;
    }
    last.first().map(role).unwrap_or_default()
}

/// What an operation of a claim needs, given reasons other than the role.
pub(super) fn need(authors: &Authors, ops: &[AccessOp], claim: &Claim<'_>, op: &Op) -> Need {
    let author = &claim.at.entry.author;
    match op {
        Op::RemoveAuthor(last) if authors.are_one_person(author, &last.author) => Need::Nothing,
        Op::Confirm(confirm)
            if confirm.author != *author && authors.are_one_person(author, &confirm.author) =>
        {
            Need::Member
        }
        Op::Revoke(revoke) => {
            let issued = |op: &AccessOp| match &op.act {
                Act::Share { token, link_sign } => {
                    (*token == revoke.target || link_sign.0 == revoke.target)
                        && claim.knows(&op.at)
                        && authors.are_one_person(author, &op.at.entry.author)
                }
                _ => false,
            };
            if ops.iter().any(issued) { Need::Member } else { Need::Manage }
        }
        other => base_need(other),
    }
}

fn claim(ops: &[AccessOp], i: usize) -> Claim<'_> {
    Claim { at: ops[i].at, past: &ops[i].past, need: Need::Manage }
}

/// Some operations on membership, all or those that one author knew, and what becomes of them.
pub(super) struct Court<'a> {
    authors: &'a Authors,
    ops: &'a [AccessOp],
    /// Of all operations; those that are not here strike nothing.
    removals: &'a [Removal],
    /// The operations that are here, ascending.
    here: Vec<usize>,
}

impl<'a> Court<'a> {
    pub(super) fn new(
        authors: &'a Authors,
        ops: &'a [AccessOp],
        removals: &'a [Removal],
        here: Vec<usize>,
    ) -> Self {
        Self { authors, ops, removals, here }
    }

    /// Returns for each operation why it has no effect, and for each removal whether it stands. What is not here has
    /// none and does not.
    pub(super) fn decide(&self) -> (Vec<Option<Refusal>>, Set) {
        let first = |removal: &Removal| if self.is_open(removal) { Fate::Open } else { Fate::Void };
        let fates = resolve(self, self.removals.iter().map(first).collect());
        let standing: Set = fates.iter().map(|fate| *fate == Fate::Stands).collect();
        let mut void = self.judge_all(&standing, &standing);
        for (removal, fate) in self.removals.iter().zip(&fates) {
            void[removal.op] = match fate {
                Fate::Stands => None,
                _ => void[removal.op].or(Some(self.refusal_of(removal))),
            };
        }
        (void, standing)
    }

    /// Says whether a claim is allowed by the operations with effect, given the removals that stand.
    pub(super) fn allow(
        &self,
        claim: &Claim<'_>,
        standing: &Set,
        valid: impl Fn(usize) -> bool,
    ) -> Result<(), Refusal> {
        if self.authors.is_genesis(&claim.at.entry) {
            return Ok(());
        }
        for (r, removal) in self.removals.iter().enumerate() {
            if standing[r] && self.hits(r, claim, standing) {
                return Err(removal.takes.refusal());
            }
        }
        let role_allows = |key: MemberKey| {
            let known = |i: usize| valid(i) && claim.knows(&self.ops[i].at);
            claim.need.met_by(merged_role(self.ops, known, &key))
        };
        let allowed =
            claim.need == Need::Nothing || self.authors.members(&claim.at.entry.author).any(role_allows);
        if allowed { Ok(()) } else { Err(Refusal::Rights) }
    }

    /// Whether a removal may strike at all: it is here, does not name its own author, and its frontier does not lie
    /// below what its author knew.
    fn is_open(&self, removal: &Removal) -> bool {
        self.here.binary_search(&removal.op).is_ok()
            && !self.names_itself(removal)
            && !self.cuts_known(removal)
    }

    fn refusal_of(&self, removal: &Removal) -> Refusal {
        if !self.names_itself(removal) && self.cuts_known(removal) {
            Refusal::Frontier
        } else {
            Refusal::Rights
        }
    }

    fn names_itself(&self, removal: &Removal) -> bool {
        let by = &self.ops[removal.op].at.entry.author;
        matches!(&removal.takes, Takes::Author { author, .. } if author == by)
    }

    fn cuts_known(&self, removal: &Removal) -> bool {
        let past = &self.ops[removal.op].past;
        let cut = |(author, known): (&VerifyingKey, &u64)| {
            removal.takes.count(self.authors, author).is_some_and(|count| count < *known)
        };
        past.0.iter().any(cut)
    }

    fn claim(&self, i: usize) -> Claim<'a> {
        let op = &self.ops[i];
        let author = &op.at.entry.author;
        let need = match &op.act {
            Act::Grant(_) => Need::Manage,
            Act::Share { .. } => Need::Write,
            Act::RemoveAuthor { author: ended, .. } if self.authors.are_one_person(author, ended) => {
                Need::Nothing
            }
            Act::RemoveAuthor { .. } => Need::Manage,
        };
        Claim { at: op.at, past: &op.past, need }
    }

    /// Judges all operations that are here, in total order, so that each finds those it rests on judged.
    fn judge_all(&self, strikers: &Set, shields: &Set) -> Vec<Option<Refusal>> {
        let mut void = vec![Some(Refusal::Rights); self.ops.len()];
        for &i in &self.here {
            let claim = self.claim(i);
            let struck = |r: usize| strikers[r] && self.hits(r, &claim, shields);
            let striker = (0..self.removals.len()).find(|r| struck(*r));
            void[i] = match striker {
                Some(r) if !self.authors.is_genesis(&claim.at.entry) => {
                    Some(self.removals[r].takes.refusal())
                }
                _ => self.allow(&claim, &vec![false; self.removals.len()], |g| void[g].is_none()).err(),
            };
        }
        void
    }

    /// Whether removal `r` takes away what is claimed, past `shields`.
    fn hits(&self, r: usize, claim: &Claim<'_>, shields: &Set) -> bool {
        let entry = claim.at.entry;
        if self.authors.is_genesis(&entry) || self.ops[self.removals[r].op].at == claim.at {
            return false;
        }
        // An author that ended stays ended, whatever it knew and whatever its role; a lowered member that knows of it
        // goes by its role.
        let count = |r: usize| -> Option<u64> {
            let Removal { op, takes } = &self.removals[r];
            let taken = match takes {
                Takes::Author { .. } => true,
                Takes::Role { role, .. } => !claim.need.met_by(*role) && !claim.knows(&self.ops[*op].at),
            };
            takes.count(self.authors, &entry.author).filter(|_| taken)
        };
        let shielded = |q: usize| q != r && shields[q] && count(q).is_some_and(|count| count > entry.seq);
        count(r).is_some_and(|count| entry.seq >= count) && !(0..self.removals.len()).any(shielded)
    }

    /// The grants that an operation's author can rest it on.
    fn supports<'s>(&'s self, claim: &'s Claim<'_>) -> impl Iterator<Item = usize> + 's {
        self.here.iter().copied().filter(|i| match &self.ops[*i].act {
            Act::Grant(grant) => {
                claim.need != Need::Nothing
                    && claim.need.met_by(grant.role)
                    && claim.knows(&self.ops[*i].at)
                    && self.authors.is_of(&claim.at.entry.author, &grant.member)
            }
            _ => false,
        })
    }
}

impl Contest for Court<'_> {
    fn supported(&self, strikers: &Set, shields: &Set) -> Vec<bool> {
        let void = self.judge_all(strikers, shields);
        self.removals.iter().map(|removal| void[removal.op].is_none()).collect()
    }

    fn reach(&self, striker: usize, shields: &Set) -> Vec<Reach> {
        let mut reach: BTreeMap<usize, Reach> = BTreeMap::new();
        for &i in &self.here {
            let claim = self.claim(i);
            let through = |g: usize| reach.get(&g).is_some_and(|found| *found != Reach::Not);
            let found = if self.authors.is_genesis(&claim.at.entry) {
                Reach::Not
            } else if self.hits(striker, &claim, shields) {
                Reach::Direct
            } else if self.supports(&claim).any(through) {
                Reach::Indirect
            } else {
                Reach::Not
            };
            reach.insert(i, found);
        }
        self.removals.iter().map(|removal| reach.get(&removal.op).copied().unwrap_or_default()).collect()
    }
}
