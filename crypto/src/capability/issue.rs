//! Making the first block of a token (`docs/spec/06-capabilities.md`).

use rand_core::CryptoRng;

use super::Capability;
use super::block::{Block, Grant};
use crate::Refusal;
use crate::id::TokenId;
use crate::sign::{Domain, SIGNATURE_LEN, Signing, check_key};

impl Capability {
    /// Issues a token of one block. The caller is a device or root of a person who may share in the space; this
    /// function cannot know.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for a grant that must not exist; [`Refusal::Key`] for an invalid or weak audience.
    pub fn issue<R: CryptoRng + ?Sized>(
        issuer: &Signing,
        grant: Grant,
        dice: &mut R,
    ) -> Result<Self, Refusal> {
        let block = sign_block(issuer, grant, TokenId::ZERO, dice)?;
        Ok(Self::of(vec![block]))
    }
}

/// Signs a block that follows the block with id `above`.
pub(super) fn sign_block<R: CryptoRng + ?Sized>(
    issuer: &Signing,
    grant: Grant,
    above: TokenId,
    dice: &mut R,
) -> Result<Block, Refusal> {
    grant.check()?;
    check_key(&grant.audience)?;
    let mut nonce = [0; 16];
    dice.fill_bytes(&mut nonce);
    let mut block = Block { issuer: issuer.verifying_key(), grant, nonce, signature: [0; SIGNATURE_LEN] };
    block.signature = issuer.sign(Domain::Cap, block.id_under(above).as_bytes());
    Ok(block)
}
