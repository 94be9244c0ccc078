//! Sealed boxes: HPKE base mode with X-Wing, HKDF-SHA256 and ChaCha20-Poly1305 (`docs/spec/01-conventions.md`).
//!
//! A box is `enc 1,120 || ciphertext`, sealed to a public key of 1,216 bytes under an `info` that says what it is for
//! (RFC 9180; KEM id 0x647a). Encapsulation is fresh for every box, so there is no nonce to get wrong. What a box
//! does not prove is who sealed it: whoever needs that signs the bytes around it.
//!
//! There is one suite and no field that could name another. A format gives its `info` from one place only, so that
//! a box of one kind never opens as another.

use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};

use crate::Refusal;
use crate::aead::TAG_LEN;
use crate::id::ObjectHash;
use crate::secret::BoxSeed;

/// Length of a public key: ML-KEM-768 part 1,184, X25519 part 32.
pub const PUBLIC_KEY_LEN: usize = 1_216;
/// Length of an encapsulation: ML-KEM-768 part 1,088, X25519 part 32.
pub const ENC_LEN: usize = 1_120;
/// What a box is longer than its plain text.
pub const OVERHEAD: usize = ENC_LEN + TAG_LEN;

/// Length of an X25519 public key.
pub const X25519_LEN: usize = 32;

type PrivateKey = <XWing as Kem>::PrivateKey;
type PublicKey = <XWing as Kem>::PublicKey;

/// A public key that boxes can be sealed to; checked when it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct BoxPublicKey {
    bytes: Box<[u8; PUBLIC_KEY_LEN]>,
    /// The parsed key with its expanded matrix, several KiB.
    key: Box<PublicKey>,
}

impl BoxPublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the length is wrong; [`Refusal::Key`] if the X25519 part is of low order or the ML-KEM
    /// part is not a key. Refuse whatever brought the key in.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Refusal> {
        let bytes: Box<[u8; PUBLIC_KEY_LEN]> = Box::new(bytes.try_into().map_err(|_| Refusal::Canon)?);
        check_x25519_part(&bytes[..])?;
        let key = PublicKey::from_bytes(&bytes[..]).map_err(|_| Refusal::Key)?;
        Ok(Self { bytes, key: Box::new(key) })
    }

    /// Reads a public key that a signed structure names by its hash.
    ///
    /// # Errors
    /// [`Refusal::Hash`] if the bytes are others than those named; then as [`BoxPublicKey::from_slice`].
    pub fn from_named(bytes: &[u8], name: &ObjectHash) -> Result<Self, Refusal> {
        if blake3::hash(bytes).as_bytes() != name.as_bytes() {
            return Err(Refusal::Hash);
        }
        Self::from_slice(bytes)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.bytes
    }

    /// Returns the BLAKE3 hash by which logs name this key.
    pub fn hash(&self) -> ObjectHash {
        ObjectHash(*blake3::hash(&self.bytes[..]).as_bytes())
    }

    /// Seals `plain` to this key: `enc || ciphertext`, [`OVERHEAD`] bytes longer than `plain`.
    ///
    /// Costs one ML-KEM encapsulation and two X25519 products, some 100 microseconds.
    ///
    /// # Panics
    /// If `plain` is longer than 256 GiB; every format limits it far below.
    pub fn seal<R: rand_core::CryptoRng + ?Sized>(
        &self,
        info: &[u8],
        aad: &[u8],
        plain: &[u8],
        dice: &mut R,
    ) -> Vec<u8> {
        let mut dice = dice;
        let (enc, mut context) = hpke::setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.key,
            info,
            &mut dice,
        )
        .expect("encapsulation to a checked key succeeds");
        let mut out = enc.to_bytes().to_vec();
        out.extend_from_slice(&context.seal(plain, aad).expect("the first message of a context seals"));
        out
    }
}

impl fmt::Debug for BoxPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoxPublicKey({})", self.hash())
    }
}

/// A key pair that opens boxes. Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub struct BoxKeys {
    private: PrivateKey,
    public: BoxPublicKey,
}

impl BoxKeys {
    /// Makes the key pair of a seed: `X-Wing.DeriveKeyPair(seed)`.
    pub fn from_seed(seed: &BoxSeed) -> Self {
        let (private, key) = XWing::derive_keypair(seed.expose());
        let mut bytes = Box::new([0; PUBLIC_KEY_LEN]);
        key.write_exact(&mut bytes[..]);
        Self { private, public: BoxPublicKey { bytes, key: Box::new(key) } }
    }

    /// Returns the public key.
    pub fn public(&self) -> &BoxPublicKey {
        &self.public
    }

    /// Opens a box.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if it is shorter than [`OVERHEAD`]; [`Refusal::Key`] if the X25519 part of the
    /// encapsulation is of low order; [`Refusal::Tag`] if the box is for another key, `info` or `aad`, or any byte
    /// differs.
    pub fn open(&self, info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Refusal> {
        if sealed.len() < OVERHEAD {
            return Err(Refusal::Canon);
        }
        let (enc, text) = sealed.split_at(ENC_LEN);
        check_x25519_part(enc)?;
        let enc = <XWing as Kem>::EncappedKey::from_bytes(enc).map_err(|_| Refusal::Canon)?;
        hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, XWing>(&OpModeR::Base, &self.private, &enc, info)
            .and_then(|mut context| context.open(text, aad))
            .map_err(|_| Refusal::Tag)
    }
}

/// Refuses a point that takes every private key to zero: with it the X25519 half would add nothing, and a peer
/// could not tell that it was left out. The crate accepts such points, as RFC 9180 leaves the check to its user.
fn check_x25519_part(bytes: &[u8]) -> Result<(), Refusal> {
    check_x25519(bytes.last_chunk::<X25519_LEN>().ok_or(Refusal::Canon)?)
}

/// Refuses an X25519 public key of low order, whoever sent it: multiplied with any private key it gives zeros.
///
/// # Errors
/// [`Refusal::Key`].
pub fn check_x25519(point: &[u8; X25519_LEN]) -> Result<(), Refusal> {
    // Clamping makes any scalar a multiple of the cofactor, so exactly the points of low order give zero.
    let product = x25519_dalek::x25519([1; X25519_LEN], *point);
    if product == [0; X25519_LEN] { Err(Refusal::Key) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
