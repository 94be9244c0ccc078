//! One connection's side of the streams: what is offered, what is asked for, how many negotiate at a time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound};
use libp2p::swarm::handler::{ConnectionHandlerEvent, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, StreamUpgradeError, SubstreamProtocol};
use tokio::sync::oneshot;

use crate::connection::ConnectionId;
use crate::handle::OpenError;
use crate::protocol::Protocol;
use crate::stream::Stream;

/// Outbound negotiations of one connection at a time; further ones wait.
const NEGOTIATING_MAX: usize = 8;
/// Outbound streams of one connection that may wait; beyond it opening fails.
const WAITING_MAX: usize = 256;
/// Time for the negotiation of one stream.
const NEGOTIATION_TIME: Duration = Duration::from_secs(10);

/// A wish for a stream and where the answer goes.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) connection: ConnectionId,
    /// Whether it leads over the local network only.
    pub(crate) is_near: bool,
    pub(crate) protocol: Protocol,
    pub(crate) reply: oneshot::Sender<Result<Stream, OpenError>>,
}

/// What one side offers or asks for: all protocols, or one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offer {
    All,
    One(Protocol),
}

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        match self {
            Self::All => Protocol::ALL.iter().map(|one| one.stream_protocol()).collect::<Vec<_>>(),
            Self::One(one) => vec![one.stream_protocol()],
        }
        .into_iter()
    }
}

impl InboundUpgrade<libp2p::Stream> for Offer {
    type Output = Option<(Protocol, libp2p::Stream)>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: libp2p::Stream, name: StreamProtocol) -> Self::Future {
        let protocol = Protocol::ALL.into_iter().find(|one| one.name() == name.as_ref());
        ready(Ok(protocol.map(|protocol| (protocol, stream))))
    }
}

impl OutboundUpgrade<libp2p::Stream> for Offer {
    type Output = libp2p::Stream;
    type Error = Infallible;
    type Future = Ready<Result<libp2p::Stream, Infallible>>;

    fn upgrade_outbound(self, stream: libp2p::Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

/// The handler of one connection.
#[derive(Default)]
pub(crate) struct Handler {
    waiting: VecDeque<Opening>,
    negotiating: usize,
    accepted: VecDeque<(Protocol, libp2p::Stream)>,
    waker: Option<Waker>,
}

impl Handler {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = (Protocol, libp2p::Stream);
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer, ()> {
        SubstreamProtocol::new(Offer::All, ()).with_timeout(NEGOTIATION_TIME)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Opening, (Protocol, libp2p::Stream)>> {
        if let Some(stream) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream));
        }
        while self.negotiating < NEGOTIATING_MAX {
            let Some(opening) = self.waiting.pop_front() else { break };
            // Whoever asked may have given up while it waited.
            if opening.reply.is_closed() {
                continue;
            }
            self.negotiating += 1;
            let protocol =
                SubstreamProtocol::new(Offer::One(opening.protocol), opening).with_timeout(NEGOTIATION_TIME);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(opening);
        } else {
            let _ = opening.reply.send(Err(OpenError::Full));
        }
        self.wake();
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Opening>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                // The swarm bounds how many negotiate, so no more than that can be here at once.
                self.accepted.extend(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.negotiating -= 1;
                let _ = info.reply.send(Ok(Stream::opened(protocol, (info.connection, info.is_near))));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.negotiating -= 1;
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Timeout,
                    _ => OpenError::Closed,
                };
                let _ = info.reply.send(Err(error));
            }
            _ => {}
        }
        self.wake();
    }
}
