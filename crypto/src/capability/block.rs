//! One block of a token: 141 bytes of grant and a signature (`docs/spec/06-capabilities.md`).
//!
//! The rules of step 1 that concern a single block live here, and so every [`Block`] obeys them. How blocks fit
//! together is in `verify`.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{BitAnd, BitOr};

use crate::Refusal;
use crate::id::{NodeId, SpaceTag, TokenId, VerifyingKey};
use crate::layout::take;
use crate::sign::{SIGNATURE_LEN, Signature};

/// Length of a block in bytes.
pub const BLOCK_LEN: usize = BODY_LEN + SIGNATURE_LEN;
/// Deepest delegation that a block can allow below it.
pub const DEPTH_MAX: u8 = 3;

const BODY_LEN: usize = 141;
const KIND_SPACE: u8 = 0;
const KIND_FOLDER: u8 = 1;
const FLAG_REGISTERED: u8 = 1;
const FLAG_FRESH: u8 = 2;

/// A set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(u16);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// To be served entries and packs.
    pub const READ: Self = Self(1);
    /// To write entries.
    pub const WRITE: Self = Self(1 << 1);
    /// To put things into the staging store of a link.
    pub const DEPOSIT: Self = Self(1 << 2);
    /// To hold copies.
    pub const REPLICATE: Self = Self(1 << 3);
    /// To issue narrower tokens.
    pub const SHARE: Self = Self(1 << 4);
    /// To change members and rights.
    pub const MANAGE: Self = Self(1 << 5);
    /// Every right.
    pub const ALL: Self = Self(0x3f);

    /// The rights that store bytes, and that a quota limits.
    const STORING: Self = Self(Self::WRITE.0 | Self::DEPOSIT.0 | Self::REPLICATE.0);

    /// Reads a set of rights from its bits.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if an unknown bit is set.
    pub const fn from_bits(bits: u16) -> Result<Self, Refusal> {
        if bits & !Self::ALL.0 == 0 { Ok(Self(bits)) } else { Err(Refusal::Canon) }
    }

    /// Returns the bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether no right is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every right of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set has a right that stores bytes: WRITE, DEPOSIT or REPLICATE.
    pub const fn stores(self) -> bool {
        self.0 & Self::STORING.0 != 0
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Rights {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READ, "READ"),
            (Self::WRITE, "WRITE"),
            (Self::DEPOSIT, "DEPOSIT"),
            (Self::REPLICATE, "REPLICATE"),
            (Self::SHARE, "SHARE"),
            (Self::MANAGE, "MANAGE"),
        ];
        f.debug_set()
            .entries(names.iter().filter(|(right, _)| self.contains(*right)).map(|(_, name)| name))
            .finish()
    }
}

/// Where in the space the rights WRITE and DEPOSIT hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// In the whole space.
    Space,
    /// In this folder and below. Neither the root nor the trash.
    Folder(NodeId),
}

/// Bytes that may be stored under a block, at least one; `None` sets no limit.
pub type Quota = Option<NonZeroU64>;

/// Further conditions of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// REGISTERED: valid only while `h_1` is in the share register.
    pub registered: bool,
    /// FRESH: valid only on a node that heard of the space's managers within 7 days.
    pub fresh: bool,
}

/// What a block grants, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Who may use it: a device, a root key, a link's key or a replica's device.
    pub audience: VerifyingKey,
    /// The space.
    pub space_tag: SpaceTag,
    /// The rights, at least one.
    pub rights: Rights,
    /// Where they hold.
    pub scope: Scope,
    /// Start of the window, unix seconds. A clock may be 120 s behind.
    pub not_before: u64,
    /// End of the window, unix seconds; this second is outside.
    pub expires: u64,
    /// Delegations allowed below, 0 to [`DEPTH_MAX`].
    pub depth: u8,
    /// Bytes that may be stored.
    pub quota: Quota,
    /// Further conditions.
    pub terms: Terms,
}

impl Grant {
    /// Checks the rules of step 1 that concern one block.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for a grant that must not exist.
    pub fn check(&self) -> Result<(), Refusal> {
        let rights = self.rights;
        let folder_fits = match self.scope {
            Scope::Space => true,
            Scope::Folder(folder) => {
                folder != NodeId::ROOT
                    && folder != NodeId::TRASH
                    && (rights.contains(Rights::WRITE) || rights.contains(Rights::DEPOSIT))
                    && !rights.contains(Rights::REPLICATE)
                    && !rights.contains(Rights::MANAGE)
            }
        };
        let allowed = !rights.is_empty()
            && self.depth <= DEPTH_MAX
            && self.expires > self.not_before
            && folder_fits
            && (rights.contains(Rights::READ) || !rights.contains(Rights::WRITE))
            && (rights.stores() || self.quota.is_none());
        if allowed { Ok(()) } else { Err(Refusal::Canon) }
    }

    /// Checks that this grant, written by the audience of `parent`, is no wider (step 4).
    ///
    /// # Errors
    /// In this order: [`Refusal::Rights`] if the parent lacks SHARE; [`Refusal::Depth`]; [`Refusal::Rights`] for a
    /// right that the parent lacks; [`Refusal::Time`]; [`Refusal::Scope`]; [`Refusal::Quota`].
    pub fn check_under(&self, parent: &Grant) -> Result<(), Refusal> {
        if !parent.rights.contains(Rights::SHARE) {
            return Err(Refusal::Rights);
        }
        if self.depth >= parent.depth {
            return Err(Refusal::Depth);
        }
        if !parent.rights.contains(self.rights) {
            return Err(Refusal::Rights);
        }
        if self.not_before < parent.not_before || self.expires > parent.expires {
            return Err(Refusal::Time);
        }
        if parent.scope != Scope::Space && self.scope != parent.scope {
            return Err(Refusal::Scope);
        }
        match (parent.quota, self.quota) {
            (Some(most), own) if self.rights.stores() && own.is_none_or(|own| own > most) => {
                Err(Refusal::Quota)
            }
            _ => Ok(()),
        }
    }
}

/// A signed grant. Its grant obeys [`Grant::check`]; its signature is unchecked until the token is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Who signed.
    pub(super) issuer: VerifyingKey,
    /// What is granted.
    pub(super) grant: Grant,
    /// Tells two equal grants apart.
    pub(super) nonce: [u8; 16],
    /// `sig "locker-v1 cap"` over `h_i`.
    pub(super) signature: Signature,
}

impl Block {
    /// Returns who signed.
    pub fn issuer(&self) -> VerifyingKey {
        self.issuer
    }

    /// Returns what is granted.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Returns `h_i = b3(h_{i-1} || block without its signature)`.
    pub(super) fn id_under(&self, above: TokenId) -> TokenId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(above.as_bytes());
        hasher.update(&self.encode()[..BODY_LEN]);
        TokenId(*hasher.finalize().as_bytes())
    }

    pub(super) fn encode(&self) -> [u8; BLOCK_LEN] {
        let grant = &self.grant;
        let (kind, folder) = match grant.scope {
            Scope::Space => (KIND_SPACE, NodeId::ZERO),
            Scope::Folder(folder) => (KIND_FOLDER, folder),
        };
        let flags =
            u8::from(grant.terms.registered) * FLAG_REGISTERED + u8::from(grant.terms.fresh) * FLAG_FRESH;

        let mut out = [0; BLOCK_LEN];
        let mut writer = Fields { rest: &mut out };
        writer.put(self.issuer.0);
        writer.put(grant.audience.0);
        writer.put(grant.space_tag.0);
        writer.put(grant.rights.bits().to_le_bytes());
        writer.put([kind]);
        writer.put(folder.0);
        writer.put(grant.not_before.to_le_bytes());
        writer.put(grant.expires.to_le_bytes());
        writer.put([grant.depth]);
        writer.put(grant.quota.map_or(0, NonZeroU64::get).to_le_bytes());
        writer.put(self.nonce);
        writer.put([flags]);
        writer.put(self.signature);
        out
    }

    pub(super) fn decode(bytes: &[u8; BLOCK_LEN]) -> Result<Self, Refusal> {
        let mut fields = &bytes[..];
        let issuer = VerifyingKey(take(&mut fields)?);
        let audience = VerifyingKey(take(&mut fields)?);
        let space_tag = SpaceTag(take(&mut fields)?);
        let rights = Rights::from_bits(u16::from_le_bytes(take(&mut fields)?))?;
        let [kind] = take(&mut fields)?;
        let folder = NodeId(take(&mut fields)?);
        let scope = match kind {
            KIND_SPACE if folder == NodeId::ZERO => Scope::Space,
            KIND_FOLDER => Scope::Folder(folder),
            _ => return Err(Refusal::Canon),
        };
        let not_before = u64::from_le_bytes(take(&mut fields)?);
        let expires = u64::from_le_bytes(take(&mut fields)?);
        let [depth] = take(&mut fields)?;
        let quota = NonZeroU64::new(u64::from_le_bytes(take(&mut fields)?));
        let nonce = take(&mut fields)?;
        let [flags] = take(&mut fields)?;
        if flags & !(FLAG_REGISTERED | FLAG_FRESH) != 0 {
            return Err(Refusal::Canon);
        }
        let terms = Terms { registered: flags & FLAG_REGISTERED != 0, fresh: flags & FLAG_FRESH != 0 };
        let signature = take(&mut fields)?;

        let grant = Grant { audience, space_tag, rights, scope, not_before, expires, depth, quota, terms };
        grant.check()?;
        Ok(Self { issuer, grant, nonce, signature })
    }
}

/// Writes fields one after another into a buffer of known length.
struct Fields<'a> {
    rest: &'a mut [u8],
}

impl Fields<'_> {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        let (place, rest) = std::mem::take(&mut self.rest).split_at_mut(N);
        place.copy_from_slice(&field);
        self.rest = rest;
    }
}
