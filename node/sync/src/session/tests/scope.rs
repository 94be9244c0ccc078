//! T37, T38: what lies outside the scope is refused before any look, whatever it is.

use locker_crypto::Refusal;
use locker_crypto::capability::Rights;
use locker_crypto::entry::{EntryBody, Place, seal};
use locker_crypto::id::{EntryId, EpochId, LinkTag, ObjectHash, PackHash, PersonId, SpaceTag, VerifyingKey};
use locker_crypto::identity::{DeviceKeys, Root, Slot, person_tag};
use locker_crypto::person::Author;
use locker_crypto::secret::{Entropy, EpochSecret, PersonKey, RendezvousSecret, SigningSeed};
use locker_crypto::sign::Signing;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::{Action, End, Event, Fate, Item, Notice, Session, Terms};
use super::world::end_of;
use crate::frontier::Log;
use crate::handshake::Grant;
use crate::message::encode_frame;
use crate::message::v1::{Ask, Frontier, Head, LogKind, Message, Pull, SlotSecret};
use crate::scope::Scope;

const NOW_MS: u64 = 1_800_000_000_000;
const HELD: SpaceTag = SpaceTag([1; 16]);
const OTHER: SpaceTag = SpaceTag([2; 16]);
const UNKNOWN: SpaceTag = SpaceTag([3; 16]);
const PERSON: PersonId = PersonId([4; 32]);
const AUTHOR: VerifyingKey = VerifyingKey([5; 32]);

fn grant(rights: Rights) -> Grant {
    Grant { tag: HELD, rights, folder: None }
}

/// A session with a peer of this scope, on a node that holds two spaces and a person log.
fn session(peer: Scope) -> Session {
    let mut session = Session::new(Terms { peer, ..Terms::default() });
    let head = Head { author: AUTHOR, seq: 9, id: [9; 32] };
    for (kind, tag) in [
        (LogKind::Entries, HELD),
        (LogKind::Pins, HELD),
        (LogKind::Entries, OTHER),
        (LogKind::Person, person_tag(&PERSON)),
    ] {
        session.handle(Event::Held { log: Log { kind, tag }, heads: vec![head] }, NOW_MS);
    }
    session
}

fn say(session: &mut Session, message: &Message) -> Vec<Action> {
    session.handle(Event::Received(message.encode()), NOW_MS)
}

/// Classes of T37 for a peer that may read one space: everything that it may not, held or not, gives one action, and
/// this action is the same but for the reason in our own log.
#[test]
fn t37_outside_the_scope_every_request_ends_alike() {
    let pull = |kind, tag| Message::Pull(Pull { kind, tag, author: AUTHOR, from: 0, to: 1 });
    let frontier = |tag| Message::Frontier(Frontier { tag, heads: vec![], pins: vec![], now_ms: NOW_MS });
    let person = person_tag(&PERSON);
    let outside = [
        pull(LogKind::Entries, OTHER),
        pull(LogKind::Entries, UNKNOWN),
        pull(LogKind::Pins, OTHER),
        pull(LogKind::Pins, UNKNOWN),
        pull(LogKind::Person, person),
        pull(LogKind::Person, UNKNOWN),
        pull(LogKind::Entries, person),
        pull(LogKind::Person, HELD),
        frontier(OTHER),
        frontier(UNKNOWN),
        frontier(person),
        Message::Ack { tag: OTHER, heads: vec![(AUTHOR, 1)] },
        Message::Want(HELD, vec![PackHash([1; 32])]),
        Message::Want(OTHER, vec![PackHash([1; 32])]),
        Message::Have(HELD, vec![PackHash([1; 32])]),
        Message::Ask(Ask::Boxes(OTHER, EpochId([1; 32]))),
        Message::Ask(Ask::Boxes(UNKNOWN, EpochId([1; 32]))),
        Message::Ask(Ask::Capsule(LinkTag([1; 16]))),
        Message::Object { hash: ObjectHash(*blake3::hash(b"x").as_bytes()), bytes: b"x".to_vec() },
        Message::Object { hash: ObjectHash([0; 32]), bytes: b"x".to_vec() },
        Message::Person { person: PERSON, entries: vec![vec![1; 10]] },
        Message::Entry(vec![0; 10]),
        Message::Pins(vec![0; 10]),
    ];
    assert_eq!(outside.len(), 23);
    let mut frames: Vec<Vec<u8>> = outside.iter().map(Message::encode).collect();
    frames.extend([
        encode_frame(1, &[]),
        encode_frame(26, &[0x80]),
        encode_frame(99, &[]),
        vec![0, 0, 0, 0],
        vec![255; 5],
    ]);
    for (number, frame) in frames.into_iter().enumerate() {
        let mut session = session(Scope::granted(&[grant(Rights::READ)]));
        session.handle(Event::Opened, NOW_MS);
        let actions = session.handle(Event::Received(frame), NOW_MS);
        assert!(matches!(actions[..], [Action::Ended(End::Refuse(_))]), "{number}: {actions:?}");
        assert!(session.is_over());
        assert!(session.handle(Event::Received(Message::Bye(0).encode()), NOW_MS).is_empty());
    }
}

/// A stranger's session, that of somebody who proved nothing, reaches nothing at all.
#[test]
fn t38_a_scope_of_nothing_reaches_nothing() {
    let asks = [
        Ask::Object(ObjectHash([1; 32])),
        Ask::Capsule(LinkTag([1; 16])),
        Ask::Boxes(HELD, EpochId([1; 32])),
    ];
    let nothing = Scope::nothing();
    assert!(asks.iter().all(|ask| !nothing.may_ask(ask)));
    for kind in [LogKind::Entries, LogKind::Pins, LogKind::Person] {
        assert!(!nothing.may_read(kind, &HELD) && !nothing.may_write(kind, &HELD));
    }
    assert!(!nothing.may_swap_packs(&HELD) && !nothing.may_get_pack(&HELD) && !nothing.may_deposit());
    let mut session = session(nothing);
    assert!(session.handle(Event::Opened, NOW_MS).is_empty(), "it is told nothing");
}

/// What a reader may, in one space.
#[test]
fn a_reader_reads_and_does_not_write() {
    let mut session = session(Scope::granted(&[grant(Rights::READ)]));
    let told = session.handle(Event::Opened, NOW_MS);
    assert_eq!(told.iter().filter(|action| matches!(action, Action::Send(_))).count(), 1, "one frontier");
    let pull = Pull { kind: LogKind::Entries, tag: HELD, author: AUTHOR, from: 3, to: 99 };
    let actions = say(&mut session, &Message::Pull(pull));
    assert!(matches!(actions[..], [Action::Load { from: 3, to: 9, .. }]), "{actions:?}");
    // An author that is not held: nothing to say, and no look into the store.
    let nobody = Pull { author: VerifyingKey([77; 32]), ..pull };
    assert!(say(&mut session, &Message::Pull(nobody)).is_empty());
    let boxes = Ask::Boxes(HELD, EpochId([1; 32]));
    assert_eq!(say(&mut session, &Message::Ask(boxes)), [Action::LookUp(boxes)]);
    assert!(say(&mut session, &Message::Ask(boxes)).is_empty(), "asked once");
    let found = session.handle(Event::Found { ask: boxes, objects: vec![b"bundle".to_vec()] }, NOW_MS);
    let hash = ObjectHash(*blake3::hash(b"bundle").as_bytes());
    let bytes = b"bundle".to_vec();
    assert_eq!(found, [Action::Send(Message::Object { hash, bytes }.encode())]);
    assert!(session.handle(Event::Found { ask: boxes, objects: vec![b"x".to_vec()] }, NOW_MS).is_empty());
}

/// A link holder asks for its capsule; one that is not there is refused like anything else.
#[test]
fn a_link_holder_gets_its_capsule_only() {
    let (mine, other) = (LinkTag([1; 16]), LinkTag([2; 16]));
    let scope = Scope::granted(&[grant(Rights::READ)]).with_capsule(mine);
    let mut open = session(scope.clone());
    open.handle(Event::Opened, NOW_MS);
    let ask = Ask::Capsule(mine);
    assert_eq!(say(&mut open, &Message::Ask(ask)), [Action::LookUp(ask)]);
    let found = open.handle(Event::Found { ask, objects: Vec::new() }, NOW_MS);
    assert_eq!(end_of(&found), Some(End::Refuse(Refusal::Scope)));
    let mut open = session(scope);
    open.handle(Event::Opened, NOW_MS);
    let refused = say(&mut open, &Message::Ask(Ask::Capsule(other)));
    assert_eq!(end_of(&refused), Some(End::Refuse(Refusal::Scope)));
}

/// T71 on the wire: a depositor hands in and hears yes; it cannot read, list or ask.
#[test]
fn t71_a_depositor_hears_yes_or_nothing() {
    let scope = Scope::granted(&[grant(Rights::DEPOSIT)]);
    assert!(!scope.may_read(LogKind::Entries, &HELD) && !scope.may_write(LogKind::Entries, &HELD));
    assert!(!scope.may_get_pack(&HELD) && !scope.may_swap_packs(&HELD));
    let mut open = session(scope);
    assert!(open.handle(Event::Opened, NOW_MS).is_empty());
    let bytes = b"envelope".to_vec();
    let hash = ObjectHash(*blake3::hash(&bytes).as_bytes());
    let actions = say(&mut open, &Message::Object { hash, bytes: bytes.clone() });
    let [Action::TakeObject { ticket, .. }] = actions[..] else { panic!("{actions:?}") };
    let stored = open.handle(Event::Taken { ticket, fate: Fate::Durable }, NOW_MS);
    assert!(stored.contains(&Action::Send(Message::Stored(hash).encode())), "{stored:?}");
    let actions = say(&mut open, &Message::Object { hash, bytes });
    let [Action::TakeObject { ticket, .. }] = actions[..] else { panic!("{actions:?}") };
    let refused = open.handle(Event::Taken { ticket, fate: Fate::Refused(Refusal::Quota) }, NOW_MS);
    assert_eq!(end_of(&refused), Some(End::Refuse(Refusal::Quota)));
}

/// Goal: a replica takes its slot from a device for which it stores, and from nobody else; a device that reads takes none.
#[test]
fn a_slot_is_for_a_replica_from_a_device() {
    let stores = || Scope::granted(&[grant(Rights::REPLICATE)]).with_persons([PERSON]);
    let slot = |tag| {
        let secret = RendezvousSecret::new([7; 32]);
        Message::Slot(Box::new(SlotSecret { tag, generation: 1, slot: Slot::new(0).unwrap(), secret }))
    };
    for (peer, own, tag, is_taken) in [
        (Scope::whole([PERSON]), stores(), HELD, true),
        (Scope::whole([PERSON]), stores(), OTHER, false),
        (stores(), stores(), HELD, false),
        (Scope::reading([PERSON]), stores(), HELD, false),
        (Scope::whole([PERSON]), Scope::whole([PERSON]), HELD, false),
        (Scope::whole([PERSON]), Scope::nothing(), HELD, false),
    ] {
        let mut open = Session::new(Terms { peer, own, ..Terms::default() });
        let actions = say(&mut open, &slot(tag));
        match is_taken {
            true => assert!(matches!(&actions[..], [Action::Slot(_)]), "{actions:?}"),
            false => assert_eq!(end_of(&actions), Some(End::Refuse(Refusal::Scope)), "{actions:?}"),
        }
    }
}

/// T22 on the wire: what no honest peer passes on ends the session; what a node without keys cannot judge does not.
#[test]
fn t22_a_forged_entry_ends_the_session() {
    for (why, ends) in [
        (Refusal::Sig, true),
        (Refusal::Canon, true),
        (Refusal::Key, true),
        (Refusal::Tag, false),
        (Refusal::Rights, false),
        (Refusal::Frontier, false),
        (Refusal::Version, false),
    ] {
        let mut open = session(Scope::whole([]));
        open.handle(Event::Opened, NOW_MS);
        let actions = open.handle(Event::Taken { ticket: 1, fate: Fate::Refused(why) }, NOW_MS);
        assert_eq!(end_of(&actions).is_some(), ends, "{why:?}");
    }
}

/// A peer that sends more than its credit, counted by payload.
#[test]
fn beyond_the_credit_is_refused() {
    let mut open = session(Scope::granted(&[grant(Rights::DEPOSIT)]));
    open.handle(Event::Opened, NOW_MS);
    let object = |len: usize| {
        let bytes = vec![7; len];
        Message::Object { hash: ObjectHash(*blake3::hash(&bytes).as_bytes()), bytes }
    };
    let all = say(&mut open, &object(1_048_576));
    let [Action::TakeObject { ticket, .. }] = all[..] else { panic!() };
    let mut greedy = session(Scope::granted(&[grant(Rights::DEPOSIT)]));
    greedy.handle(Event::Opened, NOW_MS);
    assert_eq!(end_of(&say(&mut greedy, &object(1_048_577))), Some(End::Refuse(Refusal::Limit)));
    // With the credit given back there is room again.
    let given = open.handle(Event::Taken { ticket, fate: Fate::Durable }, NOW_MS + 20);
    assert!(given.contains(&Action::Send(Message::Credit(1_048_576).encode())), "{given:?}");
    assert_eq!(end_of(&say(&mut open, &object(1_048_576))), None);
    assert_eq!(end_of(&say(&mut open, &object(1))), Some(End::Refuse(Refusal::Limit)));
}

/// The session tells how far the peer's clock is off, ends with its time, and says goodbye.
#[test]
fn clocks_life_and_goodbye() {
    let mut open = session(Scope::whole([]));
    open.handle(Event::Opened, NOW_MS);
    let message =
        Message::Frontier(Frontier { tag: HELD, heads: vec![], pins: vec![], now_ms: NOW_MS + 400_000 });
    let heard = say(&mut open, &message);
    assert!(heard.contains(&Action::Notice(Notice::Clock { ahead_ms: 400_000 })), "{heard:?}");
    let day = crate::limits::SESSION_LIFE_S * 1_000;
    assert_eq!(end_of(&open.handle(Event::Tick, NOW_MS + day - 1)), None);
    assert_eq!(end_of(&open.handle(Event::Tick, NOW_MS + day)), Some(End::Closed));
    let mut open = session(Scope::whole([]));
    open.handle(Event::Opened, NOW_MS);
    assert_eq!(end_of(&say(&mut open, &Message::Bye(4))), Some(End::Bye(4)));
    let mut open = session(Scope::whole([]));
    open.handle(Event::Opened, NOW_MS);
    let closed = open.handle(Event::Close { reason: 1 }, NOW_MS);
    assert_eq!(closed, [Action::Send(Message::Bye(1).encode()), Action::Ended(End::Closed)]);
    let mut open = session(Scope::whole([]));
    open.handle(Event::Opened, NOW_MS);
    let refused = open.handle(Event::Received(crate::message::REFUSAL.to_vec()), NOW_MS);
    assert_eq!(refused, [Action::Ended(End::Refused)]);
}

/// Own devices say which packs they want; what is not there yet is offered when it comes.
#[test]
fn wanted_packs_are_offered_when_they_come() {
    let mut open = session(Scope::whole([]));
    open.handle(Event::Opened, NOW_MS);
    let (one, two) = (PackHash([1; 32]), PackHash([2; 32]));
    let wanted = say(&mut open, &Message::Want(HELD, vec![one, two]));
    assert_eq!(wanted, [Action::LookUpPacks { tag: HELD, packs: vec![one, two] }]);
    let held = |session: &mut Session, packs| session.handle(Event::PacksHeld { tag: HELD, packs }, NOW_MS);
    assert_eq!(held(&mut open, vec![one]), [Action::Send(Message::Have(HELD, vec![one]).encode())]);
    assert!(held(&mut open, vec![one, PackHash([3; 32])]).is_empty(), "told once, and only what is wanted");
    assert_eq!(held(&mut open, vec![two]), [Action::Send(Message::Have(HELD, vec![two]).encode())]);
    let offered = say(&mut open, &Message::Have(HELD, vec![two]));
    assert_eq!(offered, [Action::PacksOffered { tag: HELD, packs: vec![two] }]);
}

/// T29, T32 on the wire: what a token gave ends with it, in the middle of a session too.
#[test]
fn t29_a_session_ends_with_its_token() {
    let peer = Scope::granted(&[grant(Rights::READ)]);
    let mut open = Session::new(Terms { peer, ends_ms: Some(NOW_MS + 1_000), ..Terms::default() });
    let log = Log { kind: LogKind::Entries, tag: HELD };
    open.handle(Event::Held { log, heads: Vec::new() }, NOW_MS);
    open.handle(Event::Opened, NOW_MS);
    let bye = || Event::Received(Message::Credit(1).encode());
    assert_eq!(end_of(&open.handle(bye(), NOW_MS + 999)), None);
    assert_eq!(end_of(&open.handle(bye(), NOW_MS + 1_000)), Some(End::Refuse(Refusal::Time)));
}

/// T74: an older or newer form of an entry ends the session at its layout; nothing of it reaches the store.
#[test]
fn t74_entries_of_another_version_do_not_pass() {
    for (magic, why) in [(b"LKE0", Refusal::Version), (b"LKE2", Refusal::Version), (b"LKX1", Refusal::Canon)]
    {
        let mut open = session(Scope::whole([]));
        open.handle(Event::Opened, NOW_MS);
        let mut bytes = vec![0; 500];
        bytes[..4].copy_from_slice(magic);
        assert_eq!(end_of(&say(&mut open, &Message::Entry(bytes))), Some(End::Refuse(why)));
    }
}

/// T20 on the wire: entries of another person's log, and changed ones, do not reach the store.
#[test]
fn t20_person_logs_come_whole_or_not_at_all() {
    let mut dice = ChaCha8Rng::seed_from_u64(20);
    let root = Root::from_entropy(&Entropy::random(&mut dice));
    let device = DeviceKeys::random(&mut dice);
    let key = PersonKey::random(&mut dice);
    let made = Author::genesis(&root, &device, &key, "one", 1 << 40, &mut dice).unwrap();
    let person = root.person_id();
    let tag = person_tag(&person);
    let log = Log { kind: LogKind::Person, tag };
    let head = Head { author: device.verifying_key(), seq: 0, id: made.id.0 };

    // One has the log, the other only knows whose it will be.
    let mut holder =
        Session::new(Terms { peer: Scope::whole([person]), own: Scope::whole([person]), ..Terms::default() });
    holder.handle(Event::Held { log, heads: vec![head] }, NOW_MS);
    let told = holder.handle(Event::Opened, NOW_MS);
    let [Action::Send(frontier)] = &told[..] else { panic!("{told:?}") };
    let reader = || {
        let mut reader =
            Session::new(Terms { peer: Scope::whole([]), own: Scope::whole([]), ..Terms::default() });
        reader.handle(Event::Opened, NOW_MS);
        reader.handle(Event::Received(frontier.clone()), NOW_MS);
        reader.add_person(person);
        let actions = reader.handle(Event::Held { log, heads: Vec::new() }, NOW_MS);
        (reader, actions)
    };
    let (mut open, actions) = reader();
    let pull = Pull { kind: LogKind::Person, tag, author: head.author, from: 0, to: 0 };
    assert!(actions.contains(&Action::Send(Message::Pull(pull).encode())), "{actions:?}");
    let load = say(&mut holder, &Message::Pull(pull));
    let [Action::Load { request, .. }] = load[..] else { panic!("{load:?}") };
    let items = vec![Item { seq: 0, bytes: made.entry.clone() }];
    let sent = holder.handle(Event::Loaded { request, items }, NOW_MS);
    let message = Message::Person { person, entries: vec![made.entry.clone()] };
    assert_eq!(sent, [Action::Send(message.encode())]);
    let taken = say(&mut open, &message);
    assert!(matches!(&taken[..], [Action::Take { bytes, .. }] if *bytes == made.entry), "{taken:?}");

    // Under another person's name, with one bit changed, from a peer that may not.
    let other = Message::Person { person: PERSON, entries: vec![made.entry.clone()] };
    let (mut open, _) = reader();
    assert_eq!(end_of(&say(&mut open, &other)), Some(End::Refuse(Refusal::Scope)));
    let mut changed = made.entry.clone();
    changed[200] ^= 1;
    let (mut open, _) = reader();
    let forged = Message::Person { person, entries: vec![changed] };
    assert!(matches!(end_of(&say(&mut open, &forged)), Some(End::Refuse(Refusal::Sig | Refusal::Canon))));
    let mut stranger = session(Scope::granted(&[grant(Rights::READ)]));
    stranger.handle(Event::Opened, NOW_MS);
    assert_eq!(end_of(&say(&mut stranger, &message)), Some(End::Refuse(Refusal::Scope)));
}

/// An entry with these fields, whose body nobody can open.
fn sealed_entry(tag: SpaceTag, author: &Signing, seq: u64) -> Vec<u8> {
    let secret = EpochSecret::new([6; 32]);
    let prev = if seq == 0 { EntryId::ZERO } else { EntryId([8; 32]) };
    let place = Place { space_tag: tag, seq, prev, epoch: secret.id() };
    let body = EntryBody { hlc: 1, deps: Vec::new(), ops: Vec::new() };
    seal(&place, &body, &secret.log_key(), author, &mut ChaCha8Rng::seed_from_u64(seq)).unwrap().bytes
}

/// T19, T21 on the wire: an entry goes to the space that it names itself, whoever sends it, and only if the sender may
/// bring entries there.
#[test]
fn t19_an_entry_cannot_be_slipped_into_another_space() {
    let author = Signing::from_seed(&SigningSeed::new([9; 32]));
    let writer = || {
        let mut open = session(Scope::granted(&[grant(Rights::READ | Rights::WRITE)]));
        open.handle(Event::Opened, NOW_MS);
        open
    };
    let actions = say(&mut writer(), &Message::Entry(sealed_entry(HELD, &author, 1)));
    assert!(matches!(actions[..], [Action::Take { log: Log { tag: HELD, .. }, seq: 1, .. }]), "{actions:?}");
    // Another space, an unknown one, and a genesis entry, whose tag is that of its own hash.
    for tag in [OTHER, UNKNOWN, SpaceTag::ZERO] {
        let actions = say(&mut writer(), &Message::Entry(sealed_entry(tag, &author, 0)));
        assert_eq!(end_of(&actions), Some(End::Refuse(Refusal::Scope)));
    }
    // A reader, and a replica that was not asked: the replica may relay, the reader may not.
    for (rights, may) in [(Rights::READ, false), (Rights::REPLICATE, true), (Rights::MANAGE, true)] {
        let mut open = session(Scope::granted(&[grant(rights)]));
        open.handle(Event::Opened, NOW_MS);
        let actions = say(&mut open, &Message::Entry(sealed_entry(HELD, &author, 1)));
        assert_eq!(end_of(&actions).is_none(), may, "{rights:?}");
    }
}

/// An author beyond the rate is slowed, in order, and nobody else with it; an own device is not.
#[test]
fn a_fast_author_is_slowed_and_not_cut() {
    let (fast, other) =
        (Signing::from_seed(&SigningSeed::new([1; 32])), Signing::from_seed(&SigningSeed::new([2; 32])));
    let rights = Rights::READ | Rights::WRITE;
    let mut open = session(Scope::granted(&[grant(rights)]));
    open.handle(Event::Opened, NOW_MS);
    let mut taken = Vec::new();
    let mut take = |open: &mut Session, actions: Vec<Action>, now_ms: u64| {
        for action in actions {
            match action {
                Action::Take { ticket, author, seq, .. } => {
                    taken.push((author, seq));
                    assert!(
                        open.handle(Event::Taken { ticket, fate: Fate::Durable }, now_ms)
                            .iter()
                            .all(|action| matches!(action, Action::Send(_)))
                    );
                }
                Action::Send(_) => {}
                other => panic!("{other:?}"),
            }
        }
        taken.clone()
    };
    for seq in 0..650 {
        let actions = say(&mut open, &Message::Entry(sealed_entry(HELD, &fast, seq)));
        let now = take(&mut open, actions, NOW_MS);
        assert_eq!(now.len(), 600.min(seq as usize + 1));
    }
    let actions = say(&mut open, &Message::Entry(sealed_entry(HELD, &other, 0)));
    assert_eq!(take(&mut open, actions, NOW_MS).len(), 601, "others keep their turn");
    assert!(open.due_ms() < NOW_MS + 60_000);
    let actions = open.handle(Event::Tick, NOW_MS + 30_000);
    assert_eq!(take(&mut open, actions, NOW_MS).len(), 601);
    let actions = open.handle(Event::Tick, NOW_MS + 60_000);
    let all = take(&mut open, actions, NOW_MS + 60_000);
    let seqs: Vec<u64> =
        all.iter().filter(|(a, _)| *a == fast.verifying_key()).map(|(_, seq)| *seq).collect();
    assert_eq!(seqs, (0..650).collect::<Vec<_>>(), "all of them, in order");
    assert!(open.is_level());

    let mut own = session(Scope::whole([]));
    own.handle(Event::Opened, NOW_MS);
    for seq in 0..700 {
        let actions = say(&mut own, &Message::Entry(sealed_entry(HELD, &fast, seq)));
        assert!(matches!(actions[..], [Action::Take { .. }]));
    }
}

/// Whatever a member sends, the session neither panics nor looks beyond the scope.
#[test]
fn mutated_streams_never_panic() {
    let mut dice = ChaCha8Rng::seed_from_u64(22);
    let author = Signing::from_seed(&SigningSeed::new([9; 32]));
    let head = Head { author: AUTHOR, seq: 3, id: [1; 32] };
    let stream: Vec<u8> = [
        Message::Frontier(Frontier { tag: HELD, heads: vec![head], pins: vec![], now_ms: NOW_MS }),
        Message::Pull(Pull { kind: LogKind::Entries, tag: HELD, author: AUTHOR, from: 0, to: 9 }),
        Message::Entry(sealed_entry(HELD, &author, 1)),
        Message::Ack { tag: HELD, heads: vec![(AUTHOR, 2)] },
        Message::Ask(Ask::Boxes(HELD, EpochId([1; 32]))),
        Message::Credit(100),
        Message::Bye(0),
    ]
    .iter()
    .flat_map(Message::encode)
    .collect();
    for _ in 0..20_000 {
        let mut open = session(Scope::granted(&[grant(Rights::READ | Rights::WRITE)]));
        open.handle(Event::Opened, NOW_MS);
        let mut bytes = stream.clone();
        for _ in 0..1 + dice.next_u32() % 4 {
            let at = dice.next_u32() as usize % bytes.len();
            bytes[at] = dice.next_u32().to_le_bytes()[0];
        }
        for part in bytes.chunks(200) {
            for action in open.handle(Event::Received(part.to_vec()), NOW_MS) {
                match action {
                    Action::Take { log, .. } | Action::Load { log, .. } => assert_eq!(log.tag, HELD),
                    Action::LookUp(Ask::Boxes(tag, _)) => assert_eq!(tag, HELD),
                    _ => {}
                }
            }
        }
    }
}
