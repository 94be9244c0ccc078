//! Vectors, refusals, attacks and algebra of capability tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::block::BLOCK_LEN;
use super::verify::{SKEW_S, check_chain, check_holder, check_request, check_standing, possession_message};
use super::*;
use crate::id::NodeId;
use crate::secret::SigningSeed;
use crate::sign::{Domain, Signing};

const NOW: u64 = 1_800_000_000;
const TRANSCRIPT: [u8; 32] = [0x7d; 32];

/// Facts that own their sets.
#[derive(Clone, Default)]
struct World {
    issuers: BTreeSet<VerifyingKey>,
    removed: BTreeMap<VerifyingKey, BTreeSet<TokenId>>,
    revoked: BTreeSet<[u8; 32]>,
    heartbeat_age_s: Option<u64>,
    register: BTreeSet<TokenId>,
    used_bytes: BTreeMap<TokenId, u64>,
}

impl World {
    fn of(issuer: &Signing) -> Self {
        let issuers = [issuer.verifying_key()].into();
        Self { issuers, heartbeat_age_s: Some(3_600), ..Self::default() }
    }

    fn facts(&self, now: u64) -> Facts<'_> {
        Facts {
            now,
            issuers: &self.issuers,
            removed: &self.removed,
            revoked: &self.revoked,
            heartbeat_age_s: self.heartbeat_age_s,
            registration: Registration::Flagged { register: &self.register },
            used_bytes: &self.used_bytes,
        }
    }

    /// Runs every step for a presenter who holds `holder`.
    fn judge(
        &self,
        bytes: &[u8],
        now: u64,
        holder: &Signing,
        request: &Request<'_>,
    ) -> Result<TokenId, Refusal> {
        let mut chains = VerifiedChains::new(8);
        let pop = Capability::decode(bytes)
            .map_or([0; 64], |token| holder.sign(Domain::Pop, &possession_message(&TRANSCRIPT, &token)));
        let holder = Holder::Signs { transcript: &TRANSCRIPT, pop: &pop };
        let cold = verify(bytes, &mut chains, &self.facts(now), &holder, request).map(|token| token.id());
        let warm = verify(bytes, &mut chains, &self.facts(now), &holder, request).map(|token| token.id());
        assert_eq!(cold, warm, "a remembered chain changes no answer");
        cold
    }
}

fn key(n: u8) -> Signing {
    Signing::from_seed(&SigningSeed::new([n; 32]))
}

fn dice(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn read() -> Request<'static> {
    Request { rights: Rights::READ, folders: &[], bytes: 0 }
}

fn grant(audience: &Signing) -> Grant {
    Grant {
        audience: audience.verifying_key(),
        space_tag: SpaceTag([0x5a; 16]),
        rights: Rights::READ | Rights::SHARE,
        scope: Scope::Space,
        not_before: NOW - 60,
        expires: NOW + 86_400,
        depth: 3,
        quota: None,
        terms: Terms::default(),
    }
}

/// A chain of `len` blocks: key 1 issues to key 2, which narrows to key 3, and so on.
fn chain(len: u8) -> Capability {
    let mut token = Capability::issue(&key(1), grant(&key(2)), &mut dice(1)).unwrap();
    for n in 2..=len {
        let heir = token.heir(key(n + 1).verifying_key());
        token = token.narrow(&key(n), heir, &mut dice(u64::from(n))).unwrap();
    }
    token
}

mod vectors {
    use super::*;

    fn bytes32(value: &Value) -> [u8; 32] {
        hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
    }

    fn set<T: Ord>(value: &Value, of: impl Fn([u8; 32]) -> T) -> BTreeSet<T> {
        value.as_array().map(|list| list.iter().map(|v| of(bytes32(v))).collect()).unwrap_or_default()
    }

    fn world(case: &Value) -> World {
        World {
            issuers: set(&case["issuers_active"], VerifyingKey),
            removed: case["issuers_removed"].as_array().map_or_else(BTreeMap::new, |list| {
                list.iter()
                    .map(|r| {
                        (VerifyingKey(bytes32(&r["key"])), set(&r["registered_below_frontier"], TokenId))
                    })
                    .collect()
            }),
            revoked: set(&case["revoked"], |bytes| bytes),
            heartbeat_age_s: Some(case["revocation_view_age_s"].as_u64().unwrap_or(3_600)),
            register: set(&case["register"], TokenId),
            used_bytes: BTreeMap::new(),
        }
    }

    #[test]
    fn every_token_gets_the_named_answer() {
        let file: Value = serde_json::from_str(include_str!("../../../docs/spec/vectors/cap.json")).unwrap();
        let keys: BTreeMap<VerifyingKey, Signing> = file["seeds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|seed| Signing::from_seed(&SigningSeed::new(bytes32(seed))))
            .map(|key| (key.verifying_key(), key))
            .collect();
        let (mut accepted, mut refused) = (0, 0);
        for case in file["vectors"].as_array().unwrap() {
            let id = case["id"].as_str().unwrap();
            let bytes = hex::decode(case["cap"].as_str().unwrap()).unwrap();
            let ask = &case["request"];
            let folders: Vec<NodeId> = ask["folder"]
                .as_str()
                .map(|f| NodeId::from_slice(&hex::decode(f).unwrap()).unwrap())
                .into_iter()
                .collect();
            let request = Request {
                rights: Rights::from_bits(u16::try_from(ask["right"].as_u64().unwrap()).unwrap()).unwrap(),
                folders: &folders,
                bytes: ask["bytes"].as_u64().unwrap(),
            };
            let decoded = Capability::decode(&bytes);
            if let Ok(token) = &decoded {
                assert_eq!(token.encode(), bytes, "{id}");
            }
            let holder =
                decoded.ok().and_then(|token| keys.get(&token.audience()).cloned()).unwrap_or(key(9));
            let answer = world(case).judge(&bytes, case["now"].as_u64().unwrap(), &holder, &request);
            match (case["expect"].as_str().unwrap(), answer) {
                ("ok", Ok(token_id)) => {
                    assert_eq!(token_id.0, bytes32(&case["token_id"]), "{id}");
                    accepted += 1;
                }
                (expected, answer) => {
                    assert_eq!(answer.map_err(Refusal::code), Err(expected), "{id}");
                    refused += 1;
                }
            }
        }
        assert_eq!((accepted, refused), (8, 53));
    }
}

#[test]
fn what_is_issued_and_narrowed_is_accepted() {
    for len in 1..=4 {
        let token = chain(len);
        assert_eq!(token.encode().len(), 5 + 205 * usize::from(len));
        assert_eq!(Capability::decode(&token.encode()).unwrap(), token);
        assert_eq!(World::of(&key(1)).judge(&token.encode(), NOW, &key(len + 1), &read()), Ok(token.id()));
        assert_eq!((token.ids().len(), token.ids()[0]), (usize::from(len), token.root_id()));
    }
}

/// T29: windows are exact, and a child never outlives its parent.
#[test]
fn t29_expired_and_early_tokens_are_refused() {
    let token = chain(2);
    let world = World::of(&key(1));
    let at = |now| world.judge(&token.encode(), now, &key(3), &read());
    assert_eq!(at(NOW + 86_400), Err(Refusal::Time));
    assert_eq!(at(NOW + 86_399), Ok(token.id()));
    assert_eq!(at(NOW - 60 - SKEW_S), Ok(token.id()));
    assert_eq!(at(NOW - 60 - SKEW_S - 1), Err(Refusal::Time));
    assert_eq!((at(0), at(u64::MAX)), (Err(Refusal::Time), Err(Refusal::Time)));

    let parent = chain(1);
    let longer = Grant { expires: NOW + 86_401, ..parent.heir(key(3).verifying_key()) };
    assert_eq!(parent.narrow(&key(2), longer, &mut dice(5)), Err(Refusal::Time));
    let never = Grant { not_before: 0, expires: 0, ..grant(&key(2)) };
    assert_eq!(Capability::issue(&key(1), never, &mut dice(5)), Err(Refusal::Canon));
}

/// T30: no rearrangement of signed blocks is a token.
#[test]
fn t30_spliced_and_reordered_chains_are_refused() {
    let world = World::of(&key(1));
    let token = chain(3);
    let bytes = token.encode();
    let block = |n: usize| &bytes[5 + n * BLOCK_LEN..5 + (n + 1) * BLOCK_LEN];
    let build = |n: u8, blocks: &[&[u8]]| [&b"LKC1"[..], &[n], &blocks.concat()].concat();
    let judge = |bytes: &[u8], holder: u8| world.judge(bytes, NOW, &key(holder), &read());

    assert_eq!(judge(&build(3, &[block(0), block(1), block(2)]), 4), Ok(token.id()));
    assert_eq!(judge(&build(3, &[block(1), block(0), block(2)]), 4), Err(Refusal::Chain), "swapped");
    assert_eq!(judge(&build(2, &[block(0), block(2)]), 4), Err(Refusal::Chain), "one left out");

    // A block of another chain between the same keys: the ids above it differ, so its signature does not fit.
    let mut twin = Capability::issue(&key(1), grant(&key(2)), &mut dice(77)).unwrap();
    twin = twin.narrow(&key(2), twin.heir(key(3).verifying_key()), &mut dice(78)).unwrap();
    let twin = twin.encode();
    let foreign = &twin[5 + BLOCK_LEN..];
    assert_eq!(judge(&build(2, &[block(0), foreign]), 3), Err(Refusal::Sig), "block of another chain");

    // Without its last block it is its parent's token, of use to the parent's audience alone.
    let shorter = build(2, &[block(0), block(1)]);
    assert_eq!(judge(&shorter, 4), Err(Refusal::Pop), "last block dropped");
    assert!(judge(&shorter, 3).is_ok());

    // The last holder widens nothing by signing once more: depth is spent.
    let deepest = chain(4);
    let more = Grant { depth: 0, ..deepest.heir(key(6).verifying_key()) };
    assert_eq!(deepest.narrow(&key(5), more, &mut dice(8)), Err(Refusal::Depth));

    assert_eq!(judge(b"LKC1\0", 4), Err(Refusal::Canon), "n = 0");
    let five = build(5, &[block(0), block(1), block(2), block(2), block(2)]);
    assert_eq!(judge(&five, 4), Err(Refusal::Canon), "n = 5");
    assert_eq!(judge(&[&bytes[..], &[0]].concat(), 4), Err(Refusal::Canon), "trailing byte");
    for version in *b"02a\0" {
        let mut other = bytes.clone();
        other[3] = version;
        assert_eq!(judge(&other, 4), Err(Refusal::Version), "LKC{version}");
    }
    for cut in 0..bytes.len() {
        assert_eq!(judge(&bytes[..cut], 4), Err(Refusal::Canon), "cut at {cut}");
    }
}

/// T74: a token of another version is told apart from garbage.
#[test]
fn t74_lkc2_is_a_version_refusal() {
    assert_eq!(Capability::decode(b"LKC2"), Err(Refusal::Version));
    assert_eq!(Capability::decode(b"LKD1"), Err(Refusal::Canon));
}

#[test]
fn every_step_has_its_place_in_the_order() {
    // Each case is wrong from step n on; making step n right lets the next error show.
    let other = key(40);
    let folder = NodeId([7; 16]);
    let terms = Terms { registered: true, fresh: true };
    let write = Rights::READ | Rights::WRITE;
    let scope = Scope::Folder(folder);
    let quota = NonZeroU64::new(10);
    let wide = Grant { rights: write, scope, quota, terms, expires: NOW, ..grant(&key(2)) };
    let token = Capability::issue(&key(1), wide, &mut dice(3)).unwrap();

    let mut world = World::of(&other);
    world.revoked.insert(token.root_id().0);
    world.heartbeat_age_s = None;
    let mut broken = token.encode();
    *broken.last_mut().unwrap() ^= 1;
    let mut request = Request { rights: Rights::MANAGE, folders: &[], bytes: 11 };

    assert_eq!(world.judge(&broken, NOW, &other, &request), Err(Refusal::Sig));
    let bytes = token.encode();
    assert_eq!(world.judge(&bytes, NOW, &other, &request), Err(Refusal::Time));
    let now = NOW - 1;
    assert_eq!(world.judge(&bytes, now, &other, &request), Err(Refusal::Rights));
    world.removed.insert(key(1).verifying_key(), BTreeSet::new());
    world.issuers.insert(key(1).verifying_key());
    assert_eq!(
        world.judge(&bytes, now, &other, &request),
        Err(Refusal::Frontier),
        "removed wins over active"
    );
    world.removed.clear();
    assert_eq!(world.judge(&bytes, now, &other, &request), Err(Refusal::Revoked));
    world.revoked.clear();
    assert_eq!(world.judge(&bytes, now, &other, &request), Err(Refusal::Time), "never saw a heartbeat");
    world.heartbeat_age_s = Some(7 * 86_400);
    assert_eq!(world.judge(&bytes, now, &other, &request), Err(Refusal::Unregistered));
    world.register.insert(token.id());
    assert_eq!(world.judge(&bytes, now, &other, &request), Err(Refusal::Pop));
    assert_eq!(world.judge(&bytes, now, &key(2), &request), Err(Refusal::Rights));
    request.rights = Rights::WRITE;
    assert_eq!(world.judge(&bytes, now, &key(2), &request), Err(Refusal::Scope));
    request.folders = &[NodeId([8; 16]), NodeId([7; 16]), NodeId::ROOT];
    assert_eq!(world.judge(&bytes, now, &key(2), &request), Err(Refusal::Quota));
    request.bytes = 10;
    assert_eq!(world.judge(&bytes, now, &key(2), &request), Ok(token.id()));
    world.used_bytes.insert(token.id(), 1);
    assert_eq!(world.judge(&bytes, now, &key(2), &request), Err(Refusal::Quota));
    request.rights = Rights::NONE;
    assert_eq!(world.judge(&bytes, now, &key(2), &request), Err(Refusal::Rights));
}

#[test]
fn a_full_node_wants_every_link_registered() {
    let token = chain(2);
    let mut chains = VerifiedChains::new(8);
    check_chain(&token, &mut chains).unwrap();
    let world = World::of(&key(1));
    let (mut register, mut parties) = (BTreeSet::new(), BTreeSet::from([key(2).verifying_key()]));
    let ask = |register: &BTreeSet<TokenId>, parties: &BTreeSet<VerifyingKey>| {
        let registration = Registration::Full { register, parties };
        check_standing(&token, &Facts { registration, ..world.facts(NOW) })
    };
    assert_eq!(ask(&register, &parties), Err(Refusal::Unregistered));
    register.insert(token.id());
    assert_eq!(ask(&register, &parties), Err(Refusal::Unregistered), "the register holds h_1, not h_n");
    parties.insert(key(3).verifying_key());
    assert_eq!(ask(&register, &parties), Ok(()));
    parties.clear();
    register.insert(token.root_id());
    assert_eq!(ask(&register, &parties), Ok(()));
    let unknown = Facts { registration: Registration::Unknown, ..world.facts(NOW) };
    assert_eq!(check_standing(&token, &unknown), Ok(()));
}

#[test]
fn possession_is_bound_to_session_and_key() {
    let token = chain(2);
    let pop = key(3).sign(Domain::Pop, &possession_message(&TRANSCRIPT, &token));
    assert_eq!(check_holder(&token, &Holder::Signs { transcript: &TRANSCRIPT, pop: &pop }), Ok(()));
    let replayed = Holder::Signs { transcript: &[0x7e; 32], pop: &pop };
    assert_eq!(check_holder(&token, &replayed), Err(Refusal::Pop));
    assert_eq!(check_holder(&token, &Holder::Proved(key(3).verifying_key())), Ok(()));
    assert_eq!(check_holder(&token, &Holder::Proved(key(2).verifying_key())), Err(Refusal::Audience));
    let parent = chain(1);
    assert_eq!(
        check_holder(&parent, &Holder::Signs { transcript: &TRANSCRIPT, pop: &pop }),
        Err(Refusal::Pop)
    );
}

#[test]
fn the_cache_is_bounded_and_covers_signatures() {
    let mut chains = VerifiedChains::new(2);
    let tokens: Vec<_> =
        (0..3).map(|n| Capability::issue(&key(1), grant(&key(2)), &mut dice(n)).unwrap()).collect();
    for token in &tokens {
        check_chain(token, &mut chains).unwrap();
        check_chain(token, &mut chains).unwrap();
    }
    assert_eq!(chains.len(), 2);
    let mut broken = tokens[2].clone();
    broken.blocks[0].signature[0] ^= 1;
    assert_eq!(broken.id(), tokens[2].id());
    assert_eq!(check_chain(&broken, &mut chains), Err(Refusal::Sig));
    let mut none = VerifiedChains::new(0);
    check_chain(&tokens[0], &mut none).unwrap();
    assert!(none.is_empty());
}

/// 20,000 random mutations of valid tokens: never a panic, never accepted, and what decodes re-encodes.
#[test]
fn mutated_tokens_are_never_accepted() {
    let world = World::of(&key(1));
    let mut rng = dice(0x6d75_7461);
    let samples: Vec<_> = (1..=4).map(|len| (chain(len).encode(), chain(len).audience())).collect();
    let mut chains = VerifiedChains::new(64);
    for (bytes, _) in &samples {
        check_chain(&Capability::decode(bytes).unwrap(), &mut chains).unwrap();
    }
    let mut decoded = 0;
    for _ in 0..20_000 {
        let (sample, holder) = &samples[(rng.next_u32() % 4) as usize];
        let mut bytes = sample.clone();
        mutate(&mut bytes, &mut rng);
        if samples.iter().any(|(sample, _)| *sample == bytes) {
            continue;
        }
        if let Ok(token) = Capability::decode(&bytes) {
            assert_eq!(token.encode(), bytes);
            decoded += 1;
        }
        let answer = verify(&bytes, &mut chains, &world.facts(NOW), &Holder::Proved(*holder), &read());
        assert!(answer.is_err(), "{}", hex::encode(&bytes));
    }
    assert!(decoded > 5_000, "the mutations reach beyond the first step: {decoded}");
}

/// One random change: a bit, a byte, a cut, an insertion, or a piece copied over another.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha20Rng) {
    let at = |rng: &mut ChaCha20Rng, len: usize| rng.next_u32() as usize % len.max(1);
    let place = at(rng, bytes.len());
    match rng.next_u32() % 8 {
        0..4 => bytes[place] ^= 1 << (rng.next_u32() % 8),
        4 => bytes[place] = rng.next_u32().to_le_bytes()[0],
        5 => bytes.truncate(place),
        6 => bytes.insert(place, rng.next_u32().to_le_bytes()[0]),
        _ => {
            let len = at(rng, bytes.len() - place);
            let from = at(rng, bytes.len() - len);
            bytes.copy_within(from..from + len, place);
        }
    }
}

/// Any grant, allowed or not.
fn any_grant() -> impl Strategy<Value = Grant> {
    let scope = prop_oneof![
        3 => Just(Scope::Space),
        2 => (1..3_u8).prop_map(|n| Scope::Folder(NodeId([n; 16]))),
    ];
    let terms = (any::<bool>(), any::<bool>()).prop_map(|(registered, fresh)| Terms { registered, fresh });
    let rights = prop_oneof![Just(0x10_u16), Just(0x13), Just(0x17), Just(0x1b), 0..0x40_u16];
    let window = (0..4_u64, 1..5_u64);
    (rights, scope, window, 0..=3_u8, 0..4_u64, terms, 3..5_u8).prop_map(
        |(rights, scope, (start, len), depth, quota, terms, audience)| Grant {
            rights: Rights::from_bits(rights).unwrap(),
            scope,
            not_before: NOW + start * 1_000,
            expires: NOW + (start + len) * 1_000,
            depth,
            quota: NonZeroU64::new(quota),
            terms,
            ..grant(&key(audience))
        },
    )
}

/// Any allowed grant.
fn any_parent() -> impl Strategy<Value = Grant> {
    any_grant()
        .prop_filter("allowed", |grant| grant.check().is_ok())
        .prop_map(|grant| Grant { audience: key(2).verifying_key(), ..grant })
}

/// Takes the fields that `mask` names from the parent, so that many children are narrower and some are not.
fn like(parent: &Grant, child: Grant, mask: u8) -> Grant {
    let from = |bit: u8| mask & (1 << bit) != 0;
    Grant {
        rights: if from(0) { parent.rights } else { child.rights },
        scope: if from(1) { parent.scope } else { child.scope },
        not_before: if from(2) { parent.not_before } else { child.not_before },
        expires: if from(3) { parent.expires } else { child.expires },
        depth: if from(4) { parent.depth.saturating_sub(1) } else { child.depth },
        quota: if from(5) { parent.quota } else { child.quota },
        ..child
    }
}

fn any_request() -> impl Strategy<Value = (u16, u8, u64, u64)> {
    (1..0x40_u16, 0..3_u8, 0..5_u64, 0..10_000_u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever a narrowed token allows, its parent allows too, at every time, for every request.
    #[test]
    fn a_narrowed_token_never_grants_more(
        parent in any_parent(),
        child in any_grant(),
        mask in any::<u8>(),
        requests in proptest::collection::vec(any_request(), 8),
    ) {
        let child = like(&parent, child, mask);
        let parent = Capability::issue(&key(1), parent, &mut dice(1)).unwrap();
        if let Ok(child) = parent.narrow(&key(2), child, &mut dice(2)) {
            let mut chains = VerifiedChains::new(4);
            prop_assert_eq!(check_chain(&child, &mut chains), Ok(()));
            prop_assert!(parent.rights().contains(child.rights()));
            prop_assert!(child.expires() <= parent.expires());
            let mut world = World::of(&key(1));
            world.register.insert(parent.id());
            for (rights, folder, bytes, later) in requests {
                let folders = [NodeId([folder; 16])];
                let rights = Rights::from_bits(rights).unwrap();
                let request = Request { rights, folders: &folders, bytes };
                let facts = world.facts(NOW + later);
                let allows = |token: &Capability| {
                    check_standing(token, &facts).is_ok() && check_request(token, &facts, &request).is_ok()
                };
                prop_assert!(!allows(&child) || allows(&parent));
            }
        }
    }

    /// Narrowing refuses exactly what the verifier refuses in the chain.
    #[test]
    fn narrowing_and_verifying_agree(parent in any_parent(), child in any_grant(), mask in any::<u8>()) {
        let child = like(&parent, child, mask);
        let parent = Capability::issue(&key(1), parent, &mut dice(1)).unwrap();
        if child.check().is_err() {
            prop_assert_eq!(parent.narrow(&key(2), child, &mut dice(2)), Err(Refusal::Canon));
            return Ok(());
        }
        let block = issue::sign_block(&key(2), child, parent.id(), &mut dice(2)).unwrap();
        let forced = Capability::of(vec![parent.blocks[0].clone(), block]);
        let judged = check_chain(&forced, &mut VerifiedChains::new(0));
        prop_assert_eq!(parent.narrow(&key(2), child, &mut dice(2)).map(|_| ()), judged);
    }
}
