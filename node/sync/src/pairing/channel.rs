//! The Noise channel of a pairing: `Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s` (Noise revision 34), keyed with the ticket.
//!
//! Static and ephemeral keys are drawn for one run and forgotten. A low-order key of the other end would make a shared
//! secret that everybody knows; it ends the run.

use locker_crypto::Refusal;
use locker_crypto::pairing::{Digits, MESSAGE_1_LEN, NOISE_PATTERN, NOISE_PROLOGUE};
use locker_crypto::sealed_box::check_x25519;
use locker_crypto::secret::Ticket;
use rand_core::CryptoRng;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use crate::message::{FrameDecoder, FrameLimits, encode_frame};

const MESSAGE_1: u8 = 1;
const MESSAGE_3: u8 = 3;
const SEALED: u8 = 4;

const KEY_LEN: usize = 32;
const NOISE_LEN_MAX: usize = 65_535;
const NOISE_TAG_LEN: usize = 16;

/// Which end of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    New,
    Old,
}

enum State {
    Shaking(Box<snow::HandshakeState>, u8),
    Open(Box<snow::TransportState>),
    Over,
}

/// The keys that a run draws.
pub(super) struct RunKeys {
    long_term: Zeroizing<[u8; KEY_LEN]>,
    seed: Zeroizing<[u8; KEY_LEN]>,
}

impl RunKeys {
    pub(super) fn random<R: CryptoRng + ?Sized>(dice: &mut R) -> Self {
        let mut keys = Self { long_term: Zeroizing::new([0; KEY_LEN]), seed: Zeroizing::new([0; KEY_LEN]) };
        dice.fill_bytes(keys.long_term.as_mut());
        dice.fill_bytes(keys.seed.as_mut());
        keys
    }
}

/// One end of the channel.
pub(super) struct Channel {
    state: State,
    frames: FrameDecoder,
    digits: Option<Digits>,
}

impl Channel {
    pub(super) fn new(end: End, ticket: &Ticket, keys: &RunKeys) -> Result<Self, Refusal> {
        let resolver = Box::new(SeededResolver { seed: keys.seed.clone() });
        let params = NOISE_PATTERN.parse().map_err(|_| Refusal::Canon)?;
        let psk = ticket.pairing_key();
        let builder = snow::Builder::with_resolver(params, resolver)
            .psk(0, psk.expose())
            .and_then(|builder| builder.prologue(NOISE_PROLOGUE))
            .and_then(|builder| builder.local_private_key(&keys.long_term[..]));
        let state = builder.and_then(|builder| match end {
            End::New => builder.build_initiator(),
            End::Old => builder.build_responder(),
        });
        let state = State::Shaking(Box::new(state.map_err(|_| Refusal::Key)?), MESSAGE_1);
        Ok(Self { state, frames: FrameDecoder::new(FrameLimits::Pairing), digits: None })
    }

    /// Takes bytes as they come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// Returns the digits, once the handshake is done.
    pub(super) fn digits(&self) -> Option<Digits> {
        self.digits
    }

    /// Reads the next message, once all of it is here: of the handshake (empty), or sealed.
    pub(super) fn read(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        let Some(frame) = self.frames.next_frame()? else { return Ok(None) };
        let mut plain = Zeroizing::new(vec![0; frame.body.len()]);
        let len = match &mut self.state {
            State::Shaking(noise, number) if *number == frame.kind && !noise.is_my_turn() => {
                if *number == MESSAGE_1 && frame.body.len() != MESSAGE_1_LEN {
                    return Err(Refusal::Canon);
                }
                if *number != MESSAGE_3 {
                    check_order(frame.body.get(..KEY_LEN))?;
                }
                let len = noise.read_message(&frame.body, &mut plain).map_err(|_| Refusal::Tag)?;
                if *number != MESSAGE_1 {
                    check_order(noise.get_remote_static())?;
                }
                if len != 0 {
                    return Err(Refusal::Canon);
                }
                *number += 1;
                self.finish_handshake()?;
                len
            }
            State::Open(noise) if frame.kind == SEALED => {
                noise.read_message(&frame.body, &mut plain).map_err(|_| Refusal::Tag)?
            }
            _ => return Err(Refusal::Canon),
        };
        plain.truncate(len);
        Ok(Some(plain))
    }

    /// Writes the next message of the handshake, if it is this end's turn.
    pub(super) fn write_handshake(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        let State::Shaking(noise, number) = &mut self.state else { return Ok(None) };
        if !noise.is_my_turn() {
            return Ok(None);
        }
        let mut message = vec![0; 256];
        let len = noise.write_message(&[], &mut message).map_err(|_| Refusal::Key)?;
        message.truncate(len);
        let frame = encode_frame(*number, &message);
        *number += 1;
        self.finish_handshake()?;
        Ok(Some(frame))
    }

    /// Seals bytes into as many frames as they take.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, Refusal> {
        let State::Open(noise) = &mut self.state else { return Err(Refusal::Canon) };
        let mut out = Vec::new();
        for part in plain.chunks(NOISE_LEN_MAX - NOISE_TAG_LEN) {
            let mut sealed = vec![0; part.len() + NOISE_TAG_LEN];
            let len = noise.write_message(part, &mut sealed).map_err(|_| Refusal::Limit)?;
            out.extend_from_slice(&encode_frame(SEALED, &sealed[..len]));
        }
        Ok(out)
    }

    /// Ends the channel: nothing is read or sealed any more.
    pub(super) fn close(&mut self) {
        self.state = State::Over;
    }

    fn finish_handshake(&mut self) -> Result<(), Refusal> {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Shaking(noise, _) if noise.is_handshake_finished() => {
                let hash = noise.get_handshake_hash().try_into().map_err(|_| Refusal::Canon)?;
                self.digits = Some(Digits::new(hash));
                State::Open(Box::new(noise.into_transport_mode().map_err(|_| Refusal::Canon)?))
            }
            state => state,
        };
        Ok(())
    }
}

/// Refuses a public key of low order: multiplied with any clamped number it gives zeros.
fn check_order(key: Option<&[u8]>) -> Result<(), Refusal> {
    let key: [u8; KEY_LEN] = key.and_then(|key| key.try_into().ok()).ok_or(Refusal::Canon)?;
    check_x25519(&key)
}

/// Gives Noise its primitives, and randomness that comes from the caller's dice.
struct SeededResolver {
    seed: Zeroizing<[u8; KEY_LEN]>,
}

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededDice(blake3::Hasher::new_keyed(&self.seed).finalize_xof())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Keyed BLAKE3 in its extended output, from 32 random bytes.
struct SeededDice(blake3::OutputReader);

impl Random for SeededDice {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(dest);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
