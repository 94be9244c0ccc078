//! Tests of `pin`.

use super::*;
use crate::sample::{bytes, cases, fixed, outcome, survive_mutations, vectors};
use crate::secret::SigningSeed;

const VECTORS: &str = include_str!("../../../docs/spec/vectors/pins.json");

fn author() -> Signing {
    Signing::from_seed(&SigningSeed::new([4; 32]))
}

fn pack(number: u8) -> PackHash {
    PackHash(*blake3::hash(&[number]).as_bytes())
}

fn delta(head: Option<&PinHead>, adds: &[u8], drops: &[u8]) -> PinDelta {
    PinDelta {
        space_tag: SpaceTag([1; 16]),
        author: author().verifying_key(),
        seq: head.map_or(0, |head| head.seq + 1),
        prev: head.map_or(PinId::ZERO, |head| head.id),
        adds: adds.iter().copied().map(pack).collect(),
        drops: drops.iter().copied().map(pack).collect(),
    }
}

fn receive(set: &mut PinSet, bytes: &[u8]) -> Result<Step, Refusal> {
    let (delta, id) = PinDelta::open(bytes)?;
    set.apply(&delta, id)
}

#[test]
fn deltas_match_the_vectors() {
    let v = vectors(VECTORS);
    let signing = Signing::from_seed(&SigningSeed::new(fixed(&v["author_seed"])));
    let mut set = PinSet::default();
    let accepted = cases(&v, "deltas");
    for case in accepted {
        let bytes = bytes(&case["delta"]);
        let (delta, id) = PinDelta::open(&bytes).unwrap();
        assert_eq!(id.as_bytes(), &fixed::<32>(&case["id"]));
        assert_eq!(delta.sign(&signing).unwrap(), SignedDelta { id, bytes: bytes.clone() });
        assert_eq!(set.apply(&delta, id), Ok(Step::New));
        let pinned: BTreeSet<_> =
            case["pinned_after"].as_array().unwrap().iter().map(|hash| PackHash(fixed(hash))).collect();
        assert_eq!(set.packs(), &pinned);
        assert_eq!(receive(&mut set, &bytes), Ok(Step::Held));
    }
    assert_eq!(accepted.len(), 2);
    let refused = cases(&v, "refused_after_both");
    for case in refused {
        let before = set.clone();
        let result = receive(&mut set, &bytes(&case["delta"]));
        assert_eq!(outcome(&result), case["expect"].as_str().unwrap(), "{}", case["id"]);
        assert_eq!(set, before);
    }
    assert_eq!(refused.len(), 3);
}

#[test]
fn forms_are_refused_by_name() {
    let good = delta(None, &[1, 2], &[]).sign(&author()).unwrap().bytes;
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        PinDelta::open(&changed).err()
    };
    assert_eq!(changed(0, b"LKG0"), Some(Refusal::Version));
    assert_eq!(changed(0, b"LKE1"), Some(Refusal::Canon));
    assert_eq!(changed(92, &1u32.to_le_bytes()), Some(Refusal::Canon));
    assert_eq!(changed(92, &3u32.to_le_bytes()), Some(Refusal::Canon));
    assert_eq!(changed(92, &u32::MAX.to_le_bytes()), Some(Refusal::Limit));
    assert_eq!(changed(96, &u32::MAX.to_le_bytes()), Some(Refusal::Limit));
    // A pin turned into a drop, a weak author key, another space.
    assert_eq!(changed(92, &[1, 0, 0, 0, 1, 0, 0, 0]), Some(Refusal::Sig));
    assert_eq!(changed(20, &[0; 32]), Some(Refusal::Key));
    assert_eq!(changed(4, &[0; 16]), Some(Refusal::Sig));
    for len in [0, 3, 4, 99, 100, good.len() - 1] {
        assert_eq!(PinDelta::open(&good[..len]).err(), Some(Refusal::Canon), "{len}");
    }
    assert_eq!(PinDelta::open(&[&good[..], &[0]].concat()).err(), Some(Refusal::Canon));
    let other = Signing::from_seed(&SigningSeed::new([5; 32]));
    assert_eq!(delta(None, &[1], &[]).sign(&other), Err(Refusal::Key));
}

#[test]
fn limits_hold_and_one_more_is_refused() {
    let with = |adds: usize, drops: usize| PinDelta {
        adds: vec![pack(1); adds],
        drops: vec![pack(1); drops],
        ..delta(None, &[], &[])
    };
    let most = with(DELTA_PACKS_MAX - 1, 1).sign(&author()).unwrap();
    assert!(PinDelta::open(&most.bytes).is_ok());
    assert_eq!(with(DELTA_PACKS_MAX, 1).sign(&author()), Err(Refusal::Limit));
}

#[test]
fn a_chain_has_its_cases() {
    let mut set = PinSet::default();
    let send = |set: &mut PinSet, delta: &PinDelta| receive(set, &delta.sign(&author()).unwrap().bytes);
    let first = delta(None, &[1, 2], &[]);
    assert_eq!(send(&mut set, &PinDelta { seq: 1, ..first.clone() }), Err(Refusal::Gap));
    assert_eq!(send(&mut set, &PinDelta { prev: PinId([1; 32]), ..first.clone() }), Err(Refusal::Chain));
    assert_eq!(send(&mut set, &first), Ok(Step::New));
    let head = *set.head().unwrap();

    // What this author has not pinned is not its to drop; nothing of such a delta counts.
    let foreign = delta(Some(&head), &[3], &[1, 9]);
    assert_eq!(send(&mut set, &foreign), Err(Refusal::Rights));
    assert_eq!(set.packs().len(), 2);
    assert_eq!(send(&mut set, &delta(Some(&head), &[3], &[1, 3])), Ok(Step::New));
    assert_eq!(set.packs(), &BTreeSet::from([pack(2)]));

    assert_eq!(send(&mut set, &delta(Some(&head), &[7], &[])), Err(Refusal::Fork));
    assert_eq!(send(&mut set, &delta(None, &[7], &[])), Err(Refusal::Fork));
    let far = PinHead { seq: 9, ..head };
    assert_eq!(send(&mut set, &delta(Some(&far), &[7], &[])), Err(Refusal::Gap));
    let stored = PinSet::new(set.head().copied(), set.packs().clone());
    assert_eq!(stored, set);
}

#[test]
fn mutated_deltas_decode_to_themselves_or_not_at_all() {
    let samples: Vec<Vec<u8>> = [(&[1u8, 2][..], &[][..]), (&[], &[1, 2, 3]), (&[], &[])]
        .iter()
        .map(|(adds, drops)| delta(None, adds, drops).sign(&author()).unwrap().bytes)
        .collect();
    let decoded = survive_mutations(&samples, |bytes| {
        let mut again = PinDelta::decode(bytes)?.unsigned()?;
        again.extend_from_slice(&bytes[bytes.len() - SIGNATURE_LEN..]);
        Ok(again)
    });
    assert!(decoded > 100, "{decoded}");
}
