//! The box bundle of an epoch, `LKB1`: one sealed epoch secret for each recipient, filled up so that their number
//! shows in steps of four only.
//!
//! | Offset | Length | Field |
//! |---|---|---|
//! | 0 | 4 | `LKB1` |
//! | 4 | 16 | space_tag |
//! | 20 | 32 | epoch_id |
//! | 52 | 32 | author |
//! | 84 | 2 | count, a multiple of 4 |
//! | 86 | 1,184 count | boxes in ascending order: box_tag 16, encapsulation 1,120, cipher text 48 |
//! | .. | 64 | signature under `boxes` over BLAKE3 of all before |

use std::collections::BTreeSet;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::derive::{Purpose, kdf16};
use crate::entry::space_tag;
use crate::id::{BoxTag, EpochId, SpaceId, SpaceTag, VerifyingKey};
use crate::layout::{strip_magic, take};
use crate::sealed_box::{BoxKeys, BoxPublicKey, OVERHEAD};
use crate::secret::{BoxSeed, EpochSecret};
use crate::sign::{self, Domain, SIGNATURE_LEN, Signature, Signing};

/// Most boxes of one bundle, fillers included.
pub const BOXES_MAX: usize = 256;
/// Length of one box with its tag.
pub const BOX_LEN: usize = BoxTag::LEN + SEALED_LEN;
/// Length of the longest bundle in bytes.
pub const BUNDLE_LEN_MAX: usize = HEADER_LEN + BOXES_MAX * BOX_LEN + SIGNATURE_LEN;

const MAGIC: &[u8; 4] = b"LKB1";
const HEADER_LEN: usize = 86;
const SEALED_LEN: usize = OVERHEAD + EpochSecret::LEN;
/// The number of boxes is a multiple of this.
const STEP: usize = 4;
const BOX_INFO: &[u8] = b"locker-v1 epoch-box";

/// One box of a bundle. The order is that of the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochBox {
    tag: BoxTag,
    sealed: [u8; SEALED_LEN],
}

impl EpochBox {
    fn seal<R: CryptoRng + ?Sized>(
        context: &Context<'_>,
        secret: &EpochSecret,
        recipient: &BoxPublicKey,
        dice: &mut R,
    ) -> Self {
        let sealed = recipient.seal(&context.info(), context.author.as_bytes(), secret.expose(), dice);
        Self {
            tag: box_tag(recipient, context.epoch),
            sealed: sealed.try_into().expect("a box of 32 bytes has a fixed length"),
        }
    }
}

/// What every box of a bundle is bound to.
struct Context<'a> {
    space: &'a SpaceId,
    epoch: &'a EpochId,
    author: &'a VerifyingKey,
}

impl Context<'_> {
    fn info(&self) -> Vec<u8> {
        [BOX_INFO, self.space.as_bytes(), self.epoch.as_bytes()].concat()
    }
}

/// A bundle with a valid signature. Whether its author may mint in the space is not decided here.
#[derive(Clone)]
pub struct Bundle {
    space_tag: SpaceTag,
    epoch: EpochId,
    author: VerifyingKey,
    boxes: Vec<EpochBox>,
    signature: Signature,
}

impl Bundle {
    /// Seals an epoch secret to the members of a space. A recipient that is named twice gets one box; fillers, each
    /// sealed to a key pair that is forgotten at once and holding a random secret, bring the count to a multiple of
    /// four.
    ///
    /// Costs some 100 microseconds for each box.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for no recipient or more than [`BOXES_MAX`].
    pub fn seal<'k, R: CryptoRng + ?Sized>(
        space: &SpaceId,
        secret: &EpochSecret,
        author: &Signing,
        recipients: impl IntoIterator<Item = &'k BoxPublicKey>,
        dice: &mut R,
    ) -> Result<Self, Refusal> {
        let (epoch, author_key) = (secret.id(), author.verifying_key());
        let context = Context { space, epoch: &epoch, author: &author_key };
        let mut known = BTreeSet::new();
        let mut boxes = Vec::new();
        for recipient in recipients {
            if known.insert(recipient.as_bytes()) {
                if known.len() > BOXES_MAX {
                    return Err(Refusal::Limit);
                }
                boxes.push(EpochBox::seal(&context, secret, recipient, dice));
            }
        }
        if boxes.is_empty() {
            return Err(Refusal::Limit);
        }
        while boxes.len() % STEP != 0 {
            let nobody = BoxKeys::from_seed(&BoxSeed::random(dice));
            let nothing = EpochSecret::random(dice);
            boxes.push(EpochBox::seal(&context, &nothing, nobody.public(), dice));
        }
        boxes.sort_unstable();

        let mut bundle = Self {
            space_tag: space_tag(space),
            epoch,
            author: author_key,
            boxes,
            signature: [0; SIGNATURE_LEN],
        };
        bundle.signature = author.sign(Domain::Boxes, blake3::hash(&bundle.unsigned()).as_bytes());
        Ok(bundle)
    }

    /// Reads a bundle and checks layout, author key and signature, in this order.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the layout differs, boxes are out of order or twice there, or their number is not a
    /// multiple of four; [`Refusal::Version`]; [`Refusal::Limit`] above [`BOXES_MAX`]; [`Refusal::Key`];
    /// [`Refusal::Sig`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut rest = strip_magic(bytes, MAGIC)?;
        let space_tag = SpaceTag(take(&mut rest)?);
        let epoch = EpochId(take(&mut rest)?);
        let author = VerifyingKey(take(&mut rest)?);
        let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if count > BOXES_MAX {
            return Err(Refusal::Limit);
        }
        if count == 0 || count % STEP != 0 || rest.len() != count * BOX_LEN + SIGNATURE_LEN {
            return Err(Refusal::Canon);
        }
        let boxes = (0..count)
            .map(|_| Ok(EpochBox { tag: BoxTag(take(&mut rest)?), sealed: take(&mut rest)? }))
            .collect::<Result<Vec<_>, _>>()?;
        if !boxes.is_sorted_by(|one, next| one < next) {
            return Err(Refusal::Canon);
        }
        let signature = take(&mut rest)?;
        let signed = blake3::hash(&bytes[..bytes.len() - SIGNATURE_LEN]);
        sign::verify(&author, Domain::Boxes, signed.as_bytes(), &signature)?;
        Ok(Self { space_tag, epoch, author, boxes, signature })
    }

    /// Returns the bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.unsigned();
        out.extend_from_slice(&self.signature);
        out
    }

    /// Opens the box of this recipient; `None` if there is none.
    ///
    /// # Errors
    /// [`Refusal::Scope`] if the bundle is of another space; [`Refusal::Key`] or [`Refusal::Tag`] if the box was
    /// damaged or made for another context; [`Refusal::Epoch`] if the secret in it is not that of the epoch: its
    /// author cheats.
    pub fn open(&self, space: &SpaceId, keys: &BoxKeys) -> Result<Option<EpochSecret>, Refusal> {
        if self.space_tag != space_tag(space) {
            return Err(Refusal::Scope);
        }
        let tag = box_tag(keys.public(), &self.epoch);
        let context = Context { space, epoch: &self.epoch, author: &self.author };
        let Some(found) = self.boxes.iter().find(|candidate| candidate.tag == tag) else {
            return Ok(None);
        };
        let plain = Zeroizing::new(keys.open(&context.info(), self.author.as_bytes(), &found.sealed)?);
        let secret = EpochSecret::from_slice(&plain)?;
        secret.check(&self.epoch)?;
        Ok(Some(secret))
    }

    /// Returns the tag of the space.
    pub fn space_tag(&self) -> SpaceTag {
        self.space_tag
    }

    /// Returns the epoch.
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Returns who sealed it.
    pub fn author(&self) -> VerifyingKey {
        self.author
    }

    /// Returns the number of boxes, fillers included.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Whether there is no box; never so.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// Puts other bytes into the box of a recipient, as a cheating author could.
    #[cfg(test)]
    pub(super) fn replace_sealed(&mut self, recipient: &BoxPublicKey, sealed: &[u8]) {
        let tag = box_tag(recipient, &self.epoch);
        let found = self.boxes.iter_mut().find(|candidate| candidate.tag == tag).unwrap();
        found.sealed = sealed.try_into().unwrap();
    }

    fn unsigned(&self) -> Vec<u8> {
        let count = u16::try_from(self.boxes.len()).expect("a bundle has at most 256 boxes");
        let mut out = Vec::with_capacity(HEADER_LEN + self.boxes.len() * BOX_LEN + SIGNATURE_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(self.space_tag.as_bytes());
        out.extend_from_slice(self.epoch.as_bytes());
        out.extend_from_slice(self.author.as_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        for sealed in &self.boxes {
            out.extend_from_slice(sealed.tag.as_bytes());
            out.extend_from_slice(&sealed.sealed);
        }
        out
    }
}

/// Returns the tag by which a recipient finds its box, and by which nobody else recognises it.
fn box_tag(recipient: &BoxPublicKey, epoch: &EpochId) -> BoxTag {
    BoxTag(kdf16(Purpose::BoxTag, &[recipient.as_bytes(), epoch.as_bytes()]))
}
