//! The share register of the home space: which links there are, by the log (`docs/spec/07-links.md`, "Share register").

use std::collections::{BTreeMap, BTreeSet};

use locker_catalog::operation::Op;
use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_crypto::capability::{Facts, Registration};
use locker_crypto::id::{LinkTag, ObjectHash, PersonId, SpaceTag, TokenId, VerifyingKey};
use locker_crypto::person::{self, Entry};
use locker_crypto::rendezvous::PERIOD_S;
use locker_crypto::secret::RendezvousSecret;
use locker_crypto::share::{Extent, Registered};
use locker_store::{Reads, Snapshot, objects};
use locker_sync::handshake::LinkEntry;

use crate::Error;
use crate::keys::person_log;
use crate::locker::Inner;

/// How long after its end a link is still answered, with a refusal, so that its holder does not meet silence: at most 7
/// days (`docs/spec/10-limits.md`).
const AFTERLIFE_S: u64 = 7 * PERIOD_S;
/// Links that are answered at once; of more, the newest.
const DOORS_MAX: usize = 1_024;

/// One link.
#[derive(Clone)]
pub(crate) struct Door {
    /// Its public name.
    pub(crate) tag: LinkTag,
    /// The key by which its holder proves himself.
    pub(crate) key: VerifyingKey,
    /// The key that boxes for it are sealed to.
    pub(crate) link_box: ObjectHash,
    /// What only this person reads.
    pub(crate) registered: Registered,
    /// When it ends, unix seconds.
    pub(crate) expires_s: u64,
    /// When it was made, unix milliseconds by the clock of its maker.
    pub(crate) created_ms: u64,
    /// Whether it was revoked.
    pub(crate) is_revoked: bool,
    /// Until when its holder is answered, unix seconds.
    heard_until_s: u64,
    /// Whether its capsule and what it gives are here, so that this node can serve it.
    is_ready: bool,
}

impl Door {
    /// Whether its holder is answered, be it with a refusal. A node that could only say yes and give nothing stays
    /// silent, so that another one is asked.
    fn is_heard(&self, now_s: u64) -> bool {
        let is_over = self.is_revoked || now_s >= self.expires_s;
        (is_over || self.is_ready) && now_s < self.heard_until_s
    }

    /// The objects that a serving node needs.
    fn objects(&self) -> impl Iterator<Item = ObjectHash> {
        [Some(self.registered.capsule), self.registered.extent, Some(self.link_box)].into_iter().flatten()
    }
}

/// Every link of this person, and what their tokens are judged by.
#[derive(Clone, Default)]
pub(crate) struct Register {
    doors: Vec<Door>,
    issuers: BTreeSet<VerifyingKey>,
    removed: BTreeMap<VerifyingKey, BTreeSet<TokenId>>,
    revoked: BTreeSet<[u8; 32]>,
    tokens: BTreeSet<TokenId>,
    parties: BTreeSet<VerifyingKey>,
    used: BTreeMap<TokenId, u64>,
}

impl Register {
    /// Reads the register from the log. Links whose private half does not open here are not this person's.
    pub(crate) fn read(inner: &Inner, snapshot: &Snapshot) -> Result<Self, Error> {
        let keys = inner.keys();
        let space = Space::open(&snapshot.rows(keys.tag), keys.space, keys.device_id())?;
        let roster = Roster::read(keys.person, &person_log(snapshot, &keys.person)?);
        Self::of(inner, snapshot, &space, &roster)
    }

    /// The same for who has the space and the roster at hand.
    pub(crate) fn of(
        inner: &Inner,
        snapshot: &Snapshot,
        space: &Space,
        roster: &Roster,
    ) -> Result<Self, Error> {
        let keys = inner.keys();
        let root = roster.root;
        let mut register = Self {
            issuers: roster.admitted().into_iter().chain([root]).collect(),
            parties: roster.brought_in.iter().copied().chain([root]).collect(),
            ..Self::default()
        };
        let mut revoked_at_s: BTreeMap<[u8; 32], u64> = BTreeMap::new();
        for standing in space.standing_ops(&snapshot.rows(keys.tag))? {
            if standing.verdict.is_err() {
                continue;
            }
            match standing.op {
                Op::Share(share) => {
                    let root = TokenId(share.token);
                    let Ok(registered) = Registered::open(keys.person_keys()?, &root, &share.sealed) else {
                        continue;
                    };
                    let author = standing.at.entry.author;
                    if !roster.brought_in.contains(&author) || roster.removed.contains_key(&author) {
                        register.removed.entry(author).or_default().insert(root);
                    }
                    register.tokens.insert(root);
                    register.doors.push(Door {
                        tag: LinkTag(share.link_tag),
                        key: share.link_sign,
                        link_box: share.link_box,
                        registered,
                        expires_s: share.expires,
                        created_ms: standing.at.entry.hlc >> 16,
                        is_revoked: false,
                        heard_until_s: share.expires.saturating_add(AFTERLIFE_S),
                        is_ready: false,
                    });
                }
                Op::Revoke(revoke) => {
                    register.revoked.insert(revoke.target);
                    // The first one counts.
                    revoked_at_s.entry(revoke.target).or_insert((standing.at.entry.hlc >> 16) / 1_000);
                }
                _ => {}
            }
        }
        for door in &mut register.doors {
            let names = [door.registered.token.root_id().0, door.key.0];
            if let Some(at_s) = names.iter().filter_map(|name| revoked_at_s.get(name)).min() {
                door.is_revoked = true;
                door.heard_until_s = door.expires_s.min(at_s.saturating_add(AFTERLIFE_S));
            }
            let mut is_ready = true;
            for hash in door.objects() {
                is_ready &= objects::holds(snapshot, &hash)?;
            }
            door.is_ready = is_ready;
        }
        Ok(register)
    }

    /// Every link that was made, in the order of the log.
    pub(crate) fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// The links whose holders are answered now, be it with a refusal; of very many the newest.
    pub(crate) fn heard(&self, now_s: u64) -> impl Iterator<Item = &Door> {
        // Those that are open come before those that have ended, or many of these would hide one of those.
        let is_open = move |door: &&Door| !door.is_revoked && now_s < door.expires_s;
        let open = self.doors.iter().rev().filter(is_open);
        let ended = self.doors.iter().rev().filter(move |door| !is_open(door));
        open.chain(ended).filter(move |door| door.is_heard(now_s)).take(DOORS_MAX)
    }

    /// The secrets under which these links are found.
    pub(crate) fn secrets(&self, now_s: u64) -> Vec<RendezvousSecret> {
        self.heard(now_s).map(|door| door.registered.rendezvous.clone()).collect()
    }

    /// What a link's holder is judged by.
    pub(crate) fn entries(&self, now_s: u64) -> BTreeMap<LinkTag, LinkEntry> {
        let entry = |door: &Door| LinkEntry { key: door.key, token: door.registered.token.clone() };
        self.heard(now_s).map(|door| (door.tag, entry(door))).collect()
    }

    /// The facts about the token of a link; `None` for a space that no link gives.
    pub(crate) fn facts(&self, tag: &SpaceTag, now_s: u64) -> Option<Facts<'_>> {
        let is_known = self.doors.iter().any(|door| door.registered.token.space_tag() == *tag);
        is_known.then_some(Facts {
            now: now_s,
            issuers: &self.issuers,
            removed: &self.removed,
            revoked: &self.revoked,
            heartbeat_age_s: None,
            registration: Registration::Full { register: &self.tokens, parties: &self.parties },
            used_bytes: &self.used,
        })
    }

    /// The link with a public name.
    pub(crate) fn door(&self, tag: &LinkTag) -> Option<&Door> {
        self.doors.iter().find(|door| door.tag == *tag)
    }

    /// Whether a link's holder may still be served.
    pub(crate) fn is_open(&self, tag: &LinkTag, now_s: u64) -> bool {
        let open = |door: &Door| !door.is_revoked && now_s < door.expires_s;
        self.door(tag).is_some_and(open)
    }

    /// Objects that links in use name and that are not here.
    pub(crate) fn missing_objects(&self, snapshot: &Snapshot, now_s: u64) -> Result<Vec<ObjectHash>, Error> {
        let mut missing = Vec::new();
        for door in self.doors.iter().filter(|door| !door.is_revoked && now_s < door.expires_s) {
            for hash in door.objects() {
                if !objects::holds(snapshot, &hash)? {
                    missing.push(hash);
                }
            }
        }
        Ok(missing)
    }
}

/// What a link gives; `None` if that has not come here yet.
pub(crate) fn extent(snapshot: &Snapshot, inner: &Inner, door: &Door) -> Result<Option<Extent>, Error> {
    let Some(hash) = door.registered.extent else { return Ok(None) };
    let Some(object) = objects::get(snapshot, &hash)? else { return Ok(None) };
    let root = door.registered.token.root_id();
    Extent::open(inner.keys().person_keys()?, &root, &object)
        .map(Some)
        .map_err(|why| Error::damaged("what a link gives", why))
}

/// The entries of a person log from its beginning to the one that brought `device` in, in an order in which a stranger
/// can check them; `None` if the log does not lead there.
pub(super) fn path_to(log: &[Entry], person: &PersonId, device: &VerifyingKey) -> Option<Vec<Vec<u8>>> {
    let mut entries: Vec<&Entry> = log.iter().collect();
    entries.sort_by_key(|entry| (entry.body.hlc, entry.author, entry.seq));
    let first = entries.first()?.to_bytes(person);
    let mut roster = person::Roster::begin(&first).ok()?;
    let mut path = vec![first];
    for entry in entries.into_iter().skip(1) {
        if roster.is_active(device) {
            break;
        }
        let bytes = entry.to_bytes(person);
        // What does not fit here was made without knowing the rest; the way may lead on without it.
        if roster.append(&bytes).is_ok() {
            path.push(bytes);
        }
    }
    roster.is_active(device).then_some(path)
}
