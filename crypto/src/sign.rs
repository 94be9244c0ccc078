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
    /// Device over the one that takes its place.
    Successor,
    /// Root key over a decision about what its person's own device took away.
    Confirm,
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
        Domain::Successor,
        Domain::Confirm,
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
            Domain::Successor => b"locker-v1 successor\0",
            Domain::Confirm => b"locker-v1 confirm\0",
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
    verify_framed(key, &framed(domain, message), signature)
}

fn verify_framed(key: &VerifyingKey, framed: &[u8], signature: &Signature) -> Result<(), Refusal> {
    parse_key(key)?
        .verify_strict(framed, &ed25519_dalek::Signature::from_bytes(signature))
        .map_err(|_| Refusal::Sig)
}

fn parse_key(key: &VerifyingKey) -> Result<ed25519_dalek::VerifyingKey, Refusal> {
    // The library reads y modulo p: without this, some points would be keys under two names.
    if !is_canonical(key.as_bytes()) {
        return Err(Refusal::Key);
    }
    let parsed = ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| Refusal::Key)?;
    if parsed.is_weak() { Err(Refusal::Key) } else { Ok(parsed) }
}

/// Whether y, all bits but the highest, is below p = 2^255 - 19.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = point;
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

fn framed(domain: Domain, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(domain.prefix().len() + message.len());
    bytes.extend_from_slice(domain.prefix());
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests;
