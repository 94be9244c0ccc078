//! Vectors, refusals and mutations of links.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::keys::stretch;
use super::*;
use crate::id::PersonId;
use crate::identity::owner_fp;

fn dice(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn hint(ip: &str, port: u16) -> Hint {
    Hint { ip: ip.parse().unwrap(), port }
}

fn sample(hints: usize) -> Link {
    let hints =
        vec![hint("203.0.113.7", 8_081), hint("2001:db8::1", 443), hint("10.0.0.1", 1)][..hints].to_vec();
    Link::random(Kind::Deposit, Protection::Passphrase, OwnerFp([6; 16]), hints, &mut dice(1)).unwrap()
}

/// A payload with a right check, whatever its body is.
fn checked(body: &[u8]) -> Vec<u8> {
    [body, &check_of(body)].concat()
}

mod vectors {
    use super::*;

    fn file() -> Value {
        serde_json::from_str(include_str!("../../../docs/spec/vectors/link.json")).unwrap()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    #[test]
    fn payloads_and_keys_are_reproduced() {
        let file = file();
        let cases = file["vectors"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let payload = case["payload"].as_str().unwrap();
            let (link, form) = Link::parse(&format!("locker:l#{payload}")).unwrap();
            assert_eq!(form, TextForm::Locker);
            assert_eq!(link.encode()[..], bytes(&case["payload_hex"]));
            assert_eq!(*link.to_text(&form), format!("locker:l#{payload}"));
            assert_eq!(payload.len() as u64, case["chars"].as_u64().unwrap());
            assert_eq!(u64::from(link.encode()[1]), case["kind_byte"].as_u64().unwrap());
            assert_eq!(link.seed().expose()[..], bytes(&case["seed"]));
            assert_eq!(link.owner(), owner_fp(&PersonId::from_slice(&bytes(&case["person_id"])).unwrap()));
            let mut hints = Vec::new();
            if !link.hints().is_empty() {
                hint::encode(link.hints(), &mut hints);
            }
            assert_eq!(hints, bytes(&case["hints"]));
            assert_eq!(link.rendezvous().expose()[..], bytes(&case["rendezvous_secret"]));

            let passphrase = Some(case["passphrase"].as_str().unwrap()).filter(|text| !text.is_empty());
            let stretched =
                passphrase.map_or_else(Vec::new, |text| stretch(text, link.seed()).unwrap().to_vec());
            assert_eq!(stretched, bytes(&case["pw"]));
            assert_eq!(link.secret(passphrase).unwrap().expose()[..], bytes(&case["S"]));
            let keys = link.keys(passphrase).unwrap();
            assert_eq!(keys.tag().as_bytes()[..], bytes(&case["link_tag"]));
            assert_eq!(keys.signing().verifying_key().as_bytes()[..], bytes(&case["link_sign_vk"]));
            let box_key = keys.box_keys().public().hash();
            assert_eq!(box_key.as_bytes()[..], bytes(&case["link_box_pk_b3"]));
        }
    }

    #[test]
    fn every_text_gets_the_named_answer() {
        let file = file();
        let cases = file["texts"].as_array().unwrap();
        assert_eq!(cases.len(), 24);
        for case in cases {
            let text = case["link"].as_str().unwrap();
            let answer = Link::parse(text);
            if let Ok((link, form)) = &answer {
                assert_eq!(*link.to_text(form), text);
            }
            let answer = answer.map_or_else(Refusal::code, |_| "ok");
            assert_eq!(answer, case["expect"].as_str().unwrap(), "{}", case["id"]);
        }
    }

    #[test]
    fn hints_are_dialed_as_listed() {
        let file = file();
        let cases = file["hints_dialed"].as_array().unwrap();
        assert_eq!(cases.len(), 15);
        for case in cases {
            let port = u16::try_from(case["port"].as_u64().unwrap()).unwrap();
            let hint = hint(case["ip"].as_str().unwrap(), port);
            assert_eq!(hint.may_be_dialed(), case["dial"].as_bool().unwrap(), "{hint:?}");
        }
    }
}

#[test]
fn only_public_and_private_unicast_is_dialed() {
    for (ip, dialed) in [
        ("10.0.0.1", true),
        ("172.16.0.1", true),
        ("100.64.0.1", true),
        ("100.100.100.200", false),
        ("168.63.129.16", false),
        ("192.0.0.192", false),
        ("198.18.0.1", false),
        ("198.19.255.255", false),
        ("198.20.0.1", true),
        ("127.255.0.1", false),
        ("239.255.76.75", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("fd00::1", true),
        ("fd20:ce::254", false),
        ("fe80::1", false),
        ("febf::1", false),
        ("fec0::1", false),
        ("ff0e::1", false),
        ("::7f00:1", false),
        ("::ffff:169.254.169.254", false),
        ("::ffff:203.0.113.7", true),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::203.0.113.7", true),
        ("64:ff9b:1::203.0.113.7", false),
        ("2002:7f00:1::1", false),
        ("2002:cb00:7107::1", true),
        ("2001::1", false),
        ("4000::1", false),
    ] {
        assert_eq!(hint(ip, 9_000).may_be_dialed(), dialed, "{ip}");
    }
    for (port, dialed) in [(0, false), (80, false), (442, false), (443, true), (1_023, false), (1_024, true)]
    {
        assert_eq!(hint("203.0.113.7", port).may_be_dialed(), dialed, "{port}");
    }
    assert!(!Hint { ip: Ipv4Addr::UNSPECIFIED.into(), port: 443 }.may_be_dialed());
    assert!(!Hint { ip: Ipv6Addr::LOCALHOST.into(), port: 443 }.may_be_dialed());
}

/// T74: a link of another version is told apart from a typing error.
#[test]
fn t74_other_versions_are_refused_by_name() {
    let body = sample(0).encode()[..34].to_vec();
    for version in [0, 2, 0xff] {
        let mut other = body.clone();
        other[0] = version;
        let text = format!("locker:l#{}", URL_SAFE_NO_PAD.encode(checked(&other)));
        assert!(matches!(Link::parse(&text), Err(Refusal::Version)), "{version}");
    }
}

#[test]
fn each_fault_of_a_text_is_refused() {
    let link = sample(0);
    let payload = link.to_text(&TextForm::Locker)[9..].to_owned();
    let host = |host: &str| format!("https://{host}/l#{payload}");
    for good in ["a", "box.example.net", "1.2.3.4:1", "xn--bcher-kva.example", "[2001:db8::1]", "[::1]:65535"]
    {
        let (read, form) = Link::parse(&host(good)).map_err(Refusal::code).unwrap();
        assert!(read == link);
        assert_eq!(*read.to_text(&form), host(good));
    }
    for bad in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "A.net",
        "bücher.example",
        "a_b",
        "a b",
        "a@b",
        "a:b@c",
        "a/b",
        "a?b",
        "a#b",
        "a:",
        "a:0",
        "a:01",
        "a:+1",
        "a:65536",
        "a:1:2",
        "[::1",
        "[0::1]",
        "[::1]a",
        "[::1]:",
        "[fe80::1%1]",
        "::1",
        "a%2e",
        "a\\b",
        "a\nb",
        "a\0",
    ] {
        assert!(matches!(Link::parse(&host(bad)), Err(Refusal::Canon)), "{bad:?}");
    }
    assert!(matches!(Link::parse(&host(&"a".repeat(64))), Err(Refusal::Canon)));
    assert!(matches!(Link::parse(&host(&["a"; 128].join("."))), Err(Refusal::Canon)));
    for bad in [
        format!("LOCKER:l#{payload}"),
        format!("locker://l#{payload}"),
        format!("locker:l?{payload}"),
        format!(" locker:l#{payload}"),
        format!("locker:l#{payload}\n"),
        format!("locker:l##{payload}"),
        format!("locker:l#{payload}#"),
        format!("https://a/l/#{payload}"),
        format!("https://a/l?x#{payload}"),
        format!("https://a/m#{payload}"),
        format!("https:/a/l#{payload}"),
        format!("locker:l#{}", "A".repeat(129)),
        format!("locker:l#{}", "A".repeat(1_000_000)),
    ] {
        assert!(matches!(Link::parse(&bad), Err(Refusal::Canon)), "{}", &bad[..40.min(bad.len())]);
    }
}

/// A text has one spelling: every other last character, and the other base64 alphabet, are refused.
#[test]
fn spare_bits_and_other_alphabets_are_refused() {
    for hints in 0..=3 {
        let text = sample(hints).to_text(&TextForm::Locker).to_string();
        let mut accepted = 0;
        for last in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=." {
            let other = format!("{}{}", &text[..text.len() - 1], char::from(*last));
            accepted += usize::from(Link::parse(&other).is_ok());
        }
        assert_eq!(accepted, 1, "{hints} hints");
    }
    let dashes = Link { seed: LinkSeed::new([0xff; 16]), ..sample(0) }.to_text(&TextForm::Locker);
    assert!(dashes.contains('_'));
    assert!(matches!(Link::parse(&dashes.replace('_', "/")), Err(Refusal::Canon)));
}

#[test]
fn each_fault_of_a_payload_is_refused() {
    let (plain, hinted) = (sample(0).encode(), sample(3).encode());
    assert_eq!((plain.len(), hinted.len()), (PAYLOAD_LEN_MIN, HINTS_AT + 1 + 7 + 19 + 7 + CHECK_LEN));
    assert!(Link::decode(&plain).is_ok_and(|link| link == sample(0)));
    assert!(Link::decode(&hinted).is_ok_and(|link| link == sample(3)));
    for payload in [&plain, &hinted] {
        for cut in 0..payload.len() {
            assert!(matches!(Link::decode(&payload[..cut]), Err(Refusal::Canon)));
            if cut >= 1 {
                assert!(Link::decode(&checked(&payload[..cut])).is_err() || cut + 4 == payload.len());
            }
        }
    }
    let body = &hinted[..hinted.len() - CHECK_LEN];
    assert!(matches!(Link::decode(&checked(&[body, &[0]].concat())), Err(Refusal::Canon)), "left over");
    let with = |at: usize, byte: u8| {
        let mut body = body.to_vec();
        body[at] = byte;
        Link::decode(&checked(&body)).map(|_| ())
    };
    for (byte, answer) in [
        (0x43, Ok(())),
        (0x03, Err(Refusal::Canon)), // hints without their flag
        (0x63, Err(Refusal::Canon)), // bit 0x20
        (0x40, Err(Refusal::Canon)), // kind 0
        (0x45, Err(Refusal::Canon)), // kind 5
        (0x5f, Err(Refusal::Canon)),
    ] {
        assert_eq!(with(1, byte), answer, "{byte:#x}");
    }
    for (count, answer) in
        [(0, Refusal::Canon), (1, Refusal::Canon), (2, Refusal::Canon), (4, Refusal::Limit)]
    {
        assert_eq!(with(HINTS_AT, count), Err(answer), "{count} hints");
    }
    assert_eq!(with(HINTS_AT + 1, 5), Err(Refusal::Canon), "hint of kind 5");
    assert_eq!(with(HINTS_AT, 255), Err(Refusal::Limit));

    let four = vec![hint("203.0.113.7", 9_000); 4];
    let answer = Link::random(Kind::LiveRead, Protection::TextOnly, OwnerFp::ZERO, four, &mut dice(1));
    assert!(matches!(answer, Err(Refusal::Limit)));
}

#[test]
fn a_passphrase_is_wanted_exactly_when_the_link_says_so() {
    let open = Link { protection: Protection::TextOnly, ..sample(0) };
    let locked = sample(0);
    assert!(open.secret(None).is_ok());
    for wrong in [Some(""), Some("word")] {
        assert!(matches!(open.secret(wrong), Err(Refusal::Key)));
    }
    for wrong in [None, Some("")] {
        assert!(matches!(locked.secret(wrong), Err(Refusal::Key)));
    }
    // One passphrase, composed and decomposed; another passphrase; another seed.
    let one = locked.secret(Some("caf\u{e9}")).ok();
    assert!(one == locked.secret(Some("cafe\u{301}")).ok());
    assert!(one != locked.secret(Some("cafe")).ok());
    let other = Link { seed: LinkSeed::new([1; 16]), ..locked.clone() };
    assert!(one != other.secret(Some("caf\u{e9}")).ok());
    assert!(open.rendezvous() == locked.rendezvous(), "R needs no passphrase");
}

/// 20,000 random mutations: never a panic, and what decodes re-encodes to the same bytes and text.
#[test]
fn mutated_links_decode_to_themselves_or_not_at_all() {
    let mut rng = dice(0x6c69_6e6b);
    let samples: Vec<Vec<u8>> = (0..=3).map(|hints| sample(hints).encode().to_vec()).collect();
    let (mut decoded, mut slipped) = (0, 0);
    for round in 0..20_000 {
        let sample = &samples[rng.next_u32() as usize % 4];
        let mut body = sample[..sample.len() - CHECK_LEN].to_vec();
        let at = rng.next_u32() as usize % body.len();
        match rng.next_u32() % 6 {
            0..3 => body[at] ^= 1 << (rng.next_u32() % 8),
            3 => body[at] = rng.next_u32().to_le_bytes()[0],
            4 => body.truncate(at),
            _ => body.insert(at, rng.next_u32().to_le_bytes()[0]),
        }
        // Every second time the check is made right, so that what lies behind it is reached.
        let payload =
            if round % 2 == 0 { checked(&body) } else { [&body, &sample[sample.len() - 4..]].concat() };
        if let Ok(link) = Link::decode(&payload) {
            assert_eq!(link.encode()[..], payload);
            decoded += 1;
            slipped += usize::from(round % 2 == 1 && payload != *sample);
        }
        let text = format!("locker:l#{}", URL_SAFE_NO_PAD.encode(&payload));
        let mut text = text.into_bytes();
        let at = rng.next_u32() as usize % text.len();
        text[at] = rng.next_u32().to_le_bytes()[0] & 0x7f;
        let text = String::from_utf8(text).unwrap();
        if let Ok((link, form)) = Link::parse(&text) {
            assert_eq!(*link.to_text(&form), text);
        }
    }
    assert!(decoded > 4_000, "{decoded}");
    assert_eq!(slipped, 0, "a typing error passed the check");
}
