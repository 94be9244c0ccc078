//! What is sent to a peer: ranges of chains in turn, and objects, within the peer's credit.

use std::collections::{BTreeMap, VecDeque};

use locker_crypto::id::{ObjectHash, VerifyingKey};

use super::{Action, Item};
use crate::frontier::{Log, View};
use crate::limits::CREDIT_BYTES;
use crate::message::v1::{LogKind, Message};
use crate::scope::Scope;

/// About how many bytes of one author are sent before the next author's turn.
const TURN_BYTES: u64 = 128 * 1_024;
/// Bytes that are loaded ahead.
const AHEAD_BYTES: u64 = 256 * 1_024;
/// Most that a peer's credit can come to: a peer does not make the count run over.
const CREDIT_MAX: u64 = 1 << 40;

/// A part of a chain that is to be sent.
#[derive(Debug)]
struct Range {
    log: Log,
    author: VerifyingKey,
    next: u64,
    to: u64,
}

/// An item that waits for credit.
#[derive(Debug)]
struct Ready {
    log: Log,
    author: VerifyingKey,
    item: Item,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    credit: u64,
    ranges: VecDeque<Range>,
    loading: Option<(u64, Range)>,
    requests: u64,
    ready: VecDeque<Ready>,
    ready_bytes: u64,
    objects: VecDeque<Vec<u8>>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            credit: CREDIT_BYTES,
            ranges: VecDeque::new(),
            loading: None,
            requests: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            objects: VecDeque::new(),
        }
    }
}

impl Outgoing {
    /// Queues a part of a chain. There is one range for each author, so that order within a chain holds and a peer
    /// that asks often makes no long queue.
    pub(super) fn serve(&mut self, log: Log, author: VerifyingKey, from: u64, to: u64) {
        match self.ranges.iter_mut().find(|range| range.log == log && range.author == author) {
            Some(range) => {
                range.next = range.next.min(from);
                range.to = range.to.max(to);
            }
            None => {
                let range = Range { log, author, next: from, to };
                match log.kind {
                    LogKind::Entries => self.ranges.push_back(range),
                    // Small, and nothing that was written with them may be there before them.
                    LogKind::Person | LogKind::Pins => self.ranges.push_front(range),
                }
            }
        }
    }

    pub(super) fn queue_object(&mut self, bytes: Vec<u8>) {
        self.objects.push_back(bytes);
    }

    pub(super) fn add_credit(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(bytes).min(CREDIT_MAX);
    }

    pub(super) fn take_loaded(&mut self, request: u64, items: Vec<Item>) {
        let Some((_, range)) = self.loading.take_if(|(awaited, _)| *awaited == request) else { return };
        let Some(last) = items.last().map(|item| item.seq) else { return };
        for item in items {
            self.ready_bytes += item.bytes.len() as u64;
            self.ready.push_back(Ready { log: range.log, author: range.author, item });
        }
        if last < range.to {
            // Back to the end of the queue: other authors keep their turn.
            self.serve(range.log, range.author, last + 1, range.to);
        }
    }

    /// Sends what the credit allows, and asks for more to send.
    pub(super) fn pump(&mut self, views: &mut BTreeMap<Log, View>, peer: &Scope, actions: &mut Vec<Action>) {
        while let Some(len) = self.objects.front().map(|bytes| bytes.len() as u64) {
            if len > self.credit {
                break;
            }
            let Some(bytes) = self.objects.pop_front() else { break };
            self.credit -= len;
            let hash = ObjectHash(*blake3::hash(&bytes).as_bytes());
            actions.push(Action::Send(Message::Object { hash, bytes }.encode()));
        }
        while let Some(Ready { log, item, .. }) = self.ready.front() {
            let len = item.bytes.len() as u64;
            let cost = if log.kind == LogKind::Entries { len } else { 0 };
            if cost > self.credit {
                break;
            }
            let Some(Ready { log, author, item }) = self.ready.pop_front() else { break };
            self.credit -= cost;
            self.ready_bytes -= len;
            if let Some(view) = views.get_mut(&log) {
                view.note_passed(author, item.seq);
            }
            let message = match log.kind {
                LogKind::Entries => Message::Entry(item.bytes),
                LogKind::Pins => Message::Pins(item.bytes),
                LogKind::Person => match peer.person(&log.tag) {
                    Some(person) => Message::Person { person, entries: vec![item.bytes] },
                    None => continue,
                },
            };
            actions.push(Action::Send(message.encode()));
        }
        if self.loading.is_none()
            && self.ready_bytes < AHEAD_BYTES
            && let Some(range) = self.ranges.pop_front()
        {
            self.requests += 1;
            actions.push(Action::Load {
                request: self.requests,
                log: range.log,
                author: range.author,
                from: range.next,
                to: range.to,
                bytes_max: TURN_BYTES,
            });
            self.loading = Some((self.requests, range));
        }
    }
}
