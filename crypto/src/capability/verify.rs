//! Judging a token: the numbered steps of `docs/spec/06-capabilities.md`, in that order, stopping at the first
//! failure.
//!
//! The steps need facts about the space and the node; they come as [`Facts`], plain sets that the caller folds from
//! the logs. [`verify()`] runs all steps for a request. The opener of a capsule has neither register nor request and
//! runs [`check_chain`] and [`check_standing`] alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::Capability;
use super::block::{Quota, Rights, Scope};
use crate::Refusal;
use crate::id::{NodeId, TokenId, VerifyingKey};
use crate::sign::{self, Domain, Signature, check_key};

/// How far a clock may be behind the issuer's, in seconds.
pub const SKEW_S: u64 = 120;
/// Greatest age of the newest manager heartbeat under FRESH, in seconds.
pub const HEARTBEAT_AGE_MAX_S: u64 = 7 * 86_400;

/// What the node knows about the space and about itself.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Time, unix seconds.
    pub now: u64,
    /// Roots and active devices of the persons who may share in this space; on a blind replica, of the person who
    /// enrolled it.
    pub issuers: &'a BTreeSet<VerifyingKey>,
    /// Removed devices of such persons, each with the ids `h_1` that were registered at or below its frontier. A key
    /// in both lists counts as removed.
    pub removed: &'a BTreeMap<VerifyingKey, BTreeSet<TokenId>>,
    /// Revoked token ids and revoked keys.
    pub revoked: &'a BTreeSet<[u8; 32]>,
    /// Age of the newest manager heartbeat seen, in seconds; `None` if none was ever seen.
    pub heartbeat_age_s: Option<u64>,
    /// Which tokens must be in the share register.
    pub registration: Registration<'a>,
    /// Bytes stored so far under each token id, over its whole life and whichever child stored them. Absent: none.
    pub used_bytes: &'a BTreeMap<TokenId, u64>,
}

/// Which tokens must be in the share register (step 9).
#[derive(Clone, Copy)]
pub enum Registration<'a> {
    /// A node with keys: tokens under REGISTERED, and every token with a link among its audiences. A key that is not
    /// listed as a party counts as a link.
    Full {
        /// The ids `h_1` in the register.
        register: &'a BTreeSet<TokenId>,
        /// Every device, root and replica key that the node knows.
        parties: &'a BTreeSet<VerifyingKey>,
    },
    /// A blind node: tokens under REGISTERED.
    Flagged {
        /// The ids `h_1` in the register.
        register: &'a BTreeSet<TokenId>,
    },
    /// The opener of a capsule, who has no register.
    Unknown,
}

/// How the presenter of a token shows that it is his (step 10).
#[derive(Clone, Copy)]
pub enum Holder<'a> {
    /// By a signature over the transcript of this session (`docs/spec/06-capabilities.md`, "Proof of possession").
    Signs {
        /// th: the hash of the handshake.
        transcript: &'a [u8; 32],
        /// `sig "locker-v1 pop"` over `th || h_n`.
        pop: &'a Signature,
    },
    /// The session has already proved that the presenter holds this key.
    Proved(VerifyingKey),
}

/// What is asked for (step 11).
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The right that it takes, mostly one.
    pub rights: Rights,
    /// For WRITE and DEPOSIT: the folder it goes to and all folders above that one, in any order. Empty means the
    /// space at large, which only a token for the whole space allows.
    pub folders: &'a [NodeId],
    /// Bytes that it would store.
    pub bytes: u64,
}

/// Tokens whose chain and signatures were found good, so that a second look costs no signature check.
///
/// Bounded: when full, the oldest goes. A token id does not cover the signatures, and so an entry counts only for
/// the very bytes that were checked.
pub struct VerifiedChains {
    capacity: usize,
    known: HashMap<TokenId, [u8; 32]>,
    order: VecDeque<TokenId>,
}

impl VerifiedChains {
    /// Makes a cache for `capacity` tokens; with 0 it remembers nothing.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, known: HashMap::new(), order: VecDeque::new() }
    }

    /// Number of tokens remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn holds(&self, token: &Capability) -> bool {
        self.known.get(&token.id()) == Some(&digest(token))
    }

    fn remember(&mut self, token: &Capability) {
        if self.capacity == 0 {
            return;
        }
        if self.known.insert(token.id(), digest(token)).is_some() {
            return;
        }
        self.order.push_back(token.id());
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Judges a token for a request: steps 1 to 11. Returns the token, whose grant then covers the request.
///
/// Costs up to four signature checks, none if the chain is in `chains`, and one more for the proof of possession.
///
/// # Errors
/// The error of the first step that fails.
pub fn verify(
    bytes: &[u8],
    chains: &mut VerifiedChains,
    facts: &Facts<'_>,
    holder: &Holder<'_>,
    request: &Request<'_>,
) -> Result<Capability, Refusal> {
    let token = Capability::decode(bytes)?;
    check_chain(&token, chains)?;
    check_standing(&token, facts)?;
    check_holder(&token, holder)?;
    check_request(&token, facts, request)?;
    Ok(token)
}

/// Steps 2 to 5: the chain in itself, whatever the time and the space. Remembers it in `chains`.
///
/// # Errors
/// [`Refusal::Key`], [`Refusal::Chain`], those of [`super::Grant::check_under`], [`Refusal::Sig`].
pub fn check_chain(token: &Capability, chains: &mut VerifiedChains) -> Result<(), Refusal> {
    if chains.holds(token) {
        return Ok(());
    }
    let blocks = token.blocks();
    for block in blocks {
        check_key(&block.issuer)?;
        check_key(&block.grant.audience)?;
    }
    let pairs = || blocks.windows(2).map(|pair| (&pair[0], &pair[1]));
    for (parent, child) in pairs() {
        if child.issuer != parent.grant.audience || child.grant.space_tag != parent.grant.space_tag {
            return Err(Refusal::Chain);
        }
    }
    for (parent, child) in pairs() {
        child.grant.check_under(&parent.grant)?;
    }
    for (block, id) in blocks.iter().zip(token.ids()) {
        sign::verify(&block.issuer, Domain::Cap, id.as_bytes(), &block.signature)?;
    }
    chains.remember(token);
    Ok(())
}

/// Steps 6 to 9: the token at this time in this space. Call it after [`check_chain`].
///
/// # Errors
/// [`Refusal::Time`], [`Refusal::Rights`], [`Refusal::Frontier`], [`Refusal::Revoked`], [`Refusal::Unregistered`].
pub fn check_standing(token: &Capability, facts: &Facts<'_>) -> Result<(), Refusal> {
    check_window(token, facts.now)?;
    check_issuer(token, facts)?;
    check_revocation(token, facts)?;
    check_registration(token, facts)
}

/// Step 10: the token belongs to who presents it.
///
/// # Errors
/// [`Refusal::Audience`] if the presenter is known under another key; [`Refusal::Pop`] if his signature is not by
/// the audience over this session and this token.
pub fn check_holder(token: &Capability, holder: &Holder<'_>) -> Result<(), Refusal> {
    match holder {
        Holder::Proved(key) if *key == token.audience() => Ok(()),
        Holder::Proved(_) => Err(Refusal::Audience),
        Holder::Signs { transcript, pop } => {
            sign::verify(&token.audience(), Domain::Pop, &possession_message(transcript, token), pop)
                .map_err(|_| Refusal::Pop)
        }
    }
}

/// Returns the bytes that the audience signs under [`Domain::Pop`]: `th || h_n`.
pub fn possession_message(transcript: &[u8; 32], token: &Capability) -> [u8; 64] {
    let mut message = [0; 64];
    message[..32].copy_from_slice(transcript);
    message[32..].copy_from_slice(token.id().as_bytes());
    message
}

/// Step 11: the request lies inside the token.
///
/// # Errors
/// [`Refusal::Rights`], [`Refusal::Scope`], [`Refusal::Quota`]. A request for no right is refused as well.
pub fn check_request(token: &Capability, facts: &Facts<'_>, request: &Request<'_>) -> Result<(), Refusal> {
    let blocks = token.blocks();
    if request.rights.is_empty() || !token.rights().contains(request.rights) {
        return Err(Refusal::Rights);
    }
    let writes = request.rights & (Rights::WRITE | Rights::DEPOSIT) != Rights::NONE;
    let inside = |scope| match scope {
        Scope::Space => true,
        Scope::Folder(folder) => request.folders.contains(&folder),
    };
    if writes && !blocks.iter().all(|block| inside(block.grant.scope)) {
        return Err(Refusal::Scope);
    }
    let left = |id: &TokenId, quota: Quota| {
        quota.map_or(u64::MAX, |most| {
            most.get().saturating_sub(facts.used_bytes.get(id).copied().unwrap_or(0))
        })
    };
    let least = blocks.iter().zip(token.ids()).map(|(block, id)| left(id, block.grant.quota)).min();
    if least.is_none_or(|least| request.bytes > least) {
        return Err(Refusal::Quota);
    }
    Ok(())
}

/// Step 6.
fn check_window(token: &Capability, now: u64) -> Result<(), Refusal> {
    let open = token
        .blocks()
        .iter()
        .all(|block| block.grant.not_before <= now.saturating_add(SKEW_S) && now < block.grant.expires);
    if open { Ok(()) } else { Err(Refusal::Time) }
}

/// Step 7.
fn check_issuer(token: &Capability, facts: &Facts<'_>) -> Result<(), Refusal> {
    let issuer = token.issuer();
    match facts.removed.get(&issuer) {
        Some(kept) if kept.contains(&token.root_id()) => Ok(()),
        Some(_) => Err(Refusal::Frontier),
        None if facts.issuers.contains(&issuer) => Ok(()),
        None => Err(Refusal::Rights),
    }
}

/// Step 8.
fn check_revocation(token: &Capability, facts: &Facts<'_>) -> Result<(), Refusal> {
    let revoked = token.ids().iter().any(|id| facts.revoked.contains(id.as_bytes()))
        || token.blocks().iter().any(|block| facts.revoked.contains(block.grant.audience.as_bytes()));
    if revoked {
        return Err(Refusal::Revoked);
    }
    let fresh = token.blocks().iter().any(|block| block.grant.terms.fresh);
    if fresh && facts.heartbeat_age_s.is_none_or(|age| age > HEARTBEAT_AGE_MAX_S) {
        return Err(Refusal::Time);
    }
    Ok(())
}

/// Step 9.
fn check_registration(token: &Capability, facts: &Facts<'_>) -> Result<(), Refusal> {
    let flagged = token.blocks().iter().any(|block| block.grant.terms.registered);
    let (register, required) = match facts.registration {
        Registration::Full { register, parties } => {
            (register, flagged || token.blocks().iter().any(|block| !parties.contains(&block.grant.audience)))
        }
        Registration::Flagged { register } => (register, flagged),
        Registration::Unknown => return Ok(()),
    };
    if required && !register.contains(&token.root_id()) { Err(Refusal::Unregistered) } else { Ok(()) }
}

/// Names the exact bytes of a token, signatures included.
fn digest(token: &Capability) -> [u8; 32] {
    *blake3::hash(&token.encode()).as_bytes()
}
