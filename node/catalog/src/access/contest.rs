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

/// The grants on each key, ascending by place.
pub(super) type Grants = BTreeMap<MemberKey, Vec<usize>>;

/// Lists the grants by key.
pub(super) fn grants(ops: &[AccessOp]) -> Grants {
    let mut grants = Grants::new();
    for (i, op) in ops.iter().enumerate() {
        if let Act::Grant(grant) = &op.act {
            grants.entry(grant.member).or_default().push(i);
        }
    }
    grants
}

/// Finds the operations that take rights away: every `remove_author`, and each grant of less than the member had by
/// the grant's own past, as that past by itself resolves.
pub(super) fn removals(authors: &Authors, ops: &[AccessOp], grants: &Grants) -> Vec<Removal> {
    let mut removals: Vec<Removal> = Vec::new();
    // What each operation comes to as long as nothing strikes: that follows from its own past, in every world.
    let mut calm: Vec<Option<Refusal>> = Vec::with_capacity(ops.len());
    for (i, op) in ops.iter().enumerate() {
        let court = Court::new(authors, ops, grants, &removals, Vec::new());
        let mut void =
            court.allow(&claim(authors, ops, i), &[], |g| calm.get(g).is_some_and(Option::is_none)).err();
        if let Some(takes) = court.takes(i, op, &calm) {
            let removal = Removal { op: i, takes, strikes: false };
            if court.names_itself(&removal) || court.cuts_known(&removal) {
                void = void.or(Some(court.refusal_of(&removal)));
            }
            let takes_away = |x| removal.takes_away(authors, ops, &claim(authors, ops, x)).is_some();
            let strikes = (0..ops.len()).any(takes_away);
            removals.push(Removal { strikes, ..removal });
        }
        calm.push(void);
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

/// Merges the grants on one key: of two that know one another the later; of concurrent ones a removal, else the
/// later in total order.
pub(super) fn merged_role(
    ops: &[AccessOp],
    grants: &Grants,
    counts: impl Fn(usize) -> bool,
    key: &MemberKey,
) -> Role {
    let mut last: Vec<(usize, Role)> = Vec::new();
    for &i in grants.get(key).into_iter().flatten().rev().filter(|i| counts(**i)) {
        let superseded = last.iter().any(|(later, _)| place(ops, *later).knows(&ops[i].at));
        if let (false, Act::Grant(grant)) = (superseded, &ops[i].act) {
            last.push((i, grant.role));
        }
    }
    if last.iter().any(|(_, role)| *role == Role::None) {
        return Role::None;
    }
    last.first().map(|(_, role)| *role).unwrap_or_default()
}

/// What an operation of a claim needs, given reasons other than the role.
pub(super) fn need(authors: &Authors, ops: &[AccessOp], claim: &Claim<'_>, op: &Op) -> Need {
    let author = &claim.at.entry.author;
    match op {
        Op::RemoveAuthor(last) if authors.are_one_person(author, &last.author) => Need::Nothing,
        Op::Confirm(confirm)
            if (confirm.author != *author || confirm.root_sig.is_some())
                && authors.are_one_person(author, &confirm.author) =>
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

/// Where an operation stands and what it knew.
fn place(ops: &[AccessOp], i: usize) -> Claim<'_> {
    Claim { at: ops[i].at, past: &ops[i].past, need: Need::Nothing }
}

/// What one of the operations on membership claims itself.
fn claim<'a>(authors: &Authors, ops: &'a [AccessOp], i: usize) -> Claim<'a> {
    let op = &ops[i];
    let need = match &op.act {
        Act::Grant(_) => Need::Manage,
        Act::Share { .. } => Need::Write,
        Act::RemoveAuthor { author, .. } if authors.are_one_person(&op.at.entry.author, author) => {
            Need::Nothing
        }
        Act::RemoveAuthor { .. } => Need::Manage,
    };
    Claim { at: op.at, past: &op.past, need }
}

impl Removal {
    /// If it takes away what is claimed unless something shields it: how many entries of the author it lets count.
    fn takes_away(&self, authors: &Authors, ops: &[AccessOp], claim: &Claim<'_>) -> Option<u64> {
        let count = self.counts_for(authors, ops, claim)?;
        (claim.at.entry.seq >= count).then_some(count)
    }

    /// How many entries of a claim's author it lets count, if it takes such a claim away at all.
    fn counts_for(&self, authors: &Authors, ops: &[AccessOp], claim: &Claim<'_>) -> Option<u64> {
        let (entry, own) = (claim.at.entry, &ops[self.op].at);
        if authors.is_genesis(&entry) || *own == claim.at {
            return None;
        }
        // An author that ended stays ended, whatever it knew and whatever its role; a lowered member that knows of it
        // goes by its role.
        let taken = match &self.takes {
            Takes::Author { .. } => true,
            Takes::Role { role, .. } => !claim.need.met_by(*role) && !claim.knows(own),
        };
        self.takes.count(authors, &entry.author).filter(|_| taken)
    }
}

/// Some operations on membership, all or those that one author knew, and what becomes of them.
pub(super) struct Court<'a> {
    authors: &'a Authors,
    ops: &'a [AccessOp],
    grants: &'a Grants,
    /// Of all operations; those that are not here strike nothing.
    removals: &'a [Removal],
    /// The operations that are here, ascending.
    here: Vec<usize>,
}

impl<'a> Court<'a> {
    pub(super) fn new(
        authors: &'a Authors,
        ops: &'a [AccessOp],
        grants: &'a Grants,
        removals: &'a [Removal],
        here: Vec<usize>,
    ) -> Self {
        Self { authors, ops, grants, removals, here }
    }

    /// What an operation takes away, if anything. Of the removals those before it must be here.
    fn takes(&self, i: usize, op: &AccessOp, calm: &[Option<Refusal>]) -> Option<Takes> {
        match &op.act {
            Act::RemoveAuthor { author, count } => Some(Takes::Author { author: *author, count: *count }),
            Act::Grant(grant) if takes_from(grant.role, self.role_seen(i, grant, calm)) => {
                let counts = grant.valid_from.iter().map(|last| (last.author, count(last))).collect();
                Some(Takes::Role { member: grant.member, role: grant.role, counts })
            }
            Act::Grant(_) | Act::Share { .. } => None,
        }
    }

    /// The role of the member of a grant, in a world that ends with what the grant's author knew.
    fn role_seen(&self, grant: usize, of: &Grant, calm: &[Option<Refusal>]) -> Role {
        let place = place(self.ops, grant);
        let known = |i: &usize| *i < grant && place.knows(&self.ops[*i].at);
        if !self.grants.get(&of.member).into_iter().flatten().any(known) {
            return Role::None;
        }
        let role = |void: &[Option<Refusal>]| {
            merged_role(self.ops, self.grants, |i| known(&i) && void[i].is_none(), &of.member)
        };
        if self.removals.iter().any(|removal| removal.strikes && known(&removal.op)) {
            let here: Vec<usize> = (0..grant).filter(known).collect();
            role(&Court { here, ..*self }.decide().0)
        } else {
            role(calm)
        }
    }

    /// Returns for each operation why it has no effect, and for each removal whether it stands. What is not here has
    /// none and does not.
    pub(super) fn decide(&self) -> (Vec<Option<Refusal>>, Set) {
        let first = |removal: &Removal| if self.is_open(removal) { Fate::Open } else { Fate::Void };
        let fates = resolve(self, self.removals.iter().map(first).collect());
        let standing: Set = fates.iter().map(|fate| *fate == Fate::Stands).collect();
        let void = self.judge_all(&standing, &standing, &fates);
        (void, standing)
    }

    /// Says whether a claim is allowed by the operations with effect, given the removals that stand.
    pub(super) fn allow(
        &self,
        claim: &Claim<'_>,
        standing: &[bool],
        valid: impl Fn(usize) -> bool,
    ) -> Result<(), Refusal> {
        if self.authors.is_genesis(&claim.at.entry) {
            return Ok(());
        }
        for (r, removal) in self.removals.iter().enumerate().take(standing.len()) {
            if standing[r] && self.hits(r, claim, standing) {
                return Err(removal.takes.refusal());
            }
        }
        let role_allows = |key: MemberKey| {
            let known = |i: usize| valid(i) && claim.knows(&self.ops[i].at);
            claim.need.met_by(merged_role(self.ops, self.grants, known, &key))
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

    /// Judges all operations that are here, in total order, so that each finds those it rests on judged.
    ///
    /// A removal whose fate is known has effect, or none, by that alone: one of a ring stands although it is struck.
    fn judge_all(&self, strikers: &Set, shields: &Set, fates: &[Fate]) -> Vec<Option<Refusal>> {
        let mut void = vec![Some(Refusal::Rights); self.ops.len()];
        let strikers: Vec<usize> =
            (0..self.removals.len()).filter(|r| strikers[*r] && self.removals[*r].strikes).collect();
        for &i in &self.here {
            let claim = claim(self.authors, self.ops, i);
            let judged = match strikers.iter().find(|r| self.hits(**r, &claim, shields)) {
                Some(r) => Some(self.removals[*r].takes.refusal()),
                None => self.allow(&claim, &[], |g| void[g].is_none()).err(),
            };
            void[i] = match self.removals.binary_search_by_key(&i, |removal| removal.op) {
                Ok(r) if fates[r] == Fate::Stands => None,
                Ok(r) if fates[r] == Fate::Void => judged.or(Some(self.refusal_of(&self.removals[r]))),
                _ => judged,
            };
        }
        void
    }

    /// Whether removal `r` takes away what is claimed, past `shields`.
    fn hits(&self, r: usize, claim: &Claim<'_>, shields: &[bool]) -> bool {
        let seq = claim.at.entry.seq;
        let shielded = || {
            let count = |q: usize| self.removals[q].counts_for(self.authors, self.ops, claim);
            (0..self.removals.len())
                .any(|q| q != r && shields[q] && count(q).is_some_and(|count| count > seq))
        };
        self.removals[r].takes_away(self.authors, self.ops, claim).is_some() && !shielded()
    }

    /// Whether an operation's author rests it on a grant that `is` so.
    fn rests_on(&self, claim: &Claim<'_>, is: impl Fn(usize) -> bool) -> bool {
        let fits = |i: &usize| match &self.ops[*i].act {
            Act::Grant(grant) => claim.need.met_by(grant.role) && claim.knows(&self.ops[*i].at) && is(*i),
            _ => false,
        };
        let members = self.authors.members(&claim.at.entry.author);
        let mut grants = members.filter_map(|key| self.grants.get(&key)).flatten();
        claim.need != Need::Nothing && grants.any(fits)
    }
}

impl Contest for Court<'_> {
    fn strikes(&self, removal: usize) -> bool {
        self.removals[removal].strikes
    }

    fn supported(&self, strikers: &Set, shields: &Set, fates: &[Fate]) -> Vec<bool> {
        let void = self.judge_all(strikers, shields, fates);
        self.removals.iter().map(|removal| void[removal.op].is_none()).collect()
    }

    fn reach(&self, striker: usize, shields: &Set) -> Vec<Reach> {
        if !self.removals[striker].strikes {
            return vec![Reach::Not; self.removals.len()];
        }
        let mut reach: BTreeMap<usize, Reach> = BTreeMap::new();
        for &i in &self.here {
            let claim = claim(self.authors, self.ops, i);
            let through = |g: usize| reach.get(&g).is_some_and(|found| *found != Reach::Not);
            let found = if self.authors.is_genesis(&claim.at.entry) {
                Reach::Not
            } else if self.hits(striker, &claim, shields) {
                Reach::Direct
            } else if self.rests_on(&claim, through) {
                Reach::Indirect
            } else {
                Reach::Not
            };
            reach.insert(i, found);
        }
        self.removals.iter().map(|removal| reach.get(&removal.op).copied().unwrap_or_default()).collect()
    }
}
