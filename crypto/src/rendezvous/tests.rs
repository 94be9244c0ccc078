//! Vectors, refusals and attacks of rendezvous keys and records.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::Refusal;
use crate::aead::xopen;
use crate::certificate::Certificate;

const NOW: u64 = 1_800_000_000;

fn key(n: u8) -> Signing {
    Signing::from_seed(&SigningSeed::new([n; 32]))
}

fn dice(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn contact() -> Contact {
    let quic = |ip, port| Address { transport: Transport::Quic, ip, port };
    let v4 = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let tcp = |ip| Address { transport: Transport::Tcp, ..quic(ip, 443) };
    Contact {
        certificate: Certificate::issue(&key(1), key(2).verifying_key(), NOW + 86_400 * 7),
        addresses: vec![quic(v4, 8_081), quic(v6, 8_081), tcp(v4), tcp(v6)],
        relays: vec![Relay { address: tcp(v4), transport_key: key(3).verifying_key() }],
    }
}

mod vectors {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    fn file() -> Value {
        serde_json::from_str(include_str!("../../../docs/spec/vectors/rendezvous.json")).unwrap()
    }

    fn secret(file: &Value) -> RendezvousSecret {
        RendezvousSecret::from_slice(&bytes(&file["R"])).unwrap()
    }

    #[test]
    fn periods_and_keys_are_derived() {
        let file = file();
        let (secret, t) = (secret(&file), file["t"].as_u64().unwrap());
        let number = period_at(t);
        assert_eq!(number, file["period"].as_u64().unwrap());
        let period = Period::new(&secret, number);
        assert_eq!(period.secret.expose()[..], bytes(&file["rk"]));
        assert_eq!(Period::new(&secret, number - 1).secret.expose()[..], bytes(&file["rk_previous"]));
        assert_eq!(period.sealing_key().expose()[..], bytes(&file["rdv_enc"]));

        let lan = file["lan"].as_array().unwrap();
        assert_eq!(lan.len(), 4);
        for case in lan {
            let window = lan_window(case["t"].as_u64().unwrap());
            assert_eq!(window, case["window"].as_u64().unwrap());
            assert_eq!(lan_id(&secret, window)[..], bytes(&case["id"]));
        }
    }

    /// The records open, and sealing their content with their nonce gives the same bytes.
    #[test]
    fn records_are_reproduced() {
        let file = file();
        let (secret, t) = (secret(&file), file["t"].as_u64().unwrap());
        let period = Period::new(&secret, period_at(t));
        let device = Signing::from_seed(&SigningSeed::from_slice(&bytes(&file["device_seed"])).unwrap());
        let records = file["records"].as_array().unwrap();
        assert_eq!(records.len(), 3);
        for case in records {
            let r = u8::try_from(case["r"].as_u64().unwrap()).unwrap();
            let (key, value) = (bytes(&case["key"]), bytes(&case["value"]));
            assert_eq!(period.dht_key(r)[..], key);
            let seed = SigningSeed::from_slice(&bytes(&case["sk_seed"])).unwrap();
            assert_eq!(Signing::from_seed(&seed).verifying_key(), period.signing(r).verifying_key());

            let opened = open_record(&period, &key, &value, None, Some(&device.verifying_key()), t).unwrap();
            assert_eq!(opened.certificate.encode()[..], bytes(&file["certificate"]));
            assert_eq!(opened.addresses.len(), [2, 4, 0][usize::from(r)]);
            let mut fixed = FixedNonce(value[40..64].to_vec());
            assert_eq!(seal_record(&period, r, &opened, t, &mut fixed).unwrap()[..], value);
        }
    }

    #[test]
    fn every_check_gives_the_named_answer() {
        let file = file();
        let (secret, t) = (secret(&file), file["t"].as_u64().unwrap());
        let period = Period::new(&secret, period_at(t));
        let device = Signing::from_seed(&SigningSeed::from_slice(&bytes(&file["device_seed"])).unwrap());
        let checks = file["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 16);
        for case in checks {
            let (key, value) = (bytes(&case["key"]), bytes(&case["value"]));
            let now = case["now"].as_u64().unwrap();
            let answer = open_record(&period, &key, &value, None, Some(&device.verifying_key()), now);
            let answer = answer.map_or_else(Refusal::code, |_| "ok");
            assert_eq!(answer, case["expect"].as_str().unwrap(), "{}", case["id"]);
        }
    }

    /// Dice that fall as a vector wants.
    struct FixedNonce(Vec<u8>);

    impl rand_core::TryRng for FixedNonce {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            unreachable!("a nonce is drawn as bytes")
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            unreachable!("a nonce is drawn as bytes")
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            out.copy_from_slice(&self.0);
            Ok(())
        }
    }

    impl rand_core::TryCryptoRng for FixedNonce {}
}

#[test]
fn what_is_sealed_opens_again() {
    let period = Period::new(&RendezvousSecret::new([5; 32]), 9);
    let full = Contact {
        addresses: vec![contact().addresses[1]; 8],
        relays: vec![contact().relays[0]; 2],
        ..contact()
    };
    let empty = Contact { addresses: vec![], relays: vec![], ..contact() };
    for (r, said) in [(0, contact()), (11, full.clone()), (2, empty)] {
        let value = seal_record(&period, r, &said, NOW + 1_799, &mut dice(1)).unwrap();
        let open = |expected| open_record(&period, &period.dht_key(r), &value, None, expected, NOW + 1_799);
        let (device, other) = (key(1).verifying_key(), key(2).verifying_key());
        assert_eq!(open(Some(&device)).unwrap(), said);
        assert_eq!(open(None).unwrap(), said);
        assert_eq!(open(Some(&other)), Err(Refusal::Audience));
        let issued = check_record(&period.dht_key(r), &value, None, NOW).unwrap();
        assert_eq!((issued % 3_600, issued), (0, NOW));
    }
    let nine = Contact { addresses: vec![contact().addresses[0]; 9], ..contact() };
    assert_eq!(seal_record(&period, 0, &nine, NOW, &mut dice(1)), Err(Refusal::Limit));
    let three = Contact { relays: vec![contact().relays[0]; 3], ..contact() };
    assert_eq!(seal_record(&period, 0, &three, NOW, &mut dice(1)), Err(Refusal::Limit));
}

#[test]
fn a_reader_tries_the_periods_of_the_boundary() {
    let start = 20_000 * PERIOD_S;
    assert_eq!(period_at(start), 20_000);
    assert_eq!(period_at(start - 1), 19_999);
    assert_eq!(periods_to_read(start), [20_000, 19_999]);
    assert_eq!(periods_to_read(start - BOUNDARY_S), [19_999, 19_998, 20_000]);
    assert_eq!(periods_to_read(start - BOUNDARY_S - 1), [19_999, 19_998]);
    assert_eq!(periods_to_read(0), [0]);
}

#[test]
fn no_node_hides_another() {
    let written: Vec<Range<u8>> = (0..8).map(|index| Publishers::Several.write(index)).collect();
    assert_eq!(written[..4], [0..3, 3..6, 6..9, 9..12]);
    assert_eq!(written[..4], written[4..]);
    assert_eq!(Publishers::Several.read(), 0..12);
    assert_eq!((Publishers::One.read(), Publishers::One.write(7)), (0..3, 0..3));
}

/// T42: a forged or poisoned record is neither stored nor used.
#[test]
fn t42_forged_records_are_refused() {
    let period = Period::new(&RendezvousSecret::new([5; 32]), 9);
    let dht_key = period.dht_key(1);
    let value = seal_record(&period, 1, &contact(), NOW, &mut dice(1)).unwrap();
    let device = key(1).verifying_key();
    let both = |dht_key: &[u8], value: &[u8], publisher: Option<&[u8]>, now: u64| {
        let stored = check_record(dht_key, value, publisher, now).map(|_| ());
        let used = open_record(&period, dht_key, value, publisher, Some(&device), now).map(|_| ());
        assert_eq!(stored, used, "both refuse alike");
        stored
    };
    assert_eq!(both(&dht_key, &value, None, NOW), Ok(()));
    assert_eq!(both(&dht_key, &value, Some(b"peer"), NOW), Err(Refusal::Canon), "publisher");
    assert_eq!(both(&dht_key, &value, Some(b""), NOW), Err(Refusal::Canon), "empty publisher");
    assert_eq!(both(&dht_key, &value[..639], None, NOW), Err(Refusal::Canon), "639 bytes");
    assert_eq!(both(&dht_key, &[&value[..], &[0]].concat(), None, NOW), Err(Refusal::Canon), "641 bytes");
    assert_eq!(both(&dht_key[..36], &value, None, NOW), Err(Refusal::Canon), "key cut");
    assert_eq!(both(&[&dht_key[..], &[0]].concat(), &value, None, NOW), Err(Refusal::Canon), "key too long");
    let ipns = [b"/ipns", &dht_key[5..]].concat();
    assert_eq!(both(&ipns, &value, None, NOW), Err(Refusal::Canon), "foreign prefix");
    assert_eq!(both(&[], &value, None, NOW), Err(Refusal::Canon), "no key");
    assert_eq!(both(&period.dht_key(2), &value, None, NOW), Err(Refusal::Key), "vk != key");
    for at in 32..RECORD_LEN {
        let mut changed = value;
        changed[at] ^= 0x20;
        assert_eq!(both(&dht_key, &changed, None, NOW), Err(Refusal::Sig), "byte {at}");
    }
    let mut weak = value;
    weak[..32].fill(0);
    let weak_key = super::dht_key(&VerifyingKey::ZERO);
    assert_eq!(both(&weak_key, &weak, None, NOW), Err(Refusal::Key), "weak key");
    assert_eq!(both(&dht_key, &value, None, NOW + AGE_MAX_S), Ok(()));
    assert_eq!(both(&dht_key, &value, None, NOW + AGE_MAX_S + 1), Err(Refusal::Time));
    assert_eq!(both(&dht_key, &value, None, NOW - AHEAD_MAX_S), Ok(()));
    assert_eq!(both(&dht_key, &value, None, NOW - AHEAD_MAX_S - 1), Err(Refusal::Time));

    // A holder of another day's keys cannot open it, whoever signed.
    let other = Period::new(&RendezvousSecret::new([5; 32]), 10);
    let answer = open_record(&other, &dht_key, &value, None, Some(&device), NOW);
    assert_eq!(answer, Err(Refusal::Tag));
}

/// T44 (the record's part): no two periods, no two r, no two secrets share a key; the clear part says nothing else.
#[test]
fn t44_records_of_two_days_share_nothing() {
    let mut keys = BTreeSet::new();
    let mut sealing = BTreeSet::new();
    for locker in 0..5_u8 {
        let secret = RendezvousSecret::new([locker; 32]);
        for day in 0..60 {
            let period = Period::new(&secret, period_at(NOW + day * PERIOD_S));
            assert!(sealing.insert(*period.sealing_key().expose()));
            for r in Publishers::Several.read() {
                assert!(keys.insert(period.dht_key(r)));
            }
        }
    }
    assert_eq!((keys.len(), sealing.len()), (5 * 60 * 12, 5 * 60));

    // One record twice: same key and hour, and nothing else in common.
    let period = Period::new(&RendezvousSecret::new([5; 32]), 9);
    let mut rng = dice(4);
    let mut seal = |now| seal_record(&period, 0, &contact(), now, &mut rng).unwrap();
    let (one, two) = (seal(NOW), seal(NOW + 3_599));
    assert_eq!(one[..40], two[..40]);
    let alike = one[40..].iter().zip(&two[40..]).filter(|(a, b)| a == b).count();
    assert!(alike < 20, "{alike} of 600 bytes alike; chance gives 2");
}

/// 20,000 random mutations, of the outside and (signed again) of the inside: never a panic, never a forged contact,
/// and what opens seals to the same plain bytes.
#[test]
fn mutated_records_never_pass() {
    let secret = RendezvousSecret::new([5; 32]);
    let period = Period::new(&secret, 9);
    let (dht_key, device) = (period.dht_key(0), key(1).verifying_key());
    let value = seal_record(&period, 0, &contact(), NOW, &mut dice(1)).unwrap();
    let enc = period.sealing_key();
    let nonce: [u8; 24] = value[40..64].try_into().unwrap();
    let plain = xopen(enc.expose(), &nonce, &value[..40], &value[64..576]).unwrap();
    let mut rng = dice(0x7264_7600);
    let mut opened = 0;
    for round in 0..20_000 {
        let mut changed = value;
        if round % 2 == 0 {
            let at = rng.next_u32() as usize % value.len();
            changed[at] ^= 1 << (rng.next_u32() % 8);
            let answer = open_record(&period, &dht_key, &changed, None, Some(&device), NOW);
            assert!(answer.is_err());
            continue;
        }
        let mut inside = plain.clone();
        for _ in 0..1 + rng.next_u32() % 2 {
            let at = rng.next_u32() as usize % 320;
            inside[at] = rng.next_u32().to_le_bytes()[0];
        }
        changed[64..576].copy_from_slice(&crate::aead::xseal(enc.expose(), &nonce, &value[..40], &inside));
        let signature = period.signing(0).sign(crate::sign::Domain::Rdv, &changed[..576]);
        changed[576..].copy_from_slice(&signature);
        if let Ok(said) = open_record(&period, &dht_key, &changed, None, Some(&device), NOW) {
            let again = seal_record(&period, 0, &said, NOW, &mut dice(1)).unwrap();
            let nonce = again[40..64].try_into().unwrap();
            assert_eq!(xopen(enc.expose(), nonce, &again[..40], &again[64..576]).unwrap(), inside);
            opened += 1;
        }
    }
    assert!(opened > 500, "{opened}");
}
