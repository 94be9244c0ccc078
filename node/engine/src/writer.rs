//! The one writer: gathers operations, signs entries, commits (`docs/spec/08-at-rest.md`, "Order of a write").
//!
//! A change is one durable transaction. What it reads is the state that it will be written on; when it fails nothing of
//! it is there. An entry leaves this process, or is told to anybody, only after its commit.

use std::collections::BTreeMap;

use locker_catalog::epochs::member_set_hash;
use locker_catalog::operation::{Body, EntryRef, Epoch, NodeKind, Op, Role};
use locker_catalog::roster::Roster;
use locker_catalog::rows::{ReadRows, RowError};
use locker_catalog::space::{OpenedEntry, Outcome, OwnState, Space};
use locker_catalog::tree::{self as catalog, Bounds, Fold, Listed, Node, Shown, limits};
use locker_crypto::Refusal;
use locker_crypto::encode::Writer;
use locker_crypto::entry::{self, Place};
use locker_crypto::epoch::Bundle;
use locker_crypto::id::{EntryId, EpochId, NodeId, PackHash, PinId, SpaceTag, VerifyingKey};
use locker_crypto::identity::DeviceKeys;
use locker_crypto::pack::PackOp;
use locker_crypto::person;
use locker_crypto::pin::{DELTA_PACKS_MAX, PinDelta};
use locker_crypto::secret::{EpochSecret, LogKey, PersonKey};
use locker_crypto::sign::Signing;
use locker_store::index::{self, Loc, Naming, NewPack, PackState};
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::pins::{self, PinScope};
use locker_store::{Reads, WriteTxn, objects};

use crate::limits::{ENTRY_BYTES, ENTRY_OPS};
use crate::locker::Inner;
use crate::rebirth::Doubt;
use crate::tree::{node, resolve};
use crate::{Env, Error};

/// A change under way: operations that are not committed yet, and the state they are made on.
pub(crate) struct Change<'a, 's> {
    inner: &'a Inner,
    txn: &'a mut WriteTxn<'s>,
    space: Space,
    ops: Vec<Op>,
    ops_len: usize,
    count: usize,
    packs: Vec<PackHash>,
    drops: Vec<PackHash>,
    /// What every entry of this change begins with.
    lead: Option<Op>,
    /// The epoch that the entry under way begins.
    begun: Option<EpochId>,
}

impl Inner {
    /// Makes a change durable: everything that `change` pushes, or nothing.
    ///
    /// # Errors
    /// That of `change`; [`Error::Limit`], [`Error::Name`] and [`Error::Refused`] for an operation that a writer must
    /// not write; what committing gives.
    pub(crate) fn commit<T>(
        &self,
        change: impl FnOnce(&mut Change<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let store = self.store()?;
        let mut txn = store.begin_write()?;
        // The transaction is exclusive, and so is the space that belongs to its rows.
        let mut slot = self.space();
        let space = match slot.take() {
            Some(space) => space,
            None => Space::open(&txn.rows(self.space_tag()), self.keys().space, self.keys().device_id())?,
        };
        let mut open = Change {
            inner: self,
            txn: &mut txn,
            space,
            ops: Vec::new(),
            ops_len: 0,
            count: 0,
            packs: Vec::new(),
            drops: Vec::new(),
            lead: None,
            begun: None,
        };
        let done = change(&mut open).and_then(|value| {
            open.seal()?;
            open.pin()?;
            Ok(value)
        });
        let space = open.space;
        match done.and_then(|value| txn.commit().map(|()| value).map_err(Error::from)) {
            Ok(value) => {
                *slot = Some(space);
                self.note_commit();
                Ok(value)
            }
            Err(error) => {
                *slot = self.reopened(space);
                Err(error)
            }
        }
    }

    /// The home space as it is committed, after a change was given up; what waited in it waits on. Nothing if it cannot be read
    /// now: then whoever needs it opens it.
    pub(crate) fn reopened(&self, given_up: Space) -> Option<Space> {
        let snapshot = self.store().ok()?.read().ok()?;
        let mut space =
            Space::open(&snapshot.rows(self.space_tag()), given_up.id(), self.keys().device_id()).ok()?;
        space.adopt_waiting(given_up);
        Some(space)
    }
}

impl<'s> Change<'_, 's> {
    /// Adds an operation.
    pub(crate) fn push(&mut self, op: Op) -> Result<(), Error> {
        let mut w = Writer::new();
        op.encode(&mut w);
        if self.ops.len() >= ENTRY_OPS || self.ops_len + w.len() > ENTRY_BYTES {
            self.seal()?;
        }
        if self.ops.is_empty() {
            self.push_lead()?;
        }
        self.ops_len += w.len();
        self.count += 1;
        self.ops.push(op);
        Ok(())
    }

    /// Makes every entry of this change begin with an operation.
    pub(crate) fn lead_with(&mut self, op: Op) {
        self.lead = Some(op);
    }

    /// Begins an entry, even if nothing else is to stand in it.
    pub(crate) fn push_lead(&mut self) -> Result<(), Error> {
        if let Some(lead) = self.lead.clone().filter(|_| self.ops.is_empty()) {
            let mut w = Writer::new();
            lead.encode(&mut w);
            self.ops_len += w.len();
            self.ops.push(lead);
        }
        Ok(())
    }

    /// Looks at the state that this change is made on.
    pub(crate) fn look<T>(
        &self,
        look: impl FnOnce(&Space, &dyn ReadRows) -> Result<T, RowError>,
    ) -> Result<T, Error> {
        Ok(look(&self.space, &self.rows())?)
    }

    /// Adds a pack that is durable: its operation, its chunks, its pin.
    pub(crate) fn add_pack(&mut self, pack: &PackOp) -> Result<(), Error> {
        let locs: Vec<Loc> =
            pack.locs().iter().map(|loc| Loc { tag: loc.tag, sealed_len: loc.sealed_len }).collect();
        let state = PackState::Present { verified_at: self.inner.env().now_ms() / 1_000 };
        let new = NewPack { len: pack.len(), state, locs: &locs };
        index::add_pack(self.txn, &self.inner.space_tag(), &pack.hash(), &new)?;
        self.packs.push(pack.hash());
        self.push(Op::Pack(pack.clone()))
    }

    /// Notes a pack that a device of the person sent and that is durable here now, and pins it.
    pub(crate) fn hold_pack(&mut self, hash: &PackHash) -> Result<(), Error> {
        let state = PackState::Present { verified_at: self.inner.env().now_ms() / 1_000 };
        index::set_state(self.txn, hash, state)?;
        let keys = self.inner.keys();
        let scope = PinScope { space: keys.tag, author: keys.device_id() };
        // One that was lost for a time is pinned still.
        if !pins::is_pinned(self.txn, &scope, hash)? {
            self.packs.push(*hash);
        }
        Ok(())
    }

    /// Pins a pack that is here.
    pub(crate) fn pin_again(&mut self, hash: &PackHash) -> Result<(), Error> {
        let pack = index::pack(self.txn, hash)?;
        if pack.is_some_and(|pack| matches!(pack.state, PackState::Present { .. })) {
            self.packs.push(*hash);
        }
        Ok(())
    }

    /// Drops this device's pin of a pack, if there is one.
    pub(crate) fn unpin(&mut self, hash: &PackHash) -> Result<(), Error> {
        let keys = self.inner.keys();
        let scope = PinScope { space: keys.tag, author: keys.device_id() };
        if pins::is_pinned(self.txn, &scope, hash)? {
            self.drops.push(*hash);
        }
        Ok(())
    }

    /// The count of commits that this change is made on.
    pub(crate) fn state(&self) -> u64 {
        *self.inner.commits().borrow()
    }

    /// Number of operations pushed.
    pub(crate) fn op_count(&self) -> usize {
        self.count
    }

    /// Begins an epoch with the next entry, for those who hold `key`; its secret and its bundle are kept here.
    pub(crate) fn begin_epoch(&mut self, key: &PersonKey) -> Result<(), Error> {
        self.seal()?;
        let (keys, tag) = (self.inner.keys(), self.inner.space_tag());
        let secret = EpochSecret::random(&mut **self.inner.env().dice());
        let parents = self.space.epochs().leaves();
        let mut backs = Vec::with_capacity(parents.len());
        for parent in &parents {
            let older = keyring::get::<EpochSecret, _>(self.txn, &SpaceEpoch { space: tag, epoch: *parent })?;
            backs.push(older.map(|older| secret.seal_back(&older)));
        }
        let epoch = Epoch {
            id: secret.id(),
            parents,
            member_set_hash: member_set_hash(&self.space.access().members()),
            backs,
        };
        let (recipient, signing) = (key.box_keys(), keys.device.signing());
        let dice = &mut **self.inner.env().dice();
        let bundle = Bundle::seal(&keys.space, &secret, signing, [recipient.public()], dice);
        let bundle = bundle.map_err(Error::Refused)?.encode();
        objects::put_bundle(self.txn, &tag, &epoch.id, &bundle);
        keyring::put(self.txn, &SpaceEpoch { space: tag, epoch: epoch.id }, &secret);
        self.begun = Some(epoch.id);
        self.push(Op::Epoch(epoch))
    }

    /// Appends an entry to the person log. Gives the log and what it comes to.
    pub(crate) fn append_person(
        &mut self,
        entries: Vec<person::Entry>,
        made: &person::Made,
    ) -> Result<(Vec<person::Entry>, Roster), Error> {
        self.inner.append_person(self.txn, &mut self.space, entries, made)
    }

    /// The last entry that is held of every author, and how many entries count of those that were ended.
    pub(crate) fn ends(&self) -> Result<(Vec<EntryRef>, BTreeMap<VerifyingKey, u64>), Error> {
        Ok((self.space.heads(&self.rows())?, self.space.access().removed_authors()))
    }

    /// Tells the space the root key of the person that is current.
    pub(crate) fn note_root(&mut self, root: VerifyingKey) -> Result<(), Error> {
        let keys = self.inner.keys();
        Ok(self.space.set_root(&mut self.txn.rows_mut(keys.tag), keys.person, root)?)
    }

    /// Ends here what is held of a device, so that what follows knows of it.
    pub(crate) fn end_hold(&mut self, author: &VerifyingKey) -> Result<(), Error> {
        self.seal()?;
        let tag = self.inner.space_tag();
        Ok(self.space.end_hold(&mut self.txn.rows_mut(tag), author)?)
    }

    /// The transaction, for rows beside the log.
    pub(crate) fn txn(&mut self) -> &mut WriteTxn<'s> {
        self.txn
    }

    /// Draws the id of a new folder.
    pub(crate) fn new_folder(&self) -> NodeId {
        new_node(self.inner.env(), NodeKind::Folder)
    }

    /// Follows a path; [`Error::NotFound`] if there is nothing.
    pub(crate) fn resolve(&self, parts: &[&str]) -> Result<NodeId, Error> {
        resolve(&self.rows(), parts)
    }

    /// Follows a path; `None` if there is nothing.
    pub(crate) fn find(&self, parts: &[&str]) -> Result<Option<NodeId>, Error> {
        Ok(catalog::lookup(&self.rows(), parts)?)
    }

    /// Reads a node that another row names.
    pub(crate) fn node(&self, id: NodeId) -> Result<Node, Error> {
        node(&self.rows(), id)
    }

    /// The child that is shown under a name.
    pub(crate) fn child(&self, folder: NodeId, name: &str) -> Result<Option<Listed>, Error> {
        Ok(catalog::child(&self.rows(), folder, name)?)
    }

    /// The child that is shown under a name, or under one that differs from it in case only.
    pub(crate) fn alike(&self, folder: NodeId, name: &str) -> Result<Option<Listed>, Error> {
        Ok(catalog::alike(&self.rows(), folder, name)?)
    }

    /// Whether a node has a meta item.
    pub(crate) fn has_meta(&self, node: NodeId, item: &str) -> Result<bool, Error> {
        Ok(catalog::meta(&self.rows(), node, item)?.is_some())
    }

    /// Plans a step of folding on the state that this change is made on. To be called before anything is pushed.
    pub(crate) fn plan_fold(&self, bounds: Bounds) -> Result<Fold, Error> {
        Ok(catalog::fold(&self.rows(), &self.space, bounds)?)
    }

    /// Whether this device may write into the space at all, as things are now.
    pub(crate) fn may_write(&self) -> Result<bool, Error> {
        let state = self.space.own_state(&self.rows(), self.inner.env().now_ms())?;
        let role = self.space.own_role();
        let may = matches!(role, Role::Write | Role::Manage) && !self.space.is_read_only();
        Ok(may && state == OwnState::Fine)
    }

    /// Takes groups off the list of those to be looked at.
    pub(crate) fn settle_fold(&mut self, groups: &[Vec<u8>]) -> Result<(), Error> {
        let tag = self.inner.space_tag();
        Ok(catalog::settle(&mut self.txn.rows_mut(tag), groups)?)
    }

    /// Whether `node` is `folder` or lies below it.
    pub(crate) fn is_within(&self, node: NodeId, folder: NodeId) -> Result<bool, Error> {
        let mut at = node;
        while at != NodeId::ROOT && at != NodeId::TRASH {
            if at == folder {
                return Ok(true);
            }
            at = self.node(at)?.parent;
        }
        Ok(at == folder)
    }

    /// The rows, of the tree as this device shows it.
    fn rows(&self) -> impl ReadRows + '_ {
        Shown::choose(self.txn.rows(self.inner.space_tag()), self.space.is_apart())
    }

    /// Signs the operations so far as one entry and takes it in.
    pub(crate) fn seal(&mut self) -> Result<(), Error> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let ops = std::mem::take(&mut self.ops);
        self.ops_len = 0;
        let keys = self.inner.keys();
        let now_ms = self.inner.env().now_ms();
        let body = self.body(ops, now_ms)?;
        let epoch = match self.begun.take() {
            Some(begun) => begun,
            None => self.epoch()?,
        };
        let log_key = keys.log_key(self.txn, &epoch)?;
        let head = self.space.own_head(&self.rows())?;
        let (seq, prev) = head.map_or((0, EntryId::ZERO), |head| (head.seq + 1, head.id));
        let place = Place { space_tag: keys.tag, seq, prev, epoch };
        let entry = sign(&place, body, &log_key, keys.device.signing(), self.inner.env())?;
        let ops = entry.body.ops.clone();
        let naming = Naming { hlc: entry.body.hlc, author: entry.author };
        let (outcome, refused) = self.space.write(&mut self.txn.rows_mut(keys.tag), entry, now_ms)?;
        // What would have no effect is not written: the whole change is given up, the signed entry with it.
        match refused.first() {
            Some((index, why)) => Err(self.refusal(ops.get(usize::from(*index)), *why)),
            None => {
                for op in &ops {
                    if let Op::Pack(pack) = op {
                        index::note_naming(self.txn, &keys.tag, &pack.hash(), &naming)?;
                    }
                }
                taken(outcome)
            }
        }
    }

    /// What the next entry says: the operations, the clock, and the heads of others that it knows.
    fn body(&self, ops: Vec<Op>, now_ms: u64) -> Result<Body, Error> {
        Doubt::refuse(self.txn)?;
        let rows = self.rows();
        match self.space.own_state(&rows, now_ms)? {
            // Ahead of a clock that may itself be behind: only others can tell which, and then there is another key.
            // Until then what is written follows what is known, and `status` says so; refusing would make the device
            // useless.
            OwnState::Fine | OwnState::Ahead => {}
            OwnState::Removed => return Err(Error::Refused(Refusal::Frontier)),
            OwnState::Forked => return Err(Error::Refused(Refusal::Fork)),
        }
        let deps = self.space.deps_for_new_entry(&rows)?;
        let hlc = self.space.next_hlc(&rows, &deps, self.inner.now())?.map_err(Error::Refused)?;
        Ok(Body { hlc, deps, ops })
    }

    /// Says in a person's words what a writer must not write.
    fn refusal(&self, op: Option<&Op>, why: Refusal) -> Error {
        match (why, op) {
            (Refusal::Name, Some(Op::Move(moved))) => Error::Name { name: moved.name.clone() },
            (Refusal::Cycle, Some(Op::Move(moved))) => Error::IntoItself(moved.name.clone()),
            (Refusal::Limit, Some(Op::Move(moved))) => Error::Limit(format!(
                "{:?} cannot be put there: a folder holds at most {} things, folders nest at most {} deep, and a \
                 locker holds at most {}",
                moved.name,
                limits::WRITER.children,
                limits::WRITER.depth,
                limits::WRITER.nodes
            )),
            (Refusal::Limit, Some(Op::Content(_))) => {
                Error::Limit(format!("a file has at most {} versions at once", limits::WRITER.versions))
            }
            _ => Error::Refused(why),
        }
    }

    /// The epoch that is written under.
    fn epoch(&self) -> Result<EpochId, Error> {
        self.space.epochs().head().map(|epoch| epoch.id).ok_or_else(crate::keys::not_heard_yet)
    }

    /// Pins the packs of this change, and drops the pins that it lets go. A device that may not sign holds packs all the same,
    /// and pins them with its next key; it lets nothing go.
    fn pin(&mut self) -> Result<(), Error> {
        let (packs, drops) = (std::mem::take(&mut self.packs), std::mem::take(&mut self.drops));
        if packs.is_empty() && drops.is_empty() {
            return Ok(());
        }
        if Doubt::stops(self.txn)? {
            return if drops.is_empty() { Ok(()) } else { Err(Error::Restored) };
        }
        let keys = self.inner.keys();
        pin(self.txn, keys.tag, &keys.device, packs, drops)
    }
}

/// Pins packs of a space under the name of a device, which signs, and drops others: at most one delta's worth of these.
pub(crate) fn pin(
    txn: &mut WriteTxn<'_>,
    space_tag: SpaceTag,
    device: &DeviceKeys,
    adds: Vec<PackHash>,
    drops: Vec<PackHash>,
) -> Result<(), Error> {
    let author = device.verifying_key();
    let scope = PinScope { space: space_tag, author };
    let (mut seq, mut prev) = match pins::newest(txn, &scope)? {
        Some((seq, bytes)) => {
            let (_, id) = PinDelta::open(&bytes).map_err(|why| Error::damaged("a pin delta", why))?;
            (seq + 1, id)
        }
        None => (0, PinId::ZERO),
    };
    let mut deltas: Vec<_> = adds.chunks(DELTA_PACKS_MAX).map(|adds| (adds.to_vec(), Vec::new())).collect();
    match deltas.last_mut() {
        Some((adds, last)) if adds.len() + drops.len() <= DELTA_PACKS_MAX => *last = drops,
        _ if !drops.is_empty() => deltas.push((Vec::new(), drops)),
        _ => {}
    }
    for (adds, drops) in deltas {
        let delta = PinDelta { space_tag, author, seq, prev, adds, drops };
        let signed = delta.sign(device.signing()).map_err(Error::Refused)?;
        let stored = pins::PinDelta { seq, bytes: &signed.bytes, adds: &delta.adds, drops: &delta.drops };
        pins::apply(txn, &scope, &stored);
        (seq, prev) = (seq + 1, signed.id);
    }
    Ok(())
}

/// Seals and signs an entry; it is not in the log yet.
pub(crate) fn sign(
    place: &Place,
    body: Body,
    key: &LogKey,
    author: &Signing,
    env: &Env,
) -> Result<OpenedEntry, Error> {
    let sealed = entry::seal(place, &body.write(), key, author, &mut **env.dice()).map_err(Error::Refused)?;
    Ok(OpenedEntry {
        id: sealed.id,
        author: author.verifying_key(),
        seq: place.seq,
        prev: place.prev,
        epoch: place.epoch,
        sealed: sealed.bytes,
        body,
    })
}

/// Whether an own entry is in the log now.
///
/// # Errors
/// [`Error::Refused`] if it is not: this device may not write, or has been copied.
pub(crate) fn taken(outcome: Outcome) -> Result<(), Error> {
    match outcome {
        Outcome::Taken => Ok(()),
        Outcome::Refused(why) | Outcome::Waiting(why) => Err(Error::Refused(why)),
        Outcome::Held | Outcome::Deferred => Err(Error::Refused(Refusal::Fork)),
    }
}

/// Draws the id of a new node. That of a file begins with the time, so that files taken in together lie together in the
/// database; that of a folder is random, for it may stand in a token that others see (`docs/spec/05-tree.md`).
pub(crate) fn new_node(env: &Env, kind: NodeKind) -> NodeId {
    let mut bytes = [0; NodeId::LEN];
    env.dice().fill_bytes(&mut bytes);
    if kind == NodeKind::File {
        bytes[..6].copy_from_slice(&env.now_ms().to_be_bytes()[2..]);
    }
    NodeId(bytes)
}
