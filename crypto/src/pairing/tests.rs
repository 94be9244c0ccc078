//! Vectors of tickets and digits, and one Noise run with fixed keys.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn file() -> Value {
    serde_json::from_str(include_str!("../../../docs/spec/vectors/pairing.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn tickets_match_the_vectors() {
    let file = file();
    let cases = file["tickets"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let ticket = Ticket::from_slice(&bytes(&case["ticket"])).unwrap();
        let words = case["words"].as_str().unwrap();
        assert_eq!(*ticket.words(), words);
        assert!(Ticket::from_words(words).is_ok_and(|read| read == ticket));
        assert_eq!(ticket.rendezvous().expose()[..], bytes(&case["pair_rdv"]));
        assert_eq!(ticket.pairing_key().expose()[..], bytes(&case["psk"]));
    }
}

#[test]
fn digits_match_the_vectors() {
    let file = file();
    let cases = file["sas"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let hash = bytes(&case["handshake_hash"]).try_into().unwrap();
        assert_eq!(Digits::new(&hash).to_string(), case["sas"].as_str().unwrap());
    }
    assert_eq!(Digits(7).to_string(), "000007");
}

/// Pins pattern, prologue and pre-shared key: a run with fixed keys gives the listed messages and digits, and
/// another ticket fails at message 1.
#[test]
fn the_noise_run_matches_the_vectors() {
    let file = file();
    let noise = &file["noise"];
    assert_eq!(noise["pattern"], NOISE_PATTERN);
    assert_eq!(noise["prologue"].as_str().unwrap().as_bytes(), NOISE_PROLOGUE);
    let ticket = Ticket::from_slice(&bytes(&file["tickets"][0]["ticket"])).unwrap();
    let key = ticket.pairing_key();
    assert_eq!(key.expose()[..], bytes(&noise["psk"]));

    let mut new_device = Side::read(noise, "initiator").start(&key, Role::NewDevice);
    let mut old_device = Side::read(noise, "responder").start(&key, Role::OldDevice);
    let messages: Vec<Vec<u8>> = noise["messages"].as_array().unwrap().iter().map(bytes).collect();
    assert_eq!((messages.len(), messages[0].len()), (3, MESSAGE_1_LEN));
    for (number, message) in messages.iter().enumerate() {
        let (from, to) = if number % 2 == 0 {
            (&mut new_device, &mut old_device)
        } else {
            (&mut old_device, &mut new_device)
        };
        let mut buffer = [0; 256];
        let len = from.write_message(&[], &mut buffer).unwrap();
        assert_eq!(buffer[..len], message[..], "message {}", number + 1);
        assert_eq!(to.read_message(message, &mut [0; 256]).unwrap(), 0);
    }
    for side in [&new_device, &old_device] {
        assert!(side.is_handshake_finished());
        let hash: [u8; 32] = side.get_handshake_hash().try_into().unwrap();
        assert_eq!(hash[..], bytes(&noise["handshake_hash"]));
        assert_eq!(Digits::new(&hash).to_string(), noise["sas"].as_str().unwrap());
    }

    let wrong = bytes(&noise["wrong_psk_message_1"]);
    let mut fresh = Side::read(noise, "responder").start(&key, Role::OldDevice);
    assert!(fresh.read_message(&wrong, &mut [0; 256]).is_err());
}

enum Role {
    NewDevice,
    OldDevice,
}

/// The fixed keys of one side.
struct Side {
    long_term: Vec<u8>,
    ephemeral: Vec<u8>,
}

impl Side {
    fn read(noise: &Value, name: &str) -> Self {
        let key = |kind: &str| bytes(&noise[format!("{name}_{kind}")]);
        Self { long_term: key("static"), ephemeral: key("ephemeral") }
    }

    fn start(&self, key: &PairingKey, role: Role) -> snow::HandshakeState {
        let builder = snow::Builder::new(NOISE_PATTERN.parse().unwrap())
            .psk(0, key.expose())
            .unwrap()
            .prologue(NOISE_PROLOGUE)
            .unwrap()
            .local_private_key(&self.long_term)
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(&self.ephemeral);
        match role {
            Role::NewDevice => builder.build_initiator().unwrap(),
            Role::OldDevice => builder.build_responder().unwrap(),
        }
    }
}

#[test]
fn what_is_not_eight_listed_words_is_refused() {
    let good = "absurd avoid scissors anxiety gather lottery category door";
    assert!(Ticket::from_words(&format!("  {}\n", good.to_uppercase().replace(' ', "\t "))).is_ok());
    let nine = format!("{good} door");
    let seven = good.trim_end_matches(" door");
    let unknown = good.replace("door", "doors");
    let prefix = good.replace("absurd", "absu");
    let hyphens = good.replace(' ', "-");
    let foreign = good.replace("door", "dóor");
    let long = format!("{good}{}", " ".repeat(1_000));
    for bad in ["", " ", &nine, seven, &unknown, &prefix, &hyphens, &foreign, &long] {
        assert!(matches!(Ticket::from_words(bad), Err(Refusal::Canon)), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn tickets_round_trip(raw in any::<[u8; 11]>()) {
        let ticket = Ticket::new(raw);
        let words = ticket.words();
        prop_assert_eq!(words.split(' ').count(), WORDS);
        prop_assert!(Ticket::from_words(&words).is_ok_and(|read| read == ticket));
    }

    #[test]
    fn any_text_never_panics(text in ".{0,80}") {
        let _ = Ticket::from_words(&text).is_ok();
    }
}
