//! What is known of a connection: its number, the transport key of the other end, and where that end is.

use std::net::SocketAddr;

use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::Transport;

/// Number of a connection. Not used twice while the process runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub(crate) libp2p::swarm::ConnectionId);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who began a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// We dialed.
    Dialer,
    /// The other end did.
    Listener,
}

/// An established connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// The transport key that the other end owns, raw ed25519. It says nothing about who that is.
    pub peer: VerifyingKey,
    /// Where the other end is.
    pub remote: SocketAddr,
    /// What carries it.
    pub transport: Transport,
    /// Who began it.
    pub side: Side,
}
