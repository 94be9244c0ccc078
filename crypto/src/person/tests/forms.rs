//! Refused forms, limits and random changes of entries and bodies.

use rand_core::Rng;

use super::*;
use crate::identity::person_tag;

#[test]
fn layouts_that_are_not_the_one_form_are_refused() {
    let alice = Alice::new();
    let good = &alice.log[0];
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Envelope::read(&bytes).unwrap_err()
    };
    assert_eq!(changed(3, b'2'), Refusal::Version);
    assert_eq!(changed(0, b'X'), Refusal::Canon);
    assert_eq!(changed(92, 1), Refusal::Canon, "epoch");
    assert_eq!(changed(130, 1), Refusal::Canon, "nonce");
    assert_eq!(changed(126, 4), Refusal::Limit, "length 262,145 or more");
    assert_eq!(changed(124, good[124].wrapping_add(1)), Refusal::Canon, "length");
    assert_eq!(changed(HEADER_LEN, 0x85), Refusal::Sig, "body");
    for cut in 0..good.len() {
        assert_eq!(Envelope::read(&good[..cut]).err(), Some(Refusal::Canon));
    }
    assert_eq!(Envelope::read(&[good.as_slice(), &[0]].concat()).err(), Some(Refusal::Canon));
    let mut weak = good.clone();
    weak[20..52].fill(0);
    assert_eq!(Envelope::read(&weak).err(), Some(Refusal::Key));
    assert_eq!(Entry::read(&PersonId([1; 32]), good).err(), Some(Refusal::Scope));
    assert_eq!(&good[4..20], person_tag(&alice.person()).as_bytes());
}

#[test]
fn bodies_that_are_not_the_one_form_are_refused() {
    let refused: &[(&str, Refusal)] = &[
        ("", Refusal::Canon),
        ("840200808000", Refusal::Version),
        ("8202f5", Refusal::Version),
        ("8301008080", Refusal::Canon),
    ];
    for (text, why) in refused {
        let answer = Body::decode(&hex::decode(text).unwrap());
        assert_eq!(answer.err(), Some(*why), "{text}");
    }
}

#[test]
fn limits_of_a_body_are_held_exactly() {
    let head = Head { author: VerifyingKey([1; 32]), seq: 0, entry: EntryId([2; 32]) };
    let op = Op::SetHome { space: SpaceId([1; 32]) };
    let body = |deps, ops| Body { hlc: 1, deps: vec![head; deps], ops: vec![op.clone(); ops] }.encode();
    assert!(Body::decode(&body(DEPS_MAX, OPS_MAX)).is_ok());
    assert_eq!(Body::decode(&body(DEPS_MAX + 1, 0)).err(), Some(Refusal::Limit));
    assert_eq!(Body::decode(&body(0, OPS_MAX + 1)).err(), Some(Refusal::Limit));
}

#[test]
fn an_operation_of_a_newer_program_is_kept_without_effect() {
    let mut alice = Alice::new();
    let op = Op::Unknown(hex::decode("8209f5").unwrap());
    let entry = alice.forge(alice.laptop.signing(), 1, alice.last, vec![op]);
    let parsed = Entry::read(&alice.person(), &entry).unwrap();
    assert_eq!(parsed.to_bytes(&alice.person()), entry);
    alice.log.push(entry);
    let roster = read(&alice.log).unwrap();
    assert!(roster.has_unknown_ops() && roster.is_active(&alice.laptop.verifying_key()));
}

#[test]
fn frontiers_cover_up_to_their_entry() {
    let frontier = Frontier { seq: 2, entry: EntryId([2; 32]) };
    assert_eq!(frontier.count(), 3);
    assert!(frontier.covers(1, &EntryId([9; 32])) && frontier.covers(2, &EntryId([2; 32])));
    assert!(!frontier.covers(2, &EntryId([9; 32])) && !frontier.covers(3, &EntryId([2; 32])));
    assert_eq!(Frontier::NONE.count(), 0);
    assert!(!Frontier::NONE.covers(0, &EntryId([1; 32])));
}

/// One operation of every code, with all fields filled.
fn samples() -> Vec<Body> {
    let mut alice = Alice::new();
    let phone = DeviceKeys::random(&mut dice(5));
    alice.add(&phone);
    let new = Root::from_entropy(&Entropy::new([2; 32]));
    let made = alice.author().set_root(&alice.root, &new, 1, &alice.keys, &mut dice(1));
    alice.push(made);
    let made = alice.author().set_home(SpaceId([8; 32]));
    alice.push(made);
    let succession = Succession::new(&alice.person(), &phone, &DeviceKeys::random(&mut dice(7)));
    let made = alice.author().replace_device(&succession, "phone", &alice.keys, &mut dice(8)).unwrap();
    alice.push(made);
    let mut keys = alice.keys.clone();
    keys.push(PersonKey::new([3; 32]));
    let removal =
        Removal { device: phone.verifying_key(), frontier: Frontier { seq: 300, entry: alice.last } };
    let stays = [alice.laptop.box_keys().public()];
    let made = alice.author().remove_device(removal, &keys, stays, &mut dice(6)).unwrap();
    alice.push(made);
    let mut newer = keys.clone();
    newer.push(PersonKey::new([4; 32]));
    let made = alice.author().renew_key(&newer, [alice.laptop.box_keys().public()], &mut dice(12)).unwrap();
    alice.push(made);
    let recovery = Recovery { generation: 2, name: "n", removals: vec![removal; 2], keys: &keys };
    let place = Place::first(900, vec![alice.head()]);
    let author = Author { person: alice.person(), device: &phone, place };
    let made =
        author.recover(&new, Recovery { removals: Vec::new(), ..recovery }, [], &mut dice(11)).unwrap();
    alice.log.push(made.entry);
    let bodies: Vec<Body> =
        alice.log.iter().map(|entry| Body::decode(Envelope::read(entry).unwrap().body).unwrap()).collect();
    assert_eq!(bodies.len(), 8);
    bodies
}

#[test]
fn bodies_survive_any_change_of_bytes_and_keep_one_form() {
    let samples: Vec<Vec<u8>> = samples().iter().map(Body::encode).collect();
    for sample in &samples {
        assert_eq!(Body::decode(sample).unwrap().encode(), *sample);
    }
    let mut dice = dice(99);
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut bytes = samples[round % samples.len()].clone();
        for _ in 0..=dice.next_u32() % 3 {
            let at = dice.next_u32() as usize % bytes.len();
            match dice.next_u32() % 4 {
                0 => bytes[at] ^= 1 << (dice.next_u32() % 8),
                1 => bytes[at] = dice.next_u32().to_le_bytes()[0],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, dice.next_u32().to_le_bytes()[0]),
            }
        }
        if let Ok(body) = Body::decode(&bytes) {
            assert_eq!(body.encode(), bytes);
            accepted += 1;
        }
    }
    assert!(accepted > 1_000, "most changes hit a hash or a signature, which any bytes fill: {accepted}");
}

#[test]
fn entries_survive_any_change_of_bytes() {
    let alice = Alice::new();
    let good = &alice.log[0];
    let mut dice = dice(98);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        let at = dice.next_u32() as usize % bytes.len();
        match dice.next_u32() % 3 {
            0 => bytes[at] ^= 1 << (dice.next_u32() % 8),
            1 => bytes.truncate(at),
            _ => bytes.insert(at, dice.next_u32().to_le_bytes()[0]),
        }
        assert!(bytes == *good || Roster::begin(&bytes).is_err());
    }
}
