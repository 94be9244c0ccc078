//! The records of others that a DHT server keeps: only rendezvous records, bounded per source, and when full the
//! nearest by XOR stay, so that a flood of junk keys cannot push out what belongs here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore};
use libp2p::kad::{KBucketDistance, KBucketKey, ProviderRecord, Record, RecordKey};
use locker_crypto::Refusal;
use locker_crypto::rendezvous::{AGE_MAX_S, check_record};

use crate::config::Clock;
use crate::limits::{Limits, Network, Source};

struct Kept {
    record: Record,
    issued: u64,
    source: Source,
    network: Network,
    distance: KBucketDistance,
}

/// The record store of the DHT behaviour.
pub(crate) struct RecordShelf {
    local: KBucketKey<PeerId>,
    records_max: usize,
    per_source_max: usize,
    per_network_max: usize,
    clock: Clock,
    kept: HashMap<RecordKey, Kept>,
}

impl RecordShelf {
    pub(crate) fn new(local: PeerId, limits: &Limits, clock: Clock) -> Self {
        Self {
            local: KBucketKey::from(local),
            records_max: limits.records,
            per_source_max: limits.records_per_source,
            per_network_max: limits.records_per_network,
            clock,
            kept: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Takes a record that somebody at `from` put. Of two under one key the later issued stays, of equals the one
    /// received later. Looks at every record kept when it is full or its source is not new.
    ///
    /// # Errors
    /// Those of [`check_record`]; [`Refusal::Time`] for a record older than the one kept; [`Refusal::Quota`] if the
    /// source has its share, or the shelf is full of nearer ones.
    pub(crate) fn take(&mut self, record: Record, from: IpAddr) -> Result<(), Refusal> {
        let now = self.clock.now_s();
        let publisher = record.publisher.map(|peer| peer.to_bytes());
        let issued = check_record(record.key.as_ref(), &record.value, publisher.as_deref(), now)?;
        let (source, network) = (Source::of(from), Network::of(from));
        let distance = self.local.distance(&KBucketKey::from(record.key.clone()));
        if self.kept.get(&record.key).is_some_and(|old| issued < old.issued) {
            return Err(Refusal::Time);
        }
        self.kept.retain(|_, one| now.saturating_sub(one.issued) <= AGE_MAX_S);
        // What it replaces does not count.
        let others = || self.kept.iter().filter(|(key, _)| **key != record.key).map(|(_, one)| one);
        let of_source = others().filter(|one| one.source == source).count();
        let of_network = others().filter(|one| one.network == network).count();
        if of_source >= self.per_source_max || of_network >= self.per_network_max {
            return Err(Refusal::Quota);
        }
        if others().count() >= self.records_max {
            let farthest = self.kept.iter().max_by_key(|(_, one)| one.distance);
            match farthest.map(|(key, one)| (key.clone(), one.distance)) {
                Some((key, farthest)) if distance < farthest => drop(self.kept.remove(&key)),
                _ => return Err(Refusal::Quota),
            }
        }
        self.kept.insert(record.key.clone(), Kept { record, issued, source, network, distance });
        Ok(())
    }
}

impl RecordStore for RecordShelf {
    type RecordsIter<'a> = Box<dyn Iterator<Item = Cow<'a, Record>> + 'a>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let kept = self.kept.get(key)?;
        let fresh = self.clock.now_s().saturating_sub(kept.issued) <= AGE_MAX_S;
        fresh.then_some(Cow::Borrowed(&kept.record))
    }

    /// Refused: what comes from the wire goes through [`RecordShelf::take`], and this node puts nothing here itself.
    fn put(&mut self, _: Record) -> Result<(), Error> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, key: &RecordKey) {
        self.kept.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        Box::new(self.kept.values().map(|one| Cow::Borrowed(&one.record)))
    }

    /// Refused always: nobody announces here what he holds.
    fn add_provider(&mut self, _: ProviderRecord) -> Result<(), Error> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

#[cfg(test)]
mod tests;
