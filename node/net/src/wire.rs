//! Streams that a program carries instead of sockets: the network of a simulation (`tests/simulation`).
//!
//! An address serves QUIC and TCP as ever; both are the same stream here. Nothing is encrypted below what the product
//! itself encrypts, so that whoever carries the bytes sees what it is that relies on the transport.

use std::collections::VecDeque;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Ready, ready};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, Version};
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::{Multiaddr, PeerId, Transport, yamux};
use locker_crypto::rendezvous::Address;
use tokio::sync::mpsc;

use crate::address::{from_multiaddr, to_multiaddr};
use crate::limits::Limits;

/// The name under which both ends tell their keys.
const PLAIN: &str = "/locker/simulated/1";

/// Both directions of a stream.
pub trait Line: futures::AsyncRead + futures::AsyncWrite + Send + Unpin {}

impl<T: futures::AsyncRead + futures::AsyncWrite + Send + Unpin> Line for T {}

/// Somebody who dialed, from where, and the stream with him.
pub type Caller = (SocketAddr, Box<dyn Line>);

/// The network as one node sees it.
pub trait Wire: Send + Sync {
    /// Takes what is dialed at an address, until the receiver is dropped.
    ///
    /// # Errors
    /// If somebody listens there already.
    fn listen(&self, at: SocketAddr) -> io::Result<mpsc::UnboundedReceiver<Caller>>;

    /// Dials an address. Ends with an error if nobody listens there, and never if nobody can be asked.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Line>>>;
}

/// Builds the transport over a wire.
pub(crate) fn build(wire: Arc<dyn Wire>, key: &Keypair, limits: &Limits) -> Boxed<(PeerId, StreamMuxerBox)> {
    let mut yamux_config = yamux::Config::default();
    yamux_config.set_max_num_streams(limits.streams_per_connection);
    Lines { wire, listeners: Vec::new(), told: VecDeque::new() }
        .upgrade(Version::V1Lazy)
        .authenticate(Names(key.public()))
        .multiplex(yamux_config)
        .timeout(limits.negotiation_time)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// The wire as the swarm takes it.
struct Lines {
    wire: Arc<dyn Wire>,
    listeners: Vec<(ListenerId, Address, mpsc::UnboundedReceiver<Caller>)>,
    told: VecDeque<TransportEvent<Ready<io::Result<Box<dyn Line>>>, io::Error>>,
}

impl Transport for Lines {
    type Output = Box<dyn Line>;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Box<dyn Line>>>;
    type Dial = BoxFuture<'static, io::Result<Box<dyn Line>>>;

    fn listen_on(&mut self, id: ListenerId, at: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let Some(node) = from_multiaddr(&at) else { return Err(TransportError::MultiaddrNotSupported(at)) };
        // Both transports of a place share what is dialed there: the first takes it.
        let is_heard = self.listeners.iter().any(|(_, address, _)| same_place(address, &node.address));
        let heard = if is_heard {
            mpsc::unbounded_channel().1
        } else {
            let at = SocketAddr::new(node.address.ip, node.address.port);
            self.wire.listen(at).map_err(TransportError::Other)?
        };
        self.listeners.push((id, node.address, heard));
        self.told.push_back(TransportEvent::NewAddress { listener_id: id, listen_addr: at });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|(one, ..)| *one != id);
        let known = self.listeners.len() < before;
        if known {
            self.told.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        }
        known
    }

    fn dial(&mut self, to: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(node) = from_multiaddr(&to) else { return Err(TransportError::MultiaddrNotSupported(to)) };
        Ok(self.wire.dial(SocketAddr::new(node.address.ip, node.address.port)))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        if let Some(event) = self.told.pop_front() {
            return Poll::Ready(event);
        }
        for (id, at, heard) in &mut self.listeners {
            if let Poll::Ready(Some((from, line))) = heard.poll_recv(context) {
                return Poll::Ready(TransportEvent::Incoming {
                    listener_id: *id,
                    upgrade: ready(Ok(line)),
                    local_addr: to_multiaddr(at),
                    send_back_addr: to_multiaddr(&Address { ip: from.ip(), port: from.port(), ..*at }),
                });
            }
        }
        Poll::Pending
    }
}

fn same_place(one: &Address, other: &Address) -> bool {
    (one.ip, one.port) == (other.ip, other.port)
}

/// Both ends tell their keys. Nobody proves that it is his: who is who is decided by the session on top.
#[derive(Clone)]
struct Names(PublicKey);

impl UpgradeInfo for Names {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once(PLAIN)
    }
}

impl<S: Line + 'static> InboundConnectionUpgrade<S> for Names {
    type Output = (PeerId, S);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<(PeerId, S)>>;

    fn upgrade_inbound(self, line: S, _: Self::Info) -> Self::Future {
        self.tell(line).boxed()
    }
}

impl<S: Line + 'static> OutboundConnectionUpgrade<S> for Names {
    type Output = (PeerId, S);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<(PeerId, S)>>;

    fn upgrade_outbound(self, line: S, _: Self::Info) -> Self::Future {
        self.tell(line).boxed()
    }
}

impl Names {
    async fn tell<S: Line>(self, mut line: S) -> io::Result<(PeerId, S)> {
        let own = self.0.try_into_ed25519().map_err(io::Error::other)?;
        line.write_all(&own.to_bytes()).await?;
        line.flush().await?;
        let mut other = [0; 32];
        line.read_exact(&mut other).await?;
        let other = ed25519::PublicKey::try_from_bytes(&other).map_err(io::Error::other)?;
        Ok((PublicKey::from(other).to_peer_id(), line))
    }
}
