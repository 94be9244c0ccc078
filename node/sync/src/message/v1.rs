//! The messages of a session, version 1 of `/locker/sync` (`docs/spec/12-sync.md`, section 2).
//!
//! Bodies are canonical arrays; the bodies of ENTRY and PINS are the bytes of the entry or delta themselves. Decoding
//! accepts one form only, and so what it accepts encodes to the same bytes. Nothing here says whether a message is
//! allowed: that is [`crate::scope`].

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{EpochId, LinkTag, ObjectHash, PackHash, PersonId, SpaceTag, VerifyingKey};
use locker_crypto::identity::Slot;
use locker_crypto::person::{Candidate, DEVICE_NAME_LEN_MAX, Succession};
use locker_crypto::sealed_box::BoxPublicKey;
use locker_crypto::secret::RendezvousSecret;

use super::frame::{Frame, encode_frame, kind};
use crate::limits::{AUTHORS_MAX, PACKS_PER_MESSAGE_MAX, PIN_HEADS_MAX};

/// Which of the logs that bear a tag, in the order in which news of them is sent: whom a device belongs to decides what
/// its items are worth, and who has an entry knows which packs belong to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LogKind {
    /// Entries of a person log.
    Person,
    /// Pin deltas of a space.
    Pins,
    /// Entries of a space.
    Entries,
}

impl LogKind {
    const fn code(self) -> u64 {
        match self {
            Self::Entries => 0,
            Self::Pins => 1,
            Self::Person => 2,
        }
    }

    const fn from_code(code: u64) -> Result<Self, Refusal> {
        match code {
            0 => Ok(Self::Entries),
            1 => Ok(Self::Pins),
            2 => Ok(Self::Person),
            _ => Err(Refusal::Canon),
        }
    }
}

/// The newest item of one author in a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Head {
    /// The author.
    pub author: VerifyingKey,
    /// Its number.
    pub seq: u64,
    /// Its id: of an entry, a person-log entry or a pin delta.
    pub id: [u8; 32],
}

/// How far a node is in the logs under one tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontier {
    /// A space, or a person log.
    pub tag: SpaceTag,
    /// The newest entry of every author, sorted by author; all of them.
    pub heads: Vec<Head>,
    /// The newest pin delta of some authors, sorted by author.
    pub pins: Vec<Head>,
    /// The sender's clock, unix milliseconds.
    pub now_ms: u64,
}

/// A request for a part of one author's chain, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pull {
    /// Of which log.
    pub kind: LogKind,
    /// Under which tag.
    pub tag: SpaceTag,
    /// Whose.
    pub author: VerifyingKey,
    /// The first number.
    pub from: u64,
    /// The last number.
    pub to: u64,
}

/// A request for something that lies beside the logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ask {
    /// An object that is named in a log in scope.
    Object(ObjectHash),
    /// The capsule of a link.
    Capsule(LinkTag),
    /// All box bundles of an epoch.
    Boxes(SpaceTag, EpochId),
}

/// A device that found out that another home has, or had, its key, and asks to be brought in under a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Succeed {
    /// The new key, and the signatures of both.
    pub succession: Succession,
    /// How the device calls itself, at most 255 bytes.
    pub name: String,
}

/// What a blind store says of its room in one space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// The space.
    pub tag: SpaceTag,
    /// Bytes that it keeps.
    pub used: u64,
    /// Bytes that it may keep; 0 for as many as fit.
    pub quota: u64,
    /// Packs that it would keep and has no room for.
    pub refused: u64,
    /// Of which generation its slot is.
    pub generation: u32,
}

/// The slot under which a blind store is to be found: a new phrase, or a recovery, began a generation.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSecret {
    /// The space that it stores.
    pub tag: SpaceTag,
    /// The generation.
    pub generation: u32,
    /// Which slot.
    pub slot: Slot,
    /// `rdv_replica[j]` of this generation.
    pub secret: RendezvousSecret,
}

impl std::fmt::Debug for SlotSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotSecret").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// A message of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Heads, on start and every 10 minutes.
    Frontier(Frontier),
    /// A request for entries.
    Pull(Pull),
    /// The bytes of an entry.
    Entry(Vec<u8>),
    /// These are stored durably.
    Ack {
        /// The space or person log.
        tag: SpaceTag,
        /// The newest number of each author, sorted by author.
        heads: Vec<(VerifyingKey, u64)>,
    },
    /// So many more bytes of entries and objects may be sent.
    Credit(u64),
    /// An object; its hash is not checked by decoding.
    Object {
        /// BLAKE3 of the bytes.
        hash: ObjectHash,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Entries of one author of a person log, in the order of their numbers.
    Person {
        /// Whose log.
        person: PersonId,
        /// At least one entry.
        entries: Vec<Vec<u8>>,
    },
    /// Packs that the sender wants.
    Want(SpaceTag, Vec<PackHash>),
    /// Packs that the sender holds.
    Have(SpaceTag, Vec<PackHash>),
    /// The bytes of a pin delta.
    Pins(Vec<u8>),
    /// The sender ends the session in order.
    Bye(u64),
    /// A request for an object.
    Ask(Ask),
    /// A deposit envelope is stored durably.
    Stored(ObjectHash),
    /// The sender asks to go on under a new key.
    Succeed(Box<Succeed>),
    /// How much room the sender has.
    Room(Room),
    /// Under which slot the receiver is to be found.
    Slot(Box<SlotSecret>),
}

impl Message {
    /// Reads the message of a frame.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for another form, an unknown type, an empty list or one that is not sorted;
    /// [`Refusal::Limit`] for a list that is too long.
    pub fn decode(frame: Frame) -> Result<Self, Refusal> {
        let Frame { kind, body } = frame;
        match kind {
            kind::ENTRY => return Ok(Self::Entry(body)),
            kind::PINS => return Ok(Self::Pins(body)),
            _ => {}
        }
        let mut from = Reader::new(&body);
        let message = match kind {
            kind::FRONTIER => Self::Frontier(read_frontier(&mut from)?),
            kind::PULL => Self::Pull(read_pull(&mut from)?),
            kind::ACK => read_ack(&mut from)?,
            kind::CREDIT => Self::Credit(from.u64()?),
            kind::OBJECT => {
                from.array_of(2)?;
                Self::Object { hash: ObjectHash(from.fixed()?), bytes: from.bytes()?.to_vec() }
            }
            kind::PERSON => read_person(&mut from)?,
            kind::WANT => {
                let (tag, packs) = read_packs(&mut from)?;
                Self::Want(tag, packs)
            }
            kind::HAVE => {
                let (tag, packs) = read_packs(&mut from)?;
                Self::Have(tag, packs)
            }
            kind::BYE => Self::Bye(from.u64()?),
            kind::ASK => Self::Ask(read_ask(&mut from)?),
            kind::STORED => Self::Stored(ObjectHash(from.fixed()?)),
            kind::SUCCEED => Self::Succeed(Box::new(read_succeed(&mut from)?)),
            kind::ROOM => {
                from.array_of(5)?;
                let tag = SpaceTag(from.fixed()?);
                let (used, quota, refused) = (from.u64()?, from.u64()?, from.u64()?);
                Self::Room(Room { tag, used, quota, refused, generation: from.u32()? })
            }
            kind::SLOT => {
                from.array_of(4)?;
                let (tag, generation) = (SpaceTag(from.fixed()?), from.u32()?);
                let slot = Slot::new(from.u32()?).ok().filter(|slot| slot.is_replica());
                let slot = slot.ok_or(Refusal::Canon)?;
                let secret = RendezvousSecret::new(from.fixed()?);
                Self::Slot(Box::new(SlotSecret { tag, generation, slot, secret }))
            }
            _ => return Err(Refusal::Canon),
        };
        from.finish()?;
        Ok(message)
    }

    /// Writes the message as a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let kind = match self {
            Self::Entry(bytes) => return encode_frame(kind::ENTRY, bytes),
            Self::Pins(bytes) => return encode_frame(kind::PINS, bytes),
            Self::Frontier(frontier) => {
                write_frontier(frontier, &mut out);
                kind::FRONTIER
            }
            Self::Pull(pull) => {
                out.array(5).u64(pull.kind.code()).bytes(pull.tag.as_bytes()).bytes(pull.author.as_bytes());
                out.u64(pull.from).u64(pull.to);
                kind::PULL
            }
            Self::Ack { tag, heads } => {
                out.array(2).bytes(tag.as_bytes()).array(heads.len());
                for (author, seq) in heads {
                    out.array(2).bytes(author.as_bytes()).u64(*seq);
                }
                kind::ACK
            }
            Self::Credit(bytes) => {
                out.u64(*bytes);
                kind::CREDIT
            }
            Self::Object { hash, bytes } => {
                out.array(2).bytes(hash.as_bytes()).bytes(bytes);
                kind::OBJECT
            }
            Self::Person { person, entries } => {
                out.array(2).bytes(person.as_bytes()).array(entries.len());
                entries.iter().for_each(|entry| _ = out.bytes(entry));
                kind::PERSON
            }
            Self::Want(tag, packs) => {
                write_packs(tag, packs, &mut out);
                kind::WANT
            }
            Self::Have(tag, packs) => {
                write_packs(tag, packs, &mut out);
                kind::HAVE
            }
            Self::Bye(reason) => {
                out.u64(*reason);
                kind::BYE
            }
            Self::Ask(ask) => {
                match ask {
                    Ask::Object(hash) => out.array(2).u64(0).bytes(hash.as_bytes()),
                    Ask::Capsule(link) => out.array(2).u64(1).bytes(link.as_bytes()),
                    Ask::Boxes(tag, epoch) => {
                        out.array(3).u64(2).bytes(tag.as_bytes()).bytes(epoch.as_bytes())
                    }
                };
                kind::ASK
            }
            Self::Stored(hash) => {
                out.bytes(hash.as_bytes());
                kind::STORED
            }
            Self::Succeed(succeed) => {
                let Succession { candidate, old, old_sig } = &succeed.succession;
                out.array(6).text(&succeed.name).bytes(candidate.device.as_bytes());
                out.bytes(candidate.box_key.as_bytes()).bytes(&candidate.pop_sig);
                out.bytes(old.as_bytes()).bytes(old_sig);
                kind::SUCCEED
            }
            Self::Room(Room { tag, used, quota, refused, generation }) => {
                out.array(5).bytes(tag.as_bytes()).u64(*used).u64(*quota).u64(*refused);
                out.u64((*generation).into());
                kind::ROOM
            }
            Self::Slot(slot) => {
                out.array(4).bytes(slot.tag.as_bytes()).u64(slot.generation.into());
                out.u64(slot.slot.index().into()).bytes(slot.secret.expose());
                kind::SLOT
            }
        };
        encode_frame(kind, &out.finish())
    }
}

fn read_frontier(from: &mut Reader<'_>) -> Result<Frontier, Refusal> {
    from.array_of(4)?;
    let tag = SpaceTag(from.fixed()?);
    let heads = read_heads(from, AUTHORS_MAX)?;
    let pins = read_heads(from, PIN_HEADS_MAX)?;
    Ok(Frontier { tag, heads, pins, now_ms: from.u64()? })
}

fn write_frontier(frontier: &Frontier, out: &mut Writer) {
    out.array(4).bytes(frontier.tag.as_bytes());
    for heads in [&frontier.heads, &frontier.pins] {
        out.array(heads.len());
        for head in heads {
            out.array(3).bytes(head.author.as_bytes()).u64(head.seq).bytes(&head.id);
        }
    }
    out.u64(frontier.now_ms);
}

fn read_heads(from: &mut Reader<'_>, most: usize) -> Result<Vec<Head>, Refusal> {
    read_sorted(
        from,
        most,
        |from| {
            from.array_of(3)?;
            Ok(Head { author: VerifyingKey(from.fixed()?), seq: from.u64()?, id: from.fixed()? })
        },
        |head| head.author,
    )
}

fn read_pull(from: &mut Reader<'_>) -> Result<Pull, Refusal> {
    from.array_of(5)?;
    let pull = Pull {
        kind: LogKind::from_code(from.u64()?)?,
        tag: SpaceTag(from.fixed()?),
        author: VerifyingKey(from.fixed()?),
        from: from.u64()?,
        to: from.u64()?,
    };
    if pull.from <= pull.to { Ok(pull) } else { Err(Refusal::Canon) }
}

fn read_ack(from: &mut Reader<'_>) -> Result<Message, Refusal> {
    from.array_of(2)?;
    let tag = SpaceTag(from.fixed()?);
    let heads = read_sorted(
        from,
        AUTHORS_MAX,
        |from| {
            from.array_of(2)?;
            Ok((VerifyingKey(from.fixed()?), from.u64()?))
        },
        |head| head.0,
    )?;
    if heads.is_empty() { Err(Refusal::Canon) } else { Ok(Message::Ack { tag, heads }) }
}

fn read_person(from: &mut Reader<'_>) -> Result<Message, Refusal> {
    from.array_of(2)?;
    let person = PersonId(from.fixed()?);
    let count = from.array()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(from.bytes()?.to_vec());
    }
    if entries.is_empty() { Err(Refusal::Canon) } else { Ok(Message::Person { person, entries }) }
}

fn read_packs(from: &mut Reader<'_>) -> Result<(SpaceTag, Vec<PackHash>), Refusal> {
    from.array_of(2)?;
    let tag = SpaceTag(from.fixed()?);
    let packs = read_sorted(from, PACKS_PER_MESSAGE_MAX, |from| from.fixed().map(PackHash), |pack| *pack)?;
    if packs.is_empty() { Err(Refusal::Canon) } else { Ok((tag, packs)) }
}

fn write_packs(tag: &SpaceTag, packs: &[PackHash], out: &mut Writer) {
    out.array(2).bytes(tag.as_bytes()).array(packs.len());
    packs.iter().for_each(|pack| _ = out.bytes(pack.as_bytes()));
}

fn read_ask(from: &mut Reader<'_>) -> Result<Ask, Refusal> {
    let len = from.array()?;
    match (len, from.u64()?) {
        (2, 0) => Ok(Ask::Object(ObjectHash(from.fixed()?))),
        (2, 1) => Ok(Ask::Capsule(LinkTag(from.fixed()?))),
        (3, 2) => Ok(Ask::Boxes(SpaceTag(from.fixed()?), EpochId(from.fixed()?))),
        _ => Err(Refusal::Canon),
    }
}

fn read_succeed(from: &mut Reader<'_>) -> Result<Succeed, Refusal> {
    from.array_of(6)?;
    let name = from.text()?;
    if name.len() > DEVICE_NAME_LEN_MAX {
        return Err(Refusal::Limit);
    }
    let candidate = Candidate {
        device: VerifyingKey(from.fixed()?),
        box_key: BoxPublicKey::from_slice(from.bytes()?)?,
        pop_sig: from.fixed()?,
    };
    let succession = Succession { candidate, old: VerifyingKey(from.fixed()?), old_sig: from.fixed()? };
    Ok(Succeed { succession, name: name.to_owned() })
}

/// Reads a list that is sorted by `key` without doubles. Memory grows with what is read, never with the length.
fn read_sorted<T, K: Ord>(
    from: &mut Reader<'_>,
    most: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Refusal>,
    key: impl Fn(&T) -> K,
) -> Result<Vec<T>, Refusal> {
    let count = from.array()?;
    if count > most {
        return Err(Refusal::Limit);
    }
    let mut list: Vec<T> = Vec::new();
    for _ in 0..count {
        let item = read(from)?;
        if list.last().is_some_and(|last| key(last) >= key(&item)) {
            return Err(Refusal::Canon);
        }
        list.push(item);
    }
    Ok(list)
}

#[cfg(test)]
pub(crate) mod tests;
