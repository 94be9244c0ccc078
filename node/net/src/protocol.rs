//! Every name and version that is spoken on the wire (design: network, protocol names). A new major version gets a
//! new name beside the old one. Never here: what is said under a name.

use libp2p::StreamProtocol;

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// Handshake, session and sync of logs: `/locker/sync/1`.
    Sync,
    /// Requests for packs: `/locker/blob/1`.
    Blob,
    /// Pairing of a new device: `/locker/pair/1`.
    Pair,
}

impl Protocol {
    /// All of them, in the order in which they are offered. Every node offers all, always: what is offered tells
    /// nothing.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Blob, Self::Pair];

    /// Returns the name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "/locker/sync/1",
            Self::Blob => "/locker/blob/1",
            Self::Pair => "/locker/pair/1",
        }
    }

    pub(crate) fn stream_protocol(self) -> StreamProtocol {
        StreamProtocol::new(self.name())
    }
}

/// The DHT.
pub(crate) const KAD: StreamProtocol = StreamProtocol::new("/locker/kad/1");
/// What identify says of this program and of its protocol family: constants, the same for every version.
pub(crate) const AGENT: &str = "locker/1";
