//! What a recovery lacks: of the packs that are wanted and on nobody who was reached, those in which something lies that is
//! kept (`docs/spec/02-identity.md`, "Recovery").
//!
//! The pins of a device that was removed stand for ever. So a pack that everybody let go, because what is needed of it lies
//! in other packs and the time of the rest is over, is wanted by whoever comes later. What is kept is told here as where room
//! is given back (`gc`); in doubt everything is needed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use locker_catalog::clock;
use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_catalog::tree::{self as catalog, Standing};
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{PackHash, SpaceTag};
use locker_store::{Reads as _, Snapshot, index, pins};

use crate::Error;
use crate::keys::person_log;
use crate::limits::KEEP_MS;
use crate::locker::Inner;
use crate::reader::Reader;
use crate::report::Observer;
use crate::share::{Register, extent};

/// How many packs that are not here are needed: 0 if nothing that is kept lacks anything. If that cannot be said for sure, as
/// many as are wanted. To be asked when nothing more is to come. Cost: a walk over all files, if any pack is wanted.
///
/// # Errors
/// [`Error::Network`] if `observer` stopped it; what reading gives.
pub(super) fn needed_packs(inner: &Inner, observer: &dyn Observer) -> Result<usize, Error> {
    let wanted: BTreeSet<PackHash> = inner.wanted_packs()?.into_iter().map(|(hash, _)| hash).collect();
    if wanted.is_empty() {
        return Ok(0);
    }
    let store = inner.store()?;
    let snapshot = store.read()?;
    let mut look = Look {
        inner,
        snapshot: &snapshot,
        space: inner.space_tag(),
        reader: Reader::new(inner, &store, &snapshot),
        observer,
        wanted: &wanted,
        needed: BTreeSet::new(),
        is_blind: false,
        failure: None,
    };
    look.everything()?;
    let needed = look.needed.len();
    Ok(if look.is_blind { needed.max(wanted.len()) } else { needed })
}

/// A look at all that is kept, in one state of the database.
struct Look<'a> {
    inner: &'a Inner,
    snapshot: &'a Snapshot,
    space: SpaceTag,
    reader: Reader<'a>,
    observer: &'a dyn Observer,
    /// The packs that are wanted.
    wanted: &'a BTreeSet<PackHash>,
    /// Packs that are needed: of each chunk that is in none that is here, one of those in which it lies.
    needed: BTreeSet<PackHash>,
    /// Not everything can be seen, so that anything may be needed.
    is_blind: bool,
    failure: Option<Error>,
}

impl Look<'_> {
    fn everything(&mut self) -> Result<(), Error> {
        let (inner, snapshot) = (self.inner, self.snapshot);
        let keys = inner.keys();
        let rows = snapshot.rows(self.space);
        let space = Space::open(&rows, keys.space, keys.device_id())?;
        // What waits for its time counts later, what does not count is written again, and what is held here is decided about
        // first.
        let is_to_come = space.deferred(&rows)? > 0 || inner.is_to_write_again(snapshot, &space)?;
        self.is_blind = space.is_apart() || is_to_come;
        if self.is_blind {
            return Ok(());
        }
        let roster = Roster::read(keys.person, &person_log(snapshot, &keys.person)?);
        self.links(&Register::of(inner, snapshot, &space, &roster)?)?;
        catalog::walk_live(&rows, &mut |_, version, _| self.visit(&version.file, None))?;
        // What came to be past not long ago is kept; a clock that is ahead of this one counts as well.
        let since = clock::first_of(inner.env().now_ms().saturating_sub(KEEP_MS));
        let lately = (since, u64::MAX);
        catalog::walk_recently_past(&rows, lately, &mut |_, version, _| self.visit(&version.file, None))?;
        // Of what is past for longer nobody keeps anything but who says so: days of running may be fewer than days.
        let claimed = self.claimed(&roster)?;
        if !claimed.is_empty() {
            catalog::walk_versions(&rows, &mut |_, version, standing| match standing {
                Standing::Live => ControlFlow::Continue(()),
                Standing::Past => self.visit(&version.file, Some(&claimed)),
            })?;
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Notes what links give that last, or ended not long ago.
    fn links(&mut self, register: &Register) -> Result<(), Error> {
        let (now_s, wanted) = (self.inner.env().now_ms() / 1_000, self.wanted);
        let is_kept = |expires_s: u64| now_s < expires_s.saturating_add(KEEP_MS / 1_000);
        for door in register.doors().iter().filter(|door| !door.is_revoked && is_kept(door.expires_s)) {
            match extent(self.snapshot, self.inner, door) {
                // Where it is not known what a link gives, nobody is given anything by it.
                Ok(given) => {
                    let packs = given.into_iter().flat_map(|given| given.packs);
                    self.needed.extend(packs.filter(|pack| wanted.contains(pack)));
                }
                Err(Error::Integrity { .. }) => self.is_blind = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The wanted packs that somebody pins whose word counts.
    fn claimed(&self, roster: &Roster) -> Result<BTreeSet<PackHash>, Error> {
        let authors = roster.admitted();
        let mut claimed = BTreeSet::new();
        for hash in self.wanted {
            if pins::is_pinned_by(self.snapshot, &self.space, &authors, hash)? {
                claimed.insert(*hash);
            }
        }
        Ok(claimed)
    }

    /// Looks at a version, and ends the walk when no more can be learnt.
    fn visit(&mut self, file: &FileRef, claimed: Option<&BTreeSet<PackHash>>) -> ControlFlow<()> {
        if self.failure.is_none() && !self.is_blind {
            self.failure = self.version(file, claimed).err();
        }
        let is_over = self.failure.is_some() || self.is_blind;
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Notes what a version needs that is not here: all of it, or what lies in packs that are claimed.
    fn version(&mut self, file: &FileRef, claimed: Option<&BTreeSet<PackHash>>) -> Result<(), Error> {
        if self.observer.is_stopped() {
            return Err(super::stopped());
        }
        let (snapshot, space, wanted) = (self.snapshot, self.space, self.wanted);
        let Self { reader, needed, is_blind, .. } = self;
        let seen = reader.each_record(file, &mut |record, _| {
            let tag = record.tag();
            if index::is_here(snapshot, &space, &tag)? {
                return Ok(());
            }
            let places = index::places(snapshot, &space, &tag)?;
            let among = |packs: &BTreeSet<PackHash>| {
                places.iter().map(|place| place.pack).find(|pack| packs.contains(pack))
            };
            match claimed {
                Some(claimed) => needed.extend(among(claimed)),
                None => match among(wanted).or_else(|| places.first().map(|place| place.pack)) {
                    Some(pack) => _ = needed.insert(pack),
                    None => *is_blind = true,
                },
            }
            Ok(())
        });
        match seen {
            Ok(()) => Ok(()),
            // A list of its parts is gone. What is only claimed cannot be put together without it, whatever comes.
            Err(Error::Network(_)) if claimed.is_some() => Ok(()),
            Err(Error::Network(_) | Error::Integrity { .. }) => {
                self.is_blind = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use locker_crypto::id::VerifyingKey;
    use locker_store::index::{Loc, NewPack, PackState};
    use locker_store::pins::PinScope;

    use super::*;
    use crate::env::{Clock, system_dice};
    use crate::limits::KEEP_DAYS;
    use crate::recover::{Patience, check_complete};
    use crate::report::Silent;
    use crate::test_mesh::{World, id, names, pass};
    use crate::{Env, Locker, NodeOptions, RecoverFrom, RecoverOptions, Secret, Vault};

    const STALE: PackHash = PackHash([7; 32]);
    const DAY_MS: u64 = 86_400_000;

    /// The clock of the system, so many days later.
    struct Later(Env, u64);

    impl Clock for Later {
        fn now_ms(&self) -> u64 {
            self.0.now_ms() + self.1 * DAY_MS
        }

        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }

    /// A device with the files `stays` and `other`, each in a pack of its own, and one that it ended.
    fn ended() -> (World, Locker, VerifyingKey) {
        let (world, first) = World::new();
        let second = world.join(&first, "second");
        world.add(&first, "stays");
        world.add(&first, "other");
        first.revoke_device(&id(&second)).unwrap();
        (world, first, second.inner().keys().device_id())
    }

    /// The one pack in which a file lies, and what is in it.
    fn pack_of(locker: &Locker, path: &str) -> (PackHash, Vec<Loc>) {
        let inner = locker.inner();
        let snapshot = inner.store().unwrap().read().unwrap();
        let tree = crate::tree::Tree::new(&snapshot, inner.space_tag()).unwrap();
        let version = tree.node(tree.resolve(path).unwrap()).unwrap().versions[0].clone();
        let tag = version.file.records()[0].tag();
        let places = index::places(&snapshot, &inner.space_tag(), &tag).unwrap();
        (places[0].pack, index::locs(&snapshot, &places[0].pack).unwrap())
    }

    /// A pack with these chunks that is not here and that a device pins.
    fn want(locker: &Locker, author: VerifyingKey, locs: &[Loc]) {
        let inner = locker.inner();
        let space = inner.space_tag();
        let len: u32 = locs.iter().map(|loc| loc.sealed_len).sum();
        let wanted = inner.store().unwrap().write::<_, Error>(|txn| {
            let new = NewPack { len, state: PackState::Wanted, locs };
            index::add_pack(txn, &space, &STALE, &new)?;
            let delta = pins::PinDelta { seq: 0, bytes: &[], adds: &[STALE], drops: &[] };
            pins::apply(txn, &PinScope { space, author }, &delta);
            Ok(())
        });
        wanted.unwrap();
    }

    /// A pack is let go for good.
    fn let_go(locker: &Locker, pack: &PackHash) {
        let inner = locker.inner();
        let space = inner.space_tag();
        let gone =
            inner.store().unwrap().write::<_, Error>(|txn| Ok(index::remove_from_space(txn, &space, pack)?));
        gone.unwrap();
    }

    /// How many packs are missing for a recovery that takes this home for what came.
    fn missing(locker: &Locker) -> usize {
        let inner = locker.inner();
        let patience = |accept_missing, names_only| Patience { names_only, accept_missing };
        let checked = check_complete(&inner, patience(false, false), &Silent);
        let missing = needed_packs(&inner, &Silent).unwrap();
        match checked {
            Ok(()) => assert_eq!(missing, 0),
            Err(Error::Network(why)) => {
                assert!(missing > 0 && why.starts_with(&format!("{missing} packs are missing")), "{why}");
            }
            Err(error) => panic!("{error}"),
        }
        // Who gives it up, or wants no content yet, is not held up.
        for (accept_missing, names_only) in [(true, false), (false, true)] {
            check_complete(&inner, patience(accept_missing, names_only), &Silent).unwrap();
        }
        missing
    }

    /// Goal: a pack that everybody let go, and that only an ended device pins, is missing exactly if something in it is nowhere
    /// else and is kept. Method: such a pack beside those of two files, of which one goes, to the trash too, and gets old there.
    #[test]
    fn a_pack_that_all_let_go_is_missing_only_with_what_is_kept() {
        let (world, first, ended) = ended();
        let ((stays, mut locs), (other, others)) = (pack_of(&first, "stays"), pack_of(&first, "other"));
        assert_ne!(stays, other);
        locs.extend(others);
        want(&first, ended, &locs);
        assert_eq!(first.inner().wanted_packs().unwrap().len(), 1);
        assert_eq!(missing(&first), 0);
        let_go(&first, &other);
        assert_eq!(missing(&first), 1, "of a live file");
        first.remove("other").unwrap();
        assert_eq!(missing(&first), 1, "the trash is kept");
        drop(first);
        let open = |days| {
            let clock = Later(Env::system(), days);
            let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
            let env = Env::new(Box::new(clock), Box::new(system_dice()));
            Locker::open(&world.path("first"), env, none).unwrap()
        };
        assert_eq!(missing(&open(u64::from(KEEP_DAYS) - 1)), 1);
        let later = open(u64::from(KEEP_DAYS) + 1);
        assert_eq!(missing(&later), 0, "its time is over, and nobody whose word counts has it");
        // A device that did not run on so many days may keep it still, and says so.
        want(&later, later.inner().keys().device_id(), &locs);
        assert_eq!(missing(&later), 1);
    }

    /// Goal: in doubt a pack is missing. Method: a chunk of a live file has no place at all, so that nothing tells in which pack
    /// it could be.
    #[test]
    fn what_cannot_be_located_makes_every_pack_needed() {
        let (_world, first, ended) = ended();
        let ((_, locs), (other, _)) = (pack_of(&first, "stays"), pack_of(&first, "other"));
        want(&first, ended, &locs);
        assert_eq!(missing(&first), 0);
        let_go(&first, &other);
        assert_eq!(missing(&first), 1);
    }

    /// Goal: the same from a folder, with packs as devices make them. Method: two devices take in the same contents apart from
    /// one another, in other packs; one of them is ended, in one case with a file that only it has.
    #[test]
    fn a_home_comes_back_without_the_packs_of_an_ended_device_that_it_does_not_need() {
        for has_more in [false, true] {
            let (world, first) = World::new();
            let second = world.join(&first, "second");
            for name in ["one", "two"] {
                world.add(&first, name);
            }
            let paths = ["one", "two"].map(|name| world.path(name));
            second.add(&[&paths[0], &paths[1]], "", &Silent).unwrap();
            if has_more {
                world.add(&second, "only");
            }
            pass(&second, &first);
            first.revoke_device(&id(&second)).unwrap();
            assert_eq!(first.inner().wanted_packs().unwrap().len(), 1 + usize::from(has_more));
            drop(first);
            let options = |accept_missing| RecoverOptions {
                phrase: Secret::new(world.phrase.expose().to_owned()),
                name: Some("back".into()),
                vault: Vault::File,
                node: NodeOptions::default(),
                from: vec![RecoverFrom::Folder(world.path("first"))],
                accept_missing,
                names_only: false,
                keep_devices: false,
            };
            let recover = |accept_missing| {
                let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
                let options = options(accept_missing);
                Locker::recover(&world.path("back"), options, Env::system(), none, &Silent).map(|_| ())
            };
            if has_more {
                let refused = recover(false);
                assert!(
                    matches!(&refused, Err(Error::Network(why)) if why.starts_with("1 packs are missing")),
                    "{refused:?}"
                );
            }
            recover(has_more).unwrap();
            let back = world.open("back");
            assert!(["one", "two"].iter().all(|name| names(&back).iter().any(|path| path == name)));
        }
    }
}
