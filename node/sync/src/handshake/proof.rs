//! Proofs of possession: what a client shows in PROOF.

use locker_crypto::Refusal;
use locker_crypto::capability::Capability;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{LinkTag, PersonId, VerifyingKey};
use locker_crypto::sign::{Domain, Signature, Signing, verify};

use super::Transcript;
use crate::limits::{SIGNATURES_MAX, TOKENS_MAX};

const DEVICE: u64 = 0;
const ROOT: u64 = 1;
const TOKEN: u64 = 2;
const LINK: u64 = 3;

/// Most proofs in a PROOF: one of a device or root, and one for each token.
const PROOFS_MAX: usize = 1 + TOKENS_MAX;

/// What a client can prove.
pub enum Credential<'a> {
    /// To be an active device of a person.
    Device {
        /// The person.
        person: PersonId,
        /// device_sign.
        device: &'a Signing,
    },
    /// To hold the phrase of a person. Whose it is follows from the key.
    Root {
        /// The current root key.
        root: &'a Signing,
    },
    /// To be the audience of a token.
    Token {
        /// The token.
        token: &'a Capability,
        /// Its audience.
        audience: &'a Signing,
    },
    /// To hold a link.
    Link {
        /// Its public name.
        tag: LinkTag,
        /// link_sign.
        link: &'a Signing,
    },
}

impl Credential<'_> {
    /// Signs the transcript.
    pub fn prove(&self, transcript: &Transcript) -> Proof {
        let pop = |key: &Signing, id: &[u8; 32]| key.sign(Domain::Pop, &pop_message(transcript, id));
        match self {
            Self::Device { person, device } => Proof::Device {
                person: *person,
                device: device.verifying_key(),
                pop: pop(device, person.as_bytes()),
            },
            Self::Root { root } => {
                let key = root.verifying_key();
                Proof::Root { root: key, pop: pop(root, key.as_bytes()) }
            }
            Self::Token { token, audience } => {
                Proof::Token { token: (*token).clone(), pop: pop(audience, token.id().as_bytes()) }
            }
            Self::Link { tag, link } => Proof::Link { tag: *tag, pop: pop(link, &link_id(tag)) },
        }
    }
}

/// One proof, as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// By a device.
    Device {
        /// The person whose device it claims to be.
        person: PersonId,
        /// The device.
        device: VerifyingKey,
        /// By the device over th and the person.
        pop: Signature,
    },
    /// By a root key.
    Root {
        /// The key: of a person whose phrase was never changed it is the PersonId.
        root: VerifyingKey,
        /// By this key over th and the key.
        pop: Signature,
    },
    /// By the audience of a token.
    Token {
        /// The token.
        token: Capability,
        /// By its audience over th and the id of the token.
        pop: Signature,
    },
    /// By the key of a link.
    Link {
        /// The public name of the link.
        tag: LinkTag,
        /// By link_sign over th and the name.
        pop: Signature,
    },
}

impl Proof {
    /// Checks the signature by `key` over the transcript: the device itself, the current root, the audience, the
    /// registered key of the link.
    ///
    /// # Errors
    /// [`Refusal::Pop`].
    pub fn check(&self, key: &VerifyingKey, transcript: &Transcript) -> Result<(), Refusal> {
        let (id, pop) = match self {
            Self::Device { person, pop, .. } => (*person.as_bytes(), pop),
            Self::Root { root, pop } => (*root.as_bytes(), pop),
            Self::Token { token, pop } => (*token.id().as_bytes(), pop),
            Self::Link { tag, pop } => (link_id(tag), pop),
        };
        verify(key, Domain::Pop, &pop_message(transcript, &id), pop).map_err(|_| Refusal::Pop)
    }

    fn signatures(&self) -> usize {
        match self {
            Self::Token { token, .. } => 1 + token.blocks().len(),
            Self::Link { .. } => 1 + locker_crypto::capability::BLOCKS_MAX,
            Self::Device { .. } | Self::Root { .. } => 1,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Device { person, device, pop } => {
                out.array(4).u64(DEVICE).bytes(person.as_bytes()).bytes(device.as_bytes()).bytes(pop)
            }
            Self::Root { root, pop } => out.array(3).u64(ROOT).bytes(root.as_bytes()).bytes(pop),
            Self::Token { token, pop } => out.array(3).u64(TOKEN).bytes(&token.encode()).bytes(pop),
            Self::Link { tag, pop } => out.array(3).u64(LINK).bytes(tag.as_bytes()).bytes(pop),
        };
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Refusal> {
        let len = from.array()?;
        Ok(match (from.u64()?, len) {
            (DEVICE, 4) => Self::Device {
                person: PersonId(from.fixed()?),
                device: VerifyingKey(from.fixed()?),
                pop: from.fixed()?,
            },
            (ROOT, 3) => Self::Root { root: VerifyingKey(from.fixed()?), pop: from.fixed()? },
            (TOKEN, 3) => Self::Token { token: Capability::decode(from.bytes()?)?, pop: from.fixed()? },
            (LINK, 3) => Self::Link { tag: LinkTag(from.fixed()?), pop: from.fixed()? },
            _ => return Err(Refusal::Canon),
        })
    }
}

/// What a client showed in PROOF, and for which handshake. Judged by [`Proofs::judge`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proofs {
    pub(super) transcript: Transcript,
    pub(super) list: Vec<Proof>,
}

impl Proofs {
    /// Returns the proofs, in the order of the frame.
    pub fn list(&self) -> &[Proof] {
        &self.list
    }

    pub(super) fn encode(list: &[Proof]) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(list.len());
        list.iter().for_each(|proof| proof.encode(&mut out));
        out.finish()
    }

    /// Reads a list of at least one proof that stays within the limits of tokens and signatures.
    pub(super) fn decode(content: &[u8], transcript: Transcript) -> Result<Self, Refusal> {
        let mut from = Reader::new(content);
        let count = from.array()?;
        if count > PROOFS_MAX {
            return Err(Refusal::Limit);
        }
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(Proof::decode(&mut from)?);
        }
        from.finish()?;
        let tokens = list.iter().filter(|p| matches!(p, Proof::Token { .. } | Proof::Link { .. })).count();
        let signatures: usize = list.iter().map(Proof::signatures).sum();
        if tokens > TOKENS_MAX || signatures > SIGNATURES_MAX {
            return Err(Refusal::Limit);
        }
        if list.is_empty() || list.len() - tokens > 1 {
            return Err(Refusal::Canon);
        }
        Ok(Self { transcript, list })
    }
}

fn link_id(tag: &LinkTag) -> [u8; 32] {
    let mut id = [0; 32];
    id[..LinkTag::LEN].copy_from_slice(tag.as_bytes());
    id
}

fn pop_message(transcript: &Transcript, id: &[u8; 32]) -> [u8; 64] {
    let mut message = [0; 64];
    message[..32].copy_from_slice(transcript.as_bytes());
    message[32..].copy_from_slice(id);
    message
}
