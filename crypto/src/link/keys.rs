//! The keys of a link, from its seed and, if it has one, its passphrase (`docs/spec/07-links.md`, section 2).
//!
//! ```text
//! pw = empty, or Argon2id(NFC(passphrase), salt = KDF("link-pw-salt", seed)[..16], 64 MiB, t = 3, p = 1)
//! S  = KDF("link-seed", seed, pw);   link_tag, link_sign, link_box from S
//! ```
//! Argon2id as in RFC 9106. The salt comes from the seed, which is random for each link, so that no table serves two
//! links. The misuse that breaks it: one seed for two links.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::{Link, Protection};
use crate::Refusal;
use crate::derive::{Purpose, kdf, kdf16};
use crate::id::LinkTag;
use crate::sealed_box::BoxKeys;
use crate::secret::{BoxSeed, LinkSecret, LinkSeed, SigningSeed};
use crate::sign::Signing;

const MEMORY_KIB: u32 = 65_536;
const PASSES: u32 = 3;
const LANES: u32 = 1;
const STRETCHED_LEN: usize = 32;

/// What the holder of a link acts with. Wiped when dropped; has no `Debug`.
pub struct LinkKeys {
    tag: LinkTag,
    signing: Signing,
    box_keys: BoxKeys,
}

impl LinkKeys {
    /// Returns the public name under which a serving node holds the link.
    pub fn tag(&self) -> LinkTag {
        self.tag
    }

    /// Returns link_sign: the audience of the link's token.
    pub fn signing(&self) -> &Signing {
        &self.signing
    }

    /// Returns link_box, to which the capsule and later epochs are sealed.
    pub fn box_keys(&self) -> &BoxKeys {
        &self.box_keys
    }

    fn from_secret(secret: &LinkSecret) -> Self {
        let derive = |purpose| kdf(purpose, &[secret.expose()]);
        Self {
            tag: LinkTag(kdf16(Purpose::LinkTag, &[secret.expose()])),
            signing: Signing::from_seed(&SigningSeed::new(derive(Purpose::LinkSign))),
            box_keys: BoxKeys::from_seed(&BoxSeed::new(derive(Purpose::LinkBox))),
        }
    }
}

impl Link {
    /// Derives the keys. A wrong passphrase gives keys that no node knows: it shows only when asking one.
    ///
    /// With a passphrase it takes 64 MiB of memory and some 0.2 seconds; call it on a thread of its own.
    ///
    /// # Errors
    /// [`Refusal::Key`] if the link needs a passphrase and `passphrase` is missing or empty, or the other way round.
    pub fn keys(&self, passphrase: Option<&str>) -> Result<LinkKeys, Refusal> {
        self.secret(passphrase).map(|secret| LinkKeys::from_secret(&secret))
    }

    /// Returns S.
    pub(super) fn secret(&self, passphrase: Option<&str>) -> Result<LinkSecret, Refusal> {
        let stretched = match (self.protection, passphrase) {
            (Protection::TextOnly, None) => Zeroizing::new(Vec::new()),
            (Protection::Passphrase, Some(passphrase)) if !passphrase.is_empty() => {
                stretch(passphrase, &self.seed)?
            }
            _ => return Err(Refusal::Key),
        };
        Ok(LinkSecret::new(kdf(Purpose::LinkSeed, &[self.seed.expose(), &stretched])))
    }
}

/// Makes the work of guessing a passphrase dear. Normalised, so that one passphrase typed on two systems is one.
pub(super) fn stretch(passphrase: &str, seed: &LinkSeed) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut normal = Zeroizing::new(String::with_capacity(passphrase.len() * 4));
    normal.extend(passphrase.nfc());
    let salt = Zeroizing::new(kdf16(Purpose::LinkPwSalt, &[seed.expose()]));
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(STRETCHED_LEN))
        .expect("the parameters are constants that Argon2 allows");
    let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
    let mut out = Zeroizing::new(vec![0; STRETCHED_LEN]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(normal.as_bytes(), &salt[..], &mut out, &mut memory[..])
        .map_err(|_| Refusal::Limit)?;
    Ok(out)
}
