//! The transports: QUIC v1, TCP with Noise and Yamux, and circuits through relays, inside which Noise and Yamux run from
//! end to end; timeouts and windows from [`Limits`].

use std::net::{SocketAddr, TcpListener, UdpSocket};

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport as _, noise, quic, relay, tcp, yamux};
#[cfg(target_os = "linux")]
use socket2::SockRef;

use crate::limits::Limits;

/// How often one looks for a port that is free for both transports.
const PORT_TRIES: usize = 32;

/// Builds all transports under one key; `circuits` is the one of the relay client.
///
/// # Errors
/// If the Noise key cannot be signed by the transport key.
pub(crate) fn build(
    key: &Keypair,
    limits: &Limits,
    circuits: relay::client::Transport,
    #[cfg(feature = "simulation")] wire: Option<std::sync::Arc<dyn crate::wire::Wire>>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let (stream_window, connection_window) = limits.quic_windows();
    let streams = u32::try_from(limits.streams_per_connection).unwrap_or(u32::MAX);
    let mut quic_config = quic::Config::new(key);
    quic_config.handshake_timeout = limits.negotiation_time;
    quic_config.max_stream_data = stream_window;
    quic_config.max_connection_data = connection_window;
    quic_config.max_concurrent_stream_limit = streams;
    let quic =
        quic::tokio::Transport::new(quic_config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let mut yamux_config = yamux::Config::default();
    yamux_config.set_max_num_streams(limits.streams_per_connection);
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true).listen_backlog(256))
        .map(|stream, _| with_congestion_control(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux_config.clone())
        .timeout(limits.negotiation_time)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let relayed = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux_config)
        .timeout(limits.negotiation_time)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let one_of = |either, _| match either {
        futures::future::Either::Left(out) | futures::future::Either::Right(out) => out,
    };
    let direct = OrTransport::new(quic, tcp).map(one_of);
    #[cfg(feature = "simulation")]
    let direct = match wire {
        Some(wire) => crate::wire::build(wire, key, limits),
        None => direct.boxed(),
    };
    // The others would take the address of a relay for that of the node behind it.
    Ok(OrTransport::new(relayed, direct).map(one_of).boxed())
}

/// Has a connection keep its rate where single packets get lost, if the system allows that to this user: BBR goes by the rate
/// at which bytes arrive, others halve theirs at each loss (Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016).
/// Within one machine it has nothing to do.
fn with_congestion_control(stream: tcp::tokio::TcpStream) -> tcp::tokio::TcpStream {
    #[cfg(target_os = "linux")]
    if stream.0.peer_addr().is_ok_and(|peer| !peer.ip().to_canonical().is_loopback()) {
        // Where it is not allowed, the system's own way remains.
        let _ = SockRef::from(&stream.0).set_tcp_congestion(b"bbr");
    }
    stream
}

/// Gives every address that asks for port 0 one port that is free for UDP and TCP on all of them. Somebody else may
/// take it before we listen; then listening fails and the caller starts again.
///
/// # Errors
/// If none was found.
pub(crate) fn choose_port(listen: &[SocketAddr]) -> std::io::Result<Vec<SocketAddr>> {
    let Some(first) = listen.iter().find(|address| address.port() == 0) else { return Ok(listen.to_vec()) };
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let port = match UdpSocket::bind(first).and_then(|socket| socket.local_addr()) {
            Ok(bound) => bound.port(),
            Err(error) => return Err(error),
        };
        let with_port = |address: &SocketAddr| match address.port() {
            0 => SocketAddr::new(address.ip(), port),
            _ => *address,
        };
        let chosen: Vec<SocketAddr> = listen.iter().map(with_port).collect();
        match TcpListener::bind(with_port(first)) {
            Ok(_) => return Ok(chosen),
            Err(error) => last = error,
        }
    }
    Err(last)
}
