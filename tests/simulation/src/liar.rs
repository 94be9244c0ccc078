//! T55: replicas that have lost one pack in a hundred and say nothing of it. Two devices with several of them are left alone
//! for thirty days, or one asks by `audit`; it must name them, and let go of nothing on their word.

use std::collections::BTreeSet;
use std::time::Duration;

use locker_engine::report::Silent;
use locker_engine::{Error, Locker, NodeOptions};

use crate::canary::MARK;
use crate::device::{Device, World};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::model::entries;
use crate::network::Host;
use crate::{hooks, meeting, trace};

/// Replicas of one run.
const REPLICAS: u16 = 6;
/// Files, each of which is a pack, too large to be put together with others.
const FILES: usize = 100;
const FILE_BYTES: usize = 1_100_000;
/// Of so many packs one is lost.
const LOST_ONE_IN: usize = 100;
/// How often `audit` is run in a day.
const ASKED: u32 = 8;
const DAY: Duration = Duration::from_secs(86_400);
/// Within so many days a liar is to be named.
const DAYS: u32 = 30;
/// How long the others have to get everything.
const FILL_TIME: Duration = Duration::from_secs(6 * 3_600);

/// Which replicas were named, and after how long.
#[derive(Default)]
struct Found {
    /// In days.
    days: Vec<f64>,
    missed: usize,
}

/// Runs `count` times from a seed on, alternately waiting and asking; prints what it was, and what was wrong.
pub fn run(first: u64, count: u64) -> Vec<String> {
    // One process, one clock.
    let mut world = meeting::world(first, 1);
    let meeting = world.meeting.clone();
    let mut faults = Vec::new();
    let (mut waited, mut asked) = (Found::default(), Found::default());
    let mut numbers = 0;
    for seed in first..first + count {
        let (into, is_asking) = if seed % 2 == 0 { (&mut waited, false) } else { (&mut asked, true) };
        world.meeting.clone_from(&meeting);
        if let Err(error) = one(&mut world, seed, &mut numbers, is_asking, into, &mut faults) {
            faults.push(format!("seed {seed}: {error} ({error:?})"));
        }
        println!("seed {seed} trace {} days {:.1}", trace::told().1, hooks::elapsed().div_duration_f64(DAY));
    }
    for (how, found) in [("within 30 days", &mut waited), ("by audit, within a day", &mut asked)] {
        found.days.sort_by(f64::total_cmp);
        let named = found.days.len();
        if named + found.missed == 0 {
            continue;
        }
        let (half, last) = (found.days.get(named / 2), found.days.last());
        println!(
            "{named} of {} liars named {how}; half after {half:.1?} days, the last after {last:.1?}",
            named + found.missed
        );
        // Of 99 % the chance allows a little less in few runs: five standard deviations.
        let all = (named + found.missed) as f64;
        if (found.missed as f64) > all * 0.01 + 5.0 * (all * 0.01).sqrt() {
            faults.push(format!("{} liars were not named {how}", found.missed));
        }
    }
    faults
}

fn one(
    world: &mut World,
    seed: u64,
    numbers: &mut u16,
    is_asking: bool,
    found: &mut Found,
    faults: &mut Vec<String>,
) -> Result<(), Error> {
    let (disk, mut dice) = (Disk::new(seed), Dice::new(seed, "liar"));
    let mut devices: Vec<Device> = Vec::new();
    for at in 0..2 + REPLICAS {
        let mut device = Device::new(*numbers, &disk.path(""), at > 1);
        *numbers += 1;
        let latency = Duration::from_millis(dice.within(1, 40));
        world.network.set_host(device.ip, Host { is_on: true, latency, rate: 2_000_000, lies: false });
        match devices.first() {
            None => device.create(world)?,
            Some(owner) => device.join(world, owner)?,
        }
        device.start(world)?;
        devices.push(device);
    }
    let Some(owner) = devices[0].locker().cloned() else { return Ok(()) };
    fill(&owner, &disk, &mut dice)?;
    // From now on they find each other where they were, which costs less than a look-up.
    world.meeting.clear();
    let filled_by = hooks::elapsed() + FILL_TIME;
    while hooks::elapsed() < filled_by && kept_everywhere(&devices)? < FILES {
        world.wait(Duration::from_secs(5));
    }
    drop(owner);
    for device in &mut devices {
        device.stop();
        device.start(world)?;
    }
    let Some(owner) = devices[0].locker().cloned() else { return Ok(()) };
    // New ones are looked at closely: what is lost is lost after that.
    world.wait(2 * DAY);
    let mut liars = BTreeSet::new();
    for device in &devices[2..] {
        let Some(locker) = device.locker() else { continue };
        let all = locker_engine::simulation::lie(locker, LOST_ONE_IN, &mut |n| dice.index(n))?;
        if all < FILES {
            faults.push(format!("seed {seed}: a replica has {all} packs"));
        }
        liars.insert(locker.device_id());
    }
    let begun = hooks::elapsed();
    if is_asking {
        // Who is silent is asked the same again and again before it is named.
        for _ in 0..ASKED {
            hooks::next_deed();
            owner.audit(NodeOptions::default(), &Silent)?;
            world.wait(Duration::from_secs(3_600));
            note_named(&owner, &mut liars, begun, found)?;
        }
        // With every copy that there is nothing goes, and with the other device alone everything does.
        let copies = u32::from(REPLICAS) + 1;
        hooks::next_deed();
        let refused = owner.free("", copies, NodeOptions::default(), &Silent)?;
        hooks::next_deed();
        let freed = owner.free("", 1, NodeOptions::default(), &Silent)?;
        if (refused.files, freed.files) != (0, FILES as u64) {
            let why: BTreeSet<&str> = freed.kept.iter().map(|one| one.reason.as_str()).collect();
            faults.push(format!("seed {seed}: {} went, then {}: {why:?}", refused.files, freed.files));
        }
        every_file_is_read(&owner, seed, faults)?;
    } else {
        while !liars.is_empty() && hooks::elapsed() < begun + DAYS * DAY {
            world.wait(DAY / 8);
            note_named(&owner, &mut liars, begun, found)?;
        }
    }
    found.missed += liars.len();
    devices.iter_mut().for_each(Device::stop);
    Ok(())
}

/// Takes in many files, each in a pack of its own.
fn fill(owner: &Locker, disk: &Disk, dice: &mut Dice) -> Result<(), Error> {
    let from = disk.path("from");
    let failed = |e: std::io::Error| Error::Network(format!("a file of the test cannot be written: {e}"));
    std::fs::create_dir_all(&from).map_err(failed)?;
    for number in 0..FILES {
        let mut bytes = vec![0; FILE_BYTES];
        dice.fill(&mut bytes);
        let file = from.join(format!("{} {number}", String::from_utf8_lossy(MARK)));
        std::fs::write(&file, &bytes).map_err(failed)?;
        hooks::next_deed();
        owner.add(&[&file], "", &Silent)?;
    }
    Ok(())
}

/// The fewest packs that a replica has.
fn kept_everywhere(devices: &[Device]) -> Result<usize, Error> {
    let mut fewest = usize::MAX;
    for device in &devices[1..] {
        if let Some(locker) = device.locker() {
            fewest = fewest.min(locker_engine::simulation::packs(locker)?.len());
        }
    }
    Ok(fewest)
}

/// Strikes out who is named.
fn note_named(
    owner: &Locker,
    liars: &mut BTreeSet<String>,
    begun: Duration,
    found: &mut Found,
) -> Result<(), Error> {
    for device in owner.devices()?.into_iter().filter(|device| device.failed.is_some()) {
        if liars.remove(&device.id) {
            found.days.push((hooks::elapsed() - begun).div_duration_f64(DAY));
        }
    }
    Ok(())
}

fn every_file_is_read(owner: &Locker, seed: u64, faults: &mut Vec<String>) -> Result<(), Error> {
    let (_, files) = entries(owner)?;
    if files.len() != FILES {
        faults.push(format!("seed {seed}: {} files are there", files.len()));
    }
    for file in files {
        hooks::next_deed();
        if let Err(error) = owner.read(&file, 0, None, &mut std::io::sink()) {
            faults.push(format!("seed {seed}: {file:?} is lost: {error}"));
        }
    }
    Ok(())
}
