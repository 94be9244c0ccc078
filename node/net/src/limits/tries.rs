//! How often one source may fail to show that it knows a ticket.
//!
//! Plain state: time and sources come as arguments.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Source;

/// Sources whose tries are remembered; beyond it the one that began longest ago is forgotten.
const SOURCES_MAX: usize = 4_096;
const MINUTE: Duration = Duration::from_secs(60);

/// The tries of one source.
struct Minute {
    /// Since when `count` counts.
    since: Instant,
    count: u32,
}

/// Tries to pass message 1 of a pairing, by source.
///
/// A try counts when it begins, so that tries side by side are no way round the limit, and no longer once it passed. One
/// that is refused here does not count: whoever stops is heard again after a minute. Sources from which good sessions
/// came before are always heard.
pub(crate) struct Tries {
    per_minute: u32,
    sources: HashMap<Source, Minute>,
    known: HashSet<Source>,
}

impl Tries {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, sources: HashMap::new(), known: HashSet::new() }
    }

    /// Replaces the sources from which good sessions came before.
    pub(crate) fn set_known(&mut self, ips: impl IntoIterator<Item = IpAddr>) {
        self.known = ips.into_iter().map(Source::of).collect();
    }

    /// Counts a try; returns whether it may be made.
    pub(crate) fn begin(&mut self, source: Source, now: Instant) -> bool {
        if self.known.contains(&source) {
            return true;
        }
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            self.make_room(now);
        }
        let one = self.sources.entry(source).or_insert(Minute { since: now, count: 0 });
        if now.duration_since(one.since) >= MINUTE {
            *one = Minute { since: now, count: 0 };
        }
        let may = one.count < self.per_minute;
        one.count += u32::from(may);
        may
    }

    /// A try of this source passed.
    pub(crate) fn passed(&mut self, source: &Source) {
        if let Some(one) = self.sources.get_mut(source) {
            one.count = one.count.saturating_sub(1);
        }
    }

    fn make_room(&mut self, now: Instant) {
        self.sources.retain(|_, one| now.duration_since(one.since) < MINUTE);
        if self.sources.len() >= SOURCES_MAX {
            let oldest = self.sources.iter().min_by_key(|(_, one)| one.since).map(|(source, _)| *source);
            oldest.map(|source| self.sources.remove(&source));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }
}
