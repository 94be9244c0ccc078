//! Known attacks, as tests: what somebody does who has no right, a lapsed one, or one and no manners. Each has an id that
//! stays (`t37_…` is T37); a row is tested at the lowest floor where the fault can show, and here when it speaks of the
//! wire or of whole processes.
//!
//! Strangers bring their own tools (libp2p, QUIC, Noise, bare sockets) and take ours: this suite alone links the product
//! (`suites/tidy` sees to it). Networks of a test's own and captures need rights; without them a test says that it was
//! skipped. `LOCKER_TRIES` is how often every class of T37 is tried in a round (200).
//!
//! | Id | Attack | Where |
//! |---|---|---|
//! | T1, T6, T7, T8, T10, T11, T12, T81, T85 | content, boxes and sizes | `crypto`: `chunk`, `pack`, `file_ref`, `cut`, `entry`, `person`, `epoch`, `vault` |
//! | T3 | two-key ciphertext | `crypto::chunk` |
//! | T4 | confirmation of a file by a thief of the disk | `crypto::chunk`; `end_to_end::secrecy` |
//! | T14 | a ciphertext as one's own | `crypto::entry`; [`forged`] |
//! | T16 | names as paths, links in the way of what is written | `catalog::name`, `catalog::tree`; `engine::place`; `refusals::paths` |
//! | T17 | rollback by a peer | `sync::session`; `engine::copies::standing`; `replica::set_back`, `two_devices::set_back` |
//! | T19 | splices | `crypto::entry`; `sync::session`; [`forged`] |
//! | T20 | a foreign person key | `crypto::person`; `sync::session` |
//! | T21 | injected entries | `catalog::access`, `catalog::space`; `engine::depot`; [`forged`] |
//! | T22 | 100,000 turned bits | `crypto::entry`; `sync::session`; `engine::depot`; [`forged`] |
//! | T23, T32, T95 | who was revoked reads on, or is let in; who was off meanwhile | `engine::revoke`, `engine::older_keys`; `recovery::revoked`; `sync::handshake` |
//! | T27 | a stolen phrase, and new words in its place | `engine::phrase`; `recovery::phrase`; `sync::handshake`; `catalog::roster`, `crypto::person` |
//! | T23, T25, T27, T28, T50, T52, T53, T73, T93, T94 | members and trees | `catalog`; `crypto::person`; `engine::depot`, `engine::newcomers`, `engine::rebirth`, `engine::gc` (forks); `two_devices::pairing`, `two_devices::reborn`, `laboratory::clocks` |
//! | T29 | lapsed and early tokens | `crypto::capability`; `sync::session`, `sync::handshake` |
//! | T30 | spliced tokens | `crypto::capability` |
//! | T33 | substituted capsules | `crypto::capsule` |
//! | T37 | is this hash here? strangers, members, holders of links | [`confirmation`]; `sync::handshake`, `sync::session` |
//! | T38 | a private pack by another request | [`gate`], [`confirmation`]; `net::blob`, `net` (what is named), `tidy::arrows`; `sync::session` |
//! | T40 | exhaustion before anybody is known | [`exhaustion`]; `net` (streams), `net::limits` |
//! | T41 | names and hashes on the wire, links included | [`wire`] |
//! | T42 | forged records | [`announcements`]; `crypto::rendezvous`; `net::rendezvous::shelf`, `net` (strangers) |
//! | T44 | records of two days | `crypto::rendezvous`; `net::rendezvous::schedule` |
//! | T45 | announcements tell what is held | [`announcements`]; `net` (strangers) |
//! | T46 | our nodes as storage for all | [`announcements`]; `net` (strangers) |
//! | T47 | what a node tells of itself, and to whom it speaks | [`wire`], [`traces`]; `net` (strangers) |
//! | T48 | beacons of a household | `net::rendezvous::lan` |
//! | T49 | a key, or all of the DHT, in hostile hands | [`hostile_dht`]; `net` (eclipse), `net::rendezvous::shelf`; `two_devices::lan` |
//! | T55 | a replica that lost packs, or is silent | `engine::copies` (what it is asked), `engine::copies::standing`; `store::replicas` (how often), `net::blob` (wrong bytes); `two_devices::copies`; the simulation (`simulate liar`) |
//! | T57, T58 | the disk, its rows and its modes | `store`; `end_to_end::secrecy`, `damage` |
//! | T59 | pitfalls of ed25519 | `crypto::sign`; `tidy::arrows` |
//! | T65 | boxes of one mechanism | `crypto::sealed_box`; `tidy::arrows` |
//! | T67, T90 | recovery that fails, or takes another's data; the locator dies with the devices | `recovery`; `net::rendezvous::schedule`, `engine::depot` |
//! | T68 | signatures and keys of another kind | `crypto::sign`, `crypto::derive` |
//! | T70, T71 | low-order keys; depositors | `crypto::sealed_box`, `crypto::person`, `crypto::capsule`; `sync::session` |
//! | T74 | older and newer versions | `crypto::entry`, `crypto::capability`, `crypto::link`; `catalog::operation`, `catalog::space`; `sync::session`; `net` (strangers) |
//! | T75 | other keys of an epoch in one box | `crypto::epoch`; `catalog::space`; `engine::depot`, `engine::node::ledger`; `recovery::revoked` |
//! | T78 | keys in memory after the locker is closed | `engine::locker::forgotten` |
//! | T82 | a device followed from day to day | [`traces`]; `net` (streams) |
//! | T84 | much removed or overwritten at once | `catalog::brake`, `catalog::space`; `two_devices::held`; `household` |
//! | T83 | an impostor at an old address | [`impostor`]; `sync::handshake` |
//! | T86 | copies let go at the same moment, on old proofs or promises | `engine::copies::lease`, `engine::node::leases`, `engine::gc`; `net::blob`; `two_devices::copies`, `replica::copies`, `laboratory::clocks` |
//! | T87 | relays for everybody | `net` (relays), `net::limits`; `nat` |
//! | T91 | the dedup secret after a removal | `engine::revoke` |
//! | T89 | a kill between any two steps | `crash`, `two_devices::kills`; the simulation |

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test; figures and skipped parts are told on standard error"
)]

mod announcements;
mod confirmation;
mod exhaustion;
mod forged;
mod gate;
mod holder;
mod hostile_dht;
mod impostor;
mod keeper;
mod member;
mod statistics;
mod stranger;
mod traces;
mod wire;
mod world;
