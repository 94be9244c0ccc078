//! What the keys of a person seal: themselves for devices and root, themselves one generation back, device names, and
//! the dedup secret in the home space (`docs/spec/02-identity.md`, "PUK box", "Home space").

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::aead::{self, NONCE_ZERO, TAG_LEN, XNonce};
use crate::derive::{Purpose, kdf};
use crate::id::{PersonId, VerifyingKey};
use crate::identity::PersonKeys;
use crate::person::DEVICE_NAME_LEN_MAX;
use crate::sealed_box::{BoxKeys, BoxPublicKey, OVERHEAD};
use crate::secret::{AeadKey, DedupSecret, PersonKey};

/// Length of a PUK box: encapsulation 1,120, cipher text 48.
pub const KEY_BOX_LEN: usize = OVERHEAD + PersonKey::LEN;
/// Length of `puk_back`.
pub const PUK_BACK_LEN: usize = PersonKey::LEN + TAG_LEN;

const KEY_BOX_INFO: &[u8] = b"locker-v1 puk-box";

/// Seals PUK[n] to a device or to the root: HPKE with info = `"locker-v1 puk-box" || PersonId || LE32 n`, aad = the
/// author's key; [`KEY_BOX_LEN`] bytes.
pub fn seal_key_box<R: CryptoRng + ?Sized>(
    person: &PersonId,
    n: u32,
    author: &VerifyingKey,
    key: &PersonKey,
    recipient: &BoxPublicKey,
    dice: &mut R,
) -> Vec<u8> {
    recipient.seal(&key_box_info(person, n), author.as_bytes(), key.expose(), dice)
}

/// Opens a box of PUK[n] that `author` made.
///
/// The caller takes the box from a valid operation that names it; the box itself does not prove who made it.
///
/// # Errors
/// [`Refusal::Canon`] for another length; [`Refusal::Key`] and [`Refusal::Tag`] as [`BoxKeys::open`].
pub fn open_key_box(
    keys: &BoxKeys,
    person: &PersonId,
    n: u32,
    author: &VerifyingKey,
    sealed: &[u8],
) -> Result<PersonKey, Refusal> {
    if sealed.len() != KEY_BOX_LEN {
        return Err(Refusal::Canon);
    }
    let key = Zeroizing::new(keys.open(&key_box_info(person, n), author.as_bytes(), sealed)?);
    PersonKey::from_slice(&key)
}

/// Seals PUK[n] under PUK[n+1]: whoever holds the newer key reads what was sealed under the older one.
///
/// ChaCha20-Poly1305 under `KDF("puk-back", newer)`, nonce zeros: that key seals this one message in its life.
pub fn seal_back(newer: &PersonKey, older: &PersonKey) -> [u8; PUK_BACK_LEN] {
    let mut out = [0; PUK_BACK_LEN];
    let (text, tag) = out.split_at_mut(PersonKey::LEN);
    text.copy_from_slice(older.expose());
    tag.copy_from_slice(&aead::seal_in_place(back_key(newer).expose(), &NONCE_ZERO, &[], text));
    out
}

/// Opens what [`seal_back`] made.
///
/// # Errors
/// [`Refusal::Tag`] if the key is another one or a byte differs.
pub fn open_back(newer: &PersonKey, back: &[u8; PUK_BACK_LEN]) -> Result<PersonKey, Refusal> {
    let key = Zeroizing::new(aead::open(back_key(newer).expose(), &NONCE_ZERO, &[], back)?);
    PersonKey::from_slice(&key)
}

/// Seals the name of a device for the person's devices: nonce 24, then XChaCha20-Poly1305 under puk_data, AD = the
/// device's key. Draw the nonce at random for each name.
///
/// # Errors
/// [`Refusal::Limit`] above [`DEVICE_NAME_LEN_MAX`] bytes.
pub fn seal_name(
    key: &PersonKey,
    nonce: &XNonce,
    device: &VerifyingKey,
    name: &str,
) -> Result<Vec<u8>, Refusal> {
    if name.len() > DEVICE_NAME_LEN_MAX {
        return Err(Refusal::Limit);
    }
    Ok(aead::xseal_prefixed(key.data_key().expose(), nonce, device.as_bytes(), name.as_bytes()))
}

/// Opens the name of a device, trying the newest key first.
///
/// # Errors
/// [`Refusal::Tag`] if no key fits; [`Refusal::Canon`] if the name is not UTF-8.
pub fn open_name(keys: &PersonKeys, device: &VerifyingKey, sealed: &[u8]) -> Result<String, Refusal> {
    String::from_utf8(keys.open_data(device.as_bytes(), sealed)?).map_err(|_| Refusal::Canon)
}

/// Returns the key under which generation `m` of the dedup secret stands in the home space: `d/<m>`.
pub fn dedup_meta_key(m: u32) -> String {
    format!("d/{m}")
}

/// Seals generation `m` of the dedup secret, the value under [`dedup_meta_key`]: nonce 24, then XChaCha20-Poly1305
/// under puk_data, AD = the key text; 72 bytes.
pub fn seal_dedup<R: CryptoRng + ?Sized>(
    key: &PersonKey,
    m: u32,
    secret: &DedupSecret,
    dice: &mut R,
) -> Vec<u8> {
    let nonce = aead::random_xnonce(dice);
    aead::xseal_prefixed(key.data_key().expose(), &nonce, dedup_meta_key(m).as_bytes(), secret.expose())
}

/// Opens a value of the home space that [`seal_dedup`] made, trying the newest key first.
///
/// # Errors
/// [`Refusal::Tag`] if no key fits or `m` is another one; [`Refusal::Canon`] if it holds no secret.
pub fn open_dedup(keys: &PersonKeys, m: u32, stored: &[u8]) -> Result<DedupSecret, Refusal> {
    let secret = Zeroizing::new(keys.open_data(dedup_meta_key(m).as_bytes(), stored)?);
    DedupSecret::from_slice(&secret)
}

/// Seals a `meta` value of the home space that only the person's devices read: nonce 24, then XChaCha20-Poly1305 under
/// puk_data, AD = the key text.
pub fn seal_meta<R: CryptoRng + ?Sized>(
    key: &PersonKey,
    meta_key: &str,
    value: &[u8],
    dice: &mut R,
) -> Vec<u8> {
    let nonce = aead::random_xnonce(dice);
    aead::xseal_prefixed(key.data_key().expose(), &nonce, meta_key.as_bytes(), value)
}

/// Opens what [`seal_meta`] made, trying the newest key first.
///
/// # Errors
/// [`Refusal::Tag`] if no key fits or it stands under another key text.
pub fn open_meta(keys: &PersonKeys, meta_key: &str, stored: &[u8]) -> Result<Vec<u8>, Refusal> {
    keys.open_data(meta_key.as_bytes(), stored)
}

/// Returns the generation of the key under which a value stands that [`seal_meta`] or [`seal_dedup`] made; `None` if
/// that is none of the generations: one beside them, or one that is not held.
pub fn meta_generation(keys: &PersonKeys, meta_key: &str, stored: &[u8]) -> Option<u32> {
    let opens = |key: &PersonKey| {
        let opened = aead::xopen_prefixed(key.data_key().expose(), meta_key.as_bytes(), stored);
        opened.map(Zeroizing::new).is_ok()
    };
    (0..=keys.generation()).rev().find(|n| keys.get(*n).is_some_and(opens))
}

/// Returns the key under which generation `g` of the rendezvous master stands in the home space for the devices that a
/// recovery keeps, sealed by [`seal_meta`]: `r/<g>`.
pub fn master_meta_key(g: u32) -> String {
    format!("r/{g}")
}

/// Returns the key under which a newer name of a device stands in the home space: `name/<hex device_vk>`. The value is
/// that of [`seal_name`].
pub fn name_meta_key(device: &VerifyingKey) -> String {
    format!("name/{device}")
}

fn back_key(newer: &PersonKey) -> AeadKey {
    AeadKey::new(kdf(Purpose::PukBack, &[newer.expose()]))
}

fn key_box_info(person: &PersonId, n: u32) -> Vec<u8> {
    [KEY_BOX_INFO, person.as_bytes(), &n.to_le_bytes()].concat()
}
