//! Figures of a node, for `status` and tests: counts, never names or addresses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start, and how things are now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Connections that stand.
    pub connections: u64,
    /// Connections refused by a limit.
    pub connections_refused: u64,
    /// Inbound streams handed to the engine.
    pub streams_in: u64,
    /// Inbound streams reset by a limit.
    pub streams_refused: u64,
    /// Nodes in the routing table of the DHT.
    pub dht_nodes: u64,
    /// Records of others that are kept.
    pub records_kept: u64,
    /// Records that were refused.
    pub records_refused: u64,
    /// Provider records that were refused.
    pub providers_refused: u64,
    /// Own records that were stored by at least one node.
    pub records_published: u64,
    /// DHT queries begun.
    pub queries: u64,
    /// Beacons sent.
    pub beacons_sent: u64,
    /// Beacons heard of others.
    pub beacons_heard: u64,
    /// Bytes handed to the wire on the streams that carry packs; the requests, some 100 bytes each, included.
    pub pack_bytes_sent: u64,
    /// The same that came.
    pub pack_bytes_received: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The living figures.
        #[derive(Default)]
        pub(crate) struct Metrics {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Metrics {
            pub(crate) fn figures(&self) -> Figures {
                Figures { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters!(
    connections,
    connections_refused,
    streams_in,
    streams_refused,
    dht_nodes,
    records_kept,
    records_refused,
    providers_refused,
    records_published,
    queries,
    beacons_sent,
    beacons_heard,
    pack_bytes_sent,
    pack_bytes_received
);

/// Metrics shared by the driver, the beacon and the handles.
pub(crate) type Shared = Arc<Metrics>;

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds a number of bytes.
pub(crate) fn add(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Sets how things are now.
pub(crate) fn set(counter: &AtomicU64, value: usize) {
    counter.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
}
