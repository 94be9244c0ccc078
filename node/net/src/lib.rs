//! The only thing on the wire: one swarm (QUIC and TCP on one port), meeting in the DHT and on the local network,
//! streams between nodes, and the blob protocol.
//!
//! [`start`] gives a cloneable [`Handle`], through which the engine dials, opens streams, publishes and looks for
//! others, and [`Events`], by which it hears what happens. Transport encryption proves only that both ends own their
//! transport keys: who they are is decided by the session on top (`docs/spec/09-rendezvous.md`), which the engine runs
//! and then reports here ([`Handle::set_session`]), so that the limits spare connections with a session.
//!
//! This crate is the only place that names libp2p, iroh-blobs and iroh, and none of their types leaves it. Never here:
//! names of files, stores, keys of spaces, and what is said on a stream, except that blobs are verified as they come.
//!
//! Rooms: [`Config`] and [`Limits`] (every number); `handle` and `driver` (the actor and its doors); `stream`;
//! `rendezvous` (DHT records, LAN beacon); `nat` (what lies between a node behind a router and the others); [`blob`] (requests, answers, fetching); `pace` (rates a person set);
//! `address`, `protocol`, `transport`.

mod address;
mod behaviour;
pub mod blob;
mod config;
mod connection;
mod driver;
mod event;
mod frame;
mod handle;
mod limits;
mod metrics;
mod nat;
mod pace;
mod protocol;
mod refusal;
mod rendezvous;
mod stream;
mod transport;
#[cfg(feature = "simulation")]
mod wire;

pub use address::{NodeAddress, both_transports};
pub use config::{Clock, Config, Env, Interfaces, LanConfig, RelayMode, Role, TransportSeed};
pub use connection::{Connection, ConnectionId, Side};
pub use event::{Event, Events};
pub use frame::{FrameError, read_frame, write_frame};
pub use handle::{DialError, Find, Found, Gone, Handle, OpenError, Prefer, Reached, StartError, start};
pub use limits::{Limits, REFUSAL_DELAY, Source};
pub use metrics::Figures;
pub use nat::{MappedPort, PortMapping};
pub use pace::Pace;
pub use protocol::Protocol;
pub use refusal::{REFUSAL, is_refusal, refuse};
pub use rendezvous::{Publication, Standing};
pub use stream::Stream;
#[cfg(feature = "simulation")]
pub use wire::{Caller, Line, Wire};

#[cfg(test)]
mod tests;
