//! What the network tells the engine.

use std::net::SocketAddr;

use locker_crypto::rendezvous::Address;
use locker_crypto::secret::RendezvousSecret;
use tokio::sync::mpsc;

use crate::connection::{Connection, ConnectionId};
use crate::protocol::Protocol;
use crate::stream::Stream;

/// Something happened. Has no `Debug`: it may carry a secret.
pub enum Event {
    /// The other end opened a stream. Both transport keys, which the handshake hashes, are
    /// [`Connection::peer`] and [`crate::Handle::transport_key`].
    Inbound {
        /// What for.
        protocol: Protocol,
        /// On which connection.
        connection: Connection,
        /// The stream; dropping it resets it.
        stream: Stream,
    },
    /// A connection that an [`Event::Inbound`] or a dial told of is gone, and so are its streams.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// A direct connection stands with somebody to whom a connection through a relay is known. The session may
    /// be made anew on this one.
    Direct {
        /// The direct one.
        connection: Connection,
    },
    /// The addresses of [`crate::Handle::listen_addresses`] changed; records are published anew by themselves.
    Listening {
        /// All of them.
        addresses: Vec<Address>,
    },
    /// A node on the local network sent a beacon for a secret of [`crate::Handle::lan_watch`]. At most once per
    /// beacon id and minute.
    LanFound {
        /// Under which secret.
        secret: RendezvousSecret,
        /// Where it is; its port serves QUIC and TCP.
        address: SocketAddr,
    },
}

/// The receiving end of the events. Take them promptly: while [`crate::Limits::inbound_queue`] events wait, new
/// inbound streams are reset and beacons are dropped; the other events wait.
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// Waits for the next event; `None` once the node has stopped. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}
