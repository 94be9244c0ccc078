//! The deposit envelope `LKD1`: what somebody hands in through a link (`docs/spec/07-links.md`, "Deposit envelope").
//!
//! | Offset | Length | Field |
//! |---|---|---|
//! | 0 | 4 | `LKD1` |
//! | 4 | 16 | link_tag |
//! | 20 | 1,120 | encapsulation |
//! | 1,140 | 4 | ct_len |
//! | 1,144 | ct_len | HPKE to inbox_box, info = `"locker-v1 deposit" || SpaceId || link_tag`, of the padded body |
//! | .. | 64 | signature under `deposit` by link_sign over BLAKE3 of all before |
//!
//! Never here: whether the name is allowed, the staging store, acceptance.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::aead::TAG_LEN;
use crate::encode::{Reader, Writer};
use crate::file_ref::FileRef;
use crate::id::{LinkTag, SpaceId, VerifyingKey};
use crate::layout::{strip_magic, take};
use crate::pack::PackOp;
use crate::pack_list;
use crate::sealed_box::{BoxKeys, BoxPublicKey, ENC_LEN};
use crate::sign::{self, Domain, SIGNATURE_LEN, Signing};

/// Length of the longest envelope in bytes.
pub const ENVELOPE_LEN_MAX: usize = 1_048_576;
/// Longest name in bytes.
pub const NAME_LEN_MAX: usize = 255;
/// Longest note in bytes.
pub const NOTE_LEN_MAX: usize = 2_048;

const MAGIC: &[u8; 4] = b"LKD1";
const HEADER_LEN: usize = 4 + LinkTag::LEN + ENC_LEN + 4;
const BODY_VERSION: u64 = 1;
const PAD_STEP: usize = 512;
const INFO: &[u8] = b"locker-v1 deposit";

/// One item handed in.
#[derive(Clone, PartialEq, Eq)]
pub struct Deposit {
    /// Name the depositor gives it; to be judged by the rules of names before acceptance.
    pub name: String,
    /// The file.
    pub file: FileRef,
    /// The packs that hold it, in the staging store of the link.
    pub packs: Vec<PackOp>,
    /// A note to the owner.
    pub note: String,
    /// When it was handed in, by the depositor's clock, unix seconds.
    pub time: u64,
}

impl Deposit {
    /// Seals a deposit to the inbox of a space and signs it with the key of the link.
    ///
    /// # Errors
    /// [`Refusal::Limit`] if the name, the note or the envelope is too long.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        space: &SpaceId,
        tag: &LinkTag,
        link: &Signing,
        inbox: &BoxPublicKey,
        dice: &mut R,
    ) -> Result<Vec<u8>, Refusal> {
        if self.name.len() > NAME_LEN_MAX || self.note.len() > NOTE_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let plain = Zeroizing::new(pad(&self.encode())?);
        let sealed = inbox.seal(&info(space, tag), &[], &plain, dice);
        let (enc, text) = sealed.split_at(ENC_LEN);
        let len = u32::try_from(text.len()).map_err(|_| Refusal::Limit)?;
        let mut out = [MAGIC.as_slice(), tag.as_bytes(), enc, &len.to_le_bytes(), text].concat();
        if out.len() + SIGNATURE_LEN > ENVELOPE_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let signature = link.sign(Domain::Deposit, blake3::hash(&out).as_bytes());
        out.extend_from_slice(&signature);
        Ok(out)
    }

    /// Opens an envelope that came in through a link.
    ///
    /// # Errors
    /// In this order: as [`check_envelope`]; [`Refusal::Key`], [`Refusal::Tag`] for the box; [`Refusal::Pad`] for the
    /// padding; [`Refusal::Canon`], [`Refusal::Version`], [`Refusal::Limit`] for the body.
    pub fn open(
        bytes: &[u8],
        space: &SpaceId,
        tag: &LinkTag,
        link: &VerifyingKey,
        inbox: &BoxKeys,
    ) -> Result<Self, Refusal> {
        check_envelope(bytes, tag, link)?;
        let sealed =
            bytes.get(HEADER_LEN - 4 - ENC_LEN..bytes.len() - SIGNATURE_LEN).ok_or(Refusal::Canon)?;
        let (enc, rest) = sealed.split_at_checked(ENC_LEN).ok_or(Refusal::Canon)?;
        let text = rest.get(4..).ok_or(Refusal::Canon)?;
        let plain = Zeroizing::new(inbox.open(&info(space, tag), &[], &[enc, text].concat())?);
        Self::decode(unpad(&plain)?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(6).u64(BODY_VERSION).text(&self.name);
        self.file.write(&mut out);
        pack_list::write(&self.packs, &mut out);
        out.text(&self.note).u64(self.time);
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut from = Reader::new(bytes);
        let len = from.array()?;
        if from.u64()? != BODY_VERSION {
            return Err(Refusal::Version);
        }
        if len != 6 {
            return Err(Refusal::Canon);
        }
        let name = from.text()?.to_owned();
        let file = FileRef::read(&mut from)?;
        let packs = pack_list::read(&mut from)?;
        let note = from.text()?.to_owned();
        let time = from.u64()?;
        from.finish()?;
        if name.len() > NAME_LEN_MAX || note.len() > NOTE_LEN_MAX {
            return Err(Refusal::Limit);
        }
        Ok(Self { name, file, packs, note, time })
    }
}

/// Checks the outside of an envelope: all that a node without the inbox key can judge before it keeps one.
///
/// # Errors
/// In this order: [`Refusal::Canon`], [`Refusal::Version`], [`Refusal::Limit`] for the layout or another link's tag;
/// [`Refusal::Key`], [`Refusal::Sig`] if the key of the link did not sign.
pub fn check_envelope(bytes: &[u8], tag: &LinkTag, link: &VerifyingKey) -> Result<(), Refusal> {
    let mut rest = strip_magic(bytes, MAGIC)?;
    if bytes.len() > ENVELOPE_LEN_MAX {
        return Err(Refusal::Limit);
    }
    let named = LinkTag(take(&mut rest)?);
    let _: [u8; ENC_LEN] = take(&mut rest)?;
    let len = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).map_err(|_| Refusal::Canon)?;
    let (text, signature) = rest.split_last_chunk::<SIGNATURE_LEN>().ok_or(Refusal::Canon)?;
    let padded = len.checked_sub(TAG_LEN).is_some_and(|plain| plain > 0 && plain.is_multiple_of(PAD_STEP));
    if text.len() != len || !padded || named != *tag {
        return Err(Refusal::Canon);
    }
    let signed = blake3::hash(&bytes[..bytes.len() - SIGNATURE_LEN]);
    sign::verify(link, Domain::Deposit, signed.as_bytes(), signature)
}

fn info(space: &SpaceId, tag: &LinkTag) -> Vec<u8> {
    [INFO, space.as_bytes(), tag.as_bytes()].concat()
}

/// `LE32(len) || body || zeros` to a multiple of 512.
fn pad(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let len = u32::try_from(body.len()).map_err(|_| Refusal::Limit)?;
    let mut out = Vec::with_capacity((4 + body.len()).next_multiple_of(PAD_STEP));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(PAD_STEP), 0);
    Ok(out)
}

fn unpad(plain: &[u8]) -> Result<&[u8], Refusal> {
    let (len, rest) = plain.split_first_chunk::<4>().ok_or(Refusal::Pad)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Refusal::Pad)?;
    let (body, zeros) = rest.split_at_checked(len).ok_or(Refusal::Pad)?;
    if zeros.len() >= PAD_STEP || zeros.iter().any(|byte| *byte != 0) {
        return Err(Refusal::Pad);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
