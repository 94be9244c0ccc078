//! Real nodes on loopback. They wait on events with a deadline, and say what was missing when it passed.

mod dht;
mod kit;
mod lan;
mod strangers;
mod streams;
