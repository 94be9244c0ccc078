//! Writing entries without the program: the store of a home opened with its own keys, its device as one author, and a
//! second device of the person, made up here, as the other. Entries are sealed, signed, chained and taken in as the
//! engine does it (`writer.rs`, `node/ledger.rs`).

use std::path::Path;
use std::time::Duration;

use locker_catalog::operation::{Body, EntryRef, Op};
use locker_catalog::roster::Roster;
use locker_catalog::space::{OpenedEntry, Outcome, Space};
use locker_crypto::entry::{self, Envelope, Place};
use locker_crypto::id::{EntryId, EpochId, NodeId, PersonId, SpaceId, SpaceTag, VerifyingKey, VersionId};
use locker_crypto::identity::{DeviceKeys, PersonKeys};
use locker_crypto::person::{self, Author, Candidate, Entry};
use locker_crypto::secret::{BoxSeed, EpochSecret, LogKey, PersonKey, SigningSeed, VaultKey};
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::settings::{self, Setting};
use locker_store::{Home, Limits, Reads, Store, WriteTxn, objects, persons};
use rand_core::{Rng, UnwrapErr};

use crate::Failure;

/// Which device writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    /// The device of the home.
    Own,
    /// The second device.
    Other,
}

/// The opened home.
pub(crate) struct Pen {
    store: Store,
    space: Option<Space>,
    id: SpaceId,
    tag: SpaceTag,
    person: PersonId,
    own: DeviceKeys,
    other: DeviceKeys,
    epoch: EpochId,
    key: LogKey,
}

/// The last entry of an author, and its clock.
#[derive(Clone, Copy)]
pub(crate) struct Tip {
    /// Its place in the chain; `None` before the first.
    pub(crate) name: Option<EntryRef>,
    /// Its clock.
    pub(crate) hlc: u64,
}

fn dice() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

impl Pen {
    /// Opens a home whose vault key lies in a file; gives the time that the store took.
    pub(crate) fn open(path: &Path) -> Result<(Self, Duration), Failure> {
        let start = std::time::Instant::now();
        let home = Home::open(path)?;
        let file = home.read_vault("key")?.ok_or("the vault is not of the kind `file`")?;
        let vault = VaultKey::from_slice(file.get(4..).ok_or("the vault is too short")?)?;
        let mut store = Store::open(home, &vault, Box::new(dice()), Limits::default())?;
        store.recover()?;
        let taken = start.elapsed();
        let snapshot = store.read()?;
        let missing = || Failure::from("the home is not complete");
        let person =
            PersonId::from_slice(&settings::get(&snapshot, Setting::engine(0))?.ok_or_else(missing)?)?;
        let id = SpaceId::from_slice(&settings::get(&snapshot, Setting::engine(1))?.ok_or_else(missing)?)?;
        let tag = entry::space_tag(&id);
        let signing = keyring::get::<SigningSeed, _>(&snapshot, &())?.ok_or_else(missing)?;
        let boxes = keyring::get::<BoxSeed, _>(&snapshot, &())?.ok_or_else(missing)?;
        let own = DeviceKeys::from_seeds(signing, boxes);
        let other = DeviceKeys::from_seeds(SigningSeed::new([0x51; 32]), BoxSeed::new([0x52; 32]));
        let space = Space::open(&snapshot.rows(tag), id, own.verifying_key())?;
        let epoch = space.epochs().head().ok_or_else(missing)?.id;
        let secret = keyring::get::<EpochSecret, _>(&snapshot, &SpaceEpoch { space: tag, epoch })?;
        let key = secret.ok_or_else(missing)?.log_key();
        drop(snapshot);
        Ok((Self { store, space: Some(space), id, tag, person, own, other, epoch, key }, taken))
    }

    /// Closes the home.
    pub(crate) fn close(self) -> Result<(), Failure> {
        self.store.close()?;
        Ok(())
    }

    /// The key of a device.
    fn device(&self, hand: Hand) -> &DeviceKeys {
        match hand {
            Hand::Own => &self.own,
            Hand::Other => &self.other,
        }
    }

    /// The key of a device in logs.
    pub(crate) fn vk(&self, hand: Hand) -> VerifyingKey {
        self.device(hand).verifying_key()
    }

    /// Adds the second device to the person, as pairing does.
    pub(crate) fn enrol(&mut self, now_ms: u64) -> Result<(), Failure> {
        let person = self.person;
        let snapshot = self.store.read()?;
        let mut entries = Vec::new();
        for bytes in persons::all(&snapshot, &person)? {
            entries.push(Entry::read(&person, &bytes)?);
        }
        let last = entries.iter().max_by_key(|entry| entry.seq).ok_or("the person log is empty")?;
        let place =
            person::Place { seq: last.seq + 1, prev: last.id, hlc: last.body.hlc + 1, deps: Vec::new() };
        let generations = keyring::all::<PersonKey, _>(&snapshot)?.into_iter().map(|(_, key)| key).collect();
        let keys = PersonKeys::from_generations(generations)?;
        drop(snapshot);
        let author = Author { person, device: &self.own, place };
        let made = author.add_device(&Candidate::new(&person, &self.other), "other", &keys, &mut dice())?;
        entries.push(Entry::read(&person, &made.entry)?);
        let roster = Roster::read(person, &entries);
        self.change(|txn, space, tag| {
            persons::put(txn, &person, &made.id, &made.entry);
            for (_, object) in &made.objects {
                objects::put(txn, object);
            }
            space.set_roster(&mut txn.rows_mut(tag), person, &roster, now_ms)?;
            Ok(())
        })
    }

    /// Where the chain of a device stands.
    pub(crate) fn tip(&self, hand: Hand) -> Result<Tip, Failure> {
        let snapshot = self.store.read()?;
        let space = self.space.as_ref().ok_or("no space")?;
        let rows = snapshot.rows(self.tag);
        let vk = self.vk(hand);
        match space.heads(&rows)?.into_iter().find(|head| head.author == vk) {
            Some(head) => Ok(Tip { name: Some(head), hlc: self.at(hand, head.seq)?.1 }),
            None => Ok(Tip { name: None, hlc: 0 }),
        }
    }

    /// An entry of a device by its number: its name and its clock.
    pub(crate) fn at(&self, hand: Hand, seq: u64) -> Result<(EntryRef, u64), Failure> {
        let snapshot = self.store.read()?;
        let space = self.space.as_ref().ok_or("no space")?;
        let mut found = Err(Failure::from("there is no such entry"));
        space.sealed_from(&snapshot.rows(self.tag), &self.vk(hand), seq, &mut |sealed| {
            found = self.opened(sealed).map(|entry| {
                (EntryRef { author: entry.author, seq: entry.seq, id: entry.id }, entry.body.hlc)
            });
            std::ops::ControlFlow::Break(())
        })?;
        found
    }

    /// The versions of a file that are live now, ascending.
    pub(crate) fn versions(&self, node: NodeId) -> Result<Vec<VersionId>, Failure> {
        let snapshot = self.store.read()?;
        let found = locker_catalog::tree::node(&snapshot.rows(self.tag), node)?;
        let mut versions: Vec<VersionId> =
            found.map_or_else(Vec::new, |node| node.versions.iter().map(|version| version.vid).collect());
        versions.sort_unstable();
        Ok(versions)
    }

    /// Seals and signs the next entry of a device and moves its tip on.
    pub(crate) fn sign(
        &self,
        hand: Hand,
        tip: &mut Tip,
        hlc: u64,
        deps: Vec<EntryRef>,
        ops: Vec<Op>,
    ) -> Result<OpenedEntry, Failure> {
        let (seq, prev) = tip.name.map_or((0, EntryId::ZERO), |name| (name.seq + 1, name.id));
        let body = Body { hlc, deps, ops };
        let place = Place { space_tag: self.tag, seq, prev, epoch: self.epoch };
        let author = self.device(hand);
        let sealed = entry::seal(&place, &body.write(), &self.key, author.signing(), &mut dice())?;
        let author = author.verifying_key();
        *tip = Tip { name: Some(EntryRef { author, seq, id: sealed.id }), hlc };
        Ok(OpenedEntry { id: sealed.id, author, seq, prev, epoch: self.epoch, sealed: sealed.bytes, body })
    }

    /// Opens an entry that came from elsewhere: all checks that are made of one.
    fn opened(&self, bytes: &[u8]) -> Result<OpenedEntry, Failure> {
        let envelope = Envelope::parse(bytes)?;
        envelope.verify()?;
        envelope.check_space(&self.id)?;
        let header = envelope.header();
        let body = Body::read(envelope.open(Some(&self.key))?)?;
        Ok(OpenedEntry {
            id: envelope.id(),
            author: header.author,
            seq: header.seq,
            prev: header.prev,
            epoch: header.epoch,
            sealed: bytes.to_vec(),
            body,
        })
    }

    /// Writes own entries in one durable commit.
    pub(crate) fn write(&mut self, entries: Vec<OpenedEntry>, now_ms: u64) -> Result<(), Failure> {
        self.change(|txn, space, tag| {
            for entry in entries {
                let (outcome, refused) = space.write(&mut txn.rows_mut(tag), entry, now_ms)?;
                if outcome != Outcome::Taken || !refused.is_empty() {
                    return Err(format!("an entry was refused: {outcome:?} {refused:?}").into());
                }
            }
            Ok(())
        })
    }

    /// Takes entries of others in, from their bytes, in one durable commit. Gives how many operations of them have no
    /// effect.
    pub(crate) fn take(&mut self, entries: &[Vec<u8>], now_ms: u64) -> Result<usize, Failure> {
        let mut opened = Vec::with_capacity(entries.len());
        for bytes in entries {
            opened.push(self.opened(bytes)?);
        }
        self.change(|txn, space, tag| {
            let mut without = 0;
            for entry in opened {
                let order = entry.order();
                let report = space.accept(&mut txn.rows_mut(tag), entry, now_ms)?;
                if report.outcome != Outcome::Taken {
                    return Err(format!("an entry was not taken: {:?}", report.outcome).into());
                }
                without += locker_catalog::tree::problems_of(&txn.rows(tag), &order)?.len();
            }
            Ok(without)
        })
    }

    fn change<T>(
        &mut self,
        work: impl FnOnce(&mut WriteTxn<'_>, &mut Space, SpaceTag) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut space = self.space.take().ok_or("an earlier change failed")?;
        let mut txn = self.store.begin_write()?;
        let done = work(&mut txn, &mut space, self.tag)?;
        txn.commit()?;
        self.space = Some(space);
        Ok(done)
    }
}

/// A random node id.
pub(crate) fn random_node() -> NodeId {
    let mut bytes = [0; 16];
    dice().fill_bytes(&mut bytes);
    NodeId(bytes)
}
