//! Capability tokens: who may do what in which space until when (`docs/spec/06-capabilities.md`).
//!
//! A token is a chain of one to four signed blocks. The first is issued by a device or root of a person who may
//! share; each further one is written by the audience of the one before and grants a part of it. READ in a token is
//! the right to be *served*: keys come from boxes, so that a forged token yields cipher text at most.
//!
//! Here: the bytes ([`block`]), making tokens ([`Capability::issue`], [`Capability::narrow`]) and judging them
//! ([`verify`](mod@verify)). Never here: where the facts of a space come from, and what a request does once it is
//! allowed.

pub mod block;
mod issue;
mod narrow;
pub mod verify;

pub use block::{Block, Grant, Quota, Rights, Scope, Terms};
pub use verify::{Facts, Holder, Registration, Request, VerifiedChains, verify};

use crate::Refusal;
use crate::id::{SpaceTag, TokenId, VerifyingKey};
use crate::layout::strip_magic;

/// Most blocks of one token.
pub const BLOCKS_MAX: usize = 4;
/// Length of the longest token in bytes.
pub const CAPABILITY_LEN_MAX: usize = HEAD_LEN + BLOCKS_MAX * block::BLOCK_LEN;

const MAGIC: &[u8; 4] = b"LKC1";
const HEAD_LEN: usize = 5;

/// A capability token whose bytes have the allowed form (step 1 of the verification) and nothing more: signatures,
/// chain and window are judged by [`verify()`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capability {
    /// One to four blocks, the first issued by the sharing person.
    blocks: Vec<Block>,
    /// `h_1..h_n`, one for each block.
    ids: Vec<TokenId>,
}

impl Capability {
    /// Reads a token: step 1 of the verification, form and rules inside each block.
    ///
    /// # Errors
    /// [`Refusal::Version`] for the magic of another version; [`Refusal::Canon`] for every other deviation.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let rest = strip_magic(bytes, MAGIC)?;
        let (count, rest) = rest.split_first().ok_or(Refusal::Canon)?;
        let (blocks, tail) = rest.as_chunks::<{ block::BLOCK_LEN }>();
        if !(1..=BLOCKS_MAX).contains(&blocks.len())
            || blocks.len() != usize::from(*count)
            || !tail.is_empty()
        {
            return Err(Refusal::Canon);
        }
        let blocks = blocks.iter().map(Block::decode).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(blocks))
    }

    /// Writes the token: 5 + 205 n bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_LEN + self.blocks.len() * block::BLOCK_LEN);
        out.extend_from_slice(MAGIC);
        out.push(u8::try_from(self.blocks.len()).expect("a token has at most four blocks"));
        for block in &self.blocks {
            out.extend_from_slice(&block.encode());
        }
        out
    }

    /// Returns the token id `h_n`. It covers every byte of every block except the signatures.
    pub fn id(&self) -> TokenId {
        self.ids[self.ids.len() - 1]
    }

    /// Returns `h_1..h_n`. Revoking one of them revokes this token.
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// Returns `h_1`, the id under which the share register holds the token.
    pub fn root_id(&self) -> TokenId {
        self.ids[0]
    }

    /// Returns the blocks, first to last.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Returns the key that issued the first block.
    pub fn issuer(&self) -> VerifyingKey {
        self.blocks[0].issuer
    }

    /// Returns the key that may use the token: the audience of the last block.
    pub fn audience(&self) -> VerifyingKey {
        self.last().grant.audience
    }

    /// Returns the space that the token is about.
    pub fn space_tag(&self) -> SpaceTag {
        self.blocks[0].grant.space_tag
    }

    /// Returns the rights of the whole token. In a verified chain those of the last block; here their intersection,
    /// so that nothing is gained by asking too early.
    pub fn rights(&self) -> Rights {
        self.blocks.iter().fold(Rights::ALL, |rights, block| rights & block.grant.rights)
    }

    /// Returns when the first of all windows ends, in unix seconds.
    pub fn expires(&self) -> u64 {
        self.blocks.iter().map(|block| block.grant.expires).min().unwrap_or(0)
    }

    /// Puts blocks together and computes their ids. The caller has one to four of them.
    fn of(blocks: Vec<Block>) -> Self {
        let mut above = TokenId::ZERO;
        let ids = blocks
            .iter()
            .map(|block| {
                above = block.id_under(above);
                above
            })
            .collect();
        Self { blocks, ids }
    }

    fn last(&self) -> &Block {
        &self.blocks[self.blocks.len() - 1]
    }
}

#[cfg(test)]
mod tests;
