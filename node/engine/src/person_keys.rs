//! The person's keys as the person log hands them on: which one is in use, who can open it, and the way back to those before
//! (`docs/spec/02-identity.md`, "PUK box").

use std::collections::BTreeSet;

use locker_catalog::order::{EntryOrder, OpOrder};
use locker_catalog::roster::{Roster, known_to};
use locker_crypto::Refusal;
use locker_crypto::id::{ObjectHash, PersonId, VerifyingKey};
use locker_crypto::identity::PersonKeys;
use locker_crypto::person::{self, Entry, Op};
use locker_crypto::sealed_box::{BoxKeys, BoxPublicKey};
use locker_crypto::secret::PersonKey;
use locker_store::{Reads, objects};

use crate::Error;
use crate::keys::{Keys, not_heard_yet};

/// From here on in the keyring, keys beside the generations: those of generations end below.
pub(crate) const BESIDE: u32 = 1 << 31;

/// Boxes that one operation of the log names, and who made them.
struct Boxes<'a> {
    entry: &'a Entry,
    names: &'a [ObjectHash],
    /// The public key of the PUK that the operation starts; another one hands on what was started before.
    starts: Option<ObjectHash>,
    /// The device that it brings in.
    device: Option<VerifyingKey>,
    /// Whether the entry counts. What one that does not started is not in use, and opens what was sealed under it meanwhile.
    is_counted: bool,
}

impl Boxes<'_> {
    /// Whether it starts a PUK that can be in use.
    fn is_start(&self) -> bool {
        self.is_counted && self.starts.is_some()
    }
}

/// The boxes in total order, of operations that have effect or stand in an entry that does not count.
fn boxes<'a>(entries: impl IntoIterator<Item = &'a Entry>, roster: &Roster) -> Vec<Boxes<'a>> {
    let mut sorted: Vec<&Entry> = entries.into_iter().collect();
    let order = |entry: &Entry| EntryOrder { hlc: entry.body.hlc, author: entry.author, seq: entry.seq };
    sorted.sort_unstable_by_key(|entry| (order(entry), entry.id));
    let mut found = Vec::new();
    for entry in sorted {
        for (index, op) in (0..).zip(&entry.body.ops) {
            if roster.void.contains_key(&OpOrder { entry: order(entry), index }) {
                continue;
            }
            let (names, starts, device) = match op {
                Op::Genesis { boxes, person_box, device, .. }
                | Op::Recover { boxes, person_box, device, .. } => {
                    (boxes, Some(*person_box), Some(device.device))
                }
                Op::RemoveDevice { boxes, person_box, .. } | Op::RenewKey { boxes, person_box, .. } => {
                    (boxes, Some(*person_box), None)
                }
                Op::AddDevice { boxes, device, .. } | Op::ReplaceDevice { boxes, device, .. } => {
                    (boxes, None, Some(device.device))
                }
                Op::SetRoot { boxes, .. } => (boxes, None, None),
                Op::SetHome { .. } | Op::Unknown(_) => continue,
            };
            let is_counted = !roster.uncounted.contains(&entry.id);
            found.push(Boxes { entry, names, starts, device, is_counted });
        }
    }
    found
}

/// The name of the public key of the PUK in use; `None` for a log without a beginning.
pub(crate) fn in_use<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    roster: &Roster,
) -> Option<ObjectHash> {
    boxes(entries, roster).iter().rev().find(|boxes| boxes.is_start()).and_then(|boxes| boxes.starts)
}

/// Refuses while the newest key of the person that is held here is not the one in use, on which the next one is to stand.
///
/// # Errors
/// [`Error::Network`] then: that one is on its way.
pub(crate) fn refuse_unless_newest(keys: &Keys, entries: &[Entry], roster: &Roster) -> Result<(), Error> {
    let newest = keys.person_keys()?.newest().box_keys().public().hash();
    if in_use(entries, roster) == Some(newest) { Ok(()) } else { Err(not_heard_yet()) }
}

/// Refuses while the key in use is neither the newest key of the person that is held here nor on the way back from it: what who
/// knows of it and does not hold it hands on would count as given ([`reach`]).
///
/// # Errors
/// [`Error::Network`] then: that one is on its way.
pub(crate) fn refuse_unless_held(keys: &Keys, entries: &[Entry], roster: &Roster) -> Result<(), Error> {
    let (used, held) = (in_use(entries, roster), keys.person_keys()?);
    let mut handed_on = (0..=held.generation()).rev().filter_map(|n| held.get(n));
    let is_held = handed_on.any(|key| Some(key.box_keys().public().hash()) == used);
    if is_held { Ok(()) } else { Err(not_heard_yet()) }
}

/// For whom the PUK in use is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reach {
    /// A removed device was given it, or it is sealed to other words than those that count.
    is_out: bool,
    /// An active device was not given it.
    is_short: bool,
    /// For how many of those it was begun that are active still, the root among them.
    boxes: usize,
}

impl Reach {
    /// Whether it is due to be changed.
    pub(crate) fn is_overdue(self) -> bool {
        self.is_out || self.is_short
    }

    /// Whether another one helps, if it can be sealed to so many of the active devices.
    pub(crate) fn is_helped_by(self, usable: usize, active: usize) -> bool {
        self.is_out || (self.is_short && (usable == active || usable + 1 > self.boxes))
    }
}

/// For whom the PUK in use is. That it is for others than it should be comes of removals, of devices that join, and of new words,
/// at the same time on devices that do not hear of one another.
///
/// Cost: that of reading the log once for each device that joined.
pub(crate) fn reach(person: &PersonId, entries: &[Entry], roster: &Roster) -> Reach {
    let boxes = boxes(entries, roster);
    let Some(start) = boxes.iter().rev().find(|boxes| boxes.is_start()) else {
        return Reach::default();
    };
    let begun = Roster::read(*person, known_to(entries, &start.entry.id));
    // A box for the root, and one for each device, but for those whose keys had not come.
    let is_short = start.names.len() <= begun.active.len();
    let is_of_other_words = begun.root != roster.root;
    let (most, gone) = (begun.active.len() + 1, begun.active.difference(&roster.active).count());
    let mut given = begun.active;
    for one in &boxes {
        let Some(device) = one.device else { continue };
        // It was given what whoever brought it in held for the one in use.
        let known = known_to(entries, &one.entry.id);
        let seen = Roster::read(*person, known.iter().copied());
        if in_use(known, &seen) == start.starts {
            given.insert(device);
        }
    }
    Reach {
        is_out: is_of_other_words || given.iter().any(|device| roster.removed.contains_key(device)),
        is_short: is_short || !roster.active.is_subset(&given),
        boxes: start.names.len().min(most).saturating_sub(gone),
    }
}

/// Opens, with one of some key pairs, the PUKs that were started and are not among `held`, as far as there are boxes for them.
///
/// Costs as [`open_in_use`], for each of them.
///
/// # Errors
/// Those of `object`, which looks a box up by its name.
pub(crate) fn open_beside(
    person: &PersonId,
    (entries, roster): (&[Entry], &Roster),
    held: &BTreeSet<ObjectHash>,
    openers: &[&BoxKeys],
    mut object: impl FnMut(&ObjectHash) -> Result<Option<Vec<u8>>, Error>,
) -> Result<Vec<PersonKey>, Error> {
    let boxes = boxes(entries, roster);
    let mut found = Vec::new();
    for (at, start) in boxes.iter().enumerate() {
        let Some(wanted) = start.starts.filter(|name| !held.contains(name)) else { continue };
        if let Some((_, key)) =
            open_one(person, start, &wanted, generations(&boxes[..at]), openers, &mut object)?
        {
            found.push(key);
        }
    }
    Ok(found)
}

/// The highest number that the PUK started after these can have: of concurrent removals several start the same one.
fn generations(before: &[Boxes<'_>]) -> u32 {
    let count = before.iter().filter(|boxes| boxes.starts.is_some()).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Opens one of the boxes that an operation names, if it holds the PUK with that public key.
fn open_one(
    person: &PersonId,
    boxes: &Boxes<'_>,
    wanted: &ObjectHash,
    generations: u32,
    openers: &[&BoxKeys],
    object: &mut impl FnMut(&ObjectHash) -> Result<Option<Vec<u8>>, Error>,
) -> Result<Option<(u32, PersonKey)>, Error> {
    for name in boxes.names {
        let Some(sealed) = object(name)? else { continue };
        for opener in openers {
            let opened = (0..=generations).rev().find_map(|n| {
                let key = person::open_key_box(opener, person, n, &boxes.entry.author, &sealed).ok()?;
                (key.box_keys().public().hash() == *wanted).then_some((n, key))
            });
            if opened.is_some() {
                return Ok(opened);
            }
        }
    }
    Ok(None)
}

/// Opens the PUK in use with one of some key pairs; gives it with its generation. `None` if no box for them is here.
///
/// Costs a decapsulation, some 100 microseconds, for each box and generation until one opens.
///
/// # Errors
/// Those of `object`, which looks a box up by its name.
pub(crate) fn open_in_use(
    person: &PersonId,
    (entries, roster): (&[Entry], &Roster),
    openers: &[&BoxKeys],
    mut object: impl FnMut(&ObjectHash) -> Result<Option<Vec<u8>>, Error>,
) -> Result<Option<(u32, PersonKey)>, Error> {
    let boxes = boxes(entries, roster);
    let Some(last) = boxes.iter().rposition(Boxes::is_start) else { return Ok(None) };
    open_started(person, &boxes, last, openers, &mut object)
}

/// Opens the newest PUK for which there is a box for one of some key pairs; gives it with its generation. That is the one in use,
/// unless whoever began it was lost before he handed its boxes on: to who begins the next one it is as one that was begun
/// elsewhere at the same time, and what was sealed to it alone waits for whoever has it.
///
/// Costs as [`open_in_use`], for each that is looked for.
///
/// # Errors
/// Those of `object`, which looks a box up by its name.
pub(crate) fn open_newest(
    person: &PersonId,
    (entries, roster): (&[Entry], &Roster),
    openers: &[&BoxKeys],
    mut object: impl FnMut(&ObjectHash) -> Result<Option<Vec<u8>>, Error>,
) -> Result<Option<(u32, PersonKey)>, Error> {
    let boxes = boxes(entries, roster);
    for at in (0..boxes.len()).rev().filter(|at| boxes[*at].is_start()) {
        let opened = open_started(person, &boxes, at, openers, &mut object)?;
        if opened.is_some() {
            return Ok(opened);
        }
    }
    Ok(None)
}

/// Opens the PUK that was started at a place, with a box from there on.
fn open_started(
    person: &PersonId,
    boxes: &[Boxes<'_>],
    at: usize,
    openers: &[&BoxKeys],
    object: &mut impl FnMut(&ObjectHash) -> Result<Option<Vec<u8>>, Error>,
) -> Result<Option<(u32, PersonKey)>, Error> {
    let Some(wanted) = boxes[at].starts else { return Ok(None) };
    let generations = generations(&boxes[..at]);
    for boxes in &boxes[at..] {
        let opened = open_one(person, boxes, &wanted, generations, openers, object)?;
        if opened.is_some() {
            return Ok(opened);
        }
    }
    Ok(None)
}

/// The key pair to which keys are sealed for the current root, by the log.
///
/// # Errors
/// [`Error::Network`] if its object has not come yet; [`Error::Integrity`] if it is another one, or the log names none.
pub(crate) fn root_box<R: Reads>(
    reads: &R,
    entries: &[Entry],
    roster: &Roster,
) -> Result<BoxPublicKey, Error> {
    let ops = entries.iter().flat_map(|entry| &entry.body.ops);
    let mut named = ops.filter_map(|op| match op {
        Op::Genesis { root_box, person, .. } if person.0 == roster.root.0 => Some(*root_box),
        Op::SetRoot { root, root_box, .. } if *root == roster.root => Some(*root_box),
        _ => None,
    });
    let damaged = |why| Error::damaged("a key that the person log names", why);
    let name = named.next_back().ok_or_else(|| damaged(Refusal::Key))?;
    // It comes after the entry that names it.
    let object = objects::get(reads, &name)?.ok_or_else(not_heard_yet)?;
    BoxPublicKey::from_named(&object, &name).map_err(damaged)
}

/// The key pairs to which keys are sealed for devices, by the log, as far as they are here: who has not shown one, or shows
/// what is none, keeps nobody from sealing to the others. It gets the keys when the next are begun.
///
/// # Errors
/// What the store gives.
pub(crate) fn usable_boxes<R: Reads>(
    reads: &R,
    entries: &[Entry],
    devices: impl IntoIterator<Item = VerifyingKey>,
) -> Result<Vec<BoxPublicKey>, Error> {
    let mut usable = Vec::new();
    for device in devices {
        let Some(name) = box_name(entries, &device) else { continue };
        let object = objects::get(reads, &name)?;
        usable.extend(object.and_then(|object| BoxPublicKey::from_named(&object, &name).ok()));
    }
    Ok(usable)
}

fn box_name(entries: &[Entry], vk: &VerifyingKey) -> Option<ObjectHash> {
    entries.iter().flat_map(|entry| &entry.body.ops).find_map(|op| match op {
        Op::Genesis { device, .. }
        | Op::AddDevice { device, .. }
        | Op::Recover { device, .. }
        | Op::ReplaceDevice { device, .. }
            if device.device == *vk =>
        {
            Some(device.box_key)
        }
        _ => None,
    })
}

/// All generations of the person's keys: the newest one, and by the ways back those before it.
pub(crate) fn person_keys(
    entries: &[Entry],
    generation: u32,
    newest: &PersonKey,
) -> Result<PersonKeys, Refusal> {
    let named = |hash: &ObjectHash| {
        entries.iter().flat_map(|entry| &entry.body.ops).find_map(|op| match op {
            Op::Genesis { person_box, .. } if person_box == hash => Some(None),
            Op::RemoveDevice { person_box, back, .. }
            | Op::RenewKey { person_box, back, .. }
            | Op::Recover { person_box, back, .. }
                if person_box == hash =>
            {
                Some(Some(back))
            }
            _ => None,
        })
    };
    let mut keys = vec![newest.clone()];
    loop {
        let oldest = keys.last().ok_or(Refusal::Key)?;
        match named(&oldest.box_keys().public().hash()).ok_or(Refusal::Key)? {
            Some(back) if keys.len() <= entries.len() => keys.push(person::open_back(oldest, back)?),
            Some(_) => return Err(Refusal::Key),
            None => break,
        }
    }
    if keys.len() != generation as usize + 1 {
        return Err(Refusal::Key);
    }
    keys.reverse();
    PersonKeys::from_generations(keys)
}
