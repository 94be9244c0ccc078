//! Somebody who believes nobody: whenever `status` says on how many devices everything is, the copies are counted on the
//! disks of all devices, of those too that are off at that moment.
//!
//! A pack counts where its bytes lie under its name and have its hash. A file is where every chunk of it is in a pack that
//! counts. What an ended device has is nobody's.
//!
//! A sentence may be late, while ways are cut and if there is one copy at least. A device that let something go takes its
//! pin back in its own log, and who has not heard of it still counts it. So it is with a device that was put back from a
//! backup, or ended: who speaks has its pins of what is lacking, and has heard neither of its new key nor of its end. Once
//! everything is mended nothing is excused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use locker_crypto::id::{ChunkTag, PackHash, VerifyingKey};
use locker_engine::Error;
use locker_engine::report::{StateHash, Status};
use locker_engine::simulation::{Known, Needed};

use crate::device::{Device, World};
use crate::disk::Disk;
use crate::hooks;
use crate::trace::note;

/// Bytes of a group, and of the node that each one but the first adds behind a pack.
const GROUP: usize = 16_384;
const NODE: usize = 64;

/// Counts, and what was counted so far.
#[derive(Default)]
pub struct Walker {
    /// Sentences that say on how many devices everything is.
    pub sentences: u64,
    /// Those of them that say "Safe".
    pub safe: u64,
    /// Those that were true but for what a device had just let go, or lost.
    pub late: u64,
    /// What devices had until they were put back from a backup, or ended.
    lost: BTreeMap<usize, Lost>,
}

/// What a device had until then.
#[derive(Default)]
struct Lost {
    /// Its keys, in hexadecimal. Whoever counts it by one of them has not heard of it.
    keys: BTreeSet<String>,
    /// The packs on its disk.
    packs: BTreeSet<PackHash>,
}

/// Whether everything is mended and has been heard of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Ways are cut, devices are off.
    Amid,
    /// Nothing is excused.
    Settled,
}

/// What a sentence says.
struct Claim {
    /// Devices that have everything.
    copies: usize,
    is_safe: bool,
    /// That everything is on this one too.
    all_here: bool,
}

impl Claim {
    /// Reads a sentence, word by word: another one than these is none that was thought of here.
    fn read(status: &Status) -> Result<Option<Self>, String> {
        let sentence = status.sentence.as_str();
        let all_here = sentence.contains(", all here");
        let claim = |copies, is_safe| Ok(Some(Self { copies, is_safe, all_here }));
        let number = |before: &str, after: &str| -> Option<usize> {
            let (head, _) = sentence.split_once(after)?;
            head.rsplit_once(before)?.1.parse().ok()
        };
        if let Some(copies) = number(" is on ", " devices at least, and they proved it") {
            return claim(copies, true);
        }
        if let Some(copies) = number("; ", " devices say that they hold everything") {
            return claim(copies, false);
        }
        if sentence.contains("one other device says that it holds everything too") {
            return claim(2, false);
        }
        if sentence.contains("this device has the one copy") || sentence.contains("there is one copy") {
            return claim(1, false);
        }
        let says_nothing =
            ["The locker is empty.", "Not safe: ", "some of the content is still to come from other devices"];
        if says_nothing.iter().any(|one| sentence.contains(one)) {
            return Ok(None);
        }
        Err(format!("nobody knows what this says: {sentence:?}"))
    }
}

/// What a device says, and what it shows.
struct Said {
    who: usize,
    claim: Claim,
    status: Status,
    needs: Vec<Needed>,
}

/// What lies on the disks.
struct Sight<'a> {
    world: &'a World,
    disk: &'a Disk,
    devices: &'a [Device],
    disks: Vec<BTreeSet<PackHash>>,
    /// What each knows; of one that is off only when it is asked for.
    known: Vec<Option<Known>>,
    places: BTreeMap<ChunkTag, BTreeSet<PackHash>>,
}

impl Walker {
    /// Holds what each device that reads says now against the disks of all. Gives what is false.
    pub fn judge(&mut self, world: &World, disk: &Disk, devices: &[Device], moment: Moment) -> Vec<String> {
        hooks::next_deed();
        let mut faults = Vec::new();
        let mut sight = match Sight::of(world, disk, devices) {
            Ok(sight) => sight,
            Err(error) => return vec![format!("the disks cannot be looked at: {error}")],
        };
        for (who, device) in devices.iter().enumerate() {
            let Some(locker) = device.reader() else { continue };
            let told = locker.status(StateHash::IfQuick);
            let told = told.and_then(|status| Ok((status, locker_engine::simulation::needs(locker)?)));
            let (status, needs) = match told {
                Ok(told) => told,
                Err(error) => {
                    faults.push(format!("device {who} cannot be asked how it is: {error}"));
                    continue;
                }
            };
            note(format_args!("status of {who}: {}", status.sentence));
            match Claim::read(&status) {
                Ok(None) => {}
                Ok(Some(claim)) => {
                    self.sentences += 1;
                    self.safe += u64::from(claim.is_safe);
                    match sight.hold(&Said { who, claim, status, needs }, moment, &self.lost) {
                        Ok((found, is_late)) => {
                            faults.extend(found);
                            self.late += u64::from(is_late);
                        }
                        Err(error) => faults.push(format!("the disks cannot be looked at: {error}")),
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
        faults
    }

    /// A device is about to be put back from a backup, or to be ended: what it has now counts no more.
    pub fn lose(&mut self, device: &Device) {
        let lost = self.lost.entry(device.number.into()).or_default();
        lost.keys.extend(device.keys().iter().cloned());
        lost.packs.extend(packs(device.home()));
    }

    /// Whether something would be nowhere any more if a device were gone, or put back from a copy of its home: a file that
    /// another device needs, or a pack that it promised to another one. What it told nobody may be lost.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn would_lose(
        &self,
        world: &World,
        disk: &Disk,
        devices: &[Device],
        who: usize,
        copy: Option<&Path>,
    ) -> Result<bool, Error> {
        hooks::next_deed();
        let mut sight = Sight::of(world, disk, devices)?;
        let others = || devices.iter().enumerate().filter(|(at, device)| *at != who && !device.is_revoked);
        let mut needs = Vec::new();
        for (_, device) in others().filter(|(_, device)| device.is_reader()) {
            needs.extend(device.ask(world, disk, locker_engine::simulation::needs)?);
        }
        sight.wake()?;
        sight.disks.extend(copy.map(packs));
        if needs.iter().any(|file| sight.holders(file) == BTreeSet::from([who])) {
            return Ok(true);
        }
        let pins = others().filter_map(|(at, _)| sight.known[at].as_ref()).flat_map(|known| &known.pins);
        let own = pins.filter(|(author, _)| devices[who].keys().contains(&author.to_string()));
        let is_here_only = |pack: &PackHash| {
            let mut holders = (0..sight.disks.len()).filter(|at| sight.disks[*at].contains(pack));
            holders.next() == Some(who) && holders.next().is_none()
        };
        // What a device that cannot read keeps may be named by what only it has been told so far.
        let kept = sight.disks[who].iter().filter(|_| devices[who].is_blind);
        Ok(own.flat_map(|(_, packs)| packs).chain(kept).any(is_here_only))
    }
}

impl<'a> Sight<'a> {
    fn of(world: &'a World, disk: &'a Disk, devices: &'a [Device]) -> Result<Self, Error> {
        // What an ended device has is nobody's.
        let disk_of = |device: &Device| match device.is_revoked {
            true => BTreeSet::new(),
            false => packs(device.home()),
        };
        let disks = devices.iter().map(disk_of).collect();
        let known = devices.iter().map(|device| device.locker().map(locker_engine::simulation::known));
        let known = known.map(Option::transpose).collect::<Result<_, Error>>()?;
        let mut sight = Self { world, disk, devices, disks, known, places: BTreeMap::new() };
        sight.join_places();
        Ok(sight)
    }

    /// What is false of what one says, and whether it was late.
    fn hold(
        &mut self,
        said: &Said,
        moment: Moment,
        lost: &BTreeMap<usize, Lost>,
    ) -> Result<(Vec<String>, bool), Error> {
        let Said { who, claim, status, needs } = said;
        let (mut faults, mut is_late) = (Vec::new(), false);
        let (copies, sentence) = (claim.copies.max(status.copies.least as usize), &status.sentence);
        if claim.is_safe && (copies < status.copies.wanted as usize || status.copies.files_at_risk > 0) {
            faults.push(format!("{sentence:?} contradicts its fields: {:?}", status.copies));
        }
        for file in needs {
            let lacks = |holders: &BTreeSet<usize>| {
                holders.len() < copies || claim.all_here && !holders.contains(who)
            };
            let mut holders = self.holders(file);
            if lacks(&holders) {
                // One that is off may have packed anew what it has.
                self.wake()?;
                holders = self.holders(file);
            }
            if !lacks(&holders) {
                continue;
            }
            let mut late = self.let_go(*who, file, &holders);
            late.extend(self.lost_on(said, file, &holders, lost));
            let is_excused = moment == Moment::Amid && (!claim.all_here || holders.contains(who));
            if is_excused && !holders.is_empty() && holders.len() + late.len() >= copies {
                note(format_args!("{:?} was just let go on {late:?}", file.path));
                is_late = true;
            } else {
                faults.push(format!(
                    "device {who} says {sentence:?} ({copies} copies), but {:?} lies on {holders:?}; on {late:?} it was let go",
                    file.path
                ));
            }
        }
        Ok((faults, is_late))
    }

    fn join_places(&mut self) {
        for known in self.known.iter().flatten() {
            for (tag, packs) in &known.places {
                self.places.entry(*tag).or_default().extend(packs);
            }
        }
    }

    /// Looks into the devices that are off: into copies of their homes.
    fn wake(&mut self) -> Result<(), Error> {
        for at in 0..self.devices.len() {
            if self.known[at].is_none() {
                self.known[at] =
                    Some(self.devices[at].ask(self.world, self.disk, locker_engine::simulation::known)?);
            }
        }
        self.join_places();
        Ok(())
    }

    /// The devices on whose disks a whole file lies.
    fn holders(&self, file: &Needed) -> BTreeSet<usize> {
        let none = BTreeSet::new();
        let is_on = |disk: &BTreeSet<PackHash>| {
            file.chunks.iter().all(|tag| !self.places.get(tag).unwrap_or(&none).is_disjoint(disk))
        };
        (0..self.disks.len()).filter(|at| is_on(&self.disks[*at])).collect()
    }

    /// Of the chunks of a file that are not on a disk, the packs in which each lies.
    fn lacking(&self, at: usize, file: &Needed) -> Vec<&BTreeSet<PackHash>> {
        let places = file.chunks.iter().filter_map(|tag| self.places.get(tag));
        places.filter(|packs| packs.is_disjoint(&self.disks[at])).collect()
    }

    /// Devices that do not have all of a file, that pin what they lack as far as `who` knows, and by their own log do not.
    fn let_go(&self, who: usize, file: &Needed, holders: &BTreeSet<usize>) -> BTreeSet<usize> {
        let pins = |at: usize, author: &VerifyingKey| self.known[at].as_ref()?.pins.get(author);
        let has_let_go = |at: &usize| {
            let Some(id) = self.known[*at].as_ref().map(|known| known.id) else { return false };
            let (Some(said), Some(own)) = (pins(who, &id), pins(*at, &id)) else { return false };
            let lacking = self.lacking(*at, file);
            lacking.iter().all(|packs| !packs.is_disjoint(said) && packs.is_disjoint(own))
        };
        (0..self.disks.len()).filter(|at| !holders.contains(at)).filter(has_let_go).collect()
    }

    /// Devices that were put back from a backup, or ended, do not have all of a file, and count for what they lack where
    /// that has not been heard of.
    fn lost_on(
        &self,
        said: &Said,
        file: &Needed,
        holders: &BTreeSet<usize>,
        lost: &BTreeMap<usize, Lost>,
    ) -> BTreeSet<usize> {
        let counts = |key: &String| {
            let mut listed = said.status.devices.iter().filter(|one| one.id == *key);
            listed.any(|one| !one.revoked && one.replaced_by.is_empty())
        };
        let counted_of = |at: usize, lost: &Lost| -> BTreeSet<PackHash> {
            // A device that cannot read signs no pins: it says what it has.
            if self.devices[at].is_blind {
                return if lost.keys.iter().any(counts) { lost.packs.clone() } else { BTreeSet::new() };
            }
            let keys: BTreeSet<String> = lost.keys.iter().filter(|key| counts(key)).cloned().collect();
            let pins = self.known[said.who].iter().flat_map(|known| &known.pins);
            let own = pins.filter(|(author, _)| keys.contains(&author.to_string()));
            own.flat_map(|(_, packs)| packs).copied().collect()
        };
        let is_late = |at: usize, lost: &Lost| {
            let (lacking, counted) = (self.lacking(at, file), counted_of(at, lost));
            lacking.iter().all(|packs| !packs.is_disjoint(&counted))
        };
        let late = lost.iter().filter(|(at, lost)| !holders.contains(*at) && is_late(**at, lost));
        late.map(|(at, _)| *at).collect()
    }
}

/// The packs that lie whole on a disk.
pub fn packs(home: &Path) -> BTreeSet<PackHash> {
    let Ok(folders) = fs::read_dir(home.join("packs")) else { return BTreeSet::new() };
    let folders = folders.flatten().filter(|folder| folder.file_name().len() == 2);
    folders.flat_map(|folder| whole(&folder.path())).collect()
}

/// Packs that have come whole to a disk and are not kept yet.
pub fn come(home: &Path) -> BTreeSet<PackHash> {
    whole(&home.join("packs/partial"))
}

/// The packs of a folder that are what their names say.
fn whole(folder: &Path) -> BTreeSet<PackHash> {
    let mut found = BTreeSet::new();
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, bytes) = (file.file_name(), fs::read(file.path()).unwrap_or_default());
        // Behind the pack stands a node for each group but one.
        let groups = (bytes.len() + NODE).div_ceil(GROUP + NODE);
        let Some(len) = bytes.len().checked_sub(NODE * groups.saturating_sub(1)) else { continue };
        let hash = blake3::hash(&bytes[..len]);
        if name.to_str() == Some(hash.to_hex().as_str()) {
            found.insert(PackHash(*hash.as_bytes()));
        }
    }
    found
}
