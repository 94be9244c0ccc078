//! What stands between a node behind a router and the others (`docs/spec/09-rendezvous.md`, section 6): which addresses
//! are its own, what the router passes on, probing the addresses of others, relays.
//!
//! | Room | Holds |
//! |---|---|
//! | `screen` | what behaviours hear and say of our own addresses, so that a stranger's word is never taken for one |
//! | `probe` | the server of address probes: for whom, how often, and only back to where the asker is |
//! | `port_mapping` | asking the router to pass a port on |
//! | `relay` | the relay and its rules: who reserves, whose circuits pass |
//! | `reach` | whether this node is public, and at which relays it reserves: decided without a socket |

mod port_mapping;
mod probe;
mod reach;
mod relay;
mod screen;

pub use port_mapping::{MappedPort, PortMapping};
pub(crate) use port_mapping::{PortMapper, SERVER_PORT, Surroundings, place_of_system};
pub(crate) use probe::Probe;
pub(crate) use reach::{Bid, Candidate, Reach};
pub(crate) use relay::{Household, Server, server};
pub(crate) use screen::{Screened, Word};
