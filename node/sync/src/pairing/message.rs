//! What the two ends say inside the channel.

use locker_crypto::Refusal;
use locker_crypto::capability::Capability;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{PersonId, VerifyingKey};
use locker_crypto::identity::{DeviceKeys, Slot};
use locker_crypto::person::{Candidate, DEVICE_NAME_LEN_MAX};
use locker_crypto::sealed_box::BoxPublicKey;
use locker_crypto::secret::{PersonKey, RendezvousMaster, RendezvousSecret};
use locker_crypto::sign::Signature;
use zeroize::{Zeroize, Zeroizing};

use crate::message::{Frame, encode_frame};

const NAME: u8 = 32;
const CONFIRM: u8 = 33;
const WELCOME: u8 = 34;
const ENROL: u8 = 35;
const GRANT: u8 = 36;
const DONE: u8 = 37;

/// What a device becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A device of the person.
    Full,
    /// A guest that reads one space.
    Player,
    /// A store without keys.
    BlindStore,
}

impl Role {
    const fn code(self) -> u64 {
        match self {
            Self::Full => 1,
            Self::Player => 2,
            Self::BlindStore => 3,
        }
    }

    const fn from_code(code: u64) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Self::Full),
            2 => Ok(Self::Player),
            3 => Ok(Self::BlindStore),
            _ => Err(Refusal::Canon),
        }
    }
}

/// Who wants to join, as the old device shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// What the device wants to become.
    pub role: Role,
    /// How it calls itself, at most 255 bytes.
    pub name: String,
}

/// The keys of the new device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrol {
    /// What it becomes.
    pub role: Role,
    /// device_vk.
    pub device: VerifyingKey,
    /// The key that boxes for it are sealed to.
    pub device_box: BoxPublicKey,
    /// How it calls itself.
    pub name: String,
    /// By the device over PersonId, device_vk and the hash of its box key.
    pub pop: Signature,
}

impl Enrol {
    /// Makes what a new device sends once it knows whom it joins ([`super::NewStep::Welcome`]).
    pub fn new(role: Role, name: &str, person: &PersonId, keys: &DeviceKeys) -> Self {
        let Candidate { device, box_key, pop_sig } = Candidate::new(person, keys);
        Self { role, device, device_box: box_key, name: name.to_owned(), pop: pop_sig }
    }

    /// Returns the candidate for `add_device`, which checks the signature.
    pub fn candidate(&self) -> Candidate {
        Candidate { device: self.device, box_key: self.device_box.clone(), pop_sig: self.pop }
    }
}

/// What the new device gets. Wiped when dropped, as far as it is secret; has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it becomes.
    pub role: Role,
    /// The person log, with the `add_device` of this device, in an order in which every entry fits.
    pub person_log: Vec<Vec<u8>>,
    /// `PUK[n]` and n. The older ones follow from it.
    pub person_key: Option<(u32, PersonKey)>,
    /// `rdv_master[g]` and g.
    pub master: Option<(u32, RendezvousMaster)>,
    /// The replicas: slot and device.
    pub replicas: Vec<(Slot, VerifyingKey)>,
    /// Boxes and keys that the log and the spaces name.
    pub objects: Vec<Vec<u8>>,
    /// What a blind store gets, and nobody else; it gets no key.
    pub custody: Option<Custody>,
}

/// What makes a device a blind store: under which slot it is found, how much it keeps and how long, and the token that
/// says so.
#[derive(Clone, PartialEq, Eq)]
pub struct Custody {
    /// The slot.
    pub slot: Slot,
    /// `rdv_replica[j]` of it.
    pub secret: RendezvousSecret,
    /// Bytes that may be kept; 0 for as many as fit.
    pub quota: u64,
    /// Days of running for which a pack stays that nobody pins.
    pub keep_days: u32,
    /// With REPLICATE, for this device.
    pub token: Capability,
}

/// A message inside the channel.
pub(super) enum Message {
    Name(Name),
    Confirm,
    Welcome(PersonId),
    Enrol(Box<Enrol>),
    Grant(Box<Grant>),
    Done,
}

impl Message {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new();
        let kind = match self {
            Self::Name(Name { role, name }) => {
                out.array(2).u64(role.code()).text(name);
                NAME
            }
            Self::Confirm => CONFIRM,
            Self::Welcome(person) => {
                out.bytes(person.as_bytes());
                WELCOME
            }
            Self::Enrol(enrol) => {
                out.array(5).u64(enrol.role.code()).bytes(enrol.device.as_bytes());
                out.bytes(enrol.device_box.as_bytes()).text(&enrol.name).bytes(&enrol.pop);
                ENROL
            }
            Self::Grant(grant) => {
                write_grant(grant, &mut out);
                GRANT
            }
            Self::Done => DONE,
        };
        let body = Zeroizing::new(out.finish());
        Zeroizing::new(encode_frame(kind, &body))
    }

    pub(super) fn decode(frame: Frame) -> Result<Self, Refusal> {
        let body = Zeroizing::new(frame.body);
        let mut from = Reader::new(&body);
        let message = match frame.kind {
            NAME => {
                from.array_of(2)?;
                Self::Name(Name { role: Role::from_code(from.u64()?)?, name: read_name(&mut from)? })
            }
            CONFIRM => Self::Confirm,
            WELCOME => Self::Welcome(PersonId(from.fixed()?)),
            ENROL => {
                from.array_of(5)?;
                Self::Enrol(Box::new(Enrol {
                    role: Role::from_code(from.u64()?)?,
                    device: VerifyingKey(from.fixed()?),
                    device_box: BoxPublicKey::from_slice(from.bytes()?)?,
                    name: read_name(&mut from)?,
                    pop: from.fixed()?,
                }))
            }
            GRANT => Self::Grant(Box::new(read_grant(&mut from)?)),
            DONE => Self::Done,
            _ => return Err(Refusal::Canon),
        };
        from.finish()?;
        Ok(message)
    }
}

fn read_name(from: &mut Reader<'_>) -> Result<String, Refusal> {
    let name = from.text()?;
    if name.len() > DEVICE_NAME_LEN_MAX { Err(Refusal::Limit) } else { Ok(name.to_owned()) }
}

fn write_grant(grant: &Grant, out: &mut Writer) {
    let len = 6 + usize::from(grant.custody.is_some());
    out.array(len).u64(grant.role.code()).array(grant.person_log.len());
    grant.person_log.iter().for_each(|entry| _ = out.bytes(entry));
    match &grant.person_key {
        Some((n, key)) => out.array(2).u64((*n).into()).bytes(key.expose()),
        None => out.array(0),
    };
    match &grant.master {
        Some((generation, master)) => out.array(2).u64((*generation).into()).bytes(master.expose()),
        None => out.array(0),
    };
    out.array(grant.replicas.len());
    for (slot, device) in &grant.replicas {
        out.array(2).u64(slot.index().into()).bytes(device.as_bytes());
    }
    out.array(grant.objects.len());
    grant.objects.iter().for_each(|object| _ = out.bytes(object));
    if let Some(custody) = &grant.custody {
        out.array(5).u64(custody.slot.index().into()).bytes(custody.secret.expose()).u64(custody.quota);
        out.u64(custody.keep_days.into()).bytes(&custody.token.encode());
    }
}

fn read_grant(from: &mut Reader<'_>) -> Result<Grant, Refusal> {
    let len = from.array()?;
    let role = Role::from_code(from.u64()?)?;
    if len != 6 + usize::from(role == Role::BlindStore) {
        return Err(Refusal::Canon);
    }
    let person_log = read_list(from)?;
    let person_key = read_numbered(from)?.map(|(n, key)| (n, PersonKey::new(*key)));
    let master = read_numbered(from)?.map(|(n, master)| (n, RendezvousMaster::new(*master)));
    let mut replicas = Vec::new();
    for _ in 0..from.array()? {
        from.array_of(2)?;
        replicas.push((Slot::new(from.u32()?)?, VerifyingKey(from.fixed()?)));
    }
    let objects = read_list(from)?;
    let custody = match role {
        Role::BlindStore => Some(read_custody(from)?),
        Role::Full | Role::Player => None,
    };
    // Whoever keeps blindly is given no key, whatever the other end says.
    if custody.is_some() && (person_key.is_some() || master.is_some() || !replicas.is_empty()) {
        return Err(Refusal::Canon);
    }
    Ok(Grant { role, person_log, person_key, master, replicas, objects, custody })
}

fn read_custody(from: &mut Reader<'_>) -> Result<Custody, Refusal> {
    from.array_of(5)?;
    let slot = Slot::new(from.u32()?)?;
    if !slot.is_replica() {
        return Err(Refusal::Canon);
    }
    let mut secret: [u8; 32] = from.fixed()?;
    let kept = RendezvousSecret::new(secret);
    secret.zeroize();
    let (quota, keep_days) = (from.u64()?, from.u32()?);
    let token = Capability::decode(from.bytes()?)?;
    Ok(Custody { slot, secret: kept, quota, keep_days, token })
}

/// A secret and its generation.
type Numbered = (u32, Zeroizing<[u8; 32]>);

fn read_numbered(from: &mut Reader<'_>) -> Result<Option<Numbered>, Refusal> {
    match from.array()? {
        0 => Ok(None),
        2 => {
            let n = from.u32()?;
            let mut secret: [u8; 32] = from.fixed()?;
            let kept = Zeroizing::new(secret);
            secret.zeroize();
            Ok(Some((n, kept)))
        }
        _ => Err(Refusal::Canon),
    }
}

fn read_list(from: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut list = Vec::new();
    for _ in 0..from.array()? {
        list.push(from.bytes()?.to_vec());
    }
    Ok(list)
}
