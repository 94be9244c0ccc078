//! The keys of a person: root keys from the phrase, device keys, the shared keys (PUK) and what derives from them
//! (`docs/spec/02-identity.md`).
//!
//! ```text
//! entropy ── root_sign, root_box, rdv_master[g] ── rdv_replica[j]
//! device  ── device_sign, device_box            (random, made on the device, never leave it)
//! PUK[n]  ── puk_box[n], puk_data[n], rdv_device[device_vk]
//! ```
//!
//! How the keys of a person change hands stands in [`crate::person`]; which devices are active is not decided here.

use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::Refusal;
use crate::aead;
use crate::derive::{Purpose, kdf, kdf16, xof};
use crate::id::{OwnerFp, PersonId, SpaceTag, VerifyingKey};
use crate::sealed_box::BoxKeys;
use crate::secret::{AeadKey, BoxSeed, Entropy, PersonKey, RendezvousMaster, RendezvousSecret, SigningSeed};
use crate::sign::{Domain, Signature, Signing};

/// The keys that derive from the phrase. They exist while the phrase is at hand, then are dropped.
pub struct Root {
    entropy: Entropy,
    sign: Signing,
    boxes: BoxKeys,
}

impl Root {
    /// Derives the root keys.
    pub fn from_entropy(entropy: &Entropy) -> Self {
        let sign = SigningSeed::new(kdf(Purpose::RootSign, &[entropy.expose()]));
        let boxes = BoxSeed::new(kdf(Purpose::RootBox, &[entropy.expose()]));
        Self { entropy: entropy.clone(), sign: Signing::from_seed(&sign), boxes: BoxKeys::from_seed(&boxes) }
    }

    /// Returns the public root key.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.sign.verifying_key()
    }

    /// Returns the name of the person whose first root key this is. After a `set_root` the name stays that of the
    /// first key and is read from the genesis entry.
    pub fn person_id(&self) -> PersonId {
        PersonId(self.verifying_key().0)
    }

    /// Returns the key pair to which the person's keys are sealed for recovery.
    pub fn box_keys(&self) -> &BoxKeys {
        &self.boxes
    }

    /// Returns the rendezvous master of generation `generation`.
    pub fn rendezvous_master(&self, generation: u32) -> RendezvousMaster {
        RendezvousMaster::new(kdf(Purpose::RdvMaster, &[self.entropy.expose(), &generation.to_le_bytes()]))
    }

    /// Returns the key pair that proves at a node to hold the phrase.
    pub fn signing(&self) -> &Signing {
        &self.sign
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        self.sign.sign(Domain::Root, message)
    }
}

/// A rendezvous slot of one generation: 0..=15 for replicas, 16..=31 for own devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// Number of slots.
    pub const COUNT: u32 = 32;
    /// Number of the first slot for own devices.
    pub const FIRST_DEVICE: u32 = 16;

    /// Names slot `index`.
    ///
    /// # Errors
    /// [`Refusal::Limit`] from 32 on.
    pub fn new(index: u32) -> Result<Self, Refusal> {
        if index < Self::COUNT { Ok(Self(index)) } else { Err(Refusal::Limit) }
    }

    /// Returns the number of the slot.
    pub fn index(self) -> u32 {
        self.0
    }

    /// Whether the slot is one for replicas.
    pub fn is_replica(self) -> bool {
        self.0 < Self::FIRST_DEVICE
    }

    /// Derives the secret of this slot, all that a replica ever holds of the master.
    pub fn secret(self, master: &RendezvousMaster) -> RendezvousSecret {
        RendezvousSecret::new(kdf(Purpose::RdvReplica, &[master.expose(), &self.0.to_le_bytes()]))
    }
}

/// The keys of one device, random and made on it.
pub struct DeviceKeys {
    signing_seed: SigningSeed,
    box_seed: BoxSeed,
    sign: Signing,
    boxes: BoxKeys,
}

impl DeviceKeys {
    /// Draws the keys of a new device.
    pub fn random<R: CryptoRng + ?Sized>(dice: &mut R) -> Self {
        Self::from_seeds(SigningSeed::random(dice), BoxSeed::random(dice))
    }

    /// Makes the keys of stored seeds.
    pub fn from_seeds(signing_seed: SigningSeed, box_seed: BoxSeed) -> Self {
        let sign = Signing::from_seed(&signing_seed);
        let boxes = BoxKeys::from_seed(&box_seed);
        Self { signing_seed, box_seed, sign, boxes }
    }

    /// Returns the public key that names the device (`device_vk`).
    pub fn verifying_key(&self) -> VerifyingKey {
        self.sign.verifying_key()
    }

    /// Returns the key pair that signs.
    pub fn signing(&self) -> &Signing {
        &self.sign
    }

    /// Returns the key pair to which the person's keys are sealed for this device.
    pub fn box_keys(&self) -> &BoxKeys {
        &self.boxes
    }

    /// Gives the signing seed, for storing it under the vault key.
    pub fn signing_seed(&self) -> &SigningSeed {
        &self.signing_seed
    }

    /// Gives the box seed, for storing it under the vault key.
    pub fn box_seed(&self) -> &BoxSeed {
        &self.box_seed
    }
}

impl PersonKey {
    /// Derives the key pair to which epochs are sealed for this person (`puk_box`).
    pub fn box_keys(&self) -> BoxKeys {
        BoxKeys::from_seed(&BoxSeed::new(kdf(Purpose::PukBox, &[self.expose()])))
    }

    /// Derives the key of names and other small data that only the person's devices read (`puk_data`).
    pub fn data_key(&self) -> AeadKey {
        AeadKey::new(kdf(Purpose::PukData, &[self.expose()]))
    }

    /// Derives the secret under which the person's devices find device `device`.
    pub fn device_rendezvous(&self, device: &VerifyingKey) -> RendezvousSecret {
        RendezvousSecret::new(kdf(Purpose::RdvDevice, &[self.expose(), device.as_bytes()]))
    }
}

/// Every generation of a person's keys that this device holds, from PUK[0] on.
///
/// A device that joins later opens the newest one from its box and walks back (`puk_back`), so there are no gaps.
#[derive(Clone)]
pub struct PersonKeys {
    older: Vec<PersonKey>,
    newest: PersonKey,
    beside: Vec<PersonKey>,
}

impl PersonKeys {
    /// Starts with PUK[0].
    pub fn new(first: PersonKey) -> Self {
        Self { older: Vec::new(), newest: first, beside: Vec::new() }
    }

    /// Takes over all generations in order.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if there is none.
    pub fn from_generations(mut keys: Vec<PersonKey>) -> Result<Self, Refusal> {
        let newest = keys.last().cloned().ok_or(Refusal::Canon)?;
        // Ended in its place: what is moved out of a list stays behind in its memory.
        keys.truncate(keys.len() - 1);
        Ok(Self { older: keys, newest, beside: Vec::new() })
    }

    /// Takes over keys that two devices started at the same time as one of these, and that did not come into use: they open
    /// what was sealed under them meanwhile, and nothing is sealed under them any more.
    pub fn set_beside(&mut self, keys: Vec<PersonKey>) {
        self.beside = keys;
    }

    /// Adds the next generation.
    pub fn push(&mut self, next: PersonKey) {
        self.older.push(std::mem::replace(&mut self.newest, next));
    }

    /// Returns the key in use.
    pub fn newest(&self) -> &PersonKey {
        &self.newest
    }

    /// Returns the index n of the key in use.
    ///
    /// # Panics
    /// Never in practice: after 2^32 generations.
    pub fn generation(&self) -> u32 {
        u32::try_from(self.older.len()).expect("fewer than 2^32 generations")
    }

    /// Returns PUK[n].
    pub fn get(&self, n: u32) -> Option<&PersonKey> {
        let n = usize::try_from(n).ok()?;
        if n == self.older.len() { Some(&self.newest) } else { self.older.get(n) }
    }

    /// Gives every generation, newest first, and then the keys beside them: the order in which a reader tries them.
    pub fn newest_first(&self) -> impl Iterator<Item = &PersonKey> {
        std::iter::once(&self.newest).chain(self.older.iter().rev()).chain(&self.beside)
    }

    /// Opens nonce 24 || XChaCha20-Poly1305 under the data key of some generation, the newest tried first.
    ///
    /// # Errors
    /// [`Refusal::Tag`] if no key fits.
    pub(crate) fn open_data(&self, ad: &[u8], stored: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.newest_first()
            .find_map(|key| aead::xopen_prefixed(key.data_key().expose(), ad, stored).ok())
            .ok_or(Refusal::Tag)
    }
}

/// Returns the fingerprint of a person that links carry.
pub fn owner_fp(person: &PersonId) -> OwnerFp {
    OwnerFp(kdf16(Purpose::OwnerFp, &[person.as_bytes()]))
}

/// Returns the tag under which the person log of `person` is asked for.
pub fn person_tag(person: &PersonId) -> SpaceTag {
    SpaceTag(kdf16(Purpose::SpaceTag, &[person.as_bytes()]))
}

/// Returns the safety number of two persons: 12 groups of five digits, the same from both sides.
pub fn safety_number(one: &PersonId, other: &PersonId) -> String {
    let (smaller, larger) = if one <= other { (one, other) } else { (other, one) };
    let mut key = kdf(Purpose::Safety, &[smaller.as_bytes(), larger.as_bytes()]);
    let mut bytes = [0; 60];
    xof(&key, &mut bytes);
    key.zeroize();
    let group = |five: &[u8]| five.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)) % 100_000;
    bytes.chunks_exact(5).map(|five| format!("{:05}", group(five))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &serde_json::Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    fn array(value: &serde_json::Value) -> [u8; 32] {
        bytes(value).try_into().unwrap()
    }

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../docs/spec/vectors/identity.json")).unwrap()
    }

    #[test]
    fn root_keys_match_the_vectors() {
        let v = vectors();
        let (mut roots, mut slots) = (0, 0);
        for case in v["vectors"].as_array().unwrap() {
            let entropy = Entropy::new(array(&case["entropy"]));
            let root = Root::from_entropy(&entropy);
            assert_eq!(root.person_id(), PersonId(array(&case["person_id"])));
            assert_eq!(owner_fp(&root.person_id()).as_bytes()[..], bytes(&case["owner_fp"]));
            assert_eq!(kdf(Purpose::RootSign, &[entropy.expose()]), array(&case["root_sign_seed"]));
            assert_eq!(kdf(Purpose::RootBox, &[entropy.expose()]), array(&case["root_box_ikm"]));
            let public = root.box_keys().public();
            assert_eq!(public.hash().as_bytes(), &array(&case["root_box_pk_b3"]));
            assert_eq!(public.as_bytes().len() as u64, case["root_box_pk_len"].as_u64().unwrap());
            for slot in case["slots"].as_array().unwrap() {
                let number = |key: &str| u32::try_from(slot[key].as_u64().unwrap()).unwrap();
                let master = root.rendezvous_master(number("g"));
                assert_eq!(master.expose(), &array(&slot["rdv_master"]));
                let secret = Slot::new(number("j")).unwrap().secret(&master);
                assert_eq!(secret.expose(), &array(&slot["rdv_replica"]));
                slots += 1;
            }
            roots += 1;
        }
        assert_eq!((roots, slots), (4, 32));
    }

    #[test]
    fn device_person_key_and_safety_number_match_the_vectors() {
        let v = vectors();
        let device =
            DeviceKeys::from_seeds(SigningSeed::new(array(&v["device"]["seed"])), BoxSeed::new([0; 32]));
        assert_eq!(device.verifying_key(), VerifyingKey(array(&v["device"]["vk"])));

        let puk = PersonKey::new(array(&v["puk"]["puk"]));
        assert_eq!(kdf(Purpose::PukBox, &[puk.expose()]), array(&v["puk"]["puk_box_ikm"]));
        assert_eq!(puk.box_keys().public().hash().as_bytes(), &array(&v["puk"]["puk_box_pk_b3"]));
        assert_eq!(puk.data_key().expose(), &array(&v["puk"]["puk_data"]));
        let rdv = puk.device_rendezvous(&VerifyingKey(array(&v["puk"]["device_vk"])));
        assert_eq!(rdv.expose(), &array(&v["puk"]["rdv_device"]));

        let safety = &v["safety_number"];
        let (a, b) = (PersonId(array(&safety["a"])), PersonId(array(&safety["b"])));
        assert_eq!(safety_number(&a, &b), safety["digits"].as_str().unwrap());
        assert_eq!(safety_number(&b, &a), safety_number(&a, &b));
    }

    #[test]
    fn generations_are_counted_from_the_first() {
        let mut keys = PersonKeys::new(PersonKey::new([0; 32]));
        keys.push(PersonKey::new([1; 32]));
        keys.push(PersonKey::new([2; 32]));
        assert_eq!(keys.generation(), 2);
        let order: Vec<u8> = keys.newest_first().map(|key| key.expose()[0]).collect();
        assert_eq!(order, [2, 1, 0]);
        for n in 0..3_u8 {
            assert_eq!(keys.get(n.into()).unwrap().expose(), &[n; 32]);
        }
        assert!(keys.get(3).is_none());
        assert!(PersonKeys::from_generations(Vec::new()).is_err());
    }

    #[test]
    fn slots_end_at_31() {
        assert!(Slot::new(31).is_ok_and(|slot| !slot.is_replica()));
        assert!(Slot::new(15).is_ok_and(Slot::is_replica));
        assert_eq!(Slot::new(32), Err(Refusal::Limit));
    }
}
