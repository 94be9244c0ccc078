//! Own records and look-ups, as far as no network is needed: which keys, which bytes.

use libp2p::kad;
use locker_crypto::Refusal;
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{
    Address, Contact, DhtKey, Period, Publishers, Relay, check_record, open_record, periods_to_read,
    seal_record,
};
use locker_crypto::secret::RendezvousSecret;
use rand_core::CryptoRng;

use super::Publication;

/// Returns the key under which record r of a publication lies in a period.
pub(crate) fn key_of(publication: &Publication, r: u8, period: u64) -> DhtKey {
    Period::new(&publication.secret, period).dht_key(r)
}

/// Makes record r of a publication for a period at time `now`, with where this node is reached. It has no publisher.
///
/// # Errors
/// [`Refusal::Limit`] for more addresses or relays than fit.
pub(crate) fn make_record(
    publication: &Publication,
    r: u8,
    period: u64,
    (addresses, relays): (Vec<Address>, Vec<Relay>),
    now: u64,
    dice: &mut (impl CryptoRng + ?Sized),
) -> Result<kad::Record, Refusal> {
    let period = Period::new(&publication.secret, period);
    let contact = Contact { certificate: publication.certificate.clone(), addresses, relays };
    let value = seal_record(&period, r, &contact, now, dice)?;
    Ok(kad::Record::new(period.dht_key(r).to_vec(), value.to_vec()))
}

/// Returns every key under which a record may lie at time `now`.
pub(crate) fn keys_to_read(
    secret: &RendezvousSecret,
    publishers: Publishers,
    now: u64,
) -> Vec<(Period, DhtKey)> {
    let mut keys = Vec::new();
    for number in periods_to_read(now) {
        let period = Period::new(secret, number);
        keys.extend(publishers.read().map(|r| (period.clone(), period.dht_key(r))));
    }
    keys
}

/// Opens an answer of the DHT. Returns what it says and when it was issued.
///
/// # Errors
/// Those of [`open_record`]; [`Refusal::Canon`] for another key than was asked for.
pub(crate) fn read_record(
    period: &Period,
    key: &DhtKey,
    record: &kad::Record,
    expected: Option<&VerifyingKey>,
    now: u64,
) -> Result<(Contact, u64), Refusal> {
    if record.key.as_ref() != key {
        return Err(Refusal::Canon);
    }
    let publisher = record.publisher.map(|peer| peer.to_bytes());
    let contact = open_record(period, key, &record.value, publisher.as_deref(), expected, now)?;
    let issued = check_record(key, &record.value, publisher.as_deref(), now)?;
    Ok((contact, issued))
}
