//! Adding a block to a token: its audience passes on a part (`docs/spec/06-capabilities.md`).

use rand_core::CryptoRng;

use super::block::Grant;
use super::issue::sign_block;
use super::{BLOCKS_MAX, Capability};
use crate::Refusal;
use crate::id::VerifyingKey;
use crate::sign::Signing;

impl Capability {
    /// Passes on a part of this token. Conditions ([`super::Terms`]) of the blocks above go on to hold whatever the
    /// new block says.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for a grant that must not exist; [`Refusal::Key`] for an invalid or weak audience;
    /// [`Refusal::Chain`] if `holder` is not the audience of this token or the grant names another space; the errors
    /// of [`Grant::check_under`] for a grant that is wider than this token.
    pub fn narrow<R: CryptoRng + ?Sized>(
        &self,
        holder: &Signing,
        grant: Grant,
        dice: &mut R,
    ) -> Result<Self, Refusal> {
        let block = sign_block(holder, grant, self.id(), dice)?;
        if block.issuer != self.audience() || grant.space_tag != self.space_tag() {
            return Err(Refusal::Chain);
        }
        grant.check_under(&self.last().grant)?;
        if self.blocks.len() >= BLOCKS_MAX {
            return Err(Refusal::Depth);
        }
        let mut blocks = self.blocks.clone();
        blocks.push(block);
        Ok(Self::of(blocks))
    }

    /// Returns a grant for `audience` that holds all that this token can pass on, for the caller to restrict.
    pub fn heir(&self, audience: VerifyingKey) -> Grant {
        let last = self.last().grant;
        Grant { audience, depth: last.depth.saturating_sub(1), ..last }
    }
}
