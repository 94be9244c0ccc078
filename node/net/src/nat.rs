//! What stands between a node behind a router and the others (`docs/spec/09-rendezvous.md`, section 6): which addresses
//! are its own, probing those of others, relays.
//!
//! | Room | Holds |
//! |---|---|
//! | `screen` | what behaviours hear and say of our own addresses, so that a stranger's word is never taken for one |
//! | `probe` | the server of address probes: for whom, how often, and only back to where the asker is |
//! | `relay` | the relay and its rules: who reserves, whose circuits pass |
//! | `reach` | whether this node is public, and at which relays it reserves: decided without a socket |

mod probe;
mod reach;
mod relay;
mod screen;

pub(crate) use probe::Probe;
pub(crate) use reach::{Bid, Candidate, Reach};
pub(crate) use relay::{Household, Server, server};
pub(crate) use screen::{Screened, Word};
