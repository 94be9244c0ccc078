//! Which branch of a forked author counts (`docs/spec/04-spaces.md`, "Forks").
//!
//! Pure: given the entries of one author from its first fork on, and the anchors (entries of others) with what they
//! hold of that author, [`Branches::counting`] names the entries that count.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::id::EntryId;

use crate::order::EntryOrder;

/// One entry of the forked author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// Its name.
    pub id: EntryId,
    /// The entry before it; zeros for the first.
    pub prev: EntryId,
}

/// What anchors hold of the forked author: for each set of last entries the least anchor with it.
pub type Anchors = BTreeMap<Vec<(u64, EntryId)>, EntryOrder>;

/// The entries of a forked author, from the first number that two entries share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branches {
    links: BTreeMap<EntryId, Link>,
    next: BTreeMap<EntryId, BTreeSet<EntryId>>,
    trunk: EntryId,
}

impl Branches {
    /// Takes the entries of the author; `trunk` is the last one before the fork, zeros if it starts at 0.
    pub fn new(trunk: EntryId, links: impl IntoIterator<Item = Link>) -> Self {
        let mut branches = Self { links: BTreeMap::new(), next: BTreeMap::new(), trunk };
        for link in links {
            branches.next.entry(link.prev).or_default().insert(link.id);
            branches.links.insert(link.id, link);
        }
        branches
    }

    /// Returns the entries at or above the fork that count, by number.
    ///
    /// `own` names an entry at the fork whose branch is the only one that can count: the genesis entry of a space is
    /// fixed by the name of the space.
    ///
    /// Cost: the number of distinct anchors times the number of entries above the fork.
    pub fn counting(&self, anchors: &Anchors, own: Option<EntryId>) -> BTreeMap<u64, EntryId> {
        let paths: Vec<(EntryOrder, BTreeSet<EntryId>)> =
            anchors.iter().map(|(tips, at)| (*at, self.held(tips))).collect();
        let mut counting = BTreeMap::new();
        let mut at = self.trunk;
        loop {
            let choices = self.next.get(&at);
            let next = match choices.map_or(0, BTreeSet::len) {
                0 => break,
                1 => choices.and_then(|set| set.first()).copied(),
                _ if at == self.trunk && own.is_some() => own,
                _ => self.decide(choices, &paths),
            };
            let fixed = at == self.trunk && next == own;
            match next {
                Some(id) if fixed || paths.iter().any(|(_, held)| held.contains(&id)) => {
                    counting.insert(self.links.get(&id).map_or(0, |link| link.seq), id);
                    at = id;
                }
                _ => break,
            }
        }
        counting
    }

    /// The least anchor that holds one branch only decides for it.
    fn decide(
        &self,
        choices: Option<&BTreeSet<EntryId>>,
        paths: &[(EntryOrder, BTreeSet<EntryId>)],
    ) -> Option<EntryId> {
        let branch_of = |held: &BTreeSet<EntryId>| {
            let mut branches = choices.into_iter().flatten().filter(|id| held.contains(id));
            let first = branches.next().copied();
            if branches.next().is_none() { first } else { None }
        };
        let deciding = paths.iter().filter_map(|(at, held)| Some((*at, branch_of(held)?)));
        deciding.min().map(|(_, id)| id)
    }

    /// All entries at or above the fork that reach back from `tips`.
    fn held(&self, tips: &[(u64, EntryId)]) -> BTreeSet<EntryId> {
        let mut held = BTreeSet::new();
        for (_, tip) in tips {
            let mut at = *tip;
            while let Some(link) = self.links.get(&at) {
                if !held.insert(at) {
                    break;
                }
                at = link.prev;
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::id::VerifyingKey;

    use super::*;

    fn id(n: u8) -> EntryId {
        EntryId([n; 32])
    }

    fn link(seq: u64, n: u8, prev: u8) -> Link {
        Link { seq, id: id(n), prev: id(prev) }
    }

    fn anchor(hlc: u64, tips: &[(u64, u8)]) -> (Vec<(u64, EntryId)>, EntryOrder) {
        let tips = tips.iter().map(|(seq, n)| (*seq, id(*n))).collect();
        (tips, EntryOrder { hlc, author: VerifyingKey([9; 32]), seq: hlc })
    }

    /// 1 - 2 - 3 - 4, and 3 - 5 - 6 beside it.
    fn two() -> Branches {
        let links = [link(2, 3, 2), link(3, 4, 3), link(2, 5, 2), link(3, 6, 5)];
        Branches::new(id(2), links)
    }

    #[test]
    fn without_an_anchor_nothing_above_counts() {
        assert!(two().counting(&Anchors::new(), None).is_empty());
    }

    #[test]
    fn the_least_single_anchor_decides_and_the_last_known_entry_ends() {
        let anchors = |list: Vec<_>| list.into_iter().collect::<Anchors>();
        let early = anchors(vec![anchor(5, &[(2, 5)]), anchor(9, &[(3, 4)])]);
        assert_eq!(two().counting(&early, None), BTreeMap::from([(2, id(5))]));
        let longer = anchors(vec![anchor(5, &[(2, 5)]), anchor(9, &[(3, 4), (3, 6)])]);
        assert_eq!(two().counting(&longer, None), BTreeMap::from([(2, id(5)), (3, id(6))]));
        // An anchor that holds both branches decides nothing.
        let both = anchors(vec![anchor(1, &[(2, 3), (2, 5)]), anchor(2, &[(2, 3)])]);
        assert_eq!(two().counting(&both, None), BTreeMap::from([(2, id(3))]));
        let only_both = anchors(vec![anchor(1, &[(2, 3), (2, 5)])]);
        assert!(two().counting(&only_both, None).is_empty());
    }

    #[test]
    fn a_branch_that_forks_again_is_decided_again() {
        let mut links = vec![link(2, 3, 2), link(2, 5, 2), link(3, 6, 5), link(4, 7, 6), link(4, 8, 6)];
        links.push(link(5, 9, 8));
        let branches = Branches::new(id(2), links);
        let anchors: Anchors = [anchor(5, &[(3, 6)]), anchor(7, &[(5, 9)]), anchor(8, &[(4, 7)])].into();
        let ids: Vec<_> = branches.counting(&anchors, None).into_values().collect();
        assert_eq!(ids, [id(5), id(6), id(8), id(9)]);
    }

    #[test]
    fn the_branch_of_the_genesis_entry_is_fixed() {
        let links = [link(0, 1, 0), link(0, 2, 0), link(1, 3, 1)];
        let branches = Branches::new(EntryId::ZERO, links);
        let ids = |anchors| branches.counting(&anchors, Some(id(1))).into_values().collect::<Vec<_>>();
        assert_eq!(ids(Anchors::new()), [id(1)]);
        assert_eq!(ids([anchor(5, &[(0, 2)])].into()), [id(1)]);
        assert_eq!(ids([anchor(5, &[(1, 3)])].into()), [id(1), id(3)]);
    }
}
