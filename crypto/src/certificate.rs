//! Transport certificate: a device vouches for a transport key (`docs/spec/02-identity.md`, "Transport
//! certificate").
//!
//! Transport keys are fresh at every start, so that nobody outside can follow a device by them; the certificate
//! tells those who know the device that it speaks. It proves nothing about who presents it: the transport proves
//! possession of the transport key.

use crate::Refusal;
use crate::id::VerifyingKey;
use crate::layout::take;
use crate::sign::{self, Domain, SIGNATURE_LEN, Signature, Signing, check_key};

/// Length of a certificate in bytes.
pub const CERTIFICATE_LEN: usize = BODY_LEN + SIGNATURE_LEN;
/// How far ahead a certificate may end, in seconds.
pub const LIFE_MAX_S: u64 = 14 * 86_400;

const BODY_LEN: usize = 72;

/// A certificate as it was read. It says nothing before [`Certificate::verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    device: VerifyingKey,
    transport: VerifyingKey,
    not_after: u64,
    signature: Signature,
}

impl Certificate {
    /// Signs a certificate for a transport key until `not_after`, unix seconds. One that ends more than
    /// [`LIFE_MAX_S`] ahead is refused by every reader; leave room for readers whose clock is behind.
    pub fn issue(device: &Signing, transport: VerifyingKey, not_after: u64) -> Self {
        let mut certificate =
            Self { device: device.verifying_key(), transport, not_after, signature: [0; SIGNATURE_LEN] };
        certificate.signature = device.sign(Domain::Transport, &certificate.encode()[..BODY_LEN]);
        certificate
    }

    /// Reads a certificate. Every 136 bytes are one.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for another length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut rest = bytes;
        let certificate = Self {
            device: VerifyingKey(take(&mut rest)?),
            transport: VerifyingKey(take(&mut rest)?),
            not_after: u64::from_le_bytes(take(&mut rest)?),
            signature: take(&mut rest)?,
        };
        if rest.is_empty() { Ok(certificate) } else { Err(Refusal::Canon) }
    }

    /// Writes the certificate.
    pub fn encode(&self) -> [u8; CERTIFICATE_LEN] {
        let mut out = [0; CERTIFICATE_LEN];
        out[..32].copy_from_slice(self.device.as_bytes());
        out[32..64].copy_from_slice(self.transport.as_bytes());
        out[64..BODY_LEN].copy_from_slice(&self.not_after.to_le_bytes());
        out[BODY_LEN..].copy_from_slice(&self.signature);
        out
    }

    /// Checks that the device vouches for the transport key at time `now`, unix seconds. A reader who has no device
    /// to expect yet passes [`Certificate::device`] and learns by other means whether that is the right one.
    ///
    /// # Errors
    /// In this order: [`Refusal::Audience`] for another device than expected; [`Refusal::Key`] for a weak key;
    /// [`Refusal::Sig`]; [`Refusal::Time`] from `not_after` on, and if that lies more than [`LIFE_MAX_S`] ahead.
    pub fn verify(&self, expected: &VerifyingKey, now: u64) -> Result<(), Refusal> {
        if self.device != *expected {
            return Err(Refusal::Audience);
        }
        sign::verify(&self.device, Domain::Transport, &self.encode()[..BODY_LEN], &self.signature)?;
        check_key(&self.transport)?;
        let left = self.not_after.checked_sub(now).ok_or(Refusal::Time)?;
        if (1..=LIFE_MAX_S).contains(&left) { Ok(()) } else { Err(Refusal::Time) }
    }

    /// Returns the device that the certificate names.
    pub fn device(&self) -> VerifyingKey {
        self.device
    }

    /// Returns the transport key that the certificate names.
    pub fn transport(&self) -> VerifyingKey {
        self.transport
    }

    /// Returns when the certificate ends, unix seconds; this second is outside.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SigningSeed;

    const NOW: u64 = 1_800_000_000;

    fn key(n: u8) -> Signing {
        Signing::from_seed(&SigningSeed::new([n; 32]))
    }

    #[test]
    fn certificates_match_the_vectors() {
        let seed =
            |v: &serde_json::Value| SigningSeed::from_slice(&hex::decode(v.as_str().unwrap()).unwrap());
        let rendezvous = include_str!("../../docs/spec/vectors/rendezvous.json");
        let v: serde_json::Value = serde_json::from_str(rendezvous).unwrap();
        let device = Signing::from_seed(&seed(&v["device_seed"]).unwrap());
        let transport = Signing::from_seed(&seed(&v["transport_seed"]).unwrap()).verifying_key();
        let ours = Certificate::issue(&device, transport, NOW + 7 * 86_400);
        assert_eq!(hex::encode(ours.encode()), v["certificate"].as_str().unwrap());
        assert_eq!(ours.verify(&device.verifying_key(), NOW), Ok(()));

        let handshake = include_str!("../../docs/spec/vectors/handshake.json");
        let v: serde_json::Value = serde_json::from_str(handshake).unwrap();
        let bytes = hex::decode(v["certificate"].as_str().unwrap()).unwrap();
        let read = Certificate::decode(&bytes).unwrap();
        assert_eq!(read.encode()[..], bytes);
        assert_eq!(read.verify(&read.device(), NOW), Ok(()));
    }

    #[test]
    fn each_fault_has_its_refusal() {
        let (device, transport) = (key(1), key(2).verifying_key());
        let expected = device.verifying_key();
        let made = |not_after| Certificate::issue(&device, transport, not_after);
        for (not_after, answer) in [
            (NOW + 1, Ok(())),
            (NOW, Err(Refusal::Time)),
            (0, Err(Refusal::Time)),
            (NOW + LIFE_MAX_S, Ok(())),
            (NOW + LIFE_MAX_S + 1, Err(Refusal::Time)),
            (u64::MAX, Err(Refusal::Time)),
        ] {
            assert_eq!(made(not_after).verify(&expected, NOW), answer, "{not_after}");
        }
        let good = made(NOW + 60);
        assert_eq!(good.verify(&key(3).verifying_key(), NOW), Err(Refusal::Audience));
        let weak = Certificate::issue(&device, VerifyingKey::ZERO, NOW + 60);
        assert_eq!(weak.verify(&expected, NOW), Err(Refusal::Key));
        let nobody = Certificate { device: VerifyingKey::ZERO, ..good.clone() };
        assert_eq!(nobody.verify(&VerifyingKey::ZERO, NOW), Err(Refusal::Key));

        let bytes = good.encode();
        for at in 0..CERTIFICATE_LEN * 8 {
            let mut changed = bytes;
            changed[at / 8] ^= 1 << (at % 8);
            let changed = Certificate::decode(&changed).unwrap();
            let answer = if at < 256 { Refusal::Audience } else { Refusal::Sig };
            assert_eq!(changed.verify(&expected, NOW), Err(answer), "bit {at}");
        }
        assert_eq!(Certificate::decode(&bytes).unwrap(), good);
        assert_eq!(Certificate::decode(&bytes[1..]), Err(Refusal::Canon));
        assert_eq!(Certificate::decode(&[&bytes[..], &[0]].concat()), Err(Refusal::Canon));
    }
}
