//! Tests of `entry`.

use proptest::prelude::*;
use rand_core::Rng;
use serde_json::Value;

use super::*;
use crate::derive::kdf;
use crate::encode::Writer;
use crate::id::VerifyingKey;
use crate::sample::{below, bytes, cases, dice, fixed, outcome, survive_mutations, vectors};
use crate::secret::SigningSeed;

const VECTORS: &str = include_str!("../../../docs/spec/vectors/entry.json");

/// A space with one author and one epoch.
struct Fixture {
    space: SpaceId,
    epoch: EpochId,
    key: LogKey,
    author: Signing,
}

impl Fixture {
    fn of_vectors(v: &Value) -> Self {
        Self {
            space: SpaceId(fixed(&v["space_id"])),
            epoch: EpochId(kdf(Purpose::EpochId, &[&bytes(&v["es"])])),
            key: LogKey::new(kdf(Purpose::Log, &[&bytes(&v["es"])])),
            author: Signing::from_seed(&SigningSeed::new(fixed(&v["author_seed"]))),
        }
    }

    fn sample() -> Self {
        Self {
            space: SpaceId([0x51; 32]),
            epoch: EpochId([2; 32]),
            key: LogKey::new([3; 32]),
            author: Signing::from_seed(&SigningSeed::new([4; 32])),
        }
    }

    fn place(&self, after: Option<&AuthorHead>) -> Place {
        Place {
            space_tag: space_tag(&self.space),
            seq: after.map_or(0, |head| head.seq + 1),
            prev: after.map_or(EntryId::ZERO, |head| head.id),
            epoch: self.epoch,
        }
    }

    fn seal(&self, place: &Place, body: &EntryBody) -> Vec<u8> {
        seal(place, body, &self.key, &self.author, &mut dice(1)).unwrap().bytes
    }

    /// All ten steps in their order.
    fn receive(
        &self,
        bytes: &[u8],
        head: Option<&AuthorHead>,
        clock: Option<u64>,
    ) -> Result<EntryBody, Refusal> {
        let envelope = Envelope::parse(bytes)?;
        envelope.verify()?;
        envelope.check_space(&self.space)?;
        envelope.check_chain(head, None)?;
        let body = envelope.open((envelope.header().epoch == self.epoch).then_some(&self.key))?;
        body.check_clock(clock)?;
        Ok(body)
    }
}

fn body(hlc: u64) -> EntryBody {
    let dep = Dep { author: VerifyingKey([9; 32]), seq: 3, id: EntryId([8; 32]) };
    EntryBody { hlc, deps: vec![dep], ops: vec![vec![0x82, 0x01, 0x02], vec![0x81, 0x14]] }
}

fn head_of(bytes: &[u8]) -> AuthorHead {
    let envelope = Envelope::parse(bytes).unwrap();
    AuthorHead { seq: envelope.header().seq, id: envelope.id() }
}

/// Signs changed bytes anew, as another valid member could.
fn resign(bytes: &mut Vec<u8>, author: &Signing) {
    let end = bytes.len() - SIGNATURE_LEN;
    bytes[20..52].copy_from_slice(author.verifying_key().as_bytes());
    bytes.truncate(end);
    let id = *blake3::hash(bytes).as_bytes();
    bytes.extend_from_slice(&author.sign(Domain::Entry, &id));
}

#[test]
fn entries_are_accepted_and_refused_as_in_the_vectors() {
    let v = vectors(VECTORS);
    let fixture = Fixture::of_vectors(&v);
    let cases = cases(&v, "vectors");
    for case in cases {
        let known = &case["author_head"];
        let head = known.is_object().then(|| AuthorHead {
            seq: known["seq"].as_u64().unwrap(),
            id: EntryId(fixed(&known["entry_id"])),
        });
        let result = fixture.receive(&bytes(&case["entry"]), head.as_ref(), known["hlc"].as_u64());
        assert_eq!(outcome(&result), case["expect"].as_str().unwrap(), "{}", case["id"]);
    }
    assert_eq!(cases.len(), 34);
}

/// The accepted entries of the vectors come out again byte for byte.
#[test]
fn sealing_gives_the_bytes_of_the_vectors() {
    let v = vectors(VECTORS);
    let fixture = Fixture::of_vectors(&v);
    let mut head = None;
    for (name, case) in [("first", "ok-first"), ("second", "ok-second")] {
        let expected =
            cases(&v, "vectors").iter().find(|c| c["id"] == case).map(|c| bytes(&c["entry"])).unwrap();
        let ok = &v["ok"][name];
        let body = EntryBody::decode(&bytes(&ok["plaintext_body"])).unwrap();
        assert_eq!(body.encode().unwrap(), bytes(&ok["plaintext_body"]));
        let place = fixture.place(head.as_ref());
        let made = seal_with_nonce(
            &place,
            body.encode().unwrap(),
            &fixture.key,
            &fixture.author,
            fixed(&ok["nonce"]),
        )
        .unwrap();
        assert_eq!(made.bytes, expected);
        assert_eq!(made.id.as_bytes(), &fixed::<32>(&ok["entry_id"]));
        head = Some(head_of(&made.bytes));
    }
}

#[test]
fn the_genesis_entry_is_found_by_its_own_id() {
    let mut fixture = Fixture::sample();
    let place = Place { space_tag: SpaceTag::ZERO, ..fixture.place(None) };
    let bytes = fixture.seal(&place, &body(1));
    let genesis = Envelope::parse(&bytes).unwrap();
    assert!(genesis.is_genesis());
    assert_eq!(genesis.check_space(&fixture.space), Err(Refusal::Scope));
    fixture.space = SpaceId(*genesis.id().as_bytes());
    assert_eq!(genesis.check_space(&fixture.space), Ok(()));
    assert_eq!(genesis.check_space_tag(&space_tag(&fixture.space)), Ok(()));
    assert_eq!(genesis.check_space_tag(&SpaceTag([1; 16])), Err(Refusal::Scope));
    assert!(fixture.receive(&bytes, None, None).is_ok());

    let next = fixture.seal(&fixture.place(Some(&head_of(&bytes))), &body(2));
    let next = Envelope::parse(&next).unwrap();
    assert_eq!(next.check_space(&fixture.space), Ok(()));
    assert_eq!(next.check_space_tag(&space_tag(&fixture.space)), Ok(()));
    assert_eq!(next.check_space(&SpaceId([1; 32])), Err(Refusal::Scope));

    // Only the first entry of an author can be one.
    let head = head_of(&bytes);
    let late = fixture.seal(&Place { space_tag: SpaceTag::ZERO, ..fixture.place(Some(&head)) }, &body(2));
    assert_eq!(Envelope::parse(&late).unwrap().check_chain(Some(&head), None), Err(Refusal::Chain));
}

#[test]
fn chain_cases_have_their_names() {
    let fixture = Fixture::sample();
    let first = fixture.seal(&fixture.place(None), &body(1));
    let head = head_of(&first);
    let check = |place: Place, head: Option<&AuthorHead>, held: Option<&EntryId>| {
        Envelope::parse(&fixture.seal(&place, &body(2))).unwrap().check_chain(head, held)
    };
    let second = fixture.place(Some(&head));
    assert_eq!(Envelope::parse(&first).unwrap().check_chain(None, None), Ok(Arrival::New));
    assert_eq!(Envelope::parse(&first).unwrap().check_chain(Some(&head), None), Ok(Arrival::Held));
    assert_eq!(check(second, Some(&head), None), Ok(Arrival::New));
    assert_eq!(check(second, None, None), Err(Refusal::Gap));
    assert_eq!(check(Place { seq: 2, ..second }, Some(&head), None), Err(Refusal::Gap));
    assert_eq!(check(Place { prev: EntryId::ZERO, ..second }, Some(&head), None), Err(Refusal::Chain));
    assert_eq!(check(Place { prev: head.id, ..fixture.place(None) }, None, None), Err(Refusal::Chain));
    assert_eq!(check(fixture.place(None), Some(&head), None), Err(Refusal::Fork));
    // Below the head the caller says what it holds there.
    let later = AuthorHead { seq: 7, id: EntryId([7; 32]) };
    assert_eq!(Envelope::parse(&first).unwrap().check_chain(Some(&later), Some(&head.id)), Ok(Arrival::Held));
    assert_eq!(check(fixture.place(None), Some(&later), Some(&head.id)), Err(Refusal::Fork));
    let last = AuthorHead { seq: u64::MAX, id: EntryId([7; 32]) };
    assert_eq!(check(second, Some(&last), Some(&head.id)), Err(Refusal::Fork));
}

#[test]
fn clocks_must_move_on() {
    assert_eq!(body(5).check_clock(None), Ok(()));
    assert_eq!(body(5).check_clock(Some(4)), Ok(()));
    assert_eq!(body(5).check_clock(Some(5)), Err(Refusal::Time));
    assert_eq!(body(5).check_clock(Some(u64::MAX)), Err(Refusal::Time));
}

#[test]
fn limits_hold_and_one_more_is_refused() {
    let fixture = Fixture::sample();
    let seal = |body: &EntryBody| {
        seal(&fixture.place(None), body, &fixture.key, &fixture.author, &mut dice(1)).map(|entry| entry.bytes)
    };
    let dep = Dep { author: VerifyingKey([9; 32]), seq: 3, id: EntryId([8; 32]) };
    let with = |deps: usize, ops: usize| EntryBody { hlc: 1, deps: vec![dep; deps], ops: vec![vec![0]; ops] };
    assert!(seal(&with(DEPS_MAX, OPS_MAX)).is_ok());
    assert_eq!(seal(&with(DEPS_MAX + 1, 0)), Err(Refusal::Limit));
    assert_eq!(seal(&with(0, OPS_MAX + 1)), Err(Refusal::Limit));

    let filled = |len: usize| {
        let mut w = Writer::new();
        w.bytes(&vec![7; len]);
        EntryBody { hlc: 1, deps: vec![], ops: vec![w.finish()] }
    };
    let frame = BODY_LEN_MAX - 65_536;
    let frame = frame - (filled(frame).encode().unwrap().len() - frame);
    let most = filled(frame + 65_536);
    assert_eq!(most.encode().unwrap().len(), BODY_LEN_MAX);
    let bytes = seal(&most).unwrap();
    assert_eq!(bytes.len(), ENTRY_LEN_MAX);
    assert!(fixture.receive(&bytes, None, None).unwrap() == most);
    assert_eq!(seal(&filled(frame + 65_537)), Err(Refusal::Limit));

    // An operation that is none, two or half a canonical item is not written.
    for op in [vec![], vec![0, 0], vec![0x82, 0], vec![0x18, 0], vec![0xa0]] {
        assert_eq!(seal(&EntryBody { hlc: 1, deps: vec![], ops: vec![op] }), Err(Refusal::Canon));
    }
    let mut deep = vec![0x81; 6];
    deep.push(0);
    assert!(seal(&EntryBody { hlc: 1, deps: vec![], ops: vec![deep.clone()] }).is_ok());
    deep.insert(0, 0x81);
    assert_eq!(seal(&EntryBody { hlc: 1, deps: vec![], ops: vec![deep] }), Err(Refusal::Limit));
}

/// T6: a device whose database was restored from an earlier copy writes a second entry with one number. Nonces still
/// differ, and the fork is found.
#[test]
fn t6_a_restored_device_repeats_no_nonce_and_is_found() {
    let fixture = Fixture::sample();
    let mut dice = dice(6);
    let mut write =
        |hlc| seal(&fixture.place(None), &body(hlc), &fixture.key, &fixture.author, &mut dice).unwrap();
    let (before, after) = (write(1), write(2));
    let [a, b] = [&before, &after].map(|entry| Envelope::parse(&entry.bytes).unwrap());
    assert_ne!(a.header().nonce, b.header().nonce);
    assert_eq!(b.check_chain(Some(&AuthorHead { seq: 0, id: before.id }), None), Err(Refusal::Fork));
}

/// T8: entries come in steps of 256 bytes.
#[test]
fn t8_entry_lengths_come_in_steps() {
    let fixture = Fixture::sample();
    for len in (0..2_000).step_by(37) {
        let mut w = Writer::new();
        w.bytes(&vec![1; len]);
        let bytes =
            fixture.seal(&fixture.place(None), &EntryBody { hlc: 1, deps: vec![], ops: vec![w.finish()] });
        assert_eq!((bytes.len() - EntryHeader::LEN - SIGNATURE_LEN - aead::TAG_LEN) % 256, 0);
    }
}

/// T14: another member cannot make a ciphertext his own, nor put another author on it.
#[test]
fn t14_ciphertext_belongs_to_its_author() {
    let fixture = Fixture::sample();
    let bob = Signing::from_seed(&SigningSeed::new([0xb0; 32]));
    let bytes = fixture.seal(&fixture.place(None), &body(1));
    let mut forwarded = bytes.clone();
    resign(&mut forwarded, &bob);
    assert_eq!(fixture.receive(&forwarded, None, None).err(), Some(Refusal::Tag));
    let mut swapped = bytes;
    swapped[20..52].copy_from_slice(bob.verifying_key().as_bytes());
    assert_eq!(fixture.receive(&swapped, None, None).err(), Some(Refusal::Sig));
}

/// T19: space, epoch, place and predecessor are bound; each one changed and signed anew by a valid member is refused
/// under its own name.
#[test]
fn t19_spliced_entries_are_refused() {
    let fixture = Fixture::sample();
    let head = head_of(&fixture.seal(&fixture.place(None), &body(1)));
    let bytes = fixture.seal(&fixture.place(Some(&head)), &body(2));
    let changed = |at: usize, field: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + field.len()].copy_from_slice(field);
        resign(&mut changed, &fixture.author);
        fixture.receive(&changed, Some(&head), None).err()
    };
    assert_eq!(changed(4, &[1; 16]), Some(Refusal::Scope));
    assert_eq!(changed(4, &[0; 16]), Some(Refusal::Scope));
    assert_eq!(changed(92, &[1; 32]), Some(Refusal::Epoch));
    assert_eq!(changed(52, &2u64.to_le_bytes()), Some(Refusal::Gap));
    assert_eq!(changed(60, &[1; 32]), Some(Refusal::Chain));
    assert_eq!(changed(128, &[1; 24]), Some(Refusal::Tag));
    // A predecessor that fits does not help: it is associated data as well.
    let other = AuthorHead { seq: 0, id: EntryId([1; 32]) };
    let mut moved = bytes.clone();
    moved[60..92].copy_from_slice(other.id.as_bytes());
    resign(&mut moved, &fixture.author);
    assert_eq!(fixture.receive(&moved, Some(&other), None).err(), Some(Refusal::Tag));
    // By another valid member, who can sign for himself alone: in his own chain nothing of it opens.
    let bob = Signing::from_seed(&SigningSeed::new([0xb0; 32]));
    let by_bob = |at: usize, field: &[u8], head: Option<&AuthorHead>| {
        let mut spliced = bytes.clone();
        spliced[at..at + field.len()].copy_from_slice(field);
        resign(&mut spliced, &bob);
        fixture.receive(&spliced, head, None).err()
    };
    assert_eq!(by_bob(4, &[1; 16], Some(&head)), Some(Refusal::Scope));
    assert_eq!(by_bob(92, &[1; 32], Some(&head)), Some(Refusal::Epoch));
    assert_eq!(by_bob(20, bob.verifying_key().as_bytes(), Some(&head)), Some(Refusal::Tag));
    assert_eq!(by_bob(60, &[1; 32], Some(&head)), Some(Refusal::Chain));
    assert_eq!(by_bob(52, &2u64.to_le_bytes(), Some(&head)), Some(Refusal::Gap));
    assert_eq!(by_bob(20, bob.verifying_key().as_bytes(), None), Some(Refusal::Gap));
    // An epoch that the reader knows, with another key.
    let stranger = Fixture { key: LogKey::new([0x33; 32]), ..Fixture::sample() };
    assert_eq!(stranger.receive(&bytes, Some(&head), None).err(), Some(Refusal::Tag));
}

/// T22: turned bits are never accepted: every bit of one entry, and 100,000 random flips in entries of several lengths,
/// with every step in its place; against a holder of the author's key the AEAD alone still binds each bit.
#[test]
fn t22_turned_bits_are_never_accepted() {
    let fixture = Fixture::sample();
    let small = fixture.seal(&fixture.place(None), &body(1));
    let mut bytes = small.clone();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(fixture.receive(&bytes, None, None).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(fixture.receive(&bytes, None, None).is_ok());

    // Against a holder of the author's key the AEAD still binds every byte of header and body.
    let mut dice = dice(22);
    let stored: Vec<Vec<u8>> = [0, 200, 700, 3_000]
        .map(|len| {
            let mut w = Writer::new();
            w.bytes(&vec![7; len]);
            fixture.seal(&fixture.place(None), &EntryBody { hlc: 1, deps: vec![], ops: vec![w.finish()] })
        })
        .to_vec();
    for round in 0..100_000 {
        let mut bytes = stored[round % stored.len()].clone();
        let bit = below(&mut dice, bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(fixture.receive(&bytes, None, None).is_err(), "bit {bit}");
        let is_signed_part = bit / 8 < bytes.len() - SIGNATURE_LEN;
        if let Ok(envelope) = Envelope::parse(&bytes)
            && is_signed_part
        {
            assert_eq!(envelope.open(Some(&fixture.key)).err(), Some(Refusal::Tag), "bit {bit}");
        }
    }
}

/// T74: an older version is refused as such, and so are newer ones and a newer body.
#[test]
fn t74_other_versions_are_refused() {
    let fixture = Fixture::sample();
    let bytes = fixture.seal(&fixture.place(None), &body(1));
    for (magic, expected) in [
        (b"LKE0", Refusal::Version),
        (b"LKE2", Refusal::Version),
        (b"LKP1", Refusal::Canon),
        (b"lke1", Refusal::Canon),
    ] {
        let mut other = bytes.clone();
        other[..4].copy_from_slice(magic);
        assert_eq!(Envelope::parse(&other).err(), Some(expected));
    }
    let mut w = Writer::new();
    w.array(5).u64(2).u64(1).array(0).array(0).bool(true);
    assert_eq!(EntryBody::decode(&w.finish()).err(), Some(Refusal::Version));
    let mut w = Writer::new();
    w.array(5).u64(1).u64(1).array(0).array(0).bool(true);
    assert_eq!(EntryBody::decode(&w.finish()).err(), Some(Refusal::Canon));
}

#[test]
fn mutated_entries_and_bodies_decode_to_themselves_or_not_at_all() {
    let fixture = Fixture::sample();
    let entries: Vec<Vec<u8>> = (1..4)
        .map(|n| {
            let body = EntryBody { ops: vec![vec![0x81, 0x14]; 100 * n], ..body(n as u64) };
            fixture.seal(&fixture.place(None), &body)
        })
        .collect();
    let parsed = survive_mutations(&entries, |bytes| {
        let envelope = Envelope::parse(bytes)?;
        assert!(
            envelope.open(Some(&fixture.key)).is_err()
                || entries.iter().any(|e| e[..e.len() - 64] == bytes[..bytes.len() - 64])
        );
        let mut again = envelope.header().encode().to_vec();
        again.extend_from_slice(&envelope.bytes()[EntryHeader::LEN..]);
        Ok(again)
    });
    assert!(parsed > 100, "{parsed}");

    let bodies: Vec<Vec<u8>> = vec![body(1).encode().unwrap(), body(u64::MAX).encode().unwrap()];
    let decoded = survive_mutations(&bodies, |bytes| EntryBody::decode(bytes)?.encode());
    assert!(decoded > 100, "{decoded}");

    // Padding: never a panic, whatever the length field says.
    let padded: Vec<Vec<u8>> = bodies.iter().map(|body| body::pad(body).unwrap()).collect();
    survive_mutations(&padded, |bytes| body::unpad(bytes).and_then(body::pad));
}

proptest! {
    #[test]
    fn any_body_comes_back(
        hlc in any::<u64>(),
        deps in proptest::collection::vec((any::<[u8; 32]>(), any::<u64>(), any::<[u8; 32]>()), 0..5),
        ops in proptest::collection::vec(any::<i64>(), 0..60),
        seed in any::<u64>(),
    ) {
        let fixture = Fixture::sample();
        let body = EntryBody {
            hlc,
            deps: deps
                .into_iter()
                .map(|(author, seq, id)| Dep { author: VerifyingKey(author), seq, id: EntryId(id) })
                .collect(),
            ops: ops
                .into_iter()
                .map(|value| {
                    let mut w = Writer::new();
                    w.array(2).i64(value).text("é");
                    w.finish()
                })
                .collect(),
        };
        let mut dice = dice(seed);
        let _ = dice.next_u32();
        let made = seal(&fixture.place(None), &body, &fixture.key, &fixture.author, &mut dice).unwrap();
        let envelope = Envelope::parse(&made.bytes).unwrap();
        prop_assert_eq!(envelope.id(), made.id);
        prop_assert!(envelope.open(Some(&fixture.key)).unwrap() == body);
        prop_assert_eq!(envelope.open(None).err(), Some(Refusal::Epoch));
    }
}
