//! Who the other end is: knock, answer, proof, OK (`docs/spec/09-rendezvous.md`, section 2).
//!
//! | # | From | Frame | Machine |
//! |---|---|---|---|
//! | 1 | server | NONCE | [`Server::start`] |
//! | 2 | client | KNOCK, always 1,056 bytes | [`Client::receive`] |
//! | 3 | server | ANSWER, sealed | [`Server::receive`] |
//! | 4 | client | PROOF, sealed | [`Client::prove`] |
//! | 5 | server | OK, sealed | [`Server::admit`] |
//!
//! A stranger sees one nonce and learns nothing more: without a secret R that the server knows there is no answer,
//! and without R the answer does not open. Both transport keys are in the transcript, so that a knock passed on to
//! the real server by an impostor matches no R there.
//!
//! Misuse that breaks it: a nonce used for two connections; `TransportKeys` that are not those that the transport
//! proved.

mod client;
mod judge;
mod proof;
mod server;

pub use client::{Answered, Client, ClientStep, Expected, Welcome};
pub use judge::{Admission, Directory, LinkEntry, Person, Standing};
pub use proof::{Credential, Proof, Proofs};
pub use server::{Server, ServerStep, Showing};

use locker_crypto::Refusal;
use locker_crypto::aead::{self, NONCE_LEN, TAG_LEN};
use locker_crypto::capability::Rights;
use locker_crypto::derive::{Purpose, kdf};
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{NodeId, PersonId, SpaceTag, VerifyingKey};
use locker_crypto::secret::{AeadKey, RendezvousSecret};
use rand_core::CryptoRng;

/// Length of the body of a KNOCK.
pub const KNOCK_LEN: usize = Nonce::LEN + crate::limits::KNOCK_MACS * MAC_LEN;

const MAC_LEN: usize = 32;
const ANSWER_PAD: usize = 1_024;
const PAD_STEP: usize = 256;
const LENGTH_LEN: usize = 4;
const TRANSCRIPT_PREFIX: &[u8] = b"locker-v1 hs\0";

/// The keys that the transport proved of both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportKeys {
    /// Who accepted the connection.
    pub server: VerifyingKey,
    /// Who made it.
    pub client: VerifyingKey,
}

/// 32 random bytes that are used in one handshake only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce(pub [u8; 32]);

impl Nonce {
    const LEN: usize = 32;

    /// Draws a nonce.
    pub fn random<R: CryptoRng + ?Sized>(dice: &mut R) -> Self {
        let mut bytes = [0; Self::LEN];
        dice.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// th: names one handshake between two transport keys. Proofs of possession sign it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// Computes the transcript of a connection.
    pub fn new(keys: &TransportKeys, server: &Nonce, client: &Nonce) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TRANSCRIPT_PREFIX).update(keys.server.as_bytes()).update(keys.client.as_bytes());
        Self(*hasher.update(&server.0).update(&client.0).finalize().as_bytes())
    }

    /// Computes the transcript of a request over HTTPS, which has no transport keys: the origin stands for the
    /// server, zeros for the client.
    pub fn of_origin(origin: &str, server: &Nonce, client: &Nonce) -> Self {
        let server_key = VerifyingKey(*blake3::hash(origin.as_bytes()).as_bytes());
        Self::new(&TransportKeys { server: server_key, client: VerifyingKey::ZERO }, server, client)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the MAC by which a knock shows that it knows `secret`.
    fn mac(&self, secret: &RendezvousSecret) -> [u8; MAC_LEN] {
        kdf(Purpose::Knock, &[secret.expose(), &self.0])
    }
}

/// The keys of one handshake: each seals at most two frames.
#[derive(Clone)]
pub struct SessionKeys {
    server: AeadKey,
    client: AeadKey,
}

impl SessionKeys {
    /// Derives the keys of a handshake under R.
    pub fn new(secret: &RendezvousSecret, transcript: &Transcript) -> Self {
        let derive = |end: &[u8]| kdf(Purpose::Session, &[secret.expose(), transcript.as_bytes(), end]);
        Self { server: AeadKey::new(derive(b"s")), client: AeadKey::new(derive(b"c")) }
    }

    /// Returns the key of frames from the server.
    pub const fn server(&self) -> &AeadKey {
        &self.server
    }

    /// Returns the key of frames from the client.
    pub const fn client(&self) -> &AeadKey {
        &self.client
    }
}

/// A right that a session has in a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The space.
    pub tag: SpaceTag,
    /// What may be asked there.
    pub rights: Rights,
    /// Where WRITE and DEPOSIT hold; everywhere if there is none.
    pub folder: Option<NodeId>,
}

/// Length to which a body is padded.
#[derive(Clone, Copy)]
enum Padding {
    /// To 1,024 bytes.
    Answer,
    /// To the next multiple of 256.
    Step,
}

impl Padding {
    fn padded_len(self, content_len: usize) -> Result<usize, Refusal> {
        let len = LENGTH_LEN + content_len;
        match self {
            Self::Answer if len > ANSWER_PAD => Err(Refusal::Limit),
            Self::Answer => Ok(ANSWER_PAD),
            Self::Step => Ok(len.next_multiple_of(PAD_STEP)),
        }
    }
}

/// Seals `LE32 len || content || zeros`.
fn seal_body(
    key: &AeadKey,
    counter: u64,
    transcript: &Transcript,
    content: &[u8],
    padding: Padding,
) -> Result<Vec<u8>, Refusal> {
    let mut plain = vec![0; padding.padded_len(content.len())?];
    let len = u32::try_from(content.len()).map_err(|_| Refusal::Limit)?;
    plain[..LENGTH_LEN].copy_from_slice(&len.to_le_bytes());
    plain[LENGTH_LEN..LENGTH_LEN + content.len()].copy_from_slice(content);
    Ok(aead::seal(key.expose(), &counter_nonce(counter), transcript.as_bytes(), &plain))
}

/// Opens what [`seal_body`] made, and refuses any other padding.
fn open_body(
    key: &AeadKey,
    counter: u64,
    transcript: &Transcript,
    body: &[u8],
    padding: Padding,
) -> Result<Vec<u8>, Refusal> {
    let mut plain = aead::open(key.expose(), &counter_nonce(counter), transcript.as_bytes(), body)?;
    let (length, rest) = plain.split_first_chunk::<LENGTH_LEN>().ok_or(Refusal::Canon)?;
    let len = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Refusal::Canon)?;
    let zeros = rest.get(len..).ok_or(Refusal::Canon)?;
    if padding.padded_len(len)? != body.len() - TAG_LEN || zeros.iter().any(|byte| *byte != 0) {
        return Err(Refusal::Pad);
    }
    plain.truncate(LENGTH_LEN + len);
    plain.drain(..LENGTH_LEN);
    Ok(plain)
}

fn counter_nonce(counter: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// Writes the content of OK: what the client may ask, and whose phrase it proved to hold.
fn encode_ok(grants: &[Grant], person: Option<PersonId>) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(grants.len() + usize::from(person.is_some()));
    if let Some(person) = person {
        out.array(1).bytes(person.as_bytes());
    }
    for grant in grants {
        out.array(3).bytes(grant.tag.as_bytes()).u64(grant.rights.bits().into());
        out.bytes(grant.folder.as_ref().map_or(&[], |folder| folder.as_bytes()));
    }
    out.finish()
}

/// Reads the content of OK.
fn decode_ok(content: &[u8]) -> Result<(Vec<Grant>, Option<PersonId>), Refusal> {
    let mut from = Reader::new(content);
    let (mut grants, mut person) = (Vec::new(), None);
    for n in 0..from.array()? {
        match (from.array()?, n) {
            (1, 0) => {
                person = Some(PersonId(from.fixed()?));
                continue;
            }
            (3, _) => {}
            _ => return Err(Refusal::Canon),
        }
        let tag = SpaceTag(from.fixed()?);
        let bits = u16::try_from(from.u64()?).map_err(|_| Refusal::Canon)?;
        let folder = match from.bytes()? {
            [] => None,
            bytes => Some(NodeId::from_slice(bytes)?),
        };
        grants.push(Grant { tag, rights: Rights::from_bits(bits)?, folder });
    }
    from.finish()?;
    Ok((grants, person))
}

#[cfg(test)]
mod tests;
