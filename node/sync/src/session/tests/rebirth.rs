//! What a session tells a device of itself, and what it carries when that device asks for a new key.

use locker_crypto::Refusal;
use locker_crypto::capability::Rights;
use locker_crypto::id::{PersonId, SpaceTag, VerifyingKey};

use super::super::{Action, End, Event, Session, Terms};
use crate::frontier::Log;
use crate::handshake::Grant;
use crate::message::v1::tests::succeed;
use crate::message::v1::{Frontier, Head, LogKind, Message};
use crate::scope::Scope;

const NOW_MS: u64 = 1_800_000_000_000;
const TAG: SpaceTag = SpaceTag([1; 16]);
const OWN: VerifyingKey = VerifyingKey([5; 32]);
const OTHER: VerifyingKey = VerifyingKey([6; 32]);

fn log(kind: LogKind) -> Log {
    Log { kind, tag: TAG }
}

fn head(author: VerifyingKey, seq: u64) -> Head {
    Head { author, seq, id: [7; 32] }
}

/// A session with an own device, in which both logs of a space are held up to number 3 of each author.
fn session() -> Session {
    let scope = Scope::whole([PersonId([4; 32])]);
    let terms = Terms { peer: scope.clone(), own: scope, device: Some(OWN), ..Terms::default() };
    let mut session = Session::new(terms);
    for kind in [LogKind::Entries, LogKind::Pins] {
        session.handle(Event::Held { log: log(kind), heads: vec![head(OWN, 3), head(OTHER, 3)] }, NOW_MS);
    }
    session.handle(Event::Opened, NOW_MS);
    session
}

fn hear(session: &mut Session, message: &Message) -> Vec<Action> {
    session.handle(Event::Received(message.encode()), NOW_MS)
}

fn frontier(heads: Vec<Head>, pins: Vec<Head>) -> Message {
    Message::Frontier(Frontier { tag: TAG, heads, pins, now_ms: NOW_MS })
}

/// Whether an action asks the peer for something of a log.
fn pulls(action: &Action, kind: LogKind) -> bool {
    let Action::Send(bytes) = action else { return false };
    let mut frames = crate::message::FrameDecoder::new(crate::message::FrameLimits::Session);
    frames.push(bytes);
    let message = frames.next_frame().unwrap().map(|frame| Message::decode(frame).unwrap());
    matches!(message, Some(Message::Pull(pull)) if pull.kind == kind)
}

#[test]
fn what_a_peer_shows_of_this_device_is_told_before_anything_is_pulled() {
    let mut session = session();
    let shown = frontier(vec![head(OWN, 9), head(OTHER, 9)], vec![head(OWN, 2)]);
    let actions = hear(&mut session, &shown);
    let own: Vec<_> = (actions.iter().enumerate())
        .filter_map(|(at, action)| match action {
            Action::ShowsOwn { log, head } => Some((at, log.kind, head.seq)),
            _ => None,
        })
        .collect();
    let kinds: Vec<_> = own.iter().map(|(_, kind, seq)| (*kind, *seq)).collect();
    assert_eq!(kinds, [(LogKind::Entries, 9), (LogKind::Pins, 2)]);
    let first_pull = actions.iter().position(|action| pulls(action, LogKind::Entries)).unwrap();
    assert!(own[0].0 < first_pull);
    // Where the peer knows nothing of this device, nothing is told.
    let silent = hear(&mut session, &frontier(vec![head(OTHER, 9)], vec![]));
    assert!(!silent.iter().any(|action| matches!(action, Action::ShowsOwn { .. })));
}

#[test]
fn nothing_is_awaited_of_a_chain_that_has_ended() {
    let mut session = session();
    session.handle(Event::Closed { log: log(LogKind::Pins), author: OTHER }, NOW_MS);
    let actions = hear(&mut session, &frontier(vec![head(OTHER, 3)], vec![head(OTHER, 8)]));
    assert!(!actions.iter().any(|action| pulls(action, LogKind::Pins)));
    assert!(session.has_heard() && session.is_level());
    // One that ends while it is pulled is not waited for any longer.
    let actions = hear(&mut session, &frontier(vec![head(OTHER, 3)], vec![head(OWN, 8), head(OTHER, 8)]));
    assert!(actions.iter().any(|action| pulls(action, LogKind::Pins)));
    assert!(!session.is_level());
    session.handle(Event::Closed { log: log(LogKind::Pins), author: OWN }, NOW_MS);
    assert!(session.is_level());
}

#[test]
fn what_a_peer_does_not_have_is_not_awaited_of_it() {
    let missing = |items: &[u64]| {
        let items = items.iter().map(|seq| (OTHER, *seq)).collect();
        Event::Missing { log: log(LogKind::Entries), items }
    };
    let level = frontier(vec![head(OTHER, 3)], vec![head(OTHER, 3)]);
    let mut session = session();
    hear(&mut session, &level);
    assert!(session.is_level());
    // Two are missing under the newest, which the peer holds as well, and it does not answer.
    let actions = session.handle(missing(&[1, 2]), NOW_MS);
    assert_eq!(actions.iter().filter(|action| pulls(action, LogKind::Entries)).count(), 2);
    assert!(!session.is_level());
    // Others bring them.
    session.handle(missing(&[1]), NOW_MS);
    assert!(!session.is_level());
    session.handle(missing(&[]), NOW_MS);
    assert!(session.is_level());
    // What it shows no longer does not come, nor what it never had.
    for less in [head(OTHER, 4), head(OTHER, 3)] {
        hear(&mut session, &frontier(vec![head(OTHER, 9)], vec![head(OTHER, 3)]));
        assert!(!session.is_level());
        hear(&mut session, &frontier(vec![less], vec![head(OTHER, 3)]));
        assert_eq!(session.is_level(), less.seq == 3);
    }
    hear(&mut session, &frontier(vec![head(OTHER, 9)], vec![head(OTHER, 3)]));
    hear(&mut session, &frontier(vec![], vec![head(OTHER, 3)]));
    assert!(session.is_level());
}

#[test]
fn a_device_asks_for_a_new_key_once_and_nobody_else_does() {
    let asked = succeed("mine");
    let sent = session().handle(Event::Succeed(Box::new(asked.clone())), NOW_MS);
    let message = Message::Succeed(Box::new(asked.clone()));
    assert!(sent.contains(&Action::Send(message.encode())));

    let mut session = session();
    let actions = hear(&mut session, &message);
    assert!(actions.contains(&Action::Succession(Box::new(asked))));
    assert_eq!(hear(&mut session, &message), [Action::Ended(End::Refuse(Refusal::Limit))]);

    let guest = Grant { tag: TAG, rights: Rights::READ | Rights::WRITE | Rights::MANAGE, folder: None };
    let mut session = Session::new(Terms { peer: Scope::granted(&[guest]), ..Terms::default() });
    assert_eq!(hear(&mut session, &message), [Action::Ended(End::Refuse(Refusal::Scope))]);
}
