//! Removals that strike one another: which of them stand (`docs/spec/02-identity.md`, "Membership").
//!
//! One algorithm for persons and spaces. It knows removals by number only; who strikes whom is the business of
//! the [`Contest`] that [`crate::roster`] and [`crate::access`] each bring along.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// How one removal reaches another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Not at all.
    #[default]
    Not,
    /// The author of the other is its target.
    Direct,
    /// Somebody by whom the author of the other came in is its target.
    Indirect,
}

/// What becomes of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not yet known.
    Open,
    /// It has effect.
    Stands,
    /// It has none.
    Void,
}

/// A set of removals, by number.
pub(crate) type Set = Vec<bool>;

/// A set of removals with what they know of one another.
pub(crate) trait Contest {
    /// For each removal, whether it keeps its support when all of `strikers` strike and `shields` shield: a link of
    /// a support is not struck if another removal of the same author among `shields` has a frontier at or above it.
    /// `fates` is what is known of each removal so far.
    fn supported(&self, strikers: &Set, shields: &Set, fates: &[Fate]) -> Vec<bool>;

    /// Whether a removal takes anything away on which removals may rest, if it stands. Most do not, and are then left
    /// out of every set of strikers.
    fn strikes(&self, _removal: usize) -> bool {
        true
    }

    /// For each removal, how removal `striker` reaches a link of its support past `shields`.
    fn reach(&self, striker: usize, shields: &Set) -> Vec<Reach>;
}

/// Decides all that is open in `fates`. The result does not depend on how the removals are numbered.
///
/// Cost: at most one round per removal, each of as many passes over the ops as there are removals; removals are few.
pub(crate) fn resolve(contest: &impl Contest, mut fates: Vec<Fate>) -> Vec<Fate> {
    while fates.contains(&Fate::Open) {
        if !(0..fates.len()).any(|r| fates[r] != Fate::Void && contest.strikes(r)) {
            // Nothing strikes anything: what has support stands.
            let none = vec![false; fates.len()];
            let supported = contest.supported(&none, &none, &fates);
            for (fate, supported) in fates.iter_mut().zip(supported).filter(|(fate, _)| **fate == Fate::Open)
            {
                *fate = if supported { Fate::Stands } else { Fate::Void };
            }
            break;
        }
        let round = Round::new(contest, &fates);
        let mut next = fates.clone();
        for x in round.open() {
            if round.is_void(x) {
                next[x] = Fate::Void;
            } else if round.is_standing(x) {
                next[x] = Fate::Stands;
            }
        }
        if next == fates {
            round.break_rings(&mut next);
        }
        if next == fates {
            round.drop_unanswered_shields(&mut next);
        }
        if next == fates {
            // No rule is left. What nothing lets stand has no effect.
            next.iter_mut().filter(|fate| **fate == Fate::Open).for_each(|fate| *fate = Fate::Void);
        }
        fates = next;
    }
    fates
}

/// One look at all removals, before anything of the round is decided.
struct Round<'a, C> {
    contest: &'a C,
    fates: &'a [Fate],
    standing: Set,
    living: Set,
    /// Reach of each removal when only standing ones shield, and when open ones shield too.
    strict: Vec<Vec<Reach>>,
    shielded: Vec<Vec<Reach>>,
    /// Whether anything standing or open strikes it, answers included.
    doomed: Vec<bool>,
    /// What was asked of the contest in this round: most removals are struck by the same ones.
    asked: RefCell<BTreeMap<(Set, Set), Vec<bool>>>,
}

impl<'a, C: Contest> Round<'a, C> {
    fn new(contest: &'a C, fates: &'a [Fate]) -> Self {
        let standing: Set = fates.iter().map(|fate| *fate == Fate::Stands).collect();
        let living: Set = fates.iter().map(|fate| *fate != Fate::Void).collect();
        let reach = |shields: &Set| -> Vec<Vec<Reach>> {
            let of =
                |r: usize| if living[r] { contest.reach(r, shields) } else { vec![Reach::Not; fates.len()] };
            (0..fates.len()).map(of).collect()
        };
        let (strict, shielded) = (reach(&standing), reach(&living));
        let doomed =
            contest.supported(&living, &standing, fates).into_iter().map(|supported| !supported).collect();
        Self { contest, fates, standing, living, strict, shielded, doomed, asked: RefCell::default() }
    }

    fn open(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.fates.len()).filter(|x| self.fates[*x] == Fate::Open)
    }

    /// A removal struck by a standing one is void; here an open removal with the larger frontier also shields.
    fn is_void(&self, x: usize) -> bool {
        !self.holds(x, &self.standing, &self.living, &self.shielded)
    }

    /// A removal that nothing open or standing strikes stands; here only a standing one shields.
    fn is_standing(&self, x: usize) -> bool {
        self.holds(x, &self.living, &self.standing, &self.strict)
    }

    /// Whether `x` keeps its support against those of `strikers` that may strike it at all: not itself, and none
    /// that it strikes indirectly.
    fn holds(&self, x: usize, strikers: &Set, shields: &Set, reach: &[Vec<Reach>]) -> bool {
        let against: Set = (0..strikers.len())
            .map(|r| strikers[r] && self.contest.strikes(r) && self.may_strike(r, x, reach))
            .collect();
        let mut asked = self.asked.borrow_mut();
        let ask = |(against, shields): &(Set, Set)| self.contest.supported(against, shields, self.fates);
        asked.entry((against, shields.clone())).or_insert_with_key(ask)[x]
    }

    fn may_strike(&self, r: usize, x: usize, reach: &[Vec<Reach>]) -> bool {
        r != x && !(reach[x][r] == Reach::Indirect && self.doomed[r])
    }

    /// Of the rings of strikes, those that no other ring reaches stand as a whole (mutual removals).
    fn break_rings(&self, next: &mut [Fate]) {
        let open: Vec<usize> = self.open().collect();
        let strikes =
            |r: usize, x: usize| self.strict[r][x] != Reach::Not && self.may_strike(r, x, &self.strict);
        let mut paths: Vec<Set> = vec![vec![false; self.fates.len()]; self.fates.len()];
        for &start in &open {
            let mut todo = vec![start];
            while let Some(r) = todo.pop() {
                for &x in &open {
                    if !paths[start][x] && strikes(r, x) {
                        paths[start][x] = true;
                        todo.push(x);
                    }
                }
            }
        }
        let on_ring = |x: &usize| paths[*x][*x];
        for &x in open.iter().filter(|x| on_ring(x)) {
            let reached = open.iter().filter(|y| on_ring(y)).any(|y| paths[*y][x] && !paths[x][*y]);
            if !reached {
                next[x] = Fate::Stands;
            }
        }
    }

    /// A removal that lives only because it might be shielded by one that it strikes itself is void: else neither of
    /// the two could ever be decided.
    fn drop_unanswered_shields(&self, next: &mut [Fate]) {
        for x in self.open() {
            if !self.holds(x, &self.standing, &self.standing, &self.strict) {
                next[x] = Fate::Void;
            }
        }
    }
}
