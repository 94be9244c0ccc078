//! Judging proofs: who the client is and what it may ask.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::capability::verify::{check_chain, check_standing};
use locker_crypto::capability::{Capability, Facts, Scope, VerifiedChains};
use locker_crypto::id::{LinkTag, PersonId, SpaceTag, TokenId, VerifyingKey};

use super::Grant;
use super::proof::{Proof, Proofs};

/// What a person is to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The person whose device this is.
    Own,
    /// A contact.
    Contact,
}

/// What is known of a person whose devices may prove themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// What the person is to this node.
    pub standing: Standing,
    /// Its active devices.
    pub active: BTreeSet<VerifyingKey>,
    /// Its current root key.
    pub root: VerifyingKey,
    /// What its devices may ask.
    pub grants: Vec<Grant>,
}

/// A link that this node serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkEntry {
    /// The registered key.
    pub key: VerifyingKey,
    /// The token held for it.
    pub token: Capability,
}

/// What this node knows when it judges proofs. Present facts, not those of the connection's beginning.
#[derive(Clone, Copy)]
pub struct Directory<'a> {
    /// Own person and contacts.
    pub persons: &'a BTreeMap<PersonId, Person>,
    /// The links that are served.
    pub links: &'a BTreeMap<LinkTag, LinkEntry>,
    /// The facts about tokens of a space; `None` for a space that this node does not serve.
    pub facts: &'a dyn Fn(&SpaceTag) -> Option<Facts<'a>>,
}

/// Who a client proved to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admission {
    /// A device of a person.
    pub device: Option<(PersonId, VerifyingKey, Standing)>,
    /// A holder of the phrase of this person: may read what `recover` needs.
    pub root: Option<PersonId>,
    /// The tokens it is the audience of.
    pub tokens: Vec<TokenId>,
    /// The links it holds.
    pub links: Vec<LinkTag>,
    /// What it may ask, all proofs together.
    pub grants: Vec<Grant>,
    /// When the first of its tokens ends, unix seconds; the session ends with it.
    pub expires_s: Option<u64>,
}

impl Admission {
    /// Whether the client is an active device of this node's own person.
    pub fn is_own_device(&self) -> bool {
        matches!(self.device, Some((_, _, Standing::Own)))
    }

    /// Whether the client proved to hold the phrase, and nothing else.
    pub fn is_root_alone(&self) -> bool {
        self.root.is_some() && self.device.is_none() && self.tokens.is_empty() && self.links.is_empty()
    }

    /// Returns the device, if one proved itself.
    pub fn device_key(&self) -> Option<VerifyingKey> {
        self.device.map(|(_, device, _)| device)
    }

    fn add(&mut self, token: &Capability) {
        self.grants.push(grant_of(token));
        let expires = token.expires();
        self.expires_s = Some(self.expires_s.map_or(expires, |before| before.min(expires)));
    }
}

impl Proofs {
    /// Judges every proof. One that fails fails them all.
    ///
    /// Costs one signature check for each proof and up to four for each token that is not in `chains`.
    ///
    /// # Errors
    /// [`Refusal::Rights`] for an unknown person, device or space; [`Refusal::Audience`] for an unknown link, or a
    /// token that is another's; [`Refusal::Pop`]; those of [`check_chain`] and [`check_standing`].
    pub fn judge(
        &self,
        directory: &Directory<'_>,
        chains: &mut VerifiedChains,
    ) -> Result<Admission, Refusal> {
        let mut admission = Admission::default();
        for proof in &self.list {
            match proof {
                Proof::Device { person, device, .. } => {
                    let known = directory.persons.get(person).ok_or(Refusal::Rights)?;
                    if !known.active.contains(device) {
                        return Err(Refusal::Rights);
                    }
                    proof.check(device, &self.transcript)?;
                    admission.device = Some((*person, *device, known.standing));
                    admission.grants.extend_from_slice(&known.grants);
                }
                Proof::Root { root, .. } => {
                    // By the root key that counts now: one whose place another has taken is nobody's.
                    let known = directory.persons.iter().find(|(_, known)| known.root == *root);
                    let (person, known) = known.ok_or(Refusal::Rights)?;
                    proof.check(&known.root, &self.transcript)?;
                    admission.root = Some(*person);
                }
                Proof::Token { token, .. } => {
                    judge_token(token, directory, chains)?;
                    proof.check(&token.audience(), &self.transcript)?;
                    admission.tokens.push(token.id());
                    admission.add(token);
                }
                Proof::Link { tag, .. } => {
                    let LinkEntry { key, token } = directory.links.get(tag).ok_or(Refusal::Audience)?;
                    proof.check(key, &self.transcript)?;
                    if token.audience() != *key {
                        return Err(Refusal::Audience);
                    }
                    judge_token(token, directory, chains)?;
                    admission.links.push(*tag);
                    admission.add(token);
                }
            }
        }
        Ok(admission)
    }
}

fn judge_token(
    token: &Capability,
    directory: &Directory<'_>,
    chains: &mut VerifiedChains,
) -> Result<(), Refusal> {
    let facts = (directory.facts)(&token.space_tag()).ok_or(Refusal::Rights)?;
    check_chain(token, chains)?;
    check_standing(token, &facts)
}

/// The grant of a whole token. Kind 1 keeps its folder from block to block, so that the last one names it.
fn grant_of(token: &Capability) -> Grant {
    let folder = token.blocks().iter().rev().find_map(|block| match block.grant().scope {
        Scope::Space => None,
        Scope::Folder(folder) => Some(folder),
    });
    Grant { tag: token.space_tag(), rights: token.rights(), folder }
}
