//! ChaCha20-Poly1305 and XChaCha20-Poly1305, the only ciphers of the formats (`docs/spec/01-conventions.md`).
//!
//! Thin: a key, a nonce, associated data and bytes in; sealed bytes or [`Refusal::Tag`] out. Which nonce a format uses
//! stands in the spec section of that format, never here.
//!
//! | Cipher | Nonce | Rule |
//! |---|---|---|
//! | [`seal`], [`open`] (RFC 8439) | 12 bytes | only with a key that seals one message in its life (zeros), or with a counter |
//! | [`xseal`], [`xopen`] (draft-irtf-cfrg-xchacha-03) | 24 bytes | drawn at random for each message |
//!
//! The one misuse that breaks both: two messages under one key and one nonce. They reveal the XOR of their plain
//! texts and let anybody forge further messages.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, XChaCha20Poly1305};

use crate::Refusal;

/// Length of the authentication tag that follows the sealed bytes.
pub const TAG_LEN: usize = 16;
/// Nonce length of ChaCha20-Poly1305.
pub const NONCE_LEN: usize = 12;
/// Nonce length of XChaCha20-Poly1305.
pub const XNONCE_LEN: usize = 24;
/// The nonce of a key that seals exactly one message.
pub const NONCE_ZERO: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// A detached authentication tag.
pub type Tag = [u8; TAG_LEN];
/// A nonce of ChaCha20-Poly1305.
pub type Nonce = [u8; NONCE_LEN];
/// A nonce of XChaCha20-Poly1305.
pub type XNonce = [u8; XNONCE_LEN];

/// Draws a nonce for XChaCha20-Poly1305.
pub fn random_xnonce<R: rand_core::CryptoRng + ?Sized>(dice: &mut R) -> XNonce {
    let mut nonce = [0; XNONCE_LEN];
    dice.fill_bytes(&mut nonce);
    nonce
}

/// Seals with ChaCha20-Poly1305: cipher text followed by the tag.
///
/// # Panics
/// If `plain` is longer than 256 GiB; every format limits it far below.
pub fn seal(key: &[u8; 32], nonce: &Nonce, ad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = with_room(plain);
    let tag = seal_in_place(key, nonce, ad, &mut out);
    out.extend_from_slice(&tag);
    out
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`Refusal::Tag`] if key, nonce, associated data or any byte differs, or fewer than 16 bytes are given.
pub fn open(key: &[u8; 32], nonce: &Nonce, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (text, tag) = split_tag(sealed)?;
    let mut out = text.to_vec();
    open_in_place(key, nonce, ad, &mut out, tag)?;
    Ok(out)
}

/// Seals `buffer` with ChaCha20-Poly1305 where it lies and returns the tag.
///
/// # Panics
/// As [`seal`].
pub fn seal_in_place(key: &[u8; 32], nonce: &Nonce, ad: &[u8], buffer: &mut [u8]) -> Tag {
    seal_with(&ChaCha20Poly1305::new(key.into()), nonce.into(), ad, buffer)
}

/// Opens `buffer` where it lies. The tag is checked before anything is decrypted.
///
/// # Errors
/// [`Refusal::Tag`]; `buffer` then still holds cipher text.
pub fn open_in_place(
    key: &[u8; 32],
    nonce: &Nonce,
    ad: &[u8],
    buffer: &mut [u8],
    tag: &Tag,
) -> Result<(), Refusal> {
    open_with(&ChaCha20Poly1305::new(key.into()), nonce.into(), ad, buffer, tag)
}

/// Seals with XChaCha20-Poly1305: cipher text followed by the tag.
///
/// # Panics
/// As [`seal`].
pub fn xseal(key: &[u8; 32], nonce: &XNonce, ad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = with_room(plain);
    let tag = xseal_in_place(key, nonce, ad, &mut out);
    out.extend_from_slice(&tag);
    out
}

/// Opens what [`xseal`] made.
///
/// # Errors
/// As [`open`].
pub fn xopen(key: &[u8; 32], nonce: &XNonce, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (text, tag) = split_tag(sealed)?;
    let mut out = text.to_vec();
    xopen_in_place(key, nonce, ad, &mut out, tag)?;
    Ok(out)
}

/// Seals `buffer` with XChaCha20-Poly1305 where it lies and returns the tag.
///
/// # Panics
/// As [`seal`].
pub fn xseal_in_place(key: &[u8; 32], nonce: &XNonce, ad: &[u8], buffer: &mut [u8]) -> Tag {
    seal_with(&XChaCha20Poly1305::new(key.into()), nonce.into(), ad, buffer)
}

/// Opens `buffer` where it lies. The tag is checked before anything is decrypted.
///
/// # Errors
/// [`Refusal::Tag`]; `buffer` then still holds cipher text.
pub fn xopen_in_place(
    key: &[u8; 32],
    nonce: &XNonce,
    ad: &[u8],
    buffer: &mut [u8],
    tag: &Tag,
) -> Result<(), Refusal> {
    open_with(&XChaCha20Poly1305::new(key.into()), nonce.into(), ad, buffer, tag)
}

/// Seals with XChaCha20-Poly1305 and writes the nonce in front: nonce 24, cipher text, tag 16.
///
/// # Panics
/// As [`seal`].
pub fn xseal_prefixed(key: &[u8; 32], nonce: &XNonce, ad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XNONCE_LEN + plain.len() + TAG_LEN);
    out.extend_from_slice(nonce);
    out.extend_from_slice(plain);
    let tag = xseal_in_place(key, nonce, ad, &mut out[XNONCE_LEN..]);
    out.extend_from_slice(&tag);
    out
}

/// Opens what [`xseal_prefixed`] made.
///
/// # Errors
/// As [`open`]; [`Refusal::Tag`] as well if there is no room for a nonce.
pub fn xopen_prefixed(key: &[u8; 32], ad: &[u8], stored: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (nonce, sealed) = stored.split_first_chunk::<XNONCE_LEN>().ok_or(Refusal::Tag)?;
    xopen(key, nonce, ad, sealed)
}

fn with_room(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() + TAG_LEN);
    out.extend_from_slice(plain);
    out
}

fn split_tag(sealed: &[u8]) -> Result<(&[u8], &Tag), Refusal> {
    sealed.split_last_chunk::<TAG_LEN>().ok_or(Refusal::Tag)
}

fn seal_with<A: AeadInOut<TagSize = chacha20poly1305::consts::U16>>(
    cipher: &A,
    nonce: &chacha20poly1305::aead::Nonce<A>,
    ad: &[u8],
    buffer: &mut [u8],
) -> Tag {
    cipher
        .encrypt_inout_detached(nonce, ad, InOutBuf::from(buffer))
        .expect("a message is shorter than 256 GiB")
        .into()
}

fn open_with<A: AeadInOut<TagSize = chacha20poly1305::consts::U16>>(
    cipher: &A,
    nonce: &chacha20poly1305::aead::Nonce<A>,
    ad: &[u8],
    buffer: &mut [u8],
    tag: &Tag,
) -> Result<(), Refusal> {
    cipher.decrypt_inout_detached(nonce, ad, InOutBuf::from(buffer), tag.into()).map_err(|_| Refusal::Tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, section 2.8.2.
    #[test]
    fn the_rfc_8439_example_is_reproduced() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce: Nonce = hex::decode("070000004041424344454647").unwrap().try_into().unwrap();
        let ad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let plain =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let sealed = seal(&key, &nonce, &ad, plain);
        assert_eq!(hex::encode(&sealed[..16]), "d31a8d34648e60db7b86afbc53ef7ec2");
        assert_eq!(hex::encode(&sealed[plain.len()..]), "1ae10b594f09e26a7e902ecbd0600691");
        assert_eq!(open(&key, &nonce, &ad, &sealed).unwrap(), plain);
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_xchacha_example_is_reproduced() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce: XNonce = std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap());
        let ad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let plain =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let sealed = xseal(&key, &nonce, &ad, plain);
        assert_eq!(hex::encode(&sealed[..16]), "bd6d179d3e83d43b9576579493c0e939");
        assert_eq!(hex::encode(&sealed[plain.len()..]), "c0875924c1c7987947deafd8780acf49");
        assert_eq!(xopen(&key, &nonce, &ad, &sealed).unwrap(), plain);
    }

    #[test]
    fn every_form_agrees_and_every_change_is_refused() {
        let (key, nonce, xnonce) = ([1; 32], [2; NONCE_LEN], [3; XNONCE_LEN]);
        for len in [0, 1, 16, 64, 1_000] {
            let plain = vec![9; len];
            let short = seal(&key, &nonce, b"ad", &plain);
            let long = xseal(&key, &xnonce, b"ad", &plain);
            let stored = xseal_prefixed(&key, &xnonce, b"ad", &plain);
            assert_eq!(stored[XNONCE_LEN..], long);
            assert_eq!(xopen_prefixed(&key, b"ad", &stored).unwrap(), plain);
            for at in 0..short.len() {
                let mut changed = short.clone();
                changed[at] ^= 0x10;
                assert_eq!(open(&key, &nonce, b"ad", &changed), Err(Refusal::Tag));
                let mut changed = long.clone();
                changed[at] ^= 0x10;
                assert_eq!(xopen(&key, &xnonce, b"ad", &changed), Err(Refusal::Tag));
            }
            assert_eq!(open(&key, &nonce, b"", &short), Err(Refusal::Tag));
            assert_eq!(xopen(&key, &xnonce, b"", &long), Err(Refusal::Tag));
        }
        for cut in 0..XNONCE_LEN + TAG_LEN {
            assert_eq!(xopen_prefixed(&key, b"", &vec![0; cut]), Err(Refusal::Tag));
        }
        assert_eq!(open(&key, &nonce, b"", &[0; TAG_LEN - 1]), Err(Refusal::Tag));
    }

    #[test]
    fn a_refused_buffer_keeps_its_cipher_text() {
        let mut buffer = *b"some plain text";
        let mut tag = xseal_in_place(&[1; 32], &[2; XNONCE_LEN], b"", &mut buffer);
        let sealed = buffer;
        tag[0] ^= 1;
        let answer = xopen_in_place(&[1; 32], &[2; XNONCE_LEN], b"", &mut buffer, &tag);
        assert_eq!((answer, buffer), (Err(Refusal::Tag), sealed));
    }
}
