//! How far two nodes are in one log, and what follows from that (`docs/spec/12-sync.md`, section 3).
//!
//! [`View`] holds what this node has, what it knows the peer to have, and what it has asked for. Comparing gives pulls
//! and what is worth a warning; nothing here sends or stores.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::id::{SpaceTag, VerifyingKey};

use crate::limits::AUTHORS_MAX;
use crate::message::v1::{Head, LogKind, Pull};

/// A log: what kind, and under which tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Log {
    /// Its kind.
    pub kind: LogKind,
    /// A space, or a person.
    pub tag: SpaceTag,
}

/// What a frontier showed that a user wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warning {
    /// The peer holds another item with the number of our newest one. `E_FORK`.
    Fork {
        /// Whose.
        author: VerifyingKey,
        /// The number.
        seq: u64,
    },
    /// The peer offers less than it once offered or acknowledged. `E_ROLLBACK`.
    Rollback {
        /// Whose chain is shorter.
        author: VerifyingKey,
        /// What it offers now; `None` for nothing.
        offered: Option<u64>,
        /// What it offered or acknowledged before.
        before: u64,
    },
}

/// One author's chain in a log, as two nodes have it.
#[derive(Clone, Copy, Default, Debug)]
struct Chain {
    /// Our newest item.
    own: Option<(u64, [u8; 32])>,
    /// The newest number that the peer has, or that is on its way to it.
    theirs: Option<u64>,
    /// The newest item in its last frontier.
    shown: Option<(u64, [u8; 32])>,
    /// The newest number of ours in the last frontier that we sent: up to here the peer pulls.
    offered: Option<u64>,
    /// The last number that waits to be sent.
    queued: Option<u64>,
    /// The last number of a pull that is under way.
    asked: Option<u64>,
    /// What the peer once offered or acknowledged, in this session or before.
    before: Option<u64>,
    /// The last number of which we told that it is stored here.
    acked: Option<u64>,
}

/// Two nodes' knowledge of one log.
#[derive(Clone, Default, Debug)]
pub struct View {
    chains: BTreeMap<VerifyingKey, Chain>,
    /// Authors whose chain has come to its end here.
    closed: BTreeSet<VerifyingKey>,
    /// This node holds the log.
    held: bool,
    /// A frontier of the peer came.
    heard: bool,
    /// A frontier was sent.
    told: bool,
}

impl View {
    /// Sets what this node holds: the newest item of every author.
    pub fn set_own(&mut self, heads: &[Head]) {
        self.held = true;
        heads.iter().for_each(|head| self.advance_own(head));
    }

    /// Notes that an item is durable here. An older one than the newest changes nothing.
    pub fn advance_own(&mut self, head: &Head) {
        self.held = true;
        let chain = self.chains.entry(head.author).or_default();
        if chain.own.is_none_or(|(seq, _)| seq <= head.seq) {
            chain.own = Some((head.seq, head.id));
        }
        if chain.asked.is_some_and(|asked| asked <= head.seq) {
            chain.asked = None;
        }
    }

    /// Pulls and awaits nothing more of an author.
    pub fn close(&mut self, author: VerifyingKey) {
        self.closed.insert(author);
        if let Some(chain) = self.chains.get_mut(&author) {
            chain.asked = None;
        }
    }

    /// Notes what the peer once offered or acknowledged.
    pub fn remember(&mut self, author: VerifyingKey, seq: u64) {
        let chain = self.chains.entry(author).or_default();
        chain.before = chain.before.max(Some(seq));
    }

    /// Returns the newest item of each author here, sorted by author, for a frontier.
    pub fn own_heads(&self) -> impl Iterator<Item = Head> + '_ {
        self.chains
            .iter()
            .filter_map(|(author, chain)| chain.own.map(|(seq, id)| Head { author: *author, seq, id }))
    }

    /// Whether this node holds the log.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the peer told how far it is.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    /// Notes that these heads were told: the peer pulls up to them, and what comes later is pushed.
    pub fn note_told(&mut self, heads: &[Head]) {
        self.told = true;
        for head in heads {
            let chain = self.chains.entry(head.author).or_default();
            chain.offered = chain.offered.max(Some(head.seq));
        }
    }

    /// Takes a frontier of the peer. `complete` says that authors that are not in it have nothing there. Returns what
    /// is worth a warning.
    pub fn hear(&mut self, heads: &[Head], complete: bool) -> Vec<Warning> {
        self.heard = true;
        let mut warnings = Vec::new();
        for head in heads {
            let chain = self.chains.entry(head.author).or_default();
            chain.shown = Some((head.seq, head.id));
            // It showed more before, and does not have that: nothing comes.
            chain.asked = chain.asked.filter(|asked| *asked <= head.seq);
            chain.theirs = chain.theirs.max(Some(head.seq));
            if chain.own.is_some_and(|(seq, id)| seq == head.seq && id != head.id) {
                warnings.push(Warning::Fork { author: head.author, seq: head.seq });
            }
            if let Some(before) = chain.before.filter(|before| *before > head.seq) {
                let offered = Some(head.seq);
                warnings.push(Warning::Rollback { author: head.author, offered, before });
                // It lost what it had: what was sent is to be sent again.
                chain.theirs = Some(head.seq);
                chain.queued = None;
            }
            chain.before = Some(head.seq);
        }
        if complete {
            let shown =
                |author: &VerifyingKey| heads.binary_search_by_key(author, |head| head.author).is_ok();
            for (author, chain) in self.chains.iter_mut().filter(|(author, _)| !shown(author)) {
                chain.shown = None;
                chain.asked = None;
                if let Some(before) = chain.before.take() {
                    warnings.push(Warning::Rollback { author: *author, offered: None, before });
                    chain.theirs = None;
                    chain.queued = None;
                }
            }
            // Authors that neither end holds anything of are forgotten: a peer does not set our memory size.
            self.chains.retain(|_, chain| chain.own.is_some() || chain.shown.is_some());
        }
        warnings
    }

    /// Notes that the peer stored items up to `seq`.
    pub fn note_acked(&mut self, author: VerifyingKey, seq: u64) {
        if !self.chains.contains_key(&author) && self.chains.len() >= 2 * AUTHORS_MAX {
            return;
        }
        let chain = self.chains.entry(author).or_default();
        chain.theirs = chain.theirs.max(Some(seq));
        chain.before = chain.before.max(Some(seq));
    }

    /// Notes that an item came from the peer, or was sent to it.
    pub fn note_passed(&mut self, author: VerifyingKey, seq: u64) {
        let chain = self.chains.entry(author).or_default();
        chain.theirs = chain.theirs.max(Some(seq));
    }

    /// Whether the item is one that was pulled and is awaited.
    pub fn is_asked(&self, author: &VerifyingKey, seq: u64) -> bool {
        self.chains.get(author).is_some_and(|chain| chain.asked.is_some_and(|asked| seq <= asked))
    }

    /// Notes that an item came that was pulled; with the last one the pull is over.
    pub fn note_arrived(&mut self, author: VerifyingKey, seq: u64) {
        let chain = self.chains.entry(author).or_default();
        if chain.asked.is_some_and(|asked| asked <= seq) {
            chain.asked = None;
        }
    }

    /// Returns what this node lacks and the peer showed, and notes it as asked. Nothing before the log is held here:
    /// somebody has to know what it is.
    pub fn pulls(&mut self, log: Log) -> Vec<Pull> {
        if !self.held {
            return Vec::new();
        }
        let mut pulls = Vec::new();
        for (author, chain) in self.chains.iter_mut().filter(|(author, _)| !self.closed.contains(*author)) {
            let Some((to, id)) = chain.shown else { continue };
            let from = match chain.own {
                None => 0,
                Some((seq, own)) if seq == to && own != id => seq,
                Some((seq, _)) => seq.saturating_add(1),
            };
            if from <= to && chain.asked.is_none() {
                chain.asked = Some(to);
                pulls.push(Pull { kind: log.kind, tag: log.tag, author: *author, from, to });
            }
        }
        pulls
    }

    /// Returns the pull for an item that others wait for, if the peer can have it and it is not asked for already.
    pub fn pull_missing(&mut self, log: Log, author: VerifyingKey, seq: u64) -> Option<Pull> {
        let chain = self.chains.get_mut(&author)?;
        if chain.asked.is_some_and(|asked| seq <= asked) || chain.theirs.is_none_or(|theirs| theirs < seq) {
            return None;
        }
        let from = chain.own.map_or(0, |(own, _)| own.saturating_add(1)).min(seq);
        chain.asked = chain.asked.max(Some(seq));
        Some(Pull { kind: log.kind, tag: log.tag, author, from, to: seq })
    }

    /// Notes that nothing waits any more for an item up to the newest here: a pull for it that the peer did not answer is
    /// over, whoever it came from. `next` is the last one that is still pulled like this.
    pub fn note_found(&mut self, author: &VerifyingKey, seq: u64, next: Option<u64>) {
        if let Some(chain) = self.chains.get_mut(author)
            && chain.asked == Some(seq)
            && chain.own.is_some_and(|(own, _)| seq <= own)
        {
            chain.asked = next;
        }
    }

    /// Returns the part of a requested range that this node holds.
    pub fn clamp(&self, author: &VerifyingKey, from: u64, to: u64) -> Option<(u64, u64)> {
        let (newest, _) = self.chains.get(author)?.own?;
        let to = to.min(newest);
        (from <= to).then_some((from, to))
    }

    /// Returns what is to be pushed to the peer of one author: what is newer than all that it has, is about to get, and
    /// was told of. What it was told of and lacks it pulls itself.
    pub fn push_range(&self, author: &VerifyingKey) -> Option<(u64, u64)> {
        let chain = self.chains.get(author)?;
        let (newest, _) = chain.own?;
        let known = chain.theirs.max(chain.queued);
        if !self.heard || !self.told || known < chain.offered {
            return None;
        }
        let from = known.map_or(0, |known| known.saturating_add(1));
        (from <= newest).then_some((from, newest))
    }

    /// Notes that items up to `seq` wait to be sent.
    pub fn note_queued(&mut self, author: VerifyingKey, seq: u64) {
        let chain = self.chains.entry(author).or_default();
        chain.queued = chain.queued.max(Some(seq));
    }

    /// Returns up to which number the peer is to be told that an author's chain is stored here, if that is news.
    pub fn take_ack(&mut self, author: &VerifyingKey) -> Option<u64> {
        let chain = self.chains.get_mut(author)?;
        let (newest, _) = chain.own?;
        if chain.acked >= Some(newest) {
            return None;
        }
        chain.acked = Some(newest);
        Some(newest)
    }
}

impl View {
    /// Whether this node holds everything that the peer showed.
    pub fn is_level(&self) -> bool {
        self.chains.iter().filter(|(author, _)| !self.closed.contains(*author)).all(|(_, chain)| {
            chain.asked.is_none()
                && chain.shown.is_none_or(|(to, _)| chain.own.is_some_and(|(seq, _)| seq >= to))
        })
    }
}
