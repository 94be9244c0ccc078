//! The private half of the share register: what only the issuing person reads of a link
//! (`docs/spec/07-links.md`, "Share register").
//!
//! The `share` operation names a link for every member of a space; [`Registered`] stands sealed inside it, and
//! [`Extent`] is an object beside the log that tells the person's devices which packs the link gives. Both are sealed
//! under the person's data key and bound to the token. The seed of the link is in neither: a device that serves a link
//! cannot use it.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::aead;
use crate::capability::Capability;
use crate::encode::{Reader, Writer};
use crate::id::{NodeId, ObjectHash, PackHash, TokenId};
use crate::identity::PersonKeys;
use crate::layout::strip_magic;
use crate::link::Kind;
use crate::secret::{PersonKey, RendezvousSecret};

/// Longest label in bytes.
pub const LABEL_LEN_MAX: usize = crate::capsule::LABEL_LEN_MAX;
/// Most packs of one link.
pub const EXTENT_PACKS_MAX: usize = 16_384;
/// Longest path in an extent, in bytes; a longer one is cut by its maker.
pub const EXTENT_PATH_LEN_MAX: usize = 4_096;

const EXTENT_MAGIC: &[u8; 4] = b"LKX1";
const EXTENT_AD: &[u8] = b"locker-v1 extent";
const VERSION: u64 = 1;

/// What a serving device holds of a link besides what everybody in the space sees. Has no `Debug`: it leads to R.
#[derive(Clone, PartialEq, Eq)]
pub struct Registered {
    /// R, under which the serving nodes are found.
    pub rendezvous: RendezvousSecret,
    /// What the link is for.
    pub kind: Kind,
    /// What its giver calls it, at most [`LABEL_LEN_MAX`] bytes.
    pub label: String,
    /// How often it may be used; 0 sets no limit.
    pub uses_max: u64,
    /// The right to be served; its audience is the key of the link.
    pub token: Capability,
    /// The capsule.
    pub capsule: ObjectHash,
    /// The [`Extent`], for links that give packs of their own choice.
    pub extent: Option<ObjectHash>,
}

impl Registered {
    /// Seals it for the person's devices: nonce 24, then XChaCha20-Poly1305 under puk_data, AD = h_1.
    pub fn seal<R: CryptoRng + ?Sized>(&self, key: &PersonKey, dice: &mut R) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(7).bytes(self.rendezvous.expose()).u64(self.kind.code()).text(&self.label);
        out.u64(self.uses_max).bytes(&self.token.encode()).bytes(self.capsule.as_bytes());
        out.bytes(self.extent.as_ref().map_or(&[], |extent| extent.as_bytes()));
        let plain = Zeroizing::new(out.finish());
        let nonce = aead::random_xnonce(dice);
        aead::xseal_prefixed(key.data_key().expose(), &nonce, self.token.root_id().as_bytes(), &plain)
    }

    /// Opens what [`Registered::seal`] made for the token with this first id, trying the newest key first.
    ///
    /// # Errors
    /// [`Refusal::Tag`] if no key fits; [`Refusal::Canon`] for another form, or a token with another id;
    /// [`Refusal::Limit`] for a label that is too long; those of [`Capability::decode`].
    pub fn open(keys: &PersonKeys, root: &TokenId, sealed: &[u8]) -> Result<Self, Refusal> {
        let plain = Zeroizing::new(keys.open_data(root.as_bytes(), sealed)?);
        let mut from = Reader::new(&plain);
        from.array_of(7)?;
        let rendezvous = RendezvousSecret::new(from.fixed()?);
        let kind = Kind::from_code(from.u8()?)?;
        let label = from.text()?.to_owned();
        let uses_max = from.u64()?;
        let token = Capability::decode(from.bytes()?)?;
        let capsule = ObjectHash(from.fixed()?);
        let extent = match from.bytes()? {
            [] => None,
            bytes => Some(ObjectHash::from_slice(bytes)?),
        };
        from.finish()?;
        if label.len() > LABEL_LEN_MAX {
            return Err(Refusal::Limit);
        }
        if token.root_id() != *root {
            return Err(Refusal::Canon);
        }
        Ok(Self { rendezvous, kind, label, uses_max, token, capsule, extent })
    }
}

/// Which packs a link gives, and what it was made of. Only devices of the person read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The file or folder that was shared.
    pub node: NodeId,
    /// Where it lay then.
    pub path: String,
    /// The packs, ascending.
    pub packs: Vec<PackHash>,
}

impl Extent {
    /// Seals it for the person's devices: `LKX1`, nonce 24, then XChaCha20-Poly1305 under puk_data,
    /// AD = `"locker-v1 extent" || h_1`.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for more than [`EXTENT_PACKS_MAX`] packs or a path above [`EXTENT_PATH_LEN_MAX`] bytes.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        key: &PersonKey,
        root: &TokenId,
        dice: &mut R,
    ) -> Result<Vec<u8>, Refusal> {
        self.check()?;
        let mut out = Writer::new();
        let packs: Vec<u8> = self.packs.iter().flat_map(|pack| pack.0).collect();
        out.array(4).u64(VERSION).bytes(self.node.as_bytes()).text(&self.path).bytes(&packs);
        let nonce = aead::random_xnonce(dice);
        let sealed = aead::xseal_prefixed(key.data_key().expose(), &nonce, &extent_ad(root), &out.finish());
        Ok([EXTENT_MAGIC.as_slice(), &sealed].concat())
    }

    /// Opens what [`Extent::seal`] made, trying the newest key first.
    ///
    /// # Errors
    /// [`Refusal::Canon`] and [`Refusal::Version`] for the layout; [`Refusal::Tag`] if no key fits or it belongs to
    /// another token; [`Refusal::Limit`] as in [`Extent::seal`].
    pub fn open(keys: &PersonKeys, root: &TokenId, object: &[u8]) -> Result<Self, Refusal> {
        let plain = keys.open_data(&extent_ad(root), strip_magic(object, EXTENT_MAGIC)?)?;
        let mut from = Reader::new(&plain);
        from.array_of(4)?;
        if from.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        let node = NodeId(from.fixed()?);
        let path = from.text()?.to_owned();
        let (packs, rest) = from.bytes()?.as_chunks::<{ PackHash::LEN }>();
        from.finish()?;
        let rising = packs.windows(2).all(|pair| pair[0] < pair[1]);
        if !rest.is_empty() || !rising {
            return Err(Refusal::Canon);
        }
        let extent = Self { node, path, packs: packs.iter().copied().map(PackHash).collect() };
        extent.check()?;
        Ok(extent)
    }

    fn check(&self) -> Result<(), Refusal> {
        let fits = self.packs.len() <= EXTENT_PACKS_MAX && self.path.len() <= EXTENT_PATH_LEN_MAX;
        if fits { Ok(()) } else { Err(Refusal::Limit) }
    }
}

fn extent_ad(root: &TokenId) -> Vec<u8> {
    [EXTENT_AD, root.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
