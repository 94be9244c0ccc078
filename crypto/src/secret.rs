//! Secret bytes, each a type of its own.
//!
//! They are wiped when dropped, compared in constant time, and have no `Debug`, `Display` or serialisation. Reading
//! one out takes the word `expose`, so that a search finds every place. The bytes stay where they are when one is handed
//! on: a move would leave a copy behind that nobody wipes.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name(Box<[u8; $len]>);

        impl $name {
            /// Size in bytes.
            pub const LEN: usize = $len;

            /// Takes over secret bytes.
            pub fn new(mut bytes: [u8; $len]) -> Self {
                let secret = Self(Box::new(bytes));
                bytes.zeroize();
                secret
            }

            /// Reads a secret from a slice.
            ///
            /// # Errors
            /// [`crate::Refusal::Canon`] if the slice has another length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Refusal> {
                if bytes.len() != $len {
                    return Err(crate::Refusal::Canon);
                }
                let mut secret = Self(Box::new([0; $len]));
                secret.0.copy_from_slice(bytes);
                Ok(secret)
            }

            /// Draws a fresh secret.
            pub fn random<R: rand_core::CryptoRng + ?Sized>(dice: &mut R) -> Self {
                let mut secret = Self(Box::new([0; $len]));
                dice.fill_bytes(secret.0.as_mut_slice());
                secret
            }

            /// Gives the bytes, for handing them to a primitive or sealing them.
            pub fn expose(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.as_slice().ct_eq(other.0.as_slice()).into()
            }
        }

        impl Eq for $name {}
    };
}

secret!(/** The 256-bit entropy behind the 24 words; never stored on a device. */ Entropy, 32);
secret!(/** An ed25519 seed. */ SigningSeed, 32);
secret!(/** Input of X-Wing key derivation; stands for a box key pair. */ BoxSeed, 32);
secret!(/** The ed25519 seed that a device is about to take in place of its own. */ NextSigningSeed, 32);
secret!(/** The box seed that goes with it. */ NextBoxSeed, 32);
secret!(/** PUK: the key of a person, shared by the active devices. */ PersonKey, 32);
secret!(/** D: the dedup secret from which chunk keys and the gear table derive. */ DedupSecret, 32);
secret!(/** ES: the secret of one epoch of a space. */ EpochSecret, 32);
secret!(/** K_log: seals the entries of one epoch. */ LogKey, 32);
secret!(/** VK: encrypts everything local in the database. */ VaultKey, 32);
secret!(/** CK: the key of one chunk; whoever has it can read the chunk. */ ChunkKey, 32);
secret!(/** rdv_master[g]: the root of all rendezvous slots of one generation. */ RendezvousMaster, 32);
secret!(/** R: the secret by which two ends find one another and knock. */ RendezvousSecret, 32);
secret!(/** A key for one AEAD use, derived and then forgotten. */ AeadKey, 32);
secret!(/** The seed inside a link: with it one acts as its holder. */ LinkSeed, 16);
secret!(/** S: what a link's keys derive from, seed and passphrase together. */ LinkSecret, 32);
secret!(/** t: the 88 bits of a pairing ticket. */ Ticket, 11);
secret!(/** The pre-shared key of one pairing run. */ PairingKey, 32);
secret!(/** rk: what the daily keys of one rendezvous period derive from. */ PeriodSecret, 32);
