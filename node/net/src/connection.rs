//! What is known of a connection: its number, the transport key of the other end, and where that end is.

use std::net::SocketAddr;

use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::Transport;

use crate::address::is_local;
use crate::limits::Origin;

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
    /// Where the other end is; through a relay, where the relay is.
    pub remote: SocketAddr,
    /// What carries it, as far as the relay if there is one.
    pub transport: Transport,
    /// Who began it.
    pub side: Side,
    /// The transport key of the relay between, which carries what it cannot read; `None` on a direct way.
    pub relay: Option<VerifyingKey>,
}

impl Connection {
    /// Returns whether a relay lies between.
    pub fn is_relayed(&self) -> bool {
        self.relay.is_some()
    }

    /// Returns whether the other end is on the local network. Loopback is not: behind it may be a tunnel to anywhere.
    pub(crate) fn is_near(&self) -> bool {
        let ip = self.remote.ip().to_canonical();
        !self.is_relayed() && is_local(ip) && !ip.is_loopback()
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { ip: self.remote.ip(), is_relayed: self.is_relayed() }
    }
}
