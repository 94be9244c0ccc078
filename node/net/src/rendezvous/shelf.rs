//! The records of others that a DHT server keeps: only rendezvous records, bounded per source, and when full the
//! nearest by XOR stay, so that a flood of junk keys cannot push out what belongs here.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore};
use libp2p::kad::{KBucketDistance, KBucketKey, ProviderRecord, Record, RecordKey};
use locker_crypto::Refusal;
use locker_crypto::rendezvous::{AGE_MAX_S, check_record};

use crate::config::Clock;
use crate::limits::{Limits, Network, Source, count, subtract};

struct Kept {
    record: Record,
    issued: u64,
    source: Source,
    network: Network,
    distance: KBucketDistance,
}

/// The record store of the DHT behaviour. What a record costs does not grow with how many are kept.
pub(crate) struct RecordShelf {
    local: KBucketKey<PeerId>,
    records_max: usize,
    per_source_max: usize,
    per_network_max: usize,
    clock: Clock,
    kept: HashMap<RecordKey, Kept>,
    /// The keys of what is kept, the farthest last.
    by_distance: BTreeMap<KBucketDistance, RecordKey>,
    /// The same, by the time of issue.
    by_age: BTreeMap<(u64, KBucketDistance), RecordKey>,
    per_source: HashMap<Source, usize>,
    per_network: HashMap<Network, usize>,
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
            by_distance: BTreeMap::new(),
            by_age: BTreeMap::new(),
            per_source: HashMap::new(),
            per_network: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Takes a record that somebody at `from` put. Of two under one key the later issued stays, of equals the one
    /// received later. A source that has its share is refused before its record is looked at.
    ///
    /// # Errors
    /// [`Refusal::Quota`] if the source has its share, or the shelf is full of nearer ones; those of [`check_record`];
    /// [`Refusal::Time`] for a record older than the one kept.
    pub(crate) fn take(&mut self, record: Record, from: IpAddr) -> Result<(), Refusal> {
        let now = self.clock.now_s();
        self.drop_old(now);
        let (source, network) = (Source::of(from), Network::of(from));
        // What it replaces does not count.
        let old = self.kept.get(&record.key);
        let of_source =
            count(&self.per_source, &source) - usize::from(old.is_some_and(|old| old.source == source));
        let of_network =
            count(&self.per_network, &network) - usize::from(old.is_some_and(|old| old.network == network));
        if of_source >= self.per_source_max || of_network >= self.per_network_max {
            return Err(Refusal::Quota);
        }
        let publisher = record.publisher.map(|peer| peer.to_bytes());
        let issued = check_record(record.key.as_ref(), &record.value, publisher.as_deref(), now)?;
        if old.is_some_and(|old| issued < old.issued) {
            return Err(Refusal::Time);
        }
        let distance = self.local.distance(&KBucketKey::from(record.key.clone()));
        if old.is_none() && self.kept.len() >= self.records_max {
            match self.by_distance.last_key_value() {
                Some((farthest, key)) if distance < *farthest => self.drop_one(&key.clone()),
                _ => return Err(Refusal::Quota),
            }
        }
        self.drop_one(&record.key);
        self.by_distance.insert(distance, record.key.clone());
        self.by_age.insert((issued, distance), record.key.clone());
        *self.per_source.entry(source).or_default() += 1;
        *self.per_network.entry(network).or_default() += 1;
        self.kept.insert(record.key.clone(), Kept { record, issued, source, network, distance });
        Ok(())
    }

    /// Drops what is too old.
    fn drop_old(&mut self, now: u64) {
        while let Some(((issued, _), key)) = self.by_age.first_key_value()
            && now.saturating_sub(*issued) > AGE_MAX_S
        {
            self.drop_one(&key.clone());
        }
    }

    fn drop_one(&mut self, key: &RecordKey) {
        let Some(Kept { issued, source, network, distance, .. }) = self.kept.remove(key) else { return };
        self.by_distance.remove(&distance);
        self.by_age.remove(&(issued, distance));
        subtract(&mut self.per_source, source);
        subtract(&mut self.per_network, network);
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
        self.drop_one(key);
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
