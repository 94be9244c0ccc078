//! The capsule `LKS1`: what a link opens (`docs/spec/07-links.md`, "Capsule").
//!
//! | Offset | Length | Field |
//! |---|---|---|
//! | 0 | 4 | `LKS1` |
//! | 4 | 16 | link_tag |
//! | 20 | 1,120 | encapsulation |
//! | 1,140 | 4 | ct_len |
//! | 1,144 | ct_len | HPKE to link_box, info = `"locker-v1 capsule" || link_tag`, of body and signature |
//!
//! The box shows who may read it, the signature inside who made it: an active device or the root of the person whose
//! fingerprint stands in the link. So neither another holder of the link nor a node that serves it can put in other
//! content. Snapshot manifests are carried here as they are; nothing in this room reads them.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::capability::verify::{check_chain, check_standing};
use crate::capability::{Capability, Facts, Registration, VerifiedChains};
use crate::encode::{Reader, Writer};
use crate::entry::space_tag;
use crate::file_ref::FileRef;
use crate::id::{LinkTag, OwnerFp, SpaceId, VerifyingKey};
use crate::identity::owner_fp;
use crate::layout::{strip_magic, take};
use crate::link::{Kind, LinkKeys};
use crate::pack::PackOp;
use crate::pack_list;
use crate::person::Roster;
use crate::sealed_box::{BoxKeys, BoxPublicKey, ENC_LEN};
use crate::secret::EpochSecret;
use crate::sign::{self, Domain, SIGNATURE_LEN, Signing};

/// Length of the longest capsule in bytes.
pub const CAPSULE_LEN_MAX: usize = 65_536;
/// Longest label in bytes.
pub const LABEL_LEN_MAX: usize = 64;
/// Longest manifest that a capsule carries in itself.
pub const MANIFEST_LEN_MAX: usize = 49_152;

const MAGIC: &[u8; 4] = b"LKS1";
const HEADER_LEN: usize = 4 + LinkTag::LEN + ENC_LEN + 4;
const BODY_VERSION: u64 = 1;
const INFO: &[u8] = b"locker-v1 capsule";

/// What the holder of a link is given.
#[derive(Clone, PartialEq, Eq)]
pub enum Gift {
    /// Kind 1: the secret of the head epoch, to read.
    LiveRead(EpochSecret),
    /// Kind 2: the secret of the head epoch, to read and write.
    LiveWrite(EpochSecret),
    /// Kind 3: the inbox public key.
    Deposit(BoxPublicKey),
    /// Kind 4: the manifest, in canonical bytes, at most [`MANIFEST_LEN_MAX`].
    Manifest(Vec<u8>),
    /// Kind 4: where the manifest is.
    ManifestFile {
        /// The file that holds it.
        file: FileRef,
        /// The packs that hold the file.
        packs: Vec<PackOp>,
    },
}

impl Gift {
    /// Returns the kind of link that this belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            Gift::LiveRead(_) => Kind::LiveRead,
            Gift::LiveWrite(_) => Kind::LiveWrite,
            Gift::Deposit(_) => Kind::Deposit,
            Gift::Manifest(_) | Gift::ManifestFile { .. } => Kind::Snapshot,
        }
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Gift::LiveRead(secret) | Gift::LiveWrite(secret) => {
                out.bytes(secret.expose());
            }
            Gift::Deposit(inbox) => {
                out.bytes(inbox.as_bytes());
            }
            Gift::Manifest(manifest) => {
                out.array(2).u64(0).raw(manifest);
            }
            Gift::ManifestFile { file, packs } => {
                out.array(3).u64(1);
                file.write(out);
                pack_list::write(packs, out);
            }
        }
    }

    fn read(code: u64, from: &mut Reader<'_>) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Gift::LiveRead(EpochSecret::new(from.fixed()?))),
            2 => Ok(Gift::LiveWrite(EpochSecret::new(from.fixed()?))),
            3 => Ok(Gift::Deposit(BoxPublicKey::from_slice(from.bytes()?)?)),
            4 => match (from.array()?, from.u64()?) {
                (2, 0) => {
                    let manifest = from.item()?;
                    if manifest.len() > MANIFEST_LEN_MAX {
                        return Err(Refusal::Limit);
                    }
                    Ok(Gift::Manifest(manifest.to_vec()))
                }
                (3, 1) => {
                    Ok(Gift::ManifestFile { file: FileRef::read(from)?, packs: pack_list::read(from)? })
                }
                _ => Err(Refusal::Canon),
            },
            _ => Err(Refusal::Canon),
        }
    }
}

/// What a capsule says.
#[derive(Clone, PartialEq, Eq)]
pub struct Capsule {
    /// The right to be served; its audience is the key of the link.
    pub token: Capability,
    /// The space, or the SnapId of a snapshot.
    pub space: SpaceId,
    /// Person-log entries from genesis to the one that brought in the issuer.
    pub path: Vec<Vec<u8>>,
    /// What is given.
    pub gift: Gift,
    /// What the giver calls it, at most [`LABEL_LEN_MAX`] bytes.
    pub label: String,
}

/// The end of a link that capsules are sealed to and opened by.
pub struct LinkEnd<'a> {
    /// Public name of the link.
    pub tag: LinkTag,
    /// Its signing key: the audience of the token.
    pub key: VerifyingKey,
    /// Its box keys.
    pub boxes: &'a BoxKeys,
}

impl<'a> LinkEnd<'a> {
    /// Takes the end from the keys of a link.
    pub fn of(keys: &'a LinkKeys) -> Self {
        Self { tag: keys.tag(), key: keys.signing().verifying_key(), boxes: keys.box_keys() }
    }
}

/// What the opener of a capsule knows besides the link's keys.
pub struct Opener<'a> {
    /// Fingerprint of the giver, from the link.
    pub owner: OwnerFp,
    /// Time, unix seconds.
    pub now: u64,
    /// Revoked token ids and keys, as far as known.
    pub revoked: &'a BTreeSet<[u8; 32]>,
    /// Age of the newest manager heartbeat seen, in seconds. A token under FRESH needs one.
    pub heartbeat_age_s: Option<u64>,
}

impl Capsule {
    /// Signs and seals a capsule.
    ///
    /// # Errors
    /// [`Refusal::Key`] if `issuer` is not the issuer of the token; [`Refusal::Limit`] if the label, the manifest or
    /// the capsule is too long; [`Refusal::Canon`] if the manifest is not one canonical item.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        issuer: &Signing,
        tag: &LinkTag,
        link_box: &BoxPublicKey,
        dice: &mut R,
    ) -> Result<Vec<u8>, Refusal> {
        if issuer.verifying_key() != self.token.issuer() {
            return Err(Refusal::Key);
        }
        if self.label.len() > LABEL_LEN_MAX {
            return Err(Refusal::Limit);
        }
        if let Gift::Manifest(manifest) = &self.gift {
            if manifest.len() > MANIFEST_LEN_MAX {
                return Err(Refusal::Limit);
            }
            let mut item = Reader::new(manifest);
            item.item()?;
            item.finish()?;
        }
        let mut plain = Zeroizing::new(self.encode());
        let signature = issuer.sign(Domain::Capsule, &signed_bytes(tag, &plain));
        plain.extend_from_slice(&signature);
        let sealed = link_box.seal(&info(tag), &[], &plain, dice);
        let (enc, text) = sealed.split_at(ENC_LEN);
        if HEADER_LEN + text.len() > CAPSULE_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let len = u32::try_from(text.len()).map_err(|_| Refusal::Limit)?;
        Ok([MAGIC.as_slice(), tag.as_bytes(), enc, &len.to_le_bytes(), text].concat())
    }

    /// Opens a capsule and checks it as the holder of a link must: box, path and fingerprint, signature, token,
    /// audience. Returns it with the giver's roster along the path.
    ///
    /// # Errors
    /// In this order: [`Refusal::Canon`], [`Refusal::Version`], [`Refusal::Limit`] for the layout or another link's
    /// tag; [`Refusal::Key`], [`Refusal::Tag`] for the box; those of the body; [`Refusal::Chain`] if the path is no
    /// valid person log of the person in the link; [`Refusal::Sig`] if the token's issuer did not sign; steps 2 to 8
    /// of the token ([`crate::capability`]); [`Refusal::Scope`] if it is for another space; [`Refusal::Audience`] if
    /// it is for another key than the link's.
    pub fn open(bytes: &[u8], link: &LinkEnd<'_>, opener: &Opener<'_>) -> Result<(Self, Roster), Refusal> {
        let plain = Zeroizing::new(unseal(bytes, link)?);
        let (body, signature) = plain.split_last_chunk::<SIGNATURE_LEN>().ok_or(Refusal::Canon)?;
        let capsule = Self::decode(body)?;

        let path = capsule.path.iter().map(Vec::as_slice);
        let roster = Roster::read(path).map_err(|_| Refusal::Chain)?;
        if owner_fp(roster.person()) != opener.owner {
            return Err(Refusal::Chain);
        }
        sign::verify(&capsule.token.issuer(), Domain::Capsule, &signed_bytes(&link.tag, body), signature)?;
        capsule.check_token(&roster, opener)?;
        if capsule.token.space_tag() != space_tag(&capsule.space) {
            return Err(Refusal::Scope);
        }
        if capsule.token.audience() != link.key {
            return Err(Refusal::Audience);
        }
        Ok((capsule, roster))
    }

    fn check_token(&self, roster: &Roster, opener: &Opener<'_>) -> Result<(), Refusal> {
        let issuers = roster.active().chain([roster.root()]).copied().collect();
        let (removed, used_bytes) = (BTreeMap::new(), BTreeMap::new());
        let facts = Facts {
            now: opener.now,
            issuers: &issuers,
            removed: &removed,
            revoked: opener.revoked,
            heartbeat_age_s: opener.heartbeat_age_s,
            registration: Registration::Unknown,
            used_bytes: &used_bytes,
        };
        check_chain(&self.token, &mut VerifiedChains::new(1))?;
        check_standing(&self.token, &facts)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(7).u64(BODY_VERSION).u64(self.gift.kind().code());
        out.bytes(&self.token.encode()).bytes(self.space.as_ref());
        out.array(self.path.len());
        for entry in &self.path {
            out.bytes(entry);
        }
        self.gift.write(&mut out);
        out.text(&self.label);
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut from = Reader::new(bytes);
        let len = from.array()?;
        if from.u64()? != BODY_VERSION {
            return Err(Refusal::Version);
        }
        if len != 7 {
            return Err(Refusal::Canon);
        }
        let code = from.u64()?;
        let token = Capability::decode(from.bytes()?)?;
        let space = SpaceId(from.fixed()?);
        let entries = from.array()?;
        let path = (0..entries).map(|_| Ok(from.bytes()?.to_vec())).collect::<Result<_, Refusal>>()?;
        let gift = Gift::read(code, &mut from)?;
        let label = from.text()?.to_owned();
        from.finish()?;
        if label.len() > LABEL_LEN_MAX {
            return Err(Refusal::Limit);
        }
        Ok(Self { token, space, path, gift, label })
    }
}

fn unseal(bytes: &[u8], link: &LinkEnd<'_>) -> Result<Vec<u8>, Refusal> {
    let mut rest = strip_magic(bytes, MAGIC)?;
    if bytes.len() > CAPSULE_LEN_MAX {
        return Err(Refusal::Limit);
    }
    let tag = LinkTag(take(&mut rest)?);
    let enc: [u8; ENC_LEN] = take(&mut rest)?;
    let len = u32::from_le_bytes(take(&mut rest)?);
    if usize::try_from(len).ok() != Some(rest.len()) || tag != link.tag {
        return Err(Refusal::Canon);
    }
    link.boxes.open(&info(&tag), &[], &[enc.as_slice(), rest].concat())
}

fn info(tag: &LinkTag) -> Vec<u8> {
    [INFO, tag.as_bytes()].concat()
}

fn signed_bytes(tag: &LinkTag, body: &[u8]) -> Vec<u8> {
    [tag.as_bytes().as_slice(), blake3::hash(body).as_bytes()].concat()
}

#[cfg(test)]
mod tests;
