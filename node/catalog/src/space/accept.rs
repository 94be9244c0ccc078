//! Taking entries in: chain, deps and clock, then storing, then what the entry changes for those before it.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, NodeId, PersonId, VerifyingKey};

use super::knowledge::Knowledge;
use super::row::{
    self, DEFERRED, ENTRIES, EntryRow, FORKS, PERSONS, PLACES, ROOTS, SCOPES, SEALED, STANDING,
};
use super::settle::{Fork, ops_of};
use super::{OpenedEntry, Outcome, Report, Space};
use crate::access::Access;
use crate::clock;
use crate::log::{ChainPlace, Missing, judge_place};
use crate::operation::{EntryRef, Op};
use crate::order::EntryOrder;
use crate::roster::Roster;
use crate::rows::{ReadRows, RowError, WriteRows};
use crate::tree::{self, Shown};

/// Where an entry can go.
enum Verdict {
    Take { fork: bool, known: Knowledge },
    Held,
    Wait(Missing, Refusal),
    Refuse(Refusal),
}

/// One call: what time it is, what it found, and which entries it has stored.
struct Run {
    now_ms: u64,
    report: Report,
    stored: BTreeSet<EntryId>,
}

impl Run {
    fn new(now_ms: u64) -> Self {
        let report =
            Report { outcome: Outcome::Held, taken: Vec::new(), forked: Vec::new(), judged_from: None };
        Self { now_ms, report, stored: BTreeSet::new() }
    }
}

/// What was resolved before a change, to be compared with afterwards.
struct Before {
    access: Access,
    forks: BTreeMap<VerifyingKey, Fork>,
}

impl Space {
    /// Takes an entry that this device has just signed, under the limits of a writer, and returns the operations of it
    /// that would have no effect. If there is any, the caller gives up the transaction and this value: nothing of the
    /// entry may become durable or known to anybody.
    ///
    /// # Errors
    /// As [`Space::accept`].
    pub fn write(
        &mut self,
        rows: &mut dyn WriteRows,
        entry: OpenedEntry,
        now_ms: u64,
    ) -> Result<(Outcome, Vec<(u16, Refusal)>), RowError> {
        let order = entry.order();
        self.limits = tree::limits::WRITER;
        let report = self.take(rows, entry, Run::new(now_ms));
        self.limits = tree::limits::REPLAY;
        // Of what this device sees: an operation on what is held has no effect in the replayed tree, perhaps.
        let report = report?;
        Ok((report.outcome, tree::problems_of(&Shown::choose(&*rows, self.is_apart), &order)?))
    }

    /// Takes an entry whose layout, key, signature, space and seal were checked, and whatever waited for it. Entries that
    /// were deferred and whose time has come are taken before it, since it may rest on them.
    ///
    /// Cost: that of its operations in the tree ([`tree::apply`]); an operation on membership, or a fork, in addition
    /// judges anew the entries of the authors concerned.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it. The transaction is then given up, and this value with it.
    pub fn accept(
        &mut self,
        rows: &mut dyn WriteRows,
        entry: OpenedEntry,
        now_ms: u64,
    ) -> Result<Report, RowError> {
        let mut run = Run::new(now_ms);
        if self.has_due(rows, now_ms)? {
            self.release(rows, &mut run)?;
        }
        self.take(rows, entry, run)
    }

    fn take(
        &mut self,
        rows: &mut dyn WriteRows,
        entry: OpenedEntry,
        mut run: Run,
    ) -> Result<Report, RowError> {
        self.note_since(rows, run.now_ms)?;
        run.report.outcome = match self.place(rows, &entry)? {
            Verdict::Held => Outcome::Held,
            Verdict::Refuse(why) => Outcome::Refused(why),
            Verdict::Wait(missing, why) => {
                self.keep(entry, missing);
                Outcome::Waiting(why)
            }
            Verdict::Take { fork, known } => match self.store(rows, entry, fork, known, &mut run)? {
                Some(row) => {
                    self.count(rows, vec![row], &mut run)?;
                    Outcome::Taken
                }
                None => Outcome::Deferred,
            },
        };
        self.take_waiting(rows, &mut run)?;
        Ok(run.report)
    }

    /// Tells which devices belong to a person ([`crate::roster::Roster::brought_in`]), in place of what was told
    /// before. Entries that waited for this are taken.
    ///
    /// A device that two persons claim stays with the first one in the order of their ids.
    ///
    /// # Errors
    /// As [`Space::accept`].
    pub fn set_person(
        &mut self,
        rows: &mut dyn WriteRows,
        person: PersonId,
        devices: &BTreeSet<VerifyingKey>,
        now_ms: u64,
    ) -> Result<Report, RowError> {
        let mut persons = self.authors.persons.clone();
        persons.retain(|device, owner| *owner != person || devices.contains(device));
        for device in devices {
            let owner = persons.entry(*device).or_insert(person);
            *owner = (*owner).min(person);
        }
        let mut run = Run::new(now_ms);
        if persons == self.authors.persons {
            return Ok(run.report);
        }
        for gone in self.authors.persons.keys().filter(|device| !persons.contains_key(device)) {
            rows.delete(PERSONS, gone.as_ref())?;
        }
        for (device, owner) in &persons {
            if self.authors.persons.get(device) != Some(owner) {
                rows.put(PERSONS, device.as_ref(), owner.as_ref())?;
            }
        }
        self.authors.persons = persons;
        self.judge_anew(rows, Vec::new(), None, &mut run)?;
        if self.has_due(rows, now_ms)? {
            self.release(rows, &mut run)?;
        }
        run.report.outcome = Outcome::Taken;
        self.take_waiting(rows, &mut run)?;
        Ok(run.report)
    }

    /// Tells the root key of a person that is current. It decides about what a device of that person took away, where the
    /// device itself shows a decision under it.
    ///
    /// # Errors
    /// As [`Space::accept`].
    pub fn set_root(
        &mut self,
        rows: &mut dyn WriteRows,
        person: PersonId,
        root: VerifyingKey,
    ) -> Result<(), RowError> {
        if self.roots.insert(person, root) == Some(root) {
            return Ok(());
        }
        rows.put(ROOTS, person.as_ref(), root.as_ref())?;
        self.decide_holds(rows)
    }

    /// Tells what a person log comes to: [`Space::set_root`], then [`Space::set_person`].
    ///
    /// # Errors
    /// As [`Space::accept`].
    pub fn set_roster(
        &mut self,
        rows: &mut dyn WriteRows,
        person: PersonId,
        roster: &Roster,
        now_ms: u64,
    ) -> Result<Report, RowError> {
        self.set_root(rows, person, roster.root)?;
        self.set_person(rows, person, &roster.brought_in, now_ms)
    }

    /// Restricts an author to a folder, or lifts the restriction; the tree is replayed from the author's first entry.
    ///
    /// # Errors
    /// As [`Space::accept`].
    pub fn set_scope(
        &mut self,
        rows: &mut dyn WriteRows,
        author: VerifyingKey,
        folder: Option<NodeId>,
    ) -> Result<(), RowError> {
        if row::scope(rows, &author)? == folder {
            return Ok(());
        }
        match folder {
            Some(folder) => rows.put(SCOPES, author.as_ref(), folder.as_ref())?,
            None => rows.delete(SCOPES, author.as_ref())?,
        }
        match row::names_from(rows, &author, 0)?.first() {
            Some(first) => {
                let from = row::named(rows, first)?.order();
                self.rewind(rows, from)
            }
            None => Ok(()),
        }
    }

    /// Takes in deferred entries whose time has come.
    ///
    /// # Errors
    /// As [`Space::accept`].
    pub fn release_deferred(&mut self, rows: &mut dyn WriteRows, now_ms: u64) -> Result<Report, RowError> {
        let mut run = Run::new(now_ms);
        self.release(rows, &mut run)?;
        Ok(run.report)
    }

    fn release(&mut self, rows: &mut dyn WriteRows, run: &mut Run) -> Result<(), RowError> {
        let mut due = Vec::new();
        for (order, name) in row::places(rows, DEFERRED, &[], None)? {
            if clock::is_ahead(order.hlc, run.now_ms) {
                break;
            }
            rows.delete(DEFERRED, &row::place_key(&order, &name.id))?;
            run.report.taken.push(order);
            due.push(row::named(rows, &name)?);
        }
        if !due.is_empty() {
            run.report.outcome = Outcome::Taken;
            self.count(rows, due, run)?;
            self.take_waiting(rows, run)?;
        }
        Ok(())
    }

    /// Puts off entries of others that were taken in although their time has not come: all of them, by a clock that was
    /// ahead, or those of the key before, when this device begins anew under another one. The tree is replayed without
    /// them. Says how many. In a space that itself began ahead of the time none is: nothing would be left.
    ///
    /// # Errors
    /// As [`Space::accept`].
    pub fn put_off_ahead(&mut self, rows: &mut dyn WriteRows, now_ms: u64) -> Result<usize, RowError> {
        let Some(first) = clock::first_ahead(now_ms) else { return Ok(0) };
        if !self.has_begun(rows, now_ms)? {
            return Ok(0);
        }
        let mut early = Vec::new();
        for (order, name) in row::places(rows, PLACES, &first.to_be_bytes(), None)? {
            let place = row::place_key(&order, &name.id);
            if order.author != self.own && rows.get(DEFERRED, &place)?.is_none() {
                rows.put(DEFERRED, &place, &[])?;
                early.push(order);
            }
        }
        if let Some(first) = early.first() {
            self.judge_anew(rows, Vec::new(), Some(*first), &mut Run::new(now_ms))?;
            // What was held of them is counted when they are taken in.
            self.free(rows, &early)?;
        }
        Ok(early.len())
    }

    /// Finds where an entry stands: author, chain, deps, clock.
    fn place(&self, rows: &dyn ReadRows, entry: &OpenedEntry) -> Result<Verdict, RowError> {
        let is_genesis = entry.id.0 == self.id.0;
        if !is_genesis && !self.access.knows_author(&entry.author) {
            return Ok(Verdict::Wait(Missing::Author(entry.author), Refusal::Gap));
        }
        if is_genesis && (entry.seq != 0 || !entry.body.deps.is_empty()) {
            return Ok(Verdict::Refuse(Refusal::Canon));
        }
        let held = row::held(rows, &entry.author, entry.seq)?;
        let before = match entry.seq.checked_sub(1) {
            Some(seq) => row::held(rows, &entry.author, seq)?,
            None => Vec::new(),
        };
        let prev = EntryRef { author: entry.author, seq: entry.seq.saturating_sub(1), id: entry.prev };
        let missing = Missing::Entry { author: prev.author, seq: prev.seq, id: prev.id };
        let fork = match judge_place(entry.seq, &entry.id, &entry.prev, &held, &before) {
            ChainPlace::Held => return Ok(Verdict::Held),
            ChainPlace::Broken => return Ok(Verdict::Refuse(Refusal::Chain)),
            ChainPlace::Gap => return Ok(Verdict::Wait(missing, Refusal::Gap)),
            ChainPlace::Elsewhere => return Ok(Verdict::Wait(missing, Refusal::Chain)),
            ChainPlace::Next => false,
            ChainPlace::Fork => true,
        };
        let mut known = Knowledge::default();
        let chain = (entry.seq > 0).then_some(&prev);
        for name in chain.into_iter().chain(&entry.body.deps) {
            if name.author == entry.author && name != &prev {
                return Ok(Verdict::Refuse(Refusal::Canon));
            }
            let Some(other) = row::entry(rows, name)? else {
                let missing = Missing::Entry { author: name.author, seq: name.seq, id: name.id };
                return Ok(Verdict::Wait(missing, Refusal::Gap));
            };
            if entry.body.hlc <= other.body.hlc {
                return Ok(Verdict::Refuse(Refusal::Time));
            }
            known.learn(rows, &other)?;
        }
        Ok(Verdict::Take { fork, known })
    }

    /// Writes the rows of an entry. Returns it unless it is deferred.
    fn store(
        &mut self,
        rows: &mut dyn WriteRows,
        entry: OpenedEntry,
        fork: bool,
        known: Knowledge,
        run: &mut Run,
    ) -> Result<Option<EntryRow>, RowError> {
        let OpenedEntry { id, author, seq, prev, epoch, sealed, body } = entry;
        let row = EntryRow { author, seq, id, prev, epoch, known, body };
        let (name, place) = (row::name_key(&row.name()), row::place_key(&row.order(), &id));
        run.stored.insert(id);
        rows.put(SEALED, &name, &sealed)?;
        rows.put(ENTRIES, &name, &row.encode()?)?;
        rows.put(PLACES, &place, &[])?;
        if row.is_standing() {
            rows.put(STANDING, &place, &[])?;
        }
        if id.0 == self.id.0 {
            row::put_genesis(rows, &author)?;
            self.authors.genesis = Some(author);
        }
        if row::head(rows, &author)?.is_none_or(|head| seq > head.seq) {
            row::put_head(rows, &row.name())?;
        }
        if row.body.ops.iter().any(Op::is_newer) && !self.newer {
            row::put_newer(rows)?;
            self.newer = true;
        }
        if fork {
            run.report.forked.push(author);
            if row::forks(rows)?.get(&author).is_none_or(|first| seq < *first) {
                rows.put(FORKS, author.as_ref(), &seq.to_be_bytes())?;
            }
        }
        if author != self.own && clock::is_ahead(row.body.hlc, run.now_ms) {
            rows.put(DEFERRED, &place, &[])?;
            return Ok(None);
        }
        run.report.taken.push(row.order());
        Ok(Some(row))
    }

    /// Lets newly held entries take effect.
    fn count(&mut self, rows: &mut dyn WriteRows, new: Vec<EntryRow>, run: &mut Run) -> Result<(), RowError> {
        if self.bears_on_others(rows, &new)? {
            return self.judge_anew(rows, new, None, run);
        }
        let entries: Vec<&EntryRow> = new.iter().collect();
        self.apply(rows, &entries)?;
        self.brake(rows, &entries, run.now_ms)
    }

    /// Whether new entries can change what counts besides themselves: operations on membership, entries of a forked
    /// author, and first anchors of a branch.
    fn bears_on_others(&self, rows: &dyn ReadRows, new: &[EntryRow]) -> Result<bool, RowError> {
        let forks = row::forks(rows)?;
        for entry in new {
            if entry.is_standing() || forks.contains_key(&entry.author) {
                return Ok(true);
            }
            if self.is_new_anchor(rows, entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Resolves everything and replays the tree from the first entry that is judged differently, or from `from` on if
    /// that is earlier.
    fn judge_anew(
        &mut self,
        rows: &mut dyn WriteRows,
        new: Vec<EntryRow>,
        mut from: Option<EntryOrder>,
        run: &mut Run,
    ) -> Result<(), RowError> {
        let before = Before { access: self.access.clone(), forks: self.forks.clone() };
        let names: BTreeSet<EntryId> = new.iter().map(|entry| entry.id).collect();
        self.settle(rows)?;
        self.end_confirmed(rows)?;
        let mut joining = new;
        self.compare_branches(rows, &before, &names, &mut joining, &mut from)?;
        self.compare_verdicts(rows, &before, &names, &mut from)?;
        if let Some(from) = from {
            self.rewind(rows, from)?;
            let earlier = run.report.judged_from.get_or_insert(from);
            *earlier = (*earlier).min(from);
        }
        let joining: Vec<&EntryRow> =
            joining.iter().filter(|entry| self.is_of_counting_branch(&entry.name())).collect();
        self.apply(rows, &joining)?;
        self.brake(rows, &joining, run.now_ms)
    }

    /// Finds entries of forked authors that count now and did not, or the reverse.
    fn compare_branches(
        &self,
        rows: &dyn ReadRows,
        before: &Before,
        new: &BTreeSet<EntryId>,
        joining: &mut Vec<EntryRow>,
        from: &mut Option<EntryOrder>,
    ) -> Result<(), RowError> {
        for (author, fork) in &self.forks {
            let then = before.forks.get(author);
            if then.is_some_and(|then| then.first == fork.first && then.counting == fork.counting) {
                continue;
            }
            for name in row::names_from(rows, author, fork.first)? {
                let counted =
                    then.is_none_or(|f| name.seq < f.first || f.counting.get(&name.seq) == Some(&name.id));
                let counts = self.is_of_counting_branch(&name);
                if new.contains(&name.id) || counted == counts {
                    continue;
                }
                let entry = row::named(rows, &name)?;
                if row::is_deferred(rows, &entry)? {
                    continue;
                }
                lower(from, entry.order());
                if counts {
                    joining.push(entry);
                }
            }
        }
        Ok(())
    }

    /// Finds the first entry of which an operation is allowed now and was not, or the reverse.
    fn compare_verdicts(
        &self,
        rows: &dyn ReadRows,
        before: &Before,
        new: &BTreeSet<EntryId>,
        from: &mut Option<EntryOrder>,
    ) -> Result<(), RowError> {
        for (author, since) in self.access.changed_since(&before.access) {
            for name in row::names_from(rows, &author, since)? {
                if new.contains(&name.id) || !self.is_of_counting_branch(&name) {
                    continue;
                }
                let entry = row::named(rows, &name)?;
                if from.is_some_and(|from| entry.order() >= from) {
                    break;
                }
                let past = self.past(rows, &entry)?;
                let differs =
                    |(at, op)| self.access.judge(at, &past, op) != before.access.judge(at, &past, op);
                if ops_of(&entry).any(differs) {
                    lower(from, entry.order());
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes waiting entries until none is ready.
    fn take_waiting(&mut self, rows: &mut dyn WriteRows, run: &mut Run) -> Result<(), RowError> {
        loop {
            let access = &self.access;
            let mut ready = self.waiting.take_ready(|missing| match missing {
                Missing::Author(author) => access.knows_author(author),
                Missing::Entry { id, .. } => run.stored.contains(id),
            });
            if ready.is_empty() {
                return Ok(());
            }
            ready.sort_by_key(OpenedEntry::order);
            let mut taken = Vec::new();
            for entry in ready {
                match self.place(rows, &entry)? {
                    Verdict::Take { fork, known } => {
                        taken.extend(self.store(rows, entry, fork, known, run)?);
                    }
                    Verdict::Wait(missing, _) => self.keep(entry, missing),
                    Verdict::Held | Verdict::Refuse(_) => {}
                }
            }
            self.count(rows, taken, run)?;
        }
    }

    fn keep(&mut self, entry: OpenedEntry, missing: Missing) {
        let len = entry.sealed.len();
        self.waiting.keep(entry.id, entry, len, missing);
    }
}

fn lower(from: &mut Option<EntryOrder>, order: EntryOrder) {
    *from = Some(from.map_or(order, |from| from.min(order)));
}
