//! The private half of the register and extents: who opens them, and what passes.

#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::capability::{Grant, Rights, Scope, Terms};
use crate::id::SpaceTag;
use crate::identity::DeviceKeys;
use crate::sample::{dice, mutate, survive_mutations};

fn registered(extent: Option<ObjectHash>) -> Registered {
    let mut dice = dice(7);
    let grant = Grant {
        audience: DeviceKeys::random(&mut dice).verifying_key(),
        space_tag: SpaceTag([3; 16]),
        rights: Rights::READ,
        scope: Scope::Space,
        not_before: 10,
        expires: 20,
        depth: 0,
        quota: None,
        terms: Terms { registered: true, fresh: false },
    };
    let token = Capability::issue(DeviceKeys::random(&mut dice).signing(), grant, &mut dice).unwrap();
    Registered {
        rendezvous: RendezvousSecret::random(&mut dice),
        kind: Kind::Snapshot,
        label: "Holidays".into(),
        uses_max: 0,
        token,
        capsule: ObjectHash([5; 32]),
        extent,
    }
}

fn keys() -> PersonKeys {
    let mut keys = PersonKeys::new(PersonKey::random(&mut dice(1)));
    keys.push(PersonKey::random(&mut dice(2)));
    keys
}

/// Goal: what one generation of keys sealed opens with all of them, and only for its own token.
#[test]
fn the_private_half_opens_for_its_person_and_token_alone() {
    for extent in [None, Some(ObjectHash([6; 32]))] {
        let listed = registered(extent);
        let root = listed.token.root_id();
        for key in keys().newest_first() {
            let sealed = listed.seal(key, &mut dice(3));
            assert!(Registered::open(&keys(), &root, &sealed).unwrap() == listed);
            assert!(Registered::open(&keys(), &TokenId([1; 32]), &sealed).err() == Some(Refusal::Tag));
            let stranger = PersonKeys::new(PersonKey::random(&mut dice(4)));
            assert!(Registered::open(&stranger, &root, &sealed).err() == Some(Refusal::Tag));
        }
    }
}

/// Goal: an extent says the same to whoever opens it, at its limits too, and nothing more is taken.
#[test]
fn an_extent_opens_for_its_person_and_token_alone() {
    let root = registered(None).token.root_id();
    let hash = |n: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(n as u64).to_be_bytes());
        PackHash(hash)
    };
    let extent = |packs: usize, path: usize| Extent {
        node: NodeId([9; 16]),
        path: "p".repeat(path),
        packs: (0..packs).map(hash).collect(),
    };
    let newest = keys();
    for fine in [extent(0, 0), extent(3, 10), extent(EXTENT_PACKS_MAX, EXTENT_PATH_LEN_MAX)] {
        let object = fine.seal(newest.newest(), &root, &mut dice(5)).unwrap();
        assert_eq!(Extent::open(&newest, &root, &object).unwrap(), fine);
        assert_eq!(Extent::open(&newest, &TokenId([1; 32]), &object), Err(Refusal::Tag));
    }
    for long in [extent(EXTENT_PACKS_MAX + 1, 0), extent(0, EXTENT_PATH_LEN_MAX + 1)] {
        assert_eq!(long.seal(newest.newest(), &root, &mut dice(5)), Err(Refusal::Limit));
    }
    let mut falling = extent(2, 1);
    falling.packs.reverse();
    let object = falling.seal(newest.newest(), &root, &mut dice(5)).unwrap();
    assert_eq!(Extent::open(&newest, &root, &object), Err(Refusal::Canon));
    let mut other = extent(1, 1).seal(newest.newest(), &root, &mut dice(5)).unwrap();
    other[3] = b'2';
    assert_eq!(Extent::open(&newest, &root, &other), Err(Refusal::Version));
}

/// Goal: changed bytes are refused whatever changed, and nothing panics.
#[test]
fn changed_bytes_of_both_are_refused() {
    let (listed, keys) = (registered(Some(ObjectHash([6; 32]))), keys());
    let root = listed.token.root_id();
    let sealed = listed.seal(keys.newest(), &mut dice(3));
    let extent = Extent { node: NodeId::ROOT, path: String::new(), packs: vec![PackHash([1; 32])] };
    let object = extent.seal(keys.newest(), &root, &mut dice(5)).unwrap();
    let mut dice = dice(8);
    for _ in 0..2_000 {
        let (mut a, mut b) = (sealed.clone(), object.clone());
        mutate(&mut a, &mut dice);
        mutate(&mut b, &mut dice);
        assert!(a == sealed || Registered::open(&keys, &root, &a).is_err());
        assert!(b == object || Extent::open(&keys, &root, &b).is_err());
    }
    survive_mutations(&[object], |bytes| Extent::open(&keys, &root, bytes).map(|_| bytes.to_vec()));
}
