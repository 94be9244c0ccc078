//! Two devices that dial each other at the same moment over a long way: they are started one soon after the other, and
//! later lose one another at the same moment. Each time they must agree on one session soon, keep it, and have what
//! either wrote.

use std::time::Duration;

use locker_engine::Error;

use crate::device::{Device, World};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::model::entries;
use crate::network::Host;
use crate::{hooks, meeting};

/// Each run has two hosts of its own in one world: of many more, the one meeting point of the world has no room.
const COUNT_MAX: u64 = 30;
/// There and back between the two, in milliseconds.
const ROUND_MS: [u64; 4] = [100, 300, 300, 600];
/// How long two devices have to come to a session that stays.
const MEET_TIME: Duration = Duration::from_secs(10);
/// How long they are watched: longer than what the session took the place of is left open.
const WATCH_TIME: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// How often one may lose the other meanwhile: the session that was let in first may end a moment before the one that
/// is kept comes up at both ends.
const LOSSES_MAX: usize = 1;

/// Runs `count` times from a seed on; prints what it was, and what was wrong.
pub fn run(first: u64, count: u64) -> Vec<String> {
    if count > COUNT_MAX {
        return vec![format!("more than {COUNT_MAX} runs at once")];
    }
    // One process, one clock.
    let mut world = meeting::world(first, 1);
    let meeting = world.meeting.clone();
    let (mut faults, mut met, mut losses) = (Vec::new(), Vec::new(), 0);
    for index in 0..count {
        let seed = first + index;
        world.meeting.clone_from(&meeting);
        let mut found = Vec::new();
        match one(&mut world, seed, u16::try_from(2 * index).unwrap_or(0), &mut found) {
            Ok(watched) => {
                losses += watched.iter().map(|one| one.losses).sum::<usize>();
                met.extend(watched.into_iter().filter_map(|one| one.since));
            }
            Err(error) => found.push(format!("{error} ({error:?})")),
        }
        // What was before in the same process counts: the clock goes on.
        let again = format!("simulate crossing {first} {}", index + 1);
        faults.extend(found.into_iter().map(|what| format!("run {index}, seed {seed} ({again}): {what}")));
    }
    met.sort();
    println!(
        "{} of {} times two met for good; half after {:.3?}, the last after {:.3?}; {losses} sessions were lost again",
        met.len(),
        2 * count,
        met.get(met.len() / 2),
        met.last()
    );
    faults
}

/// What was seen of two devices.
#[derive(Debug, Default)]
struct Watched {
    /// From when on both had the other one, to the end.
    since: Option<Duration>,
    /// How often one had lost it.
    losses: usize,
}

fn one(world: &mut World, seed: u64, number: u16, faults: &mut Vec<String>) -> Result<Vec<Watched>, Error> {
    let (disk, mut dice) = (Disk::new(seed), Dice::new(seed, "crossing"));
    let round = Duration::from_millis(dice.pick(&ROUND_MS));
    let mut devices: Vec<Device> = Vec::new();
    for at in 0..2 {
        let mut device = Device::new(number + at, &disk.path(""), false);
        // Each way leads through the middle.
        let host = Host { is_on: true, latency: round / 4, rate: 20_000_000, lies: false };
        world.network.set_host(device.ip, host);
        match devices.first() {
            None => device.create(world)?,
            Some(owner) => device.join(world, owner)?,
        }
        device.start(world)?;
        devices.push(device);
    }
    world.wait(Duration::from_secs(60));
    // Until each has dialed the other one, and so knows where it listens.
    for at in 0..2 {
        devices[at].stop();
        world.wait(Duration::from_secs(5));
        devices[at].start(world)?;
        world.wait(Duration::from_secs(60));
        if online(&devices)? != [true, true] {
            faults.push(format!("they had not met before (device {at} was started anew)"));
            devices.iter_mut().for_each(Device::stop);
            return Ok(Vec::new());
        }
    }
    devices.iter_mut().for_each(Device::stop);
    // From now on they have each other's last places and nothing else.
    world.meeting.clear();
    world.wait(Duration::from_secs(60));

    let skew = round.mul_f64(dice.below(1_001) as f64 / 1_000.0);
    let earlier = dice.index(2);
    devices[earlier].start(world)?;
    write(&devices[earlier], "started", earlier)?;
    world.wait(skew);
    devices[1 - earlier].start(world)?;
    write(&devices[1 - earlier], "started", 1 - earlier)?;
    let started = watch(world, &devices)?;
    let how = format!("started {skew:?} apart, {round:?} there and back");
    judge(&started, &devices, &["started"], &how, faults)?;

    world.network.break_between(devices[0].ip, devices[1].ip);
    for (at, device) in devices.iter().enumerate() {
        write(device, "broken", at)?;
    }
    let broken = watch(world, &devices)?;
    let how = format!("broken, {round:?} there and back");
    judge(&broken, &devices, &["started", "broken"], &how, faults)?;
    devices.iter_mut().for_each(Device::stop);
    Ok(vec![started, broken])
}

/// Looks at both for a while.
fn watch(world: &World, devices: &[Device]) -> Result<Watched, Error> {
    let begun = hooks::elapsed();
    let (mut watched, mut had) = (Watched::default(), [false; 2]);
    while hooks::elapsed() < begun + WATCH_TIME {
        world.wait(LOOK);
        let has = online(devices)?;
        watched.losses += had.iter().zip(&has).filter(|(had, has)| **had && !**has).count();
        watched.since = match has {
            [true, true] => watched.since.or(Some(hooks::elapsed() - begun)),
            _ => None,
        };
        had = has;
    }
    Ok(watched)
}

fn judge(
    watched: &Watched,
    devices: &[Device],
    scenes: &[&str],
    how: &str,
    faults: &mut Vec<String>,
) -> Result<(), Error> {
    if watched.since.is_none_or(|since| since > MEET_TIME) {
        faults.push(format!("{how}: no session that stays within {MEET_TIME:?}: {watched:?}"));
    }
    if watched.losses > LOSSES_MAX {
        faults.push(format!("{how}: more than {LOSSES_MAX} sessions ended: {watched:?}"));
    }
    let mut trees = Vec::new();
    for locker in devices.iter().filter_map(Device::locker) {
        trees.push(entries(locker)?.0);
    }
    let mut written = scenes.iter().flat_map(|scene| (0..2).map(move |at| path(scene, at)));
    if trees.len() != 2 || !written.all(|folder| trees.iter().all(|tree| tree.contains(&folder))) {
        faults.push(format!("{how}: what was written is not on both: {trees:?}"));
    }
    Ok(())
}

/// Whether each of them has a session with the other one.
fn online(devices: &[Device]) -> Result<[bool; 2], Error> {
    let mut has = [false; 2];
    for (has, device) in has.iter_mut().zip(devices) {
        let listed = device.locker().map_or(Ok(Vec::new()), |locker| locker.devices())?;
        *has = listed.iter().any(|one| !one.this && one.online);
    }
    Ok(has)
}

fn path(scene: &str, at: usize) -> String {
    format!("{scene} {at}")
}

/// Makes a folder: what is to come to the other device.
fn write(device: &Device, scene: &str, at: usize) -> Result<(), Error> {
    hooks::next_deed();
    device.locker().map_or(Ok(()), |locker| locker.make_folder(&path(scene, at), false))
}
