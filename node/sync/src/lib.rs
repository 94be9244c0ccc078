//! What two nodes say to one another and when: state machines without sockets, clocks or dice of their own.
//!
//! | Room | Holds |
//! |---|---|
//! | [`limits`] | every number of the wire, in one place |
//! | [`message`] | frames and the messages of `/locker/sync/1` |
//! | [`handshake`] | who the other end is, and what it may ask: knock, answer, proof, OK |
//! | [`scope`] | what a peer may ask, known before any store is looked into |
//! | [`frontier`] | how far two nodes are in each log, and what follows from that |
//! | [`session`] | one peer after OK: exchange of frontiers, pulls, live push, credit |
//! | [`plan`] | which packs are fetched from whom |
//! | [`pairing`] | a new device joins a person |
//!
//! Bytes and times come as arguments and what is to be done goes out as values; `engine` owns the sockets and the
//! store and carries it out. Entries travel as sealed bytes: this crate never opens the body of an operation.
//!
//! Any [`Refusal`](locker_crypto::Refusal) that a machine returns ends its stream. It is for the log of this node
//! only; towards the peer every one of them is [`message::REFUSAL`], sent [`limits::REFUSAL_DELAY_MS`] after the
//! end of the offending frame.

pub mod frontier;
pub mod handshake;
pub mod limits;
pub mod message;
pub mod pairing;
pub mod plan;
pub mod scope;
pub mod session;
