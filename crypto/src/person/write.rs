//! Writing entries of a person log. Each function makes one entry with one operation and the objects it names; the
//! caller stores both in one transaction, and the keys with them.

use rand_core::CryptoRng;

use crate::Refusal;
use crate::aead::random_xnonce;
use crate::id::{EntryId, ObjectHash, PersonId, SpaceId, VerifyingKey};
use crate::identity::{DeviceKeys, PersonKeys, Root};
use crate::person::boxes::{seal_back, seal_key_box, seal_name};
use crate::person::op::succession_bytes;
use crate::person::{Body, Enrolment, Entry, Head, Op, Removal};
use crate::sealed_box::BoxPublicKey;
use crate::secret::PersonKey;
use crate::sign::{Domain, SIGNATURE_LEN, Signature};

const UNSIGNED: Signature = [0; SIGNATURE_LEN];

/// Where the next entry of an author stands.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its number, from 0.
    pub seq: u64,
    /// The entry before it; zeros for number 0.
    pub prev: EntryId,
    /// Its clock, greater than that of `prev` and of every dep.
    pub hlc: u64,
    /// Heads of other authors newly seen, at most 64.
    pub deps: Vec<Head>,
}

impl Place {
    /// The place of a device's first entry.
    pub fn first(hlc: u64, deps: Vec<Head>) -> Self {
        Self { seq: 0, prev: EntryId::ZERO, hlc, deps }
    }
}

/// An entry, and the objects it names: public keys and boxes.
#[derive(Clone, Debug)]
pub struct Made {
    /// Id of the entry.
    pub id: EntryId,
    /// Bytes of the entry.
    pub entry: Vec<u8>,
    /// Objects to keep beside the log, each under its BLAKE3 name.
    pub objects: Vec<(ObjectHash, Vec<u8>)>,
}

/// A device that asks to be added: what it sends to the adding one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The key that names it.
    pub device: VerifyingKey,
    /// Its box public key.
    pub box_key: BoxPublicKey,
    /// Its signature that it joins this person.
    pub pop_sig: Signature,
}

impl Candidate {
    /// Signs that `device` joins `person`.
    pub fn new(person: &PersonId, device: &DeviceKeys) -> Self {
        let box_key = device.box_keys().public().clone();
        let vk = device.verifying_key();
        let message = Enrolment::signed_bytes(person, &vk, &box_key.hash());
        Self { device: vk, box_key, pop_sig: device.signing().sign(Domain::Device, &message) }
    }

    fn enrol<R: CryptoRng + ?Sized>(
        &self,
        key: &PersonKey,
        name: &str,
        dice: &mut R,
    ) -> Result<Enrolment, Refusal> {
        Ok(Enrolment {
            device: self.device,
            box_key: self.box_key.hash(),
            pop_sig: self.pop_sig,
            sealed_name: seal_name(key, &random_xnonce(dice), &self.device, name)?,
        })
    }
}

/// A device that asks to go on under a new key: what it sends, while it still has the old one, to another device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The device under its new key.
    pub candidate: Candidate,
    /// The key that is not to be used any more.
    pub old: VerifyingKey,
    /// Its signature that the candidate takes its place.
    pub old_sig: Signature,
}

impl Succession {
    /// Signs that `new` takes the place of `old` among the devices of `person`.
    pub fn new(person: &PersonId, old: &DeviceKeys, new: &DeviceKeys) -> Self {
        let candidate = Candidate::new(person, new);
        let vk = old.verifying_key();
        let message = succession_bytes(person, &candidate.device, &candidate.box_key.hash(), &vk);
        Self { candidate, old: vk, old_sig: old.signing().sign(Domain::Successor, &message) }
    }
}

/// A device that writes to the log of its person.
pub struct Author<'a> {
    /// Whose log.
    pub person: PersonId,
    /// The device.
    pub device: &'a DeviceKeys,
    /// Where its next entry stands.
    pub place: Place,
}

impl<'a> Author<'a> {
    /// Begins a person: the genesis entry, with PUK[0] sealed to the root and to this first device.
    ///
    /// Objects: the public keys of root box, device box and PUK[0], and the two boxes.
    ///
    /// # Errors
    /// [`Refusal::Limit`] if the name is longer than 255 bytes.
    pub fn genesis<R: CryptoRng + ?Sized>(
        root: &Root,
        device: &'a DeviceKeys,
        first_key: &PersonKey,
        name: &str,
        hlc: u64,
        dice: &mut R,
    ) -> Result<Made, Refusal> {
        let person = root.person_id();
        let author = Self { person, device, place: Place::first(hlc, Vec::new()) };
        let candidate = Candidate::new(&person, device);
        let mut objects = Objects::default();
        let mut op = Op::Genesis {
            person,
            root_box: objects.key(root.box_keys().public()),
            device: candidate.enrol(first_key, name, dice)?,
            person_box: objects.key(first_key.box_keys().public()),
            boxes: author.boxes(
                0,
                first_key,
                [root.box_keys().public(), &candidate.box_key],
                &mut objects,
                dice,
            ),
            root_sig: UNSIGNED,
        };
        objects.key(&candidate.box_key);
        let signature = root.sign(&op.signed_bytes());
        if let Op::Genesis { root_sig, .. } = &mut op {
            *root_sig = signature;
        }
        Ok(author.write(op, objects))
    }

    /// Adds a device: seals the PUK in use to it.
    ///
    /// # Errors
    /// [`Refusal::Pop`] if the candidate did not sign for this person; [`Refusal::Key`] if its key is invalid;
    /// [`Refusal::Limit`] if the name is too long.
    pub fn add_device<R: CryptoRng + ?Sized>(
        self,
        candidate: &Candidate,
        name: &str,
        keys: &PersonKeys,
        dice: &mut R,
    ) -> Result<Made, Refusal> {
        let device = candidate.enrol(keys.newest(), name, dice)?;
        device.check(&self.person)?;
        let mut objects = Objects::default();
        objects.key(&candidate.box_key);
        let boxes = self.boxes(keys.generation(), keys.newest(), [&candidate.box_key], &mut objects, dice);
        Ok(self.write(Op::AddDevice { device, boxes }, objects))
    }

    /// Puts a device under its new key in the place of the old one: seals the PUK in use to it. The PUK stays: whoever
    /// has the old key is the person's device.
    ///
    /// # Errors
    /// [`Refusal::Rights`] if the old key is the author's own; [`Refusal::Pop`] if the candidate did not sign for this
    /// person, [`Refusal::Sig`] if the old key did not; [`Refusal::Key`] for an invalid key; [`Refusal::Limit`] if the
    /// name is too long.
    pub fn replace_device<R: CryptoRng + ?Sized>(
        self,
        succession: &Succession,
        name: &str,
        keys: &PersonKeys,
        dice: &mut R,
    ) -> Result<Made, Refusal> {
        let Succession { candidate, old, old_sig } = succession;
        let device = candidate.enrol(keys.newest(), name, dice)?;
        let mut objects = Objects::default();
        objects.key(&candidate.box_key);
        let boxes = self.boxes(keys.generation(), keys.newest(), [&candidate.box_key], &mut objects, dice);
        let op = Op::ReplaceDevice { device, boxes, old: *old, old_sig: *old_sig };
        op.check(&self.person, &self.device.verifying_key(), self.place.seq)?;
        Ok(self.write(op, objects))
    }

    /// Removes another device. `keys` already ends with the new PUK; `recipients` are the box keys of every device
    /// that stays, and of the current root.
    ///
    /// # Errors
    /// [`Refusal::Rights`] if the device removes itself; [`Refusal::Key`] if `keys` holds no new PUK.
    pub fn remove_device<'k, R: CryptoRng + ?Sized>(
        self,
        removal: Removal,
        keys: &PersonKeys,
        recipients: impl IntoIterator<Item = &'k BoxPublicKey>,
        dice: &mut R,
    ) -> Result<Made, Refusal> {
        if removal.device == self.device.verifying_key() {
            return Err(Refusal::Rights);
        }
        let mut objects = Objects::default();
        let op = Op::RemoveDevice {
            removal,
            person_box: objects.key(keys.newest().box_keys().public()),
            boxes: self.boxes(keys.generation(), keys.newest(), recipients, &mut objects, dice),
            back: back(keys)?,
        };
        Ok(self.write(op, objects))
    }

    /// Starts a new PUK. `keys` already ends with it; `recipients` are the box keys of every active device, and of the
    /// current root.
    ///
    /// # Errors
    /// [`Refusal::Key`] if `keys` holds no new PUK.
    pub fn renew_key<'k, R: CryptoRng + ?Sized>(
        self,
        keys: &PersonKeys,
        recipients: impl IntoIterator<Item = &'k BoxPublicKey>,
        dice: &mut R,
    ) -> Result<Made, Refusal> {
        let mut objects = Objects::default();
        let op = Op::RenewKey {
            person_box: objects.key(keys.newest().box_keys().public()),
            boxes: self.boxes(keys.generation(), keys.newest(), recipients, &mut objects, dice),
            back: back(keys)?,
        };
        Ok(self.write(op, objects))
    }

    /// Brings in this device by the phrase, removes others, and starts the next generation of slots. `keys` already
    /// ends with the new PUK; `recipients` are the box keys of every other device that stays. Boxes for this device
    /// and the root are added.
    ///
    /// # Errors
    /// [`Refusal::Rights`] if a removal names this device; [`Refusal::Chain`] if the place is not the device's
    /// first; [`Refusal::Key`] if `keys` holds no new PUK; [`Refusal::Limit`] if the name is too long.
    pub fn recover<'k, R: CryptoRng + ?Sized>(
        self,
        root: &Root,
        recovery: Recovery<'_>,
        recipients: impl IntoIterator<Item = &'k BoxPublicKey>,
        dice: &mut R,
    ) -> Result<Made, Refusal> {
        let Recovery { generation, name, removals, keys } = recovery;
        let vk = self.device.verifying_key();
        if removals.iter().any(|removal| removal.device == vk) {
            return Err(Refusal::Rights);
        }
        if self.place.seq != 0 {
            return Err(Refusal::Chain);
        }
        let candidate = Candidate::new(&self.person, self.device);
        let mut objects = Objects::default();
        objects.key(&candidate.box_key);
        let mut all = vec![root.box_keys().public(), &candidate.box_key];
        for recipient in recipients {
            all.push(recipient);
        }
        let mut op = Op::Recover {
            generation,
            device: candidate.enrol(keys.newest(), name, dice)?,
            removals,
            person_box: objects.key(keys.newest().box_keys().public()),
            boxes: self.boxes(keys.generation(), keys.newest(), all, &mut objects, dice),
            back: back(keys)?,
            root_sig: UNSIGNED,
        };
        let signature = root.sign(&op.signed_bytes());
        if let Op::Recover { root_sig, .. } = &mut op {
            *root_sig = signature;
        }
        Ok(self.write(op, objects))
    }

    /// Puts a new phrase in the place of the old one and starts the next generation of slots. The PUK stays and is
    /// sealed to the new root.
    pub fn set_root<R: CryptoRng + ?Sized>(
        self,
        old: &Root,
        new: &Root,
        generation: u32,
        keys: &PersonKeys,
        dice: &mut R,
    ) -> Made {
        let mut objects = Objects::default();
        let public = new.box_keys().public();
        let mut op = Op::SetRoot {
            root: new.verifying_key(),
            root_box: objects.key(public),
            generation,
            boxes: self.boxes(keys.generation(), keys.newest(), [public], &mut objects, dice),
            old_sig: UNSIGNED,
            new_sig: UNSIGNED,
        };
        let signed = op.change_bytes(&self.person, &self.device.verifying_key());
        let (by_old, by_new) = (old.sign(&signed), new.sign(&signed));
        if let Op::SetRoot { old_sig, new_sig, .. } = &mut op {
            (*old_sig, *new_sig) = (by_old, by_new);
        }
        self.write(op, objects)
    }

    /// Names the home space. Only the first such entry of a person counts.
    pub fn set_home(self, space: SpaceId) -> Made {
        self.write(Op::SetHome { space }, Objects::default())
    }

    fn boxes<'k, R: CryptoRng + ?Sized>(
        &self,
        n: u32,
        key: &PersonKey,
        recipients: impl IntoIterator<Item = &'k BoxPublicKey>,
        objects: &mut Objects,
        dice: &mut R,
    ) -> Vec<ObjectHash> {
        let author = self.device.verifying_key();
        recipients
            .into_iter()
            .map(|recipient| objects.add(seal_key_box(&self.person, n, &author, key, recipient, dice)))
            .collect()
    }

    fn write(self, op: Op, objects: Objects) -> Made {
        let Place { seq, prev, hlc, deps } = self.place;
        let body = Body { hlc, deps, ops: vec![op] };
        let (id, entry) = Entry::write(&self.person, self.device.signing(), seq, &prev, &body);
        Made { id, entry, objects: objects.0 }
    }
}

/// What a recovery by the phrase carries.
pub struct Recovery<'a> {
    /// The next generation of the rendezvous slots.
    pub generation: u32,
    /// Name of the new device.
    pub name: &'a str,
    /// Who goes.
    pub removals: Vec<Removal>,
    /// The person's keys, ending with the new PUK.
    pub keys: &'a PersonKeys,
}

#[derive(Default)]
struct Objects(Vec<(ObjectHash, Vec<u8>)>);

impl Objects {
    fn add(&mut self, bytes: Vec<u8>) -> ObjectHash {
        let name = ObjectHash(*blake3::hash(&bytes).as_bytes());
        self.0.push((name, bytes));
        name
    }

    fn key(&mut self, key: &BoxPublicKey) -> ObjectHash {
        self.add(key.as_bytes().to_vec())
    }
}

fn back(keys: &PersonKeys) -> Result<[u8; crate::person::PUK_BACK_LEN], Refusal> {
    let before = keys.generation().checked_sub(1).and_then(|n| keys.get(n)).ok_or(Refusal::Key)?;
    Ok(seal_back(keys.newest(), before))
}
