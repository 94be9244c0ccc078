//! The 24 words: BIP39 English over 256 bits of entropy, with its checksum (`docs/spec/02-identity.md`).
//!
//! The words are shown once and kept on paper; no device stores them. Keys derive from the entropy itself
//! ([`crate::identity::Root`]), not from the 64-byte seed of BIP39, and there is no 25th word.

use bip39::{Language, Mnemonic};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::Refusal;
use crate::secret::Entropy;

/// Number of words.
pub const WORDS: usize = 24;

/// Longest text that can hold 24 words with some white space between them; longer ones are refused unread.
const TEXT_LEN_MAX: usize = 1_024;

/// What is wrong with a phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// There are not 24 words but so many; `None` if the text is too long to be counted.
    Count(Option<usize>),
    /// The word at this place, from 1 on, is not one of the list.
    Word(usize),
    /// Every word is of the list, and at least one is another than was written down, or two changed places.
    Checksum,
}

/// The phrase of a person. Wiped when dropped; has no `Debug` and no `Display`.
pub struct Phrase {
    entropy: Entropy,
    text: Zeroizing<String>,
}

impl Phrase {
    /// Draws a new phrase.
    pub fn generate<R: CryptoRng + ?Sized>(dice: &mut R) -> Self {
        Self::from_entropy(&Entropy::random(dice))
    }

    /// Writes entropy as words.
    pub fn from_entropy(entropy: &Entropy) -> Self {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, entropy.expose())
            .expect("32 bytes are an allowed length of entropy");
        let mut text = Zeroizing::new(String::with_capacity(WORDS * 9));
        for word in mnemonic.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        Self { entropy: entropy.clone(), text }
    }

    /// Reads a phrase as a person types it: any white space between the words, capitals allowed.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if there are not exactly 24 words, one is not in the list or the checksum is wrong. Which
    /// of these is not said.
    pub fn parse(typed: &str) -> Result<Self, Refusal> {
        if typed.len() > TEXT_LEN_MAX {
            return Err(Refusal::Canon);
        }
        let lower = Zeroizing::new(typed.to_ascii_lowercase());
        if lower.split_whitespace().count() != WORDS {
            return Err(Refusal::Canon);
        }
        let mnemonic =
            Mnemonic::parse_in_normalized(Language::English, &lower).map_err(|_| Refusal::Canon)?;
        let (mut padded, len) = mnemonic.to_entropy_array();
        let entropy = Entropy::from_slice(&padded[..len]);
        padded.zeroize();
        Ok(Self::from_entropy(&entropy?))
    }

    /// Says what is wrong with a phrase that [`Phrase::parse`] refuses, so that its owner finds the slip on his paper;
    /// `None` if nothing is. For a phrase in another's hands this tells nothing that the word list does not.
    pub fn flaw(typed: &str) -> Option<Flaw> {
        if typed.len() > TEXT_LEN_MAX {
            return Some(Flaw::Count(None));
        }
        let lower = Zeroizing::new(typed.to_ascii_lowercase());
        let count = lower.split_whitespace().count();
        if count != WORDS {
            return Some(Flaw::Count(Some(count)));
        }
        let unknown = lower.split_whitespace().position(|word| Language::English.find_word(word).is_none());
        match unknown {
            Some(index) => Some(Flaw::Word(index + 1)),
            None => Self::parse(&lower).is_err().then_some(Flaw::Checksum),
        }
    }

    /// Gives the words, separated by single spaces, for showing them once.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Gives the entropy from which the root keys derive.
    pub fn entropy(&self) -> &Entropy {
        &self.entropy
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../docs/spec/vectors/identity.json")).unwrap()
    }

    #[test]
    fn phrases_match_the_vectors() {
        let v = vectors();
        let mut seen = 0;
        for case in v["vectors"].as_array().unwrap() {
            let entropy =
                Entropy::from_slice(&hex::decode(case["entropy"].as_str().unwrap()).unwrap()).unwrap();
            let words = case["phrase"].as_str().unwrap();
            assert_eq!(Phrase::from_entropy(&entropy).expose(), words);
            assert!(*Phrase::parse(words).unwrap().entropy() == entropy);
            seen += 1;
        }
        assert_eq!(seen, 4);
        let mut refused = 0;
        for case in v["refused"].as_array().unwrap() {
            let answer = Phrase::parse(case["phrase"].as_str().unwrap()).map(|_| ());
            assert_eq!(answer, Err(Refusal::Canon), "{}", case["why"]);
            refused += 1;
        }
        assert_eq!(refused, 5);
    }

    #[test]
    fn what_a_person_types_is_read_kindly() {
        let phrase = Phrase::generate(&mut ChaCha20Rng::seed_from_u64(3));
        let typed = format!("  {}\n", phrase.expose().replace(' ', "\t\n ").to_uppercase());
        let read = Phrase::parse(&typed).unwrap();
        assert_eq!(read.expose(), phrase.expose());
        assert!(read.entropy() == phrase.entropy());
    }

    #[test]
    fn a_slip_is_named_by_its_place() {
        let phrase = Phrase::generate(&mut ChaCha20Rng::seed_from_u64(5));
        let words: Vec<&str> = phrase.expose().split(' ').collect();
        assert_eq!(Phrase::flaw(&phrase.expose().to_uppercase()), None);
        assert_eq!(Phrase::flaw(&words[1..].join(" ")), Some(Flaw::Count(Some(23))));
        assert_eq!(Phrase::flaw(&"a".repeat(2_000)), Some(Flaw::Count(None)));
        let mut slip = words.clone();
        slip[7] = "lockre";
        assert_eq!(Phrase::flaw(&slip.join(" ")), Some(Flaw::Word(8)));
        let mut swapped = words.clone();
        let other = (1..24).find(|i| words[*i] != words[0]).unwrap();
        swapped.swap(0, other);
        assert_eq!(Phrase::flaw(&swapped.join(" ")), Some(Flaw::Checksum));
    }

    #[test]
    fn a_wrong_number_of_words_or_a_flood_is_refused() {
        let phrase = Phrase::generate(&mut ChaCha20Rng::seed_from_u64(4));
        let twice = format!("{0} {0}", phrase.expose());
        for typed in ["", " ", "abandon", &twice, &"abandon ".repeat(100_000)] {
            assert_eq!(Phrase::parse(typed).map(|_| ()), Err(Refusal::Canon));
        }
    }
}
