//! What this device keeps of the content: its rule and the paths that are pinned (`docs/spec/08-at-rest.md`, "What a device
//! keeps").
//!
//! The rule is this device's own affair: others see by its pins what it holds. Here is what the rule asks for; letting go is
//! [`super::free`], which needs proofs, and who looks when is the node's (`node/ruling.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use locker_catalog::operation::NodeKind;
use locker_catalog::tree as catalog;
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader as Decoder, Writer};
use locker_crypto::id::NodeId;
use locker_store::index::{self, PackState};
use locker_store::settings::{self, Setting};
use locker_store::{Reads, Snapshot, WriteTxn, manifests};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::limits::{EXCESS_MAX, MANIFESTS_PER_LOOK, PINNED_MAX, RULE_PACKS};
use crate::locker::Inner;
use crate::reader::Reader;
use crate::report::{Freed, RuleTold};
use crate::tree::Tree;

/// Where rule and pinned paths stand.
const SETTING: Setting = Setting::engine(8);

/// What a device keeps beside what is pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Everything.
    #[default]
    All,
    /// Nothing else.
    Pinned,
    /// The files that were changed last, up to so many bytes.
    Newest(u64),
    /// Nothing else; for a device that only reads.
    None,
}

/// Rule and pinned files and folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ruling {
    rule: Rule,
    pinned: BTreeSet<NodeId>,
}

/// What an open locker remembers of its rule.
pub(crate) struct Ruled(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether it is another one than to keep everything.
    is_choosing: bool,
    /// What is here against the rule, since it was looked last.
    excess: Option<Excess>,
}

/// What is here although the rule does not ask for it.
#[derive(Clone, Debug)]
struct Excess {
    files: u64,
    bytes: u64,
    reason: String,
}

impl Ruled {
    /// Looks what the rule of a device is.
    pub(crate) fn load(snapshot: &Snapshot) -> Result<Self, Error> {
        let is_choosing = Ruling::read(snapshot)?.rule != Rule::All;
        Ok(Self(Mutex::new(State { is_choosing, excess: None })))
    }

    /// In which state a pack begins that is named here for the first time: what may not be asked for is read where it is.
    pub(crate) fn first_state(&self) -> PackState {
        if self.is_choosing() { PackState::Away } else { PackState::Wanted }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether not everything is kept.
    pub(crate) fn is_choosing(&self) -> bool {
        self.state().is_choosing
    }

    /// Notes what the last look left here.
    pub(crate) fn note(&self, freed: &Freed) {
        let reason = || freed.kept.first().map(|kept| kept.reason.clone()).unwrap_or_default();
        let excess = Excess { files: freed.kept_files, bytes: freed.kept_bytes, reason: reason() };
        self.state().excess = (freed.kept_files > 0).then_some(excess);
    }

    /// What is here against the rule, as a sentence.
    pub(crate) fn excess(&self) -> Option<String> {
        let excess = self.state().excess.clone()?;
        Some(format!(
            "{} files, {}, are here although the rule of this device does not ask for them: {}",
            excess.files,
            crate::status::human(excess.bytes),
            excess.reason
        ))
    }
}

impl Ruling {
    /// Reads the rule.
    fn read<R: Reads>(reads: &R) -> Result<Self, Error> {
        let Some(bytes) = settings::get(reads, SETTING)? else { return Ok(Self::default()) };
        Self::decode(&bytes).map_err(|why| Error::damaged("the rule of this device", why))
    }

    fn write(&self, txn: &mut WriteTxn<'_>) {
        settings::put(txn, SETTING, &self.encode());
    }

    fn encode(&self) -> Vec<u8> {
        let (code, bytes) = match self.rule {
            Rule::All => (0, 0),
            Rule::Pinned => (1, 0),
            Rule::Newest(bytes) => (2, bytes),
            Rule::None => (3, 0),
        };
        let mut w = Writer::new();
        w.array(4).u64(1).u64(code).u64(bytes).array(self.pinned.len());
        self.pinned.iter().for_each(|node| _ = w.bytes(node.as_ref()));
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Decoder::new(bytes);
        r.array_of(4)?;
        if r.u64()? != 1 {
            return Err(Refusal::Version);
        }
        let (code, bytes) = (r.u64()?, r.u64()?);
        let rule = match (code, bytes) {
            (0, 0) => Rule::All,
            (1, 0) => Rule::Pinned,
            (2, bytes) => Rule::Newest(bytes),
            (3, 0) => Rule::None,
            _ => return Err(Refusal::Canon),
        };
        let count = r.array()?;
        let pinned = (0..count).map(|_| Ok(NodeId(r.fixed()?))).collect::<Result<_, Refusal>>()?;
        r.finish()?;
        Ok(Self { rule, pinned })
    }
}

impl Inner {
    /// Changes the rule or what is pinned.
    fn change_rule(&self, change: impl FnOnce(&mut Ruling) -> Result<(), Error>) -> Result<Ruling, Error> {
        let ruling = self.store()?.write(|txn| {
            let mut ruling = Ruling::read(txn)?;
            change(&mut ruling)?;
            ruling.write(txn);
            Ok::<_, Error>(ruling)
        })?;
        {
            let mut state = self.ruled().state();
            state.is_choosing = ruling.rule != Rule::All;
            state.excess = None;
        }
        let _space = self.space();
        self.note_commit();
        Ok(ruling)
    }

    /// Sets the rule. What is still to come and is not asked for any more is not waited for.
    pub(crate) fn set_rule(&self, rule: Rule) -> Result<(), Error> {
        self.change_rule(|ruling| {
            ruling.rule = rule;
            Ok(())
        })?;
        if rule != Rule::All {
            self.stop_waiting()?;
        }
        Ok(())
    }

    /// Pins a file or folder, or ends that for it and all below it.
    pub(crate) fn set_pinned(&self, path: &str, is_pinned: bool) -> Result<(), Error> {
        let below = {
            let store = self.store()?;
            let snapshot = store.read()?;
            let tree = Tree::new(&snapshot, self.space_tag())?;
            let top = tree.resolve(path)?;
            if is_pinned {
                BTreeSet::from([top])
            } else {
                pinned_below(&tree, &Ruling::read(&snapshot)?, top)?
            }
        };
        self.change_rule(|ruling| {
            if is_pinned {
                ruling.pinned.extend(below);
            } else {
                ruling.pinned.retain(|node| !below.contains(node));
            }
            if ruling.pinned.len() > PINNED_MAX {
                return Err(Error::Limit(format!("at most {PINNED_MAX} files and folders can be pinned")));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Packs that were to come whole are read where they are from now on.
    fn stop_waiting(&self) -> Result<(), Error> {
        let store = self.store()?;
        let mut waited = Vec::new();
        index::scan_packs(&store.read()?, &mut |hash, pack| {
            if pack.state == PackState::Wanted {
                waited.push(hash);
            }
            ControlFlow::Continue(())
        })?;
        for group in waited.chunks(RULE_PACKS) {
            // First: once it is written, the rule may want some of them again.
            if let Some(hub) = self.node() {
                hub.unwant(group);
            }
            store.write::<_, Error>(|txn| {
                for hash in group {
                    if index::pack(txn, hash)?.is_some_and(|pack| pack.state == PackState::Wanted) {
                        index::set_state(txn, hash, PackState::Away)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Asks for what the rule wants here and is elsewhere. Gives files that are here without being asked for, at most
    /// [`EXCESS_MAX`].
    ///
    /// Cost: with another rule than to keep everything, all live files.
    pub(super) fn want_by_rule(&self) -> Result<BTreeSet<NodeId>, Error> {
        let (mut wanted, mut excess) = (BTreeSet::new(), BTreeSet::new());
        {
            let store = self.store()?;
            let snapshot = store.read()?;
            let ruling = Ruling::read(&snapshot)?;
            if ruling.rule == Rule::All {
                index::scan_packs(&snapshot, &mut |hash, pack| {
                    if pack.state == PackState::Away {
                        wanted.insert(hash);
                    }
                    ControlFlow::Continue(())
                })?;
            } else {
                let tree = Tree::new(&snapshot, self.space_tag())?;
                let reader = Reader::new(self, &store, &snapshot);
                let kept = kept(&tree, &ruling)?;
                let mut failure = Ok(());
                catalog::walk_live(tree.rows(), &mut |node, version, _| {
                    let is_kept = kept.contains(&node);
                    let read = reader.each_record(&version.file, &mut |record, _| {
                        for place in index::places(&snapshot, &self.space_tag(), &record.tag())? {
                            match index::pack(&snapshot, &place.pack)?.map(|pack| pack.state) {
                                Some(PackState::Away | PackState::Released) if is_kept => {
                                    wanted.insert(place.pack);
                                }
                                Some(PackState::Present { .. }) if !is_kept && excess.len() < EXCESS_MAX => {
                                    excess.insert(node);
                                }
                                _ => {}
                            }
                        }
                        Ok(())
                    });
                    match read {
                        // What it needs is not known here yet.
                        Ok(()) | Err(Error::Network(_) | Error::Integrity { .. }) => {
                            ControlFlow::Continue(())
                        }
                        Err(error) => {
                            failure = Err(error);
                            ControlFlow::Break(())
                        }
                    }
                })?;
                failure?;
            }
        }
        self.want_again(&wanted.into_iter().collect::<Vec<_>>())?;
        Ok(excess)
    }

    /// Fetches what large files list of their parts, where it is on other devices only: without it nobody could tell here
    /// what a file needs. Says whether some is still missing.
    pub(crate) fn fetch_manifests(&self) -> Result<bool, Error> {
        let mut found = Vec::new();
        let mut is_left = false;
        {
            let store = self.store()?;
            let snapshot = store.read()?;
            let tree = Tree::new(&snapshot, self.space_tag())?;
            let reader = Reader::new(self, &store, &snapshot).asking_others();
            let mut failure = Ok(());
            catalog::walk_live(tree.rows(), &mut |_, version, _| {
                if version.file.level() == 0 {
                    return ControlFlow::Continue(());
                }
                let read = reader.each_record(&version.file, &mut |record, is_manifest| {
                    let is_here =
                        !is_manifest || index::is_here(&snapshot, &self.space_tag(), &record.tag())?;
                    if !is_here && manifests::get(&snapshot, &self.space_tag(), &record.tag())?.is_none() {
                        found.push((record.tag(), reader.open_whole(record)?));
                    }
                    Ok(())
                });
                match read {
                    Ok(()) => {}
                    Err(Error::Network(_) | Error::Integrity { .. }) => is_left = true,
                    Err(error) => failure = Err(error),
                }
                let goes_on = failure.is_ok() && found.len() < MANIFESTS_PER_LOOK;
                if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            failure?;
        }
        let is_part = found.len() >= MANIFESTS_PER_LOOK;
        if !found.is_empty() {
            self.store()?.write::<_, Error>(|txn: &mut WriteTxn<'_>| {
                found.iter().for_each(|(tag, plain)| manifests::put(txn, &self.space_tag(), tag, plain));
                Ok(())
            })?;
        }
        Ok(is_left || is_part)
    }

    /// Tells the rule, and what is pinned.
    pub(crate) fn rule(&self) -> Result<RuleTold, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let ruling = Ruling::read(&snapshot)?;
        let tree = Tree::new(&snapshot, self.space_tag())?;
        let mut pinned = Vec::new();
        for node in &ruling.pinned {
            let path = if *node == NodeId::ROOT { Some(String::new()) } else { tree.path(*node)? };
            pinned.extend(path);
        }
        pinned.sort();
        Ok(RuleTold { rule: ruling.rule, pinned, excess: self.ruled().excess() })
    }
}

/// The files that a rule asks for.
fn kept(tree: &Tree<'_>, ruling: &Ruling) -> Result<BTreeSet<NodeId>, Error> {
    let mut kept = BTreeSet::new();
    for top in &ruling.pinned {
        kept.extend(files_at(tree, *top)?);
    }
    if let Rule::Newest(most) = ruling.rule {
        // The newest that fit, by age; what falls out at the old end comes back no more.
        let (mut newest, mut sum) = (BTreeMap::new(), 0_u64);
        catalog::walk_live(tree.rows(), &mut |node, version, _| {
            newest.insert((version.mtime_ms, node, version.vid), version.file.size());
            sum = sum.saturating_add(version.file.size());
            while sum > most
                && let Some((_, size)) = newest.pop_first()
            {
                sum = sum.saturating_sub(size);
            }
            ControlFlow::Continue(())
        })?;
        kept.extend(newest.into_keys().map(|(_, node, _)| node));
    }
    Ok(kept)
}

/// The file, or the files below a folder. Nothing if it is gone.
fn files_at(tree: &Tree<'_>, top: NodeId) -> Result<Vec<NodeId>, Error> {
    let mut found = Vec::new();
    let kind = match top {
        NodeId::ROOT => Some(NodeKind::Folder),
        _ => catalog::node(tree.rows(), top)?.map(|node| node.kind),
    };
    match kind {
        Some(NodeKind::File) => found.push(top),
        Some(_) => catalog::walk(tree.rows(), top, &mut |_, listed| {
            if listed.kind == NodeKind::File {
                found.push(listed.id);
            }
            ControlFlow::Continue(())
        })?,
        None => {}
    }
    Ok(found)
}

/// What is pinned at and below a node.
fn pinned_below(tree: &Tree<'_>, ruling: &Ruling, top: NodeId) -> Result<BTreeSet<NodeId>, Error> {
    let mut below = BTreeSet::new();
    for node in &ruling.pinned {
        let mut at = *node;
        while at != top && at != NodeId::ROOT && at != NodeId::TRASH {
            match catalog::node(tree.rows(), at)? {
                Some(found) => at = found.parent,
                None => break,
            }
        }
        if at == top {
            below.insert(*node);
        }
    }
    Ok(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_round_trip_or_are_refused() {
        let pinned = BTreeSet::from([NodeId([1; 16]), NodeId([9; 16])]);
        for rule in [Rule::All, Rule::Pinned, Rule::Newest(50_000_000_000), Rule::None] {
            let ruling = Ruling { rule, pinned: pinned.clone() };
            let bytes = ruling.encode();
            assert_eq!(Ruling::decode(&bytes).unwrap(), ruling);
            for bad in
                [&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &[&[0x84, 2], &bytes[2..]].concat()]
            {
                assert!(Ruling::decode(bad).is_err());
            }
        }
        assert_eq!(Ruling::decode(&[0x84, 1, 4, 0, 0x80]), Err(Refusal::Canon));
        assert_eq!(Ruling::decode(&[0x84, 1, 1, 7, 0x80]), Err(Refusal::Canon));
    }
}
