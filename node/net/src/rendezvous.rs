//! Meeting (`docs/spec/09-rendezvous.md`, sections 4 and 5): the records of others that a DHT server keeps, own
//! publications, look-ups, and the beacon on the local network.
//!
//! What lies in a record and what a beacon id is, `locker_crypto::rendezvous` says. Never here: who is behind a
//! record; it is a hint, and whoever is dialed has to prove himself.

pub(crate) mod dht;
pub(crate) mod lan;
pub(crate) mod schedule;
mod shelf;

pub(crate) use shelf::RecordShelf;

use std::ops::Range;

use locker_crypto::certificate::Certificate;
use locker_crypto::secret::RendezvousSecret;

/// A secret under which this node wants to be found in the DHT.
#[derive(Clone)]
pub struct Publication {
    /// R.
    pub secret: RendezvousSecret,
    /// Which records of the secret this node writes: `Publishers::write`.
    pub r: Range<u8>,
    /// The device vouches for the transport key of this node ([`crate::Handle::transport_key`]).
    pub certificate: Certificate,
}

/// How own records stand in the DHT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Records that this node wants to stand.
    pub wanted: usize,
    /// Of these, how many at least one other node has taken since they last had to be published.
    pub stored: usize,
}
