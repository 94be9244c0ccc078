//! What came from a peer and is not stored yet: its credit, and authors that are too fast.

use std::collections::{BTreeMap, VecDeque};

use locker_crypto::Refusal;
use locker_crypto::id::{ObjectHash, VerifyingKey};

use super::Action;
use crate::frontier::Log;
use crate::limits::{AUTHOR_ENTRIES_PER_MINUTE, CREDIT_BYTES, UNTAKEN_BYTES_MAX};

const MINUTE_MS: u64 = 60_000;

/// Something that was given to the store.
#[derive(Debug)]
struct Ticket {
    /// Bytes of the message.
    len: u64,
    /// Credit to give back.
    credit: u64,
    /// The envelope of a depositor.
    envelope: Option<ObjectHash>,
}

/// An entry of an author that is too fast.
#[derive(Debug)]
struct Slowed {
    seq: u64,
    bytes: Vec<u8>,
}

/// How many entries of an author came in the present minute.
#[derive(Debug, Default)]
struct Rate {
    since_ms: u64,
    count: u32,
    slowed: VecDeque<Slowed>,
}

impl Rate {
    /// Counts an entry, unless this minute is full.
    fn admit(&mut self, now_ms: u64) -> bool {
        if now_ms < self.since_ms || now_ms - self.since_ms >= MINUTE_MS {
            self.since_ms = now_ms;
            self.count = 0;
        }
        let free = self.count < AUTHOR_ENTRIES_PER_MINUTE;
        self.count += u32::from(free);
        free
    }
}

#[derive(Debug)]
pub(super) struct Incoming {
    /// Whether authors may be as fast as they like: the peer is an own device.
    is_trusted: bool,
    /// What the peer may still send.
    granted: u64,
    /// What it may send again with the next CREDIT.
    regained: u64,
    tickets: BTreeMap<u64, Ticket>,
    next_ticket: u64,
    untaken: u64,
    rates: BTreeMap<(Log, VerifyingKey), Rate>,
    slowed_bytes: u64,
}

impl Incoming {
    pub(super) fn new(is_trusted: bool) -> Self {
        Self {
            is_trusted,
            granted: CREDIT_BYTES,
            regained: 0,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            untaken: 0,
            rates: BTreeMap::new(),
            slowed_bytes: 0,
        }
    }

    /// Books bytes of an entry or object.
    pub(super) fn spend(&mut self, len: u64) -> Result<(), Refusal> {
        self.granted = self.granted.checked_sub(len).ok_or(Refusal::Limit)?;
        Ok(())
    }

    /// Whether an entry that was not asked for may be stored now; else it is kept until its author's turn.
    pub(super) fn may_take(
        &mut self,
        log: Log,
        author: VerifyingKey,
        seq: u64,
        bytes: Vec<u8>,
        now_ms: u64,
    ) -> Option<Vec<u8>> {
        if self.is_trusted {
            return Some(bytes);
        }
        let rate = self.rates.entry((log, author)).or_default();
        // In order: nothing overtakes what waits already.
        if rate.slowed.is_empty() && rate.admit(now_ms) {
            return Some(bytes);
        }
        // Up to one window of slowed entries leaves the window free for the entries of others.
        let len = bytes.len() as u64;
        if self.slowed_bytes + len <= CREDIT_BYTES {
            self.regained += len;
        }
        self.slowed_bytes += len;
        rate.slowed.push_back(Slowed { seq, bytes });
        None
    }

    /// Gives slowed entries to the store as far as their authors' rates allow.
    pub(super) fn release_slowed(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let mut rates = std::mem::take(&mut self.rates);
        for ((log, author), rate) in &mut rates {
            while !rate.slowed.is_empty() && rate.admit(now_ms) {
                let Some(Slowed { seq, bytes }) = rate.slowed.pop_front() else { break };
                let len = bytes.len() as u64;
                // What was given back at once is not given back again.
                let beyond = self.slowed_bytes.saturating_sub(CREDIT_BYTES).min(len);
                self.slowed_bytes -= len;
                let ticket = self.issue(len, beyond, None);
                actions.push(Action::Take { ticket, log: *log, author: *author, seq, bytes });
            }
        }
        rates.retain(|_, rate| !rate.slowed.is_empty() || now_ms.saturating_sub(rate.since_ms) < MINUTE_MS);
        self.rates = rates;
    }

    /// Numbers something that goes to the store.
    pub(super) fn issue(&mut self, len: u64, credit: u64, envelope: Option<ObjectHash>) -> u64 {
        self.next_ticket += 1;
        self.untaken += len;
        self.tickets.insert(self.next_ticket, Ticket { len, credit, envelope });
        self.next_ticket
    }

    /// Ends a ticket. Returns the envelope it was for.
    pub(super) fn finish(&mut self, ticket: u64) -> Option<ObjectHash> {
        let ticket = self.tickets.remove(&ticket)?;
        self.untaken -= ticket.len;
        self.regained += ticket.credit;
        ticket.envelope
    }

    /// Returns what the peer may send in addition, and books it.
    pub(super) fn take_credit(&mut self) -> Option<u64> {
        let bytes = std::mem::take(&mut self.regained);
        self.granted += bytes;
        (bytes > 0).then_some(bytes)
    }

    pub(super) fn has_room(&self) -> bool {
        self.untaken + self.slowed_bytes < UNTAKEN_BYTES_MAX
    }

    /// Whether the peer is to get credit.
    pub(super) fn has_credit(&self) -> bool {
        self.regained > 0
    }

    /// Whether entries wait for their authors' rates.
    pub(super) fn has_slowed(&self) -> bool {
        self.slowed_bytes > 0
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tickets.is_empty() && self.slowed_bytes == 0
    }
}
