//! What is sent first: whoever has an entry knows which packs belong to it, so that waiting for "everything is here"
//! never ends between the two.

use locker_crypto::id::{PersonId, SpaceTag, VerifyingKey};

use super::super::{Action, Event, Item, RELAY_DELAY_MS, Session, Source, Terms};
use crate::frontier::Log;
use crate::limits::PUSH_INTERVAL_MS;
use crate::message::v1::{Frontier, Head, LogKind, Message};
use crate::scope::Scope;

const NOW_MS: u64 = 1_800_000_000_000;
const TAG: SpaceTag = SpaceTag([1; 16]);
const AUTHOR: VerifyingKey = VerifyingKey([5; 32]);

fn log(kind: LogKind) -> Log {
    Log { kind, tag: TAG }
}

fn head(seq: u64) -> Head {
    Head { author: AUTHOR, seq, id: [7; 32] }
}

/// A session with a device that has what this one has: number 3 of both logs.
fn session() -> Session {
    let scope = Scope::whole([PersonId([4; 32])]);
    let mut session = Session::new(Terms { peer: scope.clone(), own: scope, ..Terms::default() });
    for kind in [LogKind::Entries, LogKind::Pins] {
        session.handle(Event::Held { log: log(kind), heads: vec![head(3)] }, NOW_MS);
    }
    session.handle(Event::Opened, NOW_MS);
    let shown = Frontier { tag: TAG, heads: vec![head(3)], pins: vec![head(3)], now_ms: NOW_MS };
    session.handle(Event::Received(Message::Frontier(shown).encode()), NOW_MS);
    session.handle(Event::Tick, NOW_MS + PUSH_INTERVAL_MS);
    session
}

fn stored(session: &mut Session, kind: LogKind, seq: u64, source: Source, now_ms: u64) -> Vec<Action> {
    session.handle(Event::Stored { log: log(kind), head: head(seq), source }, now_ms)
}

/// The ranges that are loaded to be sent, in turn, each answered with all of it, until nothing more is asked for.
fn loads(session: &mut Session, mut actions: Vec<Action>, now_ms: u64) -> Vec<(LogKind, u64, u64)> {
    let mut asked = Vec::new();
    while let Some((request, log, from, to)) = actions.iter().find_map(|action| match action {
        Action::Load { request, log, from, to, .. } => Some((*request, *log, *from, *to)),
        _ => None,
    }) {
        asked.push((log.kind, from, to));
        let items = (from..=to).map(|seq| Item { seq, bytes: vec![0; 100] }).collect();
        actions = session.handle(Event::Loaded { request, items }, now_ms);
    }
    asked
}

#[test]
fn pins_go_before_the_entries_that_they_came_with() {
    let mut session = session();
    let now_ms = NOW_MS + 2 * PUSH_INTERVAL_MS;
    // In one breath: this end may be gone before the next push.
    assert!(stored(&mut session, LogKind::Pins, 4, Source::Here, now_ms).is_empty());
    let actions = stored(&mut session, LogKind::Entries, 4, Source::Here, now_ms);
    let sent = loads(&mut session, actions, now_ms);
    assert_eq!(sent, [(LogKind::Pins, 4, 4), (LogKind::Entries, 4, 4)]);
}

#[test]
fn entries_that_wait_do_not_pass_on_without_the_pins_that_came_meanwhile() {
    let mut session = session();
    let now_ms = NOW_MS + 2 * PUSH_INTERVAL_MS;
    stored(&mut session, LogKind::Entries, 4, Source::Peer, now_ms);
    // While the first waits for its time, more comes; the delta alone would have to wait longer.
    let more_ms = now_ms + RELAY_DELAY_MS / 2;
    stored(&mut session, LogKind::Pins, 4, Source::Peer, more_ms);
    stored(&mut session, LogKind::Entries, 5, Source::Peer, more_ms);
    let due_ms = now_ms + RELAY_DELAY_MS;
    let actions = session.handle(Event::Tick, due_ms);
    let sent = loads(&mut session, actions, due_ms);
    assert_eq!(sent, [(LogKind::Pins, 4, 4), (LogKind::Entries, 4, 5)]);
}

#[test]
fn pins_do_not_wait_behind_a_long_range_of_entries() {
    let mut session = session();
    let now_ms = NOW_MS + 2 * PUSH_INTERVAL_MS;
    let actions = stored(&mut session, LogKind::Entries, 40, Source::Here, now_ms);
    let load = actions.iter().find_map(|action| match action {
        Action::Load { request, from, .. } => Some((*request, *from)),
        _ => None,
    });
    let (request, from) = load.unwrap();
    // Half of it is loaded when more is written.
    let later_ms = now_ms + PUSH_INTERVAL_MS;
    stored(&mut session, LogKind::Pins, 4, Source::Here, later_ms);
    stored(&mut session, LogKind::Entries, 41, Source::Here, later_ms);
    let items = (from..=20).map(|seq| Item { seq, bytes: vec![0; 100] }).collect();
    let actions = session.handle(Event::Loaded { request, items }, later_ms);
    let sent = loads(&mut session, actions, later_ms);
    assert_eq!(sent, [(LogKind::Pins, 4, 4), (LogKind::Entries, 21, 41)]);
}
