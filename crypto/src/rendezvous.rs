//! Meeting under a shared secret R: where records lie in the DHT, what is in them, and the ids of the LAN beacon
//! (`docs/spec/09-rendezvous.md`, sections 4 and 5).
//!
//! Keys change with the day of UTC, for everybody at once, so that nobody without R links the records of two days or
//! of two secrets. A record is a hint, never an authority: whoever is dialed still has to prove itself.
//!
//! Never here: sockets, the DHT, when to publish.

mod record;

pub use record::{
    ADDRESSES_MAX, AGE_MAX_S, AHEAD_MAX_S, Address, Contact, RECORD_LEN, RELAYS_MAX, Relay, Transport,
    check_record, open_record, seal_record,
};

use std::ops::Range;

use crate::derive::{Purpose, kdf, kdf16};
use crate::id::VerifyingKey;
use crate::secret::{AeadKey, PeriodSecret, RendezvousSecret, SigningSeed};
use crate::sign::Signing;

/// Length of a period in seconds.
pub const PERIOD_S: u64 = 86_400;
/// How long before a period begins its records are looked for as well, in seconds.
pub const BOUNDARY_S: u64 = 600;
/// Length of a DHT key in bytes.
pub const DHT_KEY_LEN: usize = DHT_PREFIX.len() + VerifyingKey::LEN;
/// Length of a window of the LAN beacon in seconds.
pub const LAN_WINDOW_S: u64 = 600;

const DHT_PREFIX: &[u8; 5] = b"/lk1/";
const KEYS_PER_NODE: u8 = 3;

/// An id in a LAN beacon.
pub type LanId = [u8; 16];
/// A key of the DHT: `/lk1/` and a daily key.
pub type DhtKey = [u8; DHT_KEY_LEN];

/// Who publishes under a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Publishers {
    /// One node: the R of a device, slot or ticket.
    One,
    /// Several nodes: the R of a link or contact.
    Several,
}

impl Publishers {
    /// Returns every r that a reader asks for.
    pub const fn read(self) -> Range<u8> {
        match self {
            Self::One => 0..KEYS_PER_NODE,
            Self::Several => 0..4 * KEYS_PER_NODE,
        }
    }

    /// Returns the three r that a node writes, so that no node hides another. `index` is the node's place among the
    /// person's active devices and serving replicas, sorted by key; without meaning for [`Publishers::One`].
    pub const fn write(self, index: usize) -> Range<u8> {
        let group = match self {
            Self::One => 0,
            Self::Several => match index % 4 {
                0 => 0,
                1 => 1,
                2 => 2,
                _ => 3,
            },
        };
        group * KEYS_PER_NODE..(group + 1) * KEYS_PER_NODE
    }
}

/// Returns the number of the period at time `now`, unix seconds.
pub fn period_at(now: u64) -> u64 {
    now / PERIOD_S
}

/// Returns the periods that a reader tries, the present one first: it, the one before, and within
/// [`BOUNDARY_S`] of the boundary the next.
pub fn periods_to_read(now: u64) -> Vec<u64> {
    let present = period_at(now);
    let next = period_at(now.saturating_add(BOUNDARY_S));
    let mut periods = vec![present];
    periods.extend(present.checked_sub(1));
    if next != present {
        periods.push(next);
    }
    periods
}

/// The keys of one secret in one period. Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub struct Period {
    secret: PeriodSecret,
}

impl Period {
    /// Derives the keys of period `number`.
    pub fn new(secret: &RendezvousSecret, number: u64) -> Self {
        let key = kdf(Purpose::RdvPeriod, &[secret.expose(), &number.to_le_bytes()]);
        Self { secret: PeriodSecret::new(key) }
    }

    /// Returns the DHT key of record r.
    pub fn dht_key(&self, r: u8) -> DhtKey {
        dht_key(&self.signing(r).verifying_key())
    }

    /// Returns sk_r, which signs record r.
    fn signing(&self, r: u8) -> Signing {
        let seed = kdf(Purpose::RdvSign, &[self.secret.expose(), &[r]]);
        Signing::from_seed(&SigningSeed::new(seed))
    }

    /// Returns the key that seals the records of this period.
    fn sealing_key(&self) -> AeadKey {
        AeadKey::new(kdf(Purpose::RdvEnc, &[self.secret.expose()]))
    }
}

/// Returns the id by which a node with this secret is found on the local network in a window.
pub fn lan_id(secret: &RendezvousSecret, window: u64) -> LanId {
    kdf16(Purpose::Lan, &[secret.expose(), &window.to_le_bytes()])
}

/// Returns the number of the beacon window at time `now`, unix seconds. A listener accepts one before and one after.
pub fn lan_window(now: u64) -> u64 {
    now / LAN_WINDOW_S
}

fn dht_key(key: &VerifyingKey) -> DhtKey {
    let mut out = [0; DHT_KEY_LEN];
    let (prefix, rest) = out.split_at_mut(DHT_PREFIX.len());
    prefix.copy_from_slice(DHT_PREFIX);
    rest.copy_from_slice(key.as_bytes());
    out
}

#[cfg(test)]
mod tests;
