//! Goal: every operation has one form, and what is not understood is carried unchanged. Method: samples of each
//! operation, a table of refusals, the bodies of `entry.json`, and random mutations.

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use locker_crypto::entry::{BODY_LEN_MAX, DEPS_MAX, OPS_MAX};
use locker_crypto::id::EntryId;
use locker_crypto::id::{ChunkTag, PackHash};
use locker_crypto::pack::Loc;
use locker_crypto::secret::SigningSeed;
use locker_crypto::sign::{Domain, Signing};

use super::*;

fn entry_ref(n: u8) -> EntryRef {
    EntryRef { author: VerifyingKey([n; 32]), seq: u64::from(n) * 1_000, id: EntryId([n ^ 0xff; 32]) }
}

fn text_file(text: &[u8]) -> FileRef {
    let hash = *blake3::hash(text).as_bytes();
    let mut record = hash.to_vec();
    record.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
    let mut w = Writer::new();
    w.array(5).u64(1).u64(text.len() as u64).bytes(&hash).u64(0).bytes(&record);
    FileRef::decode(&w.finish()).unwrap()
}

/// One sample of every operation.
fn samples() -> Vec<Op> {
    let node = NodeId([1; 16]);
    let loc = Loc { tag: ChunkTag([1; 16]), offset: 0, sealed_len: 60 };
    vec![
        Op::Move(Move { node, parent: NodeId::ROOT, name: "héllo".into(), kind: 1 }),
        Op::Content(Content {
            node,
            bases: vec![VersionId([1; 16]), VersionId([2; 16])],
            file: text_file(b"hello world!"),
            mtime_ms: -5,
            exec: true,
        }),
        Op::Trash(Trash { node }),
        Op::Member(Grant { member: MemberKey([4; 32]), role: Role::Manage, valid_from: vec![] }),
        Op::Role(Grant {
            member: MemberKey([5; 32]),
            role: Role::Read,
            valid_from: vec![entry_ref(1), entry_ref(2)],
        }),
        Op::Epoch(Epoch {
            id: EpochId([6; 32]),
            parents: vec![EpochId([1; 32]), EpochId([2; 32])],
            member_set_hash: [7; 32],
            backs: vec![None, Some([9; 48])],
        }),
        Op::Share(Share {
            token: [1; 32],
            link_tag: [2; 16],
            link_sign: VerifyingKey([3; 32]),
            link_box: ObjectHash([4; 32]),
            expires: 1 << 40,
            sealed: vec![5; 60],
        }),
        Op::Revoke(Revoke { target: [8; 32] }),
        Op::Cut(vec![entry_ref(1), entry_ref(3)]),
        Op::RemoveAuthor(entry_ref(9)),
        Op::Snapshot(Snapshot { frontier: vec![entry_ref(4)], state_hash: [1; 32], file: text_file(b"s") }),
        Op::Heartbeat(vec![entry_ref(1), entry_ref(2)]),
        Op::Confirm(Confirm {
            author: VerifyingKey([1; 32]),
            first_seq: 3,
            last_seq: 3,
            decision: Decision::Restore,
            root_sig: None,
        }),
        Op::Confirm(Confirm {
            author: VerifyingKey([1; 32]),
            first_seq: 0,
            last_seq: u64::MAX,
            decision: Decision::Allow,
            root_sig: Some([9; 64]),
        }),
        Op::Policy(Policy {
            node: NodeId::ROOT,
            copies: 8,
            keep_days: 365,
            rules: vec![
                (VerifyingKey([1; 32]), ContentRule::All),
                (VerifyingKey([2; 32]), ContentRule::Pinned(vec![node, NodeId([2; 16])])),
                (VerifyingKey([3; 32]), ContentRule::Newest(1 << 30)),
                (VerifyingKey([4; 32]), ContentRule::None),
            ],
        }),
        Op::Pack(PackOp::new(PackHash([2; 32]), 4_096, vec![loc]).unwrap()),
        Op::Meta(Meta { node, key: "k".repeat(NAME_LEN_MAX), value: vec![1; META_VALUE_LEN_MAX] }),
        Op::Keep(Keep {
            node,
            parent: NodeId([2; 16]),
            name: "a.txt".into(),
            vid: VersionId([3; 16]),
            file: text_file(b"before"),
            mtime_ms: -1,
            exec: false,
        }),
        Op::Unknown(RawOp { code: 4_000, item: vec![0x82, 0x19, 0x0f, 0xa0, 0x81, 0x40] }),
    ]
}

fn encode(op: &Op) -> Vec<u8> {
    let mut w = Writer::new();
    op.encode(&mut w);
    w.finish()
}

fn decode(bytes: &[u8]) -> Result<Op, Refusal> {
    let mut r = Reader::new(bytes);
    let op = Op::decode(&mut r)?;
    r.finish().map(|()| op)
}

#[test]
fn every_operation_round_trips() {
    for op in samples() {
        let bytes = encode(&op);
        let read = decode(&bytes).unwrap();
        assert_eq!(read, op);
        assert_eq!(u64::from(bytes[1]), if op.code() < 24 { op.code() } else { 0x19 });
    }
}

/// Each sample, changed in one way, is kept as malformed for the named reason and encodes to the same bytes.
#[test]
fn known_codes_with_other_fields_are_kept_as_malformed() {
    let limit = |op: Op| (encode(&op), Refusal::Limit);
    let canon = |op: Op| (encode(&op), Refusal::Canon);
    let node = NodeId([1; 16]);
    let unsorted = vec![entry_ref(2), entry_ref(1)];
    let mut cases = vec![
        limit(Op::Meta(Meta { node, key: "k".repeat(NAME_LEN_MAX + 1), value: vec![] })),
        limit(Op::Meta(Meta { node, key: "k".into(), value: vec![0; META_VALUE_LEN_MAX + 1] })),
        limit(Op::Policy(Policy { node, copies: 0, keep_days: 30, rules: vec![] })),
        limit(Op::Policy(Policy { node, copies: 9, keep_days: 30, rules: vec![] })),
        limit(Op::Policy(Policy { node, copies: 2, keep_days: 6, rules: vec![] })),
        limit(Op::Policy(Policy { node, copies: 2, keep_days: 366, rules: vec![] })),
        canon(Op::Cut(unsorted.clone())),
        canon(Op::Heartbeat(vec![entry_ref(1), entry_ref(1)])),
        canon(Op::Role(Grant { member: MemberKey([1; 32]), role: Role::None, valid_from: unsorted })),
        canon(Op::Content(Content {
            node,
            bases: vec![VersionId([2; 16]), VersionId([1; 16])],
            file: text_file(b"x"),
            mtime_ms: 0,
            exec: false,
        })),
        canon(Op::Confirm(Confirm {
            author: VerifyingKey([1; 32]),
            first_seq: 4,
            last_seq: 3,
            decision: Decision::Allow,
            root_sig: None,
        })),
        // The words allow; to bring back, a device writes what it was.
        canon(Op::Confirm(Confirm {
            author: VerifyingKey([1; 32]),
            first_seq: 3,
            last_seq: 4,
            decision: Decision::Restore,
            root_sig: Some([9; 64]),
        })),
        canon(Op::Epoch(Epoch {
            id: EpochId([6; 32]),
            parents: vec![EpochId([1; 32])],
            member_set_hash: [7; 32],
            backs: vec![],
        })),
    ];
    cases.push((vec![0x84, 0x14, 0x00, 0x00, 0x80], Refusal::Canon));
    // One field too many, and an integer where a node stands.
    cases
        .push((vec![0x83, 0x03, 0x50, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0x00], Refusal::Canon));
    cases.push((vec![0x82, 0x03, 0x00], Refusal::Canon));
    let mut role_5 =
        encode(&Op::Member(Grant { member: MemberKey([4; 32]), role: Role::Manage, valid_from: vec![] }));
    let at = role_5.len() - 2;
    role_5[at] = 5;
    cases.push((role_5, Refusal::Canon));

    for (bytes, why) in cases {
        let read = decode(&bytes).unwrap();
        assert!(matches!(&read, Op::Malformed(_, found) if *found == why), "{read:?}");
        assert_eq!(encode(&read), bytes);
    }
}

/// What is no operation at all is refused with the entry.
#[test]
fn other_items_are_refused() {
    for (hex, why) in [
        ("80", Refusal::Canon),
        ("00", Refusal::Canon),
        ("8120", Refusal::Canon),
        ("8141aa", Refusal::Canon),
        ("811803", Refusal::Canon),
        ("8203", Refusal::Canon),
        ("8218ff81818181818181818100", Refusal::Limit),
        ("", Refusal::Canon),
    ] {
        assert_eq!(decode(&hex::decode(hex).unwrap()).unwrap_err(), why, "{hex}");
    }
}

/// An unknown operation is kept byte for byte and marks the space as read-only (T74).
#[test]
fn t74_unknown_operation_is_kept() {
    let bytes = hex::decode("8418ff818041aaf5").unwrap();
    let op = decode(&bytes).unwrap();
    assert!(op.is_newer());
    assert_eq!(op.code(), 255);
    assert_eq!(encode(&op), bytes);
    assert!(samples().iter().filter(|op| op.is_newer()).count() == 1);
}

#[test]
fn bodies_of_the_vectors_round_trip() {
    let text = include_str!("../../../../docs/spec/vectors/entry.json");
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut ran = 0;
    for (which, hlc, deps, codes) in [
        ("first", 117_964_800_000_000_000, 0, vec![20, 1, 2]),
        ("second", 117_964_800_000_327_680, 1, vec![3]),
    ] {
        let bytes = hex::decode(file["ok"][which]["plaintext_body"].as_str().unwrap()).unwrap();
        let body = Body::decode(&bytes).unwrap();
        assert_eq!(body.hlc, hlc);
        assert_eq!(body.deps.len(), deps);
        assert_eq!(body.ops.iter().map(Op::code).collect::<Vec<_>>(), codes);
        assert_eq!(body.encode().unwrap(), bytes);
        ran += 1;
    }
    assert_eq!(ran, 2);
}

/// Every operation of `ops.json` in the allowed form is written as it was read; each other one is kept with its first error.
#[test]
fn operations_of_the_vectors_are_read_or_refused() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../../../docs/spec/vectors/ops.json")).unwrap();
    let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
    let (ok, refused) = (file["ok"].as_array().unwrap(), file["refused"].as_array().unwrap());
    let mut codes = std::collections::BTreeSet::new();
    for case in ok {
        let op = decode(&bytes(&case["op"])).unwrap();
        assert!(!matches!(op, Op::Malformed(..) | Op::Unknown(_)), "{}: {op:?}", case["about"]);
        assert_eq!(encode(&op), bytes(&case["op"]), "{}", case["about"]);
        codes.insert(op.code());
    }
    for case in refused {
        let Op::Malformed(_, why) = decode(&bytes(&case["op"])).unwrap() else { panic!("{}", case["about"]) };
        assert_eq!(why.code(), case["expect"].as_str().unwrap(), "{}", case["about"]);
    }
    assert_eq!((ok.len(), refused.len(), codes.len()), (10, 20, 6));

    let (signed, fixed) = (&file["confirm"], |value| <[u8; 32]>::try_from(bytes(value)).unwrap());
    let root = Signing::from_seed(&SigningSeed::new(fixed(&signed["root_seed"])));
    assert_eq!(root.verifying_key().0, fixed(&signed["root_sign"]));
    let Op::Confirm(confirm) = decode(&bytes(&signed["op"])).unwrap() else { panic!("no confirm") };
    let message = confirm.signed_bytes(&SpaceId(fixed(&signed["space_id"])));
    assert_eq!(message, bytes(&signed["signed_bytes"]));
    assert_eq!(root.sign(Domain::Confirm, &message).to_vec(), bytes(&signed["root_sig"]));
    assert_eq!(confirm.root_sig.map(Vec::from), Some(bytes(&signed["root_sig"])));
}

/// T53, limits of an entry: each is accepted, one more is refused, on both sides.
#[test]
fn t53_limits_of_an_entry() {
    let op = Op::Trash(Trash { node: NodeId([1; 16]) });
    let body = |ops: usize, deps: usize| Body {
        hlc: 1,
        deps: (0..deps).map(|n| entry_ref(u8::try_from(n).unwrap())).collect(),
        ops: vec![op.clone(); ops],
    };
    let full = body(OPS_MAX, DEPS_MAX);
    assert_eq!(Body::decode(&full.encode().unwrap()).unwrap(), full);
    assert_eq!(body(OPS_MAX + 1, 0).encode().unwrap_err(), Refusal::Limit);
    assert_eq!(body(0, DEPS_MAX + 1).encode().unwrap_err(), Refusal::Limit);

    let written = |ops: usize, deps: usize| {
        let mut w = Writer::new();
        w.array(4).u64(1).u64(1);
        w.array(deps);
        for dep in body(0, deps).deps {
            w.array(3).bytes(dep.author.as_ref()).u64(dep.seq).bytes(dep.id.as_ref());
        }
        w.array(ops);
        (0..ops).for_each(|_| op.encode(&mut w));
        w.finish()
    };
    assert_eq!(Body::decode(&written(OPS_MAX + 1, 0)).unwrap_err(), Refusal::Limit);
    assert_eq!(Body::decode(&written(0, DEPS_MAX + 1)).unwrap_err(), Refusal::Limit);

    let long = |extra: usize| Body {
        ops: vec![Op::Unknown(RawOp {
            code: 255,
            item: {
                let mut w = Writer::new();
                w.array(2).u64(255).bytes(&vec![0; BODY_LEN_MAX - 13 + extra]);
                w.finish()
            },
        })],
        ..Body::default()
    };
    assert_eq!(long(0).encode().unwrap().len(), BODY_LEN_MAX);
    assert_eq!(long(1).encode().unwrap_err(), Refusal::Limit);
}

#[test]
fn other_bodies_are_refused() {
    for (hex, why) in [
        ("8402008080", Refusal::Version),
        ("8102", Refusal::Version),
        ("84010081808080", Refusal::Canon),
        ("83010080", Refusal::Canon),
        ("84010080a0", Refusal::Canon),
        ("840100808000", Refusal::Canon),
        ("8401008081f5", Refusal::Canon),
        ("840120808080", Refusal::Canon),
        ("80", Refusal::Canon),
        ("01", Refusal::Canon),
    ] {
        assert_eq!(Body::decode(&hex::decode(hex).unwrap()).unwrap_err(), why, "{hex}");
    }
}

/// 20,000 mutations with a fixed seed: never a panic, and what is read is written back to the same bytes.
#[test]
fn mutated_bodies_are_refused_or_round_trip() {
    let mut dice = ChaCha8Rng::seed_from_u64(53);
    let body = Body { hlc: 117_964_800_000_000_000, deps: vec![entry_ref(1), entry_ref(2)], ops: samples() };
    let valid = body.encode().unwrap();
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = valid.clone();
        for _ in 0..=dice.next_u32() % 4 {
            let at = dice.next_u32() as usize % bytes.len();
            match dice.next_u32() % 4 {
                0 => bytes[at] ^= 1 << (dice.next_u32() % 8),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, dice.next_u32().to_le_bytes()[0]),
                _ => bytes[at] = dice.next_u32().to_le_bytes()[0],
            }
        }
        if let Ok(body) = Body::decode(&bytes) {
            read += 1;
            assert_eq!(body.encode().unwrap(), bytes);
        }
    }
    assert!(read > 1_000, "only {read} mutations were read");
}
