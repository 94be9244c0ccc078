//! The operations of a person log: fields, canonical bytes, and the signatures that stand inside them.

use crate::Refusal;
use crate::aead::{TAG_LEN, XNONCE_LEN};
use crate::encode::{Reader, Writer};
use crate::id::{EntryId, ObjectHash, PersonId, SpaceId, VerifyingKey};
use crate::person::PUK_BACK_LEN;
use crate::sign::{self, Domain, Signature};

/// Longest device name in bytes.
pub const DEVICE_NAME_LEN_MAX: usize = 255;

const SEALED_NAME_LEN_MIN: usize = XNONCE_LEN + TAG_LEN;
const SEALED_NAME_LEN_MAX: usize = SEALED_NAME_LEN_MIN + DEVICE_NAME_LEN_MAX;

/// How a device came in: `dev` of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The key that names the device.
    pub device: VerifyingKey,
    /// BLAKE3 of its box public key, an object beside the log.
    pub box_key: ObjectHash,
    /// The device's own signature: it has the key and joins this person.
    pub pop_sig: Signature,
    /// Its name, sealed for the person's devices ([`crate::person::open_name`]).
    pub sealed_name: Vec<u8>,
}

/// The last entry accepted from a removed device. Sequence number 0 with an id of zeros: none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontier {
    /// Sequence number of that entry.
    pub seq: u64,
    /// Its id.
    pub entry: EntryId,
}

impl Frontier {
    /// No entry was accepted.
    pub const NONE: Self = Self { seq: 0, entry: EntryId::ZERO };

    /// How many entries of the device are accepted.
    pub fn count(&self) -> u64 {
        if *self == Self::NONE { 0 } else { self.seq.saturating_add(1) }
    }

    /// Whether an entry of the device is accepted. At the frontier itself the id decides.
    pub fn covers(&self, seq: u64, entry: &EntryId) -> bool {
        seq < self.count() && (seq < self.seq || *entry == self.entry)
    }
}

/// One device and how far it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The device that goes.
    pub device: VerifyingKey,
    /// Its last accepted entry.
    pub frontier: Frontier,
}

/// An operation of a person log.
///
/// `boxes` are the names (BLAKE3) of the PUK boxes, kept as objects beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Code 1. The person begins, with a first device.
    Genesis {
        /// The first root key.
        person: PersonId,
        /// BLAKE3 of the root box public key.
        root_box: ObjectHash,
        /// The first device; it is the author.
        device: Enrolment,
        /// BLAKE3 of the public key of PUK[0].
        person_box: ObjectHash,
        /// Boxes of PUK[0].
        boxes: Vec<ObjectHash>,
        /// Root signature.
        root_sig: Signature,
    },
    /// Code 2. Another device joins.
    AddDevice {
        /// The device.
        device: Enrolment,
        /// The box of the current PUK for it.
        boxes: Vec<ObjectHash>,
    },
    /// Code 3. A device goes, and the PUK changes.
    RemoveDevice {
        /// Which, and how far it is believed.
        removal: Removal,
        /// BLAKE3 of the public key of the new PUK.
        person_box: ObjectHash,
        /// Boxes of the new PUK.
        boxes: Vec<ObjectHash>,
        /// The way back to the PUK before.
        back: [u8; PUK_BACK_LEN],
    },
    /// Code 4. The phrase brings in a device and may remove others.
    Recover {
        /// The next generation of the rendezvous slots.
        generation: u32,
        /// The device; it is the author.
        device: Enrolment,
        /// Who goes.
        removals: Vec<Removal>,
        /// BLAKE3 of the public key of the new PUK.
        person_box: ObjectHash,
        /// Boxes of the new PUK.
        boxes: Vec<ObjectHash>,
        /// The way back to the PUK before.
        back: [u8; PUK_BACK_LEN],
        /// Signature by the current root key.
        root_sig: Signature,
    },
    /// Code 5. A new phrase takes the place of the old one.
    SetRoot {
        /// The new root key.
        root: VerifyingKey,
        /// BLAKE3 of the new root box public key.
        root_box: ObjectHash,
        /// The next generation of the rendezvous slots.
        generation: u32,
        /// The box of the current PUK for the new root.
        boxes: Vec<ObjectHash>,
        /// Signature by the current root key.
        old_sig: Signature,
        /// Signature by the new root key.
        new_sig: Signature,
    },
    /// Code 6. Names the home space; the first one counts for ever.
    SetHome {
        /// The home space.
        space: SpaceId,
    },
    /// Code 7. A device joins in the place of one whose key more than one home has, or had: the same device, restored
    /// from a backup or copied.
    ReplaceDevice {
        /// The device under its new key.
        device: Enrolment,
        /// The box of the current PUK for it.
        boxes: Vec<ObjectHash>,
        /// The key that is not to be used any more.
        old: VerifyingKey,
        /// Signature by that key ([`Enrolment::succession_bytes`]).
        old_sig: Signature,
    },
    /// Code 8. The PUK changes, and nobody goes: the one in use is not that of exactly those who are there.
    RenewKey {
        /// BLAKE3 of the public key of the new PUK.
        person_box: ObjectHash,
        /// Boxes of the new PUK.
        boxes: Vec<ObjectHash>,
        /// The way back to the PUK before.
        back: [u8; PUK_BACK_LEN],
    },
    /// Any other code, kept as it came: made by a newer program, without effect here.
    Unknown(
        /// The whole operation in canonical bytes.
        Vec<u8>,
    ),
}

/// Which form of the signature fields is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signatures {
    Kept,
    Empty,
}

impl Op {
    /// Writes the operation in canonical form.
    pub fn encode(&self, out: &mut Writer) {
        self.write(out, Signatures::Kept);
    }

    /// Returns what both roots sign in a `set_root`: the person, who writes it, and the operation with its signature fields empty.
    /// Nobody else can take the words for his own, since whoever holds them and nothing more believes a log that they name; and
    /// no other device can write it again as its own.
    pub fn change_bytes(&self, person: &PersonId, author: &VerifyingKey) -> Vec<u8> {
        [person.as_bytes().as_slice(), author.as_bytes(), &self.signed_bytes()].concat()
    }

    /// Returns what `root_sig` signs: the operation with its signature field empty.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out, Signatures::Empty);
        out.finish()
    }

    /// Reads one operation.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if it is not in canonical form or a known code has other fields; [`Refusal::Limit`] if a
    /// name or an array is too long.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, Refusal> {
        let item = from.item()?;
        let mut fields = Reader::new(item);
        let len = fields.array()?;
        let code = fields.u64()?;
        if !(1..=8).contains(&code) {
            return Ok(Op::Unknown(item.to_vec()));
        }
        let op = match (code, len) {
            (1, 7) => Op::Genesis {
                person: PersonId(fields.fixed()?),
                root_box: ObjectHash(fields.fixed()?),
                device: Enrolment::decode(&mut fields)?,
                person_box: ObjectHash(fields.fixed()?),
                boxes: decode_names(&mut fields)?,
                root_sig: fields.fixed()?,
            },
            (2, 3) => {
                Op::AddDevice { device: Enrolment::decode(&mut fields)?, boxes: decode_names(&mut fields)? }
            }
            (3, 7) => Op::RemoveDevice {
                removal: Removal::decode_fields(&mut fields)?,
                person_box: ObjectHash(fields.fixed()?),
                boxes: decode_names(&mut fields)?,
                back: fields.fixed()?,
            },
            (4, 8) => Op::Recover {
                generation: fields.u32()?,
                device: Enrolment::decode(&mut fields)?,
                removals: decode_removals(&mut fields)?,
                person_box: ObjectHash(fields.fixed()?),
                boxes: decode_names(&mut fields)?,
                back: fields.fixed()?,
                root_sig: fields.fixed()?,
            },
            (5, 7) => Op::SetRoot {
                root: VerifyingKey(fields.fixed()?),
                root_box: ObjectHash(fields.fixed()?),
                generation: fields.u32()?,
                boxes: decode_names(&mut fields)?,
                old_sig: fields.fixed()?,
                new_sig: fields.fixed()?,
            },
            (6, 2) => Op::SetHome { space: SpaceId(fields.fixed()?) },
            (7, 5) => Op::ReplaceDevice {
                device: Enrolment::decode(&mut fields)?,
                boxes: decode_names(&mut fields)?,
                old: VerifyingKey(fields.fixed()?),
                old_sig: fields.fixed()?,
            },
            (8, 4) => Op::RenewKey {
                person_box: ObjectHash(fields.fixed()?),
                boxes: decode_names(&mut fields)?,
                back: fields.fixed()?,
            },
            _ => return Err(Refusal::Canon),
        };
        fields.finish()?;
        Ok(op)
    }

    /// Checks all that needs nothing but the entry: keys, the new device's own signature, the root signature of a
    /// genesis and the new root's of a `set_root`, that of the old key in a `replace_device`, and that a device that
    /// comes in as author is the author.
    ///
    /// # Errors
    /// [`Refusal::Key`] for an invalid key, [`Refusal::Pop`] for a device that did not sign its enrolment in this
    /// person, [`Refusal::Sig`] for a root signature, [`Refusal::Chain`] for a genesis or `recover` at another place
    /// than seq 0 of its device, [`Refusal::Scope`] for a genesis of another person, [`Refusal::Rights`] for a device
    /// that removes or replaces itself, [`Refusal::Sig`] for one that did not name the other as the one in its place.
    pub fn check(&self, person: &PersonId, author: &VerifyingKey, seq: u64) -> Result<(), Refusal> {
        match self {
            Op::Genesis { person: named, device, root_sig, .. } => {
                if named != person {
                    return Err(Refusal::Scope);
                }
                check_brings_author(device, author, seq)?;
                let root = VerifyingKey(person.0);
                sign::check_key(&root)?;
                device.check(person)?;
                sign::verify(&root, Domain::Root, &self.signed_bytes(), root_sig)
            }
            Op::AddDevice { device, .. } => device.check(person),
            Op::RemoveDevice { removal, .. } if removal.device == *author => Err(Refusal::Rights),
            Op::Recover { device, removals, .. } => {
                check_brings_author(device, author, seq)?;
                if removals.iter().any(|removal| removal.device == *author) {
                    return Err(Refusal::Rights);
                }
                device.check(person)
            }
            Op::SetRoot { root, new_sig, .. } => {
                sign::verify(root, Domain::Root, &self.change_bytes(person, author), new_sig)
            }
            Op::ReplaceDevice { device, old, old_sig, .. } => {
                if old == author || *old == device.device {
                    return Err(Refusal::Rights);
                }
                device.check(person)?;
                sign::verify(old, Domain::Successor, &device.succession_bytes(person, old), old_sig)
            }
            Op::RemoveDevice { .. } | Op::SetHome { .. } | Op::RenewKey { .. } | Op::Unknown(_) => Ok(()),
        }
    }

    /// Checks the signature of a `recover` or `set_root` of `author` by the root key that is current just before it. Any other
    /// operation needs none and passes.
    ///
    /// # Errors
    /// [`Refusal::Sig`] if `root` did not sign; [`Refusal::Key`] if it is no key.
    pub fn check_root(
        &self,
        root: &VerifyingKey,
        person: &PersonId,
        author: &VerifyingKey,
    ) -> Result<(), Refusal> {
        match self {
            Op::Recover { root_sig, .. } => sign::verify(root, Domain::Root, &self.signed_bytes(), root_sig),
            Op::SetRoot { old_sig, .. } => {
                sign::verify(root, Domain::Root, &self.change_bytes(person, author), old_sig)
            }
            _ => Ok(()),
        }
    }

    fn write(&self, out: &mut Writer, form: Signatures) {
        let signature = |out: &mut Writer, bytes: &Signature| {
            out.bytes(if form == Signatures::Kept { bytes } else { &[] });
        };
        match self {
            Op::Genesis { person, root_box, device, person_box, boxes, root_sig } => {
                out.array(7).u64(1).bytes(person.as_ref()).bytes(root_box.as_ref());
                device.encode(out);
                out.bytes(person_box.as_ref());
                encode_names(out, boxes);
                signature(out, root_sig);
            }
            Op::AddDevice { device, boxes } => {
                out.array(3).u64(2);
                device.encode(out);
                encode_names(out, boxes);
            }
            Op::RemoveDevice { removal, person_box, boxes, back } => {
                out.array(7).u64(3);
                removal.encode_fields(out);
                out.bytes(person_box.as_ref());
                encode_names(out, boxes);
                out.bytes(back);
            }
            Op::Recover { generation, device, removals, person_box, boxes, back, root_sig } => {
                out.array(8).u64(4).u64((*generation).into());
                device.encode(out);
                out.array(removals.len());
                for removal in removals {
                    out.array(3);
                    removal.encode_fields(out);
                }
                out.bytes(person_box.as_ref());
                encode_names(out, boxes);
                out.bytes(back);
                signature(out, root_sig);
            }
            Op::SetRoot { root, root_box, generation, boxes, old_sig, new_sig } => {
                out.array(7).u64(5).bytes(root.as_ref()).bytes(root_box.as_ref()).u64((*generation).into());
                encode_names(out, boxes);
                signature(out, old_sig);
                signature(out, new_sig);
            }
            Op::SetHome { space } => {
                out.array(2).u64(6).bytes(space.as_ref());
            }
            Op::ReplaceDevice { device, boxes, old, old_sig } => {
                out.array(5).u64(7);
                device.encode(out);
                encode_names(out, boxes);
                out.bytes(old.as_ref());
                signature(out, old_sig);
            }
            Op::RenewKey { person_box, boxes, back } => {
                out.array(4).u64(8).bytes(person_box.as_ref());
                encode_names(out, boxes);
                out.bytes(back);
            }
            Op::Unknown(item) => {
                out.raw(item);
            }
        }
    }
}

impl Enrolment {
    /// Returns what `pop_sig` signs: person, device key, name of the box key; 96 bytes.
    pub(super) fn signed_bytes(person: &PersonId, device: &VerifyingKey, box_key: &ObjectHash) -> [u8; 96] {
        let mut bytes = [0; 96];
        bytes[..32].copy_from_slice(person.as_bytes());
        bytes[32..64].copy_from_slice(device.as_bytes());
        bytes[64..].copy_from_slice(box_key.as_bytes());
        bytes
    }

    /// Returns what the key `old` signs when this device takes its place: what `pop_sig` signs, then `old`; 128 bytes.
    pub fn succession_bytes(&self, person: &PersonId, old: &VerifyingKey) -> [u8; 128] {
        succession_bytes(person, &self.device, &self.box_key, old)
    }

    /// Checks that the device itself joins `person` with this box key.
    ///
    /// # Errors
    /// [`Refusal::Key`] if its key is invalid, [`Refusal::Pop`] if it did not sign.
    pub fn check(&self, person: &PersonId) -> Result<(), Refusal> {
        let message = Self::signed_bytes(person, &self.device, &self.box_key);
        sign::verify(&self.device, Domain::Device, &message, &self.pop_sig).map_err(|why| match why {
            Refusal::Sig => Refusal::Pop,
            other => other,
        })
    }

    fn encode(&self, out: &mut Writer) {
        out.array(4)
            .bytes(self.device.as_ref())
            .bytes(self.box_key.as_ref())
            .bytes(&self.pop_sig)
            .bytes(&self.sealed_name);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Refusal> {
        from.array_of(4)?;
        let device = VerifyingKey(from.fixed()?);
        let box_key = ObjectHash(from.fixed()?);
        let pop_sig = from.fixed()?;
        let sealed_name = from.bytes()?;
        match sealed_name.len() {
            ..SEALED_NAME_LEN_MIN => Err(Refusal::Canon),
            SEALED_NAME_LEN_MIN..=SEALED_NAME_LEN_MAX => {
                Ok(Self { device, box_key, pop_sig, sealed_name: sealed_name.to_vec() })
            }
            _ => Err(Refusal::Limit),
        }
    }
}

impl Removal {
    fn encode_fields(&self, out: &mut Writer) {
        out.bytes(self.device.as_ref()).u64(self.frontier.seq).bytes(self.frontier.entry.as_ref());
    }

    fn decode_fields(from: &mut Reader<'_>) -> Result<Self, Refusal> {
        let device = VerifyingKey(from.fixed()?);
        let frontier = Frontier { seq: from.u64()?, entry: EntryId(from.fixed()?) };
        Ok(Self { device, frontier })
    }
}

pub(super) fn succession_bytes(
    person: &PersonId,
    device: &VerifyingKey,
    box_key: &ObjectHash,
    old: &VerifyingKey,
) -> [u8; 128] {
    let mut bytes = [0; 128];
    bytes[..96].copy_from_slice(&Enrolment::signed_bytes(person, device, box_key));
    bytes[96..].copy_from_slice(old.as_bytes());
    bytes
}

fn check_brings_author(device: &Enrolment, author: &VerifyingKey, seq: u64) -> Result<(), Refusal> {
    if device.device == *author && seq == 0 { Ok(()) } else { Err(Refusal::Chain) }
}

fn encode_names(out: &mut Writer, names: &[ObjectHash]) {
    out.array(names.len());
    for name in names {
        out.bytes(name.as_ref());
    }
}

fn decode_names(from: &mut Reader<'_>) -> Result<Vec<ObjectHash>, Refusal> {
    let len = from.array()?;
    (0..len).map(|_| from.fixed().map(ObjectHash)).collect()
}

fn decode_removals(from: &mut Reader<'_>) -> Result<Vec<Removal>, Refusal> {
    let len = from.array()?;
    (0..len)
        .map(|_| {
            from.array_of(3)?;
            Removal::decode_fields(from)
        })
        .collect()
}
