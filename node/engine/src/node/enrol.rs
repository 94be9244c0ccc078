//! A new device in the person log, and what it is given (`docs/spec/02-identity.md`, "Person log").

mod replica;

use locker_catalog::clock;
use locker_catalog::roster::{Roster, connected};
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::epoch::Bundle;
use locker_crypto::id::VerifyingKey;
use locker_crypto::person::{Author, Entry, Head, Made, Place};
use locker_crypto::secret::{EpochSecret, RendezvousMaster};
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::{Reads, WriteTxn, objects, persons};
use locker_sync::pairing::{Enrol, Grant};

use crate::Error;
use crate::keys::{LogAndObjects, named_objects, person_log};
use crate::locker::Inner;
use crate::newcomers;
use crate::person_keys::refuse_unless_held;
use crate::rebirth::Doubt;

/// Entries or objects, each in its bytes.
type Sealed = Vec<Vec<u8>>;

impl Inner {
    /// Adds a device to the person, in one durable commit, and returns what it is given.
    ///
    /// # Errors
    /// [`Error::Refused`] if it did not sign for this person, or if this device may not add others any more;
    /// [`Error::Network`] if the key in use, which it is to be given, has not come yet; [`Error::Restored`].
    pub(crate) fn enrol(&self, enrol: &Enrol) -> Result<Grant, Error> {
        self.change_space(|txn, space| {
            Doubt::refuse(txn)?;
            let keys = self.keys();
            let entries = person_log(txn, &keys.person)?;
            refuse_unless_held(&keys, &entries, &Roster::read(keys.person, &entries))?;
            let place = self.person_place(&entries)?;
            let author = Author { person: keys.person, device: &keys.device, place };
            let candidate = enrol.candidate();
            let made = author
                .add_device(&candidate, &enrol.name, keys.person_keys()?, &mut **self.env().dice())
                .map_err(Error::Refused)?;
            let (entries, roster) = self.append_person(txn, space, entries, &made)?;
            if !roster.active.contains(&enrol.device) {
                return Err(Error::Refused(Refusal::Rights));
            }
            self.grant(txn, entries, enrol)
        })
    }

    /// Appends an entry to the person log. Gives the log and what it comes to.
    pub(crate) fn append_person(
        &self,
        txn: &mut WriteTxn<'_>,
        space: &mut Space,
        mut entries: Vec<Entry>,
        made: &Made,
    ) -> Result<(Vec<Entry>, Roster), Error> {
        let keys = self.keys();
        let before = Roster::read(keys.person, &entries);
        persons::put(txn, &keys.person, &made.id, &made.entry);
        for (_, object) in &made.objects {
            objects::put(txn, object);
        }
        entries.push(Entry::read(&keys.person, &made.entry).map_err(Error::Refused)?);
        let roster = Roster::read(keys.person, &entries);
        let now_ms = self.env().now_ms();
        newcomers::note(txn, &keys.device_id(), (&before, &roster), now_ms)?;
        let report = space.set_roster(&mut txn.rows_mut(keys.tag), keys.person, &roster, now_ms)?;
        // Entries whose time has come are taken in with it, and those of an author that it brings in.
        self.note_named(txn, space, &report.taken)?;
        Ok((entries, roster))
    }

    /// Where this device's next entry of the person log stands.
    pub(crate) fn person_place(&self, entries: &[Entry]) -> Result<Place, Error> {
        let own = self.keys().device_id();
        // An entry that names one whose own past is not all here would count for nothing itself.
        let connected = connected(entries);
        let newest = |author: &VerifyingKey| {
            let of = connected.iter().filter(|entry| entry.author == *author);
            of.max_by_key(|entry| (entry.seq, entry.id)).copied()
        };
        let last = newest(&own);
        let named = entries.iter().filter(|entry| entry.author == own).flat_map(|entry| &entry.body.deps);
        let named: Vec<Head> = named.copied().collect();
        // What counts for nothing is not named: it could hold any date.
        let authors = Roster::read(self.keys().person, entries).brought_in;
        let new = authors.iter().filter(|author| **author != own).filter_map(newest);
        let new: Vec<&Entry> = new.filter(|entry| !named.contains(&entry.head())).collect();
        let hlcs = new.iter().map(|entry| entry.body.hlc);
        let hlc = clock::next(last.map(|entry| entry.body.hlc), hlcs, self.now()).map_err(Error::Refused)?;
        let deps = new.iter().map(|entry| entry.head()).collect();
        Ok(match last {
            Some(last) => Place { seq: last.seq + 1, prev: last.id, hlc, deps },
            None => Place::first(hlc, deps),
        })
    }

    /// The person log and the objects that it names, for a drive.
    pub(crate) fn person_log_and_objects(&self) -> Result<LogAndObjects, Error> {
        let snapshot = self.store()?.read()?;
        let entries = person_log(&snapshot, &self.keys().person)?;
        self.log_and_objects(&snapshot, entries)
    }

    /// Gathers what a full device gets.
    fn grant(&self, txn: &WriteTxn<'_>, entries: Vec<Entry>, enrol: &Enrol) -> Result<Grant, Error> {
        let keys = self.keys();
        let (person_log, mut granted) = self.log_and_objects(txn, entries)?;
        for (id, secret) in &keyring::all::<EpochSecret, _>(txn)? {
            let SpaceEpoch { space, .. } = *id;
            if space != keys.tag {
                continue;
            }
            let recipient = keys.person_keys()?.newest().box_keys();
            let signing = keys.device.signing();
            let dice = &mut **self.env().dice();
            let bundle = Bundle::seal(&keys.space, secret, signing, [recipient.public()], dice);
            granted.push(bundle.map_err(Error::Refused)?.encode());
        }
        granted.sort_unstable();
        granted.dedup();
        Ok(Grant {
            role: enrol.role,
            person_log,
            person_key: Some((keys.person_keys()?.generation(), keys.person_keys()?.newest().clone())),
            master: keyring::newest::<RendezvousMaster, _>(txn)?,
            replicas: Vec::new(),
            objects: granted,
            custody: None,
        })
    }

    /// A person log in an order in which every entry fits, and the objects that it names.
    fn log_and_objects<R: Reads>(
        &self,
        reads: &R,
        mut entries: Vec<Entry>,
    ) -> Result<(Sealed, Sealed), Error> {
        // Whatever an entry names has a lesser clock.
        entries.sort_by_key(|entry| (entry.body.hlc, entry.author, entry.seq));
        let mut named = Vec::new();
        for hash in entries.iter().flat_map(named_objects) {
            named.extend(objects::get(reads, &hash)?);
        }
        let person = self.keys().person;
        Ok((entries.iter().map(|entry| entry.to_bytes(&person)).collect(), named))
    }
}
