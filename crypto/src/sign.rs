//! ed25519 signatures under domain strings (`docs/spec/01-conventions.md`, "Signature").
//!
//! Signed bytes are `"locker-v1 " + domain`, one zero byte, then the message, so that no signature of one kind
//! passes as another. Verification is strict (RFC 8032 with the checks of "Taming the many EdDSAs", 2020): small
//! order keys, non-canonical points and `S + L` are refused.

use ed25519_dalek::{Signer, SigningKey};

use crate::Refusal;
use crate::id::VerifyingKey;
use crate::secret::SigningSeed;

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// A detached ed25519 signature.
pub type Signature = [u8; SIGNATURE_LEN];

/// What a signature is for. The list is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Root key over an operation of the person log.
    Root,
    /// New device over its own enrolment.
    Device,
    /// Device over a transport certificate.
    Transport,
    /// Device over a person-log entry.
    Person,
    /// Author over a log entry.
    Entry,
    /// Device over a bundle of epoch boxes.
    Boxes,
    /// Issuer over a capability block.
    Cap,
    /// Proof of possession.
    Pop,
    /// Issuer over the body of a capsule.
    Capsule,
    /// Link key over a deposit envelope.
    Deposit,
    /// Daily key over a rendezvous record.
    Rdv,
    /// Device over a pin delta.
    Pins,
    /// Device over a replica's register.
    Register,
}

impl Domain {
    /// Every domain.
    pub const ALL: &'static [Domain] = &[
        Domain::Root,
        Domain::Device,
        Domain::Transport,
        Domain::Person,
        Domain::Entry,
        Domain::Boxes,
        Domain::Cap,
        Domain::Pop,
        Domain::Capsule,
        Domain::Deposit,
        Domain::Rdv,
        Domain::Pins,
        Domain::Register,
    ];

    const fn prefix(self) -> &'static [u8] {
        match self {
            Domain::Root => b"locker-v1 root\0",
            Domain::Device => b"locker-v1 device\0",
            Domain::Transport => b"locker-v1 transport\0",
            Domain::Person => b"locker-v1 person\0",
            Domain::Entry => b"locker-v1 entry\0",
            Domain::Boxes => b"locker-v1 boxes\0",
            Domain::Cap => b"locker-v1 cap\0",
            Domain::Pop => b"locker-v1 pop\0",
            Domain::Capsule => b"locker-v1 capsule\0",
            Domain::Deposit => b"locker-v1 deposit\0",
            Domain::Rdv => b"locker-v1 rdv\0",
            Domain::Pins => b"locker-v1 pins\0",
            Domain::Register => b"locker-v1 register\0",
        }
    }
}

/// A signing key pair. Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub struct Signing(SigningKey);

impl Signing {
    /// Makes the key pair of a seed (RFC 8032).
    pub fn from_seed(seed: &SigningSeed) -> Self {
        Self(SigningKey::from_bytes(seed.expose()))
    }

    /// Returns the public key.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` under `domain`. Deterministic: needs no dice.
    pub fn sign(&self, domain: Domain, message: &[u8]) -> Signature {
        self.0.sign(&framed(domain, message)).to_bytes()
    }
}

/// Checks that a public key is a point of the curve and not of small order.
///
/// # Errors
/// [`Refusal::Key`] otherwise; refuse whatever brought the key in.
pub fn check_key(key: &VerifyingKey) -> Result<(), Refusal> {
    parse_key(key).map(|_| ())
}

/// Verifies a signature strictly.
///
/// # Errors
/// [`Refusal::Key`] if the key is invalid or weak, [`Refusal::Sig`] if the signature does not match.
pub fn verify(
    key: &VerifyingKey,
    domain: Domain,
    message: &[u8],
    signature: &Signature,
) -> Result<(), Refusal> {
    parse_key(key)?
        .verify_strict(&framed(domain, message), &ed25519_dalek::Signature::from_bytes(signature))
        .map_err(|_| Refusal::Sig)
}

fn parse_key(key: &VerifyingKey) -> Result<ed25519_dalek::VerifyingKey, Refusal> {
    let parsed = ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| Refusal::Key)?;
    if parsed.is_weak() { Err(Refusal::Key) } else { Ok(parsed) }
}

fn framed(domain: Domain, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(domain.prefix().len() + message.len());
    bytes.extend_from_slice(domain.prefix());
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T68: a signature of one kind never passes as another.
    #[test]
    fn t68_each_domain_refuses_every_other() {
        let key = Signing::from_seed(&SigningSeed::new([7; 32]));
        for made in Domain::ALL {
            let signature = key.sign(*made, b"message");
            for asked in Domain::ALL {
                let answer = verify(&key.verifying_key(), *asked, b"message", &signature);
                assert_eq!(answer, if made == asked { Ok(()) } else { Err(Refusal::Sig) });
            }
        }
    }

    /// T59: small-order points are refused as keys, and `S + L` as a signature.
    #[test]
    fn t59_weak_keys_and_malleable_signatures_are_refused() {
        let weak = [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        ];
        for hex_key in weak {
            let key = VerifyingKey::from_slice(&hex::decode(hex_key).unwrap()).unwrap();
            assert_eq!(check_key(&key), Err(Refusal::Key), "{hex_key}");
        }

        let key = Signing::from_seed(&SigningSeed::new([9; 32]));
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
}
