//! Which packs are fetched from whom: whole packs, each from one source at a time, bounded, sources in turn.
//!
//! Several devices that fetch the same from one slow source would all ask it for the same packs in the same order, and it
//! would send each of them everything. So a device takes, of the next few packs, first those that few have (rarest first, as in Cohen,
//! "Incentives Build Robustness in BitTorrent", 2003), and among these the ones that fall to it and not to another device that lacks
//! them too (highest random weight, Thaler and Ravishankar, 1998): what falls to another it gets from there.
//!
//! The plan holds what is wanted and who says that he has it. [`Plan::next_fetch`] gives out fetches; the engine carries them
//! out and says how they ended. What of a pack came before a break lies in its partial file and is not sent again:
//! the next fetch of it, from whatever source, asks only for the rest, and comes before what is not begun. A pack that is
//! done or under way is never given out again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use locker_crypto::id::{PackHash, SpaceTag, VerifyingKey};

use crate::limits::{BLOB_STREAMS, NODE_FLIGHT_BYTES, SESSION_FLIGHT_BYTES};

/// After so many failures in a row a source is not asked for a pack again until it offers it anew.
const FAILURES_MAX: u32 = 3;

/// Of so many packs that are next in the order in which they were wanted one is chosen.
const WINDOW: usize = 32;

/// A device that has packs: the key under which its session stands.
pub type Source = VerifyingKey;

/// Bounds of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Bytes in flight, of the node.
    pub node_bytes: u64,
    /// Bytes in flight, of one session.
    pub session_bytes: u64,
    /// Fetches under way of one session.
    pub session_streams: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            node_bytes: NODE_FLIGHT_BYTES,
            session_bytes: SESSION_FLIGHT_BYTES,
            session_streams: BLOB_STREAMS,
        }
    }
}

/// One pack to be fetched whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fetch {
    /// From whom.
    pub source: Source,
    /// In the context of which space.
    pub tag: SpaceTag,
    /// Which pack.
    pub pack: PackHash,
    /// Its length in bytes.
    pub len: u64,
}

/// How a fetch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The pack is durable.
    Done,
    /// The connection broke, or the source was too slow; it may be asked again.
    Broken,
    /// The source refused, or sent wrong bytes; it is not asked for this pack again.
    Refused,
}

#[derive(Debug)]
struct Wanted {
    tag: SpaceTag,
    len: u64,
    /// Who has it, and how often he failed in a row.
    sources: BTreeMap<Source, u32>,
    /// Who is sending it.
    under_way: Option<Source>,
    /// Something of it is here.
    is_begun: bool,
}

#[derive(Debug, Default)]
struct Session {
    bytes: u64,
    streams: usize,
    /// What it has and is wanted, in the order in which it was wanted.
    queue: VecDeque<PackHash>,
}

/// What is wanted from whom.
#[derive(Debug)]
pub struct Plan {
    bounds: Bounds,
    /// The key of this device.
    own: Source,
    wanted: BTreeMap<PackHash, Wanted>,
    sessions: BTreeMap<Source, Session>,
    /// Sources in the order of their turns.
    turns: VecDeque<Source>,
    bytes: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self::new(Bounds::default(), &VerifyingKey::ZERO)
    }
}

impl Plan {
    /// Starts with nothing wanted. `own` is the key of this device.
    pub fn new(bounds: Bounds, own: &VerifyingKey) -> Self {
        Self {
            bounds,
            own: *own,
            wanted: BTreeMap::new(),
            sessions: BTreeMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Wants a pack. One that is wanted already stays as it is.
    pub fn want(&mut self, tag: SpaceTag, pack: PackHash, len: u64) {
        self.wanted.entry(pack).or_insert_with(|| Wanted {
            tag,
            len,
            sources: BTreeMap::new(),
            under_way: None,
            is_begun: false,
        });
    }

    /// Notes that something of a wanted pack is here already, from before a restart: it is fetched before what is not
    /// begun.
    pub fn note_begun(&mut self, pack: &PackHash) {
        let Some(wanted) = self.wanted.get_mut(pack) else { return };
        wanted.is_begun = true;
        if wanted.under_way.is_none() {
            requeue(&mut self.sessions, wanted, *pack);
        }
    }

    /// Wants a pack no longer. A fetch under way goes on until it is told to have ended.
    pub fn forget(&mut self, pack: &PackHash) {
        if self.wanted.get(pack).is_some_and(|wanted| wanted.under_way.is_none()) {
            self.wanted.remove(pack);
        }
    }

    /// Notes that a session with a device stands: what it lacks too is shared out with it.
    pub fn meet(&mut self, source: Source) {
        self.offer(source, []);
    }

    /// Notes that a source has packs. Those that are not wanted are passed over.
    pub fn offer(&mut self, source: Source, packs: impl IntoIterator<Item = PackHash>) {
        let session = match self.sessions.entry(source) {
            Entry::Occupied(present) => present.into_mut(),
            Entry::Vacant(place) => {
                self.turns.push_back(source);
                place.insert(Session::default())
            }
        };
        for pack in packs {
            if let Some(wanted) = self.wanted.get_mut(&pack)
                && wanted.sources.insert(source, 0).is_none_or(|failures| failures >= FAILURES_MAX)
            {
                if wanted.is_begun {
                    session.queue.push_front(pack);
                } else {
                    session.queue.push_back(pack);
                }
            }
        }
    }

    /// Forgets a source whose session ended. What it was sending is free for others.
    pub fn lose(&mut self, source: &Source) {
        if self.sessions.remove(source).is_none() {
            return;
        }
        self.turns.retain(|turn| turn != source);
        for (pack, wanted) in &mut self.wanted {
            wanted.sources.remove(source);
            if wanted.under_way == Some(*source) {
                wanted.under_way = None;
                self.bytes -= wanted.len;
                requeue(&mut self.sessions, wanted, *pack);
            }
        }
    }

    /// Gives out the next fetch, if the bounds allow one. A pack that is larger than a bound goes alone.
    pub fn next_fetch(&mut self) -> Option<Fetch> {
        for _ in 0..self.turns.len() {
            let source = self.turns.pop_front()?;
            self.turns.push_back(source);
            if let Some(fetch) = self.next_of(source) {
                return Some(fetch);
            }
        }
        None
    }

    /// Notes how a fetch ended. One that the plan does not know of (its source was lost) changes nothing but that a
    /// pack that is done is no longer wanted.
    pub fn end(&mut self, fetch: &Fetch, outcome: Outcome) {
        let Some(wanted) = self.wanted.get_mut(&fetch.pack) else { return };
        let was_ours = wanted.under_way == Some(fetch.source);
        if was_ours {
            wanted.under_way = None;
            self.bytes -= wanted.len;
            if let Some(session) = self.sessions.get_mut(&fetch.source) {
                session.bytes -= wanted.len;
                session.streams -= 1;
            }
        }
        match outcome {
            Outcome::Done => {
                // Another source may be sending it as well, after its first one was lost.
                if let Some(other) = wanted.under_way
                    && let Some(session) = self.sessions.get_mut(&other)
                {
                    self.bytes -= wanted.len;
                    session.bytes -= wanted.len;
                    session.streams -= 1;
                }
                self.wanted.remove(&fetch.pack);
            }
            Outcome::Broken | Outcome::Refused if was_ours => {
                if let Some(failures) = wanted.sources.get_mut(&fetch.source) {
                    *failures = match outcome {
                        Outcome::Refused => FAILURES_MAX,
                        _ => failures.saturating_add(1),
                    };
                }
                requeue(&mut self.sessions, wanted, fetch.pack);
            }
            Outcome::Broken | Outcome::Refused => {}
        }
    }

    /// The packs that are being fetched.
    pub fn under_way(&self) -> impl Iterator<Item = PackHash> {
        self.wanted.iter().filter(|(_, wanted)| wanted.under_way.is_some()).map(|(pack, _)| *pack)
    }

    /// Number of packs that are wanted, those under way included.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Bytes of all fetches under way.
    pub fn bytes_in_flight(&self) -> u64 {
        self.bytes
    }

    /// Returns the wanted packs of a space that nobody present is known to have.
    pub fn without_source(&self) -> impl Iterator<Item = (SpaceTag, PackHash)> {
        self.wanted
            .iter()
            .filter(|(_, wanted)| wanted.sources.values().all(|failures| *failures >= FAILURES_MAX))
            .map(|(pack, wanted)| (wanted.tag, *pack))
    }

    fn next_of(&mut self, source: Source) -> Option<Fetch> {
        let Self { bounds, own, wanted, sessions, bytes, .. } = self;
        let others: Vec<Source> = sessions.keys().copied().collect();
        let session = sessions.get_mut(&source)?;
        if session.streams >= bounds.session_streams {
            return None;
        }
        // Packs that others have taken over meanwhile come back by `requeue` when those fail.
        let is_open = |pack: &PackHash| {
            wanted.get(pack).is_some_and(|wanted| {
                wanted.under_way.is_none() && wanted.sources.get(&source).is_some_and(|n| *n < FAILURES_MAX)
            })
        };
        let mut at = 0;
        while at < WINDOW.min(session.queue.len()) {
            if is_open(&session.queue[at]) {
                at += 1;
            } else {
                session.queue.remove(at);
            }
        }
        let rank = |pack: &PackHash| {
            let Some(one) = wanted.get(pack) else { return (true, usize::MAX, true, 0) };
            let mut lacking = others.iter().filter(|other| !one.sources.contains_key(*other));
            let weight = |device| weight(device, pack);
            let is_other = lacking.any(|other| weight(other) > weight(own));
            (!one.is_begun, one.sources.len(), is_other, !weight(own))
        };
        let (at, pack) =
            session.queue.iter().copied().enumerate().take(WINDOW).min_by_key(|(_, pack)| rank(pack))?;
        let entry = wanted.get_mut(&pack)?;
        let fits = |held: u64, most: u64| held == 0 || held.saturating_add(entry.len) <= most;
        if !fits(session.bytes, bounds.session_bytes) || !fits(*bytes, bounds.node_bytes) {
            return None;
        }
        session.queue.remove(at);
        session.bytes += entry.len;
        session.streams += 1;
        *bytes += entry.len;
        entry.under_way = Some(source);
        entry.is_begun = true;
        Some(Fetch { source, tag: entry.tag, pack, len: entry.len })
    }
}

/// Spreads what differs in any bit over all of them (the golden ratio in 64 bits: Knuth, TAOCP 3, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// To whom of those who lack it a pack falls: to the one with the greatest weight. Devices that see the same ones here reckon the same.
fn weight(device: &Source, pack: &PackHash) -> u64 {
    let head = |bytes: &[u8; 32]| {
        let [a, b, c, d, e, f, g, h, ..] = *bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    };
    (head(&device.0) ^ head(&pack.0)).wrapping_mul(SPREAD)
}

/// Puts a pack in front of the queues of all that have it: what was begun is finished first.
fn requeue(sessions: &mut BTreeMap<Source, Session>, wanted: &Wanted, pack: PackHash) {
    for (source, failures) in &wanted.sources {
        if *failures < FAILURES_MAX
            && let Some(session) = sessions.get_mut(source)
        {
            session.queue.push_front(pack);
        }
    }
}

#[cfg(test)]
mod tests;
