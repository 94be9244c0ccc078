//! Log entries: the sealed, signed and chained envelope around operations (`docs/spec/04-spaces.md`, "Log entry").
//!
//! An entry is checked in a fixed order and the first failure is the answer:
//!
//! | Step | Here | Refusal |
//! |---|---|---|
//! | 1 layout | [`Envelope::parse`] | `E_CANON`, `E_VERSION`, `E_LIMIT` |
//! | 2, 3 author key, signature | [`Envelope::verify`] | `E_KEY`, `E_SIG` |
//! | 4 space | [`Envelope::check_space`] | `E_SCOPE` |
//! | 5 chain | [`Envelope::check_chain`] | `E_CHAIN`, `E_GAP`, `E_FORK` |
//! | 6 to 9 epoch, AEAD, padding, body | [`Envelope::open`] | `E_EPOCH`, `E_TAG`, `E_CANON`, `E_PAD`, `E_VERSION` |
//! | 10 clock | [`EntryBody::check_clock`] | `E_TIME` |
//!
//! A node without keys does the first five. What the operations mean is the catalog's business and never read here.

mod body;
mod header;

use zeroize::Zeroizing;

use crate::Refusal;
use crate::aead;
use crate::derive::{Purpose, kdf16};
use crate::id::{EntryId, EpochId, SpaceId, SpaceTag};
use crate::secret::LogKey;
use crate::sign::{Domain, SIGNATURE_LEN, Signature, Signing, verify};

pub use body::{BODY_LEN_MAX, DEPS_MAX, Dep, EntryBody, OPS_MAX};
pub use header::EntryHeader;

/// Most bytes of the ciphertext of an entry, tag included.
pub const CIPHERTEXT_LEN_MAX: u32 = 262_160;
/// Most bytes of a whole entry.
pub const ENTRY_LEN_MAX: usize = EntryHeader::LEN + CIPHERTEXT_LEN_MAX as usize + SIGNATURE_LEN;

/// Returns the short name that entries of `space` carry; zeros stand for it in the genesis entry.
pub fn space_tag(space: &SpaceId) -> SpaceTag {
    SpaceTag(kdf16(Purpose::SpaceTag, &[space.as_bytes()]))
}

/// Where a new entry goes in the chain of its author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// [`space_tag`], or zeros in the genesis entry.
    pub space_tag: SpaceTag,
    /// Number of the entry in the author's chain.
    pub seq: u64,
    /// Id of the entry before it; zeros for seq 0.
    pub prev: EntryId,
    /// Epoch under which it is sealed.
    pub epoch: EpochId,
}

/// An entry as it is stored and sent, unchanged for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedEntry {
    /// Name of the entry.
    pub id: EntryId,
    /// All bytes, signature included.
    pub bytes: Vec<u8>,
}

/// Seals `body` under `key`, the log key of `place.epoch`, and signs the entry.
///
/// The nonce is drawn at random: a device whose database was restored from a backup would repeat a counter.
///
/// # Errors
/// [`Refusal::Limit`] if the body has too many deps or operations, nests too deep or is longer than
/// [`BODY_LEN_MAX`]; [`Refusal::Canon`] if an operation is not one canonical item.
pub fn seal<R: rand_core::CryptoRng + ?Sized>(
    place: &Place,
    body: &EntryBody,
    key: &LogKey,
    author: &Signing,
    dice: &mut R,
) -> Result<SealedEntry, Refusal> {
    seal_with_nonce(place, body.encode()?, key, author, aead::random_xnonce(dice))
}

fn seal_with_nonce(
    place: &Place,
    body: Vec<u8>,
    key: &LogKey,
    author: &Signing,
    nonce: aead::XNonce,
) -> Result<SealedEntry, Refusal> {
    let plain = Zeroizing::new(body::pad(&body)?);
    let header = EntryHeader {
        space_tag: place.space_tag,
        author: author.verifying_key(),
        seq: place.seq,
        prev: place.prev,
        epoch: place.epoch,
        ct_len: u32::try_from(plain.len() + aead::TAG_LEN).map_err(|_| Refusal::Limit)?,
        nonce,
    };
    let mut bytes = Vec::with_capacity(header.entry_len());
    bytes.extend_from_slice(&header.encode());
    let (ad, _) = bytes.split_at(EntryHeader::AD_LEN);
    let sealed = aead::xseal(key.expose(), &nonce, ad, &plain);
    bytes.extend_from_slice(&sealed);
    let id = EntryId(*blake3::hash(&bytes).as_bytes());
    bytes.extend_from_slice(&author.sign(Domain::Entry, id.as_bytes()));
    Ok(SealedEntry { id, bytes })
}

/// The last accepted entry of an author in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorHead {
    /// Its number.
    pub seq: u64,
    /// Its name.
    pub id: EntryId,
}

/// What an entry that fits its chain is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It follows the head.
    New,
    /// We hold this very entry.
    Held,
}

/// An entry whose layout was checked, and nothing else yet.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    header: EntryHeader,
    id: EntryId,
    bytes: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Checks the layout (step 1) and hashes the entry.
    ///
    /// # Errors
    /// [`Refusal::Version`] for another version; [`Refusal::Limit`] above [`CIPHERTEXT_LEN_MAX`]; [`Refusal::Canon`]
    /// for everything else: another magic, cut short, bytes left over, a ciphertext length that padding does not
    /// give.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let header = EntryHeader::decode(bytes)?;
        if bytes.len() != header.entry_len() {
            return Err(Refusal::Canon);
        }
        let (signed, _) = bytes.split_at(header.entry_len() - SIGNATURE_LEN);
        Ok(Self { header, id: EntryId(*blake3::hash(signed).as_bytes()), bytes })
    }

    /// The clear fields.
    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// Name of the entry.
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// All bytes of the entry.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the entry claims to be the first of a space.
    pub fn is_genesis(&self) -> bool {
        self.header.space_tag == SpaceTag::ZERO
    }

    /// Checks the author key and the signature (steps 2 and 3): one ed25519 verification.
    ///
    /// # Errors
    /// [`Refusal::Key`] if the key is invalid or weak, [`Refusal::Sig`] if the signature is wrong.
    pub fn verify(&self) -> Result<(), Refusal> {
        let signature: &Signature = self.bytes.last_chunk().ok_or(Refusal::Canon)?;
        verify(&self.header.author, Domain::Entry, self.id.as_bytes(), signature)
    }

    /// Checks that the entry is one of `space` (step 4): it carries its tag, or is the genesis entry that the space
    /// is named by.
    ///
    /// # Errors
    /// [`Refusal::Scope`] otherwise.
    pub fn check_space(&self, space: &SpaceId) -> Result<(), Refusal> {
        let belongs = if self.is_genesis() {
            self.id.as_bytes() == space.as_bytes()
        } else {
            self.header.space_tag == space_tag(space)
        };
        if belongs { Ok(()) } else { Err(Refusal::Scope) }
    }

    /// The same for a node that knows a space by its tag only. It finds the genesis entry by the tag of its id.
    ///
    /// # Errors
    /// [`Refusal::Scope`] if the entry is of another space.
    pub fn check_space_tag(&self, tag: &SpaceTag) -> Result<(), Refusal> {
        let found = match self.is_genesis() {
            true => space_tag(&SpaceId(*self.id.as_bytes())),
            false => self.header.space_tag,
        };
        if found == *tag { Ok(()) } else { Err(Refusal::Scope) }
    }

    /// Checks the place in the author's chain (step 5).
    ///
    /// `head` is the author's last accepted entry in this space, `None` if there is none. `held` is the id of the
    /// entry that we hold at this seq, if any; it must be given when the seq is below that of the head.
    ///
    /// # Errors
    /// [`Refusal::Gap`] if earlier entries are missing: keep it aside and ask for them. [`Refusal::Fork`] if another
    /// entry with this seq is held: keep both as proof. [`Refusal::Chain`] if `prev` does not fit.
    pub fn check_chain(&self, head: Option<&AuthorHead>, held: Option<&EntryId>) -> Result<Arrival, Refusal> {
        let seq = self.header.seq;
        let (next, prev) = match head {
            Some(head) if seq <= head.seq => {
                let held = if seq == head.seq { Some(&head.id) } else { held };
                return if held == Some(&self.id) { Ok(Arrival::Held) } else { Err(Refusal::Fork) };
            }
            Some(head) => (head.seq + 1, head.id),
            None => (0, EntryId::ZERO),
        };
        if seq > next {
            return Err(Refusal::Gap);
        }
        if self.header.prev != prev || (self.is_genesis() && seq != 0) {
            return Err(Refusal::Chain);
        }
        Ok(Arrival::New)
    }

    /// Opens the entry (steps 6 to 9). `key` is the log key of the epoch that the header names, `None` if the epoch
    /// is unknown.
    ///
    /// # Errors
    /// [`Refusal::Epoch`] without a key: ask for the bundle of the epoch. [`Refusal::Tag`] if the entry was sealed
    /// under another key or for another header; [`Refusal::Pad`] if the padding is not zero; [`Refusal::Version`] if
    /// a newer program wrote the body; [`Refusal::Canon`] or [`Refusal::Limit`] if it is not in the one allowed form.
    pub fn open(&self, key: Option<&LogKey>) -> Result<EntryBody, Refusal> {
        let key = key.ok_or(Refusal::Epoch)?;
        let end = self.bytes.len() - SIGNATURE_LEN;
        let (ad, sealed) = (&self.bytes[..EntryHeader::AD_LEN], &self.bytes[EntryHeader::LEN..end]);
        let plain = Zeroizing::new(aead::xopen(key.expose(), &self.header.nonce, ad, sealed)?);
        EntryBody::decode(body::unpad(&plain)?)
    }
}

#[cfg(test)]
mod tests;
