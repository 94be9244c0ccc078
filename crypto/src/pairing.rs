//! Pairing of a new device: the ticket and what derives from it, and the digits that both screens show
//! (`docs/spec/07-links.md`, section 6).
//!
//! Never here: the Noise run itself, timeouts and the counting of failed runs.

use std::fmt;

use bip39::Language;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::derive::{Purpose, kdf};
use crate::secret::{PairingKey, RendezvousSecret, Ticket};

/// Number of words of a ticket.
pub const WORDS: usize = 8;
/// The Noise handshake of a pairing run; the new device initiates.
pub const NOISE_PATTERN: &str = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s";
/// The prologue of the Noise handshake.
pub const NOISE_PROLOGUE: &[u8] = b"locker-v1 pair";
/// Length of message 1 in bytes.
pub const MESSAGE_1_LEN: usize = 48;

const BITS_PER_WORD: u32 = 11;
/// Longest text that can hold 8 words with some white space between them; longer ones are refused unread.
const TEXT_LEN_MAX: usize = 512;

impl Ticket {
    /// Writes the ticket as 8 English words of the BIP39 list, 11 bits each, the highest bits first. There is no
    /// checksum: a mistyped word makes a ticket under which nobody is found.
    pub fn words(&self) -> Zeroizing<String> {
        let list = Language::English.word_list();
        let mut out = Zeroizing::new(String::with_capacity(WORDS * 9));
        let (mut bits, mut held) = (0_u32, 0);
        for byte in self.expose() {
            bits = bits << 8 | u32::from(*byte);
            held += 8;
            if held >= BITS_PER_WORD {
                held -= BITS_PER_WORD;
                let index = bits >> held & 0x7ff;
                if !out.is_empty() {
                    out.push(' ');
                }
                out.push_str(list[index as usize]);
            }
        }
        out
    }

    /// Reads the words of a ticket as a person types them: any white space between them, capitals allowed.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if there are not exactly 8 words or one is not in the list.
    pub fn from_words(typed: &str) -> Result<Self, Refusal> {
        if typed.len() > TEXT_LEN_MAX {
            return Err(Refusal::Canon);
        }
        let lower = Zeroizing::new(typed.to_ascii_lowercase());
        if lower.split_whitespace().count() != WORDS {
            return Err(Refusal::Canon);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::LEN));
        let (mut bits, mut held) = (0_u32, 0);
        for word in lower.split_whitespace() {
            let index = Language::English.find_word(word).ok_or(Refusal::Canon)?;
            bits = bits << BITS_PER_WORD | u32::from(index);
            held += BITS_PER_WORD;
            while held >= 8 {
                held -= 8;
                bytes.push((bits >> held & 0xff).to_le_bytes()[0]);
            }
        }
        Self::from_slice(&bytes)
    }

    /// Returns the R under which the new device finds the old one.
    pub fn rendezvous(&self) -> RendezvousSecret {
        RendezvousSecret::new(kdf(Purpose::PairRdv, &[self.expose()]))
    }

    /// Returns the pre-shared key of the Noise handshake.
    pub fn pairing_key(&self) -> PairingKey {
        PairingKey::new(kdf(Purpose::PairPsk, &[self.expose()]))
    }
}

/// The short authentication string: six digits that the user compares on both screens. A man in the middle who knows
/// the ticket passes with one in a million.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digits(u32);

impl Digits {
    /// Derives the digits of a finished handshake from its hash.
    pub fn new(handshake_hash: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = kdf(Purpose::PairSas, &[handshake_hash]);
        Self(u32::from_le_bytes([a, b, c, d]) % 1_000_000)
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

#[cfg(test)]
mod tests;
