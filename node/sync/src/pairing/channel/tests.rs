//! The run of the vectors against a plain Noise peer, and keys of low order.

use locker_crypto::pairing::{NOISE_PATTERN, NOISE_PROLOGUE};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::message::HEAD_LEN;

const MESSAGE_2: u8 = MESSAGE_1 + 1;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn file() -> Value {
    serde_json::from_str(include_str!("../../../../../docs/spec/vectors/pairing.json")).unwrap()
}

fn ticket() -> Ticket {
    Ticket::from_slice(&bytes(&file()["tickets"][0]["ticket"])).unwrap()
}

fn keys(seed: u64) -> RunKeys {
    RunKeys::random(&mut ChaCha8Rng::seed_from_u64(seed))
}

fn old_device() -> Channel {
    Channel::new(End::Old, &ticket(), &keys(1)).unwrap()
}

fn noise(end: &str) -> snow::HandshakeState {
    let file = file();
    let noise = &file["noise"];
    let (long_term, ephemeral) =
        (bytes(&noise[format!("{end}_static")]), bytes(&noise[format!("{end}_ephemeral")]));
    let psk = ticket().pairing_key();
    let builder = snow::Builder::new(NOISE_PATTERN.parse().unwrap())
        .psk(0, psk.expose())
        .unwrap()
        .prologue(NOISE_PROLOGUE)
        .unwrap()
        .local_private_key(&long_term)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&ephemeral);
    if end == "initiator" { builder.build_initiator().unwrap() } else { builder.build_responder().unwrap() }
}

/// Message 1 of the vectors is answered, the one under another ticket is not; a plain Noise peer and the channel agree
/// on the digits.
#[test]
fn the_channel_speaks_the_noise_of_the_vectors() {
    let file = file();
    let messages: Vec<Vec<u8>> = file["noise"]["messages"].as_array().unwrap().iter().map(bytes).collect();
    assert_eq!(messages.len(), 3);

    let mut wrong = old_device();
    wrong.push(&encode_frame(MESSAGE_1, &bytes(&file["noise"]["wrong_psk_message_1"])));
    assert_eq!(wrong.read().unwrap_err(), Refusal::Tag);
    assert!(wrong.digits().is_none());

    let mut peer = noise("initiator");
    let mut buffer = [0; 256];
    let len = peer.write_message(&[], &mut buffer).unwrap();
    assert_eq!(buffer[..len], messages[0]);
    let mut old = old_device();
    old.push(&encode_frame(MESSAGE_1, &messages[0]));
    assert!(old.read().unwrap().is_some_and(|plain| plain.is_empty()));
    let answer = old.write_handshake().unwrap().unwrap();
    assert_eq!(answer.len() - HEAD_LEN, messages[1].len());
    peer.read_message(&answer[HEAD_LEN..], &mut buffer).unwrap();
    let len = peer.write_message(&[], &mut buffer).unwrap();
    assert_eq!(len, messages[2].len());
    old.push(&encode_frame(MESSAGE_3, &buffer[..len]));
    assert!(old.read().unwrap().is_some());
    let hash: [u8; 32] = peer.get_handshake_hash().try_into().unwrap();
    assert_eq!(old.digits(), Some(Digits::new(&hash)));

    // The same from the other end.
    let mut new = Channel::new(End::New, &ticket(), &keys(2)).unwrap();
    let mut peer = noise("responder");
    let first = new.write_handshake().unwrap().unwrap();
    peer.read_message(&first[HEAD_LEN..], &mut buffer).unwrap();
    let len = peer.write_message(&[], &mut buffer).unwrap();
    new.push(&encode_frame(MESSAGE_2, &buffer[..len]));
    assert!(new.read().unwrap().is_some());
    let last = new.write_handshake().unwrap().unwrap();
    peer.read_message(&last[HEAD_LEN..], &mut buffer).unwrap();
    let hash: [u8; 32] = peer.get_handshake_hash().try_into().unwrap();
    assert_eq!(new.digits(), Some(Digits::new(&hash)));
    // Dice of their own for each run.
    let again = Channel::new(End::New, &ticket(), &keys(3)).unwrap().write_handshake().unwrap().unwrap();
    assert_ne!(first, again);
}

/// The seven small-order points of Curve25519 and their unreduced forms, as ephemeral keys.
#[test]
fn low_order_keys_end_the_run() {
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for point in points {
        let point = hex::decode(point).unwrap();
        let mut old = old_device();
        old.push(&encode_frame(MESSAGE_1, &[&point[..], &[0; 16]].concat()));
        assert_eq!(old.read().unwrap_err(), Refusal::Key, "{}", hex::encode(&point));
        let mut new = Channel::new(End::New, &ticket(), &keys(4)).unwrap();
        new.write_handshake().unwrap();
        new.push(&encode_frame(MESSAGE_2, &[&point[..], &[0; 64]].concat()));
        assert_eq!(new.read().unwrap_err(), Refusal::Key);
        assert_eq!(check_order(Some(&point)), Err(Refusal::Key));
    }
    assert_eq!(check_order(None), Err(Refusal::Canon));
    // Other forms of message 1.
    for (kind, len, answer) in [(1, 47, Refusal::Canon), (1, 49, Refusal::Canon), (2, 48, Refusal::Canon)] {
        let mut old = old_device();
        old.push(&encode_frame(kind, &vec![9; len]));
        assert_eq!(old.read().unwrap_err(), answer);
    }
}

#[test]
fn mutated_messages_never_panic() {
    let mut dice = ChaCha8Rng::seed_from_u64(6);
    let first = Channel::new(End::New, &ticket(), &keys(5)).unwrap().write_handshake().unwrap().unwrap();
    for _ in 0..2_000 {
        let mut changed = first.clone();
        let at = dice.next_u32() as usize % changed.len();
        changed[at] ^= 1 << (dice.next_u32() % 8);
        let mut old = old_device();
        old.push(&changed);
        assert!(!matches!(old.read(), Ok(Some(_))), "byte {at}");
        assert!(old.digits().is_none());
    }
}
