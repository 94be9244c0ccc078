//! Many nodes for long: persons of a few devices each and meeting points, idle but for a change now and then. What is
//! looked at is that everybody ends equal with his own, and what it costs.

use std::time::Duration;

use locker_engine::report::StateHash;

use crate::canary::{self, MARK};
use crate::device::{Device, World};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::network::Host;
use crate::{hooks, meeting, trace};

/// Meeting points among the nodes.
const MEETING: u16 = 4;
/// Devices of each person, in turn.
const HOUSEHOLDS: [u16; 4] = [2, 3, 3, 4];
/// Of so many things that happen, one is that a device goes, for some time.
const PASSING_OF: u64 = 5;
const AWAY_S: (u64, u64) = (60, 3_600);

/// A person's devices.
struct Household {
    devices: Vec<Device>,
}

/// Runs `nodes` nodes for some hours; prints what it was, and what was wrong.
pub fn run(seed: u64, nodes: u16, hours: u64) -> Vec<String> {
    let begun = real_now();
    let world = meeting::world(seed, MEETING);
    let disk = Disk::new(seed);
    let mut dice = Dice::new(seed, "crowd");
    let mut faults = Vec::new();
    let mut crowd: Vec<Household> = Vec::new();
    let mut number = 0;
    while number < nodes.saturating_sub(MEETING) {
        let want = HOUSEHOLDS[crowd.len() % HOUSEHOLDS.len()].min(nodes - MEETING - number);
        match household(&world, &disk, &mut dice, number, want) {
            Ok(household) => crowd.push(household),
            Err(error) => faults.push(format!("household at {number}: {error}")),
        }
        number += want;
        world.wait(Duration::from_millis(dice.within(100, 2_000)));
    }
    let (bytes_made, _) = world.network.looked_at();
    let made = (hooks::elapsed(), real_now() - begun);
    println!("{number} devices of {} persons made in {:.0?}, {:.1} s", crowd.len(), made.0, made.1);
    println!("connections of the meeting points, and nodes: {:?}", world.load());
    let end = hooks::elapsed() + Duration::from_secs(hours * 3_600);
    let (mut changes, mut away) = (0_u64, Vec::<(Duration, usize, usize)>::new());
    while hooks::elapsed() < end {
        world.wait(Duration::from_secs(dice.within(60, 600)));
        let (back, still): (Vec<_>, Vec<_>) =
            away.into_iter().partition(|(until, ..)| *until <= hooks::elapsed());
        away = still;
        for (_, at, who) in back {
            let device: &mut Device = &mut crowd[at].devices[who];
            if let Err(error) = device.start(&world) {
                faults.push(format!("device {} does not start: {error}", device.number));
            }
        }
        let at = dice.index(crowd.len());
        let devices = &mut crowd[at].devices;
        let who = dice.index(devices.len());
        if dice.chance(1, PASSING_OF) {
            if devices[who].locker().is_some() {
                devices[who].stop();
                let time = Duration::from_secs(dice.within(AWAY_S.0, AWAY_S.1));
                away.push((hooks::elapsed() + time, at, who));
            }
        } else if let Some(locker) = devices[who].locker().filter(|_| !devices[who].is_blind) {
            hooks::next_deed();
            let path = format!("{} change {changes}", String::from_utf8_lossy(MARK));
            match locker.make_folder(&path, false) {
                Ok(()) => changes += 1,
                Err(error) => faults.push(format!("device {}: {error}", devices[who].number)),
            }
        }
    }
    println!("connections of the meeting points, and nodes: {:?}", world.load());
    let (bytes, shown) = world.network.looked_at();
    for device in crowd.iter_mut().flat_map(|household| &mut household.devices) {
        if device.locker().is_none()
            && let Err(error) = device.start(&world)
        {
            faults.push(format!("device {} does not start: {error}", device.number));
        }
    }
    world.wait(Duration::from_secs(600));
    for household in &crowd {
        let readers = household.devices.iter().filter(|device| !device.is_blind);
        let hashes: Vec<_> = readers
            .filter_map(|device| device.locker()?.status(StateHash::Always).ok()?.state_hash)
            .collect();
        if hashes.windows(2).any(|two| two[0] != two[1]) {
            faults.push(format!("the devices from {} on differ: {hashes:?}", household.devices[0].number));
        }
    }
    faults.extend(shown.map(|between| format!("plaintext on the wire from {between}")));
    let mut homes = crowd.iter().flat_map(|household| &household.devices);
    faults.extend(homes.find_map(|device| canary::find_in(device.home())));
    let (events, hash) = trace::told();
    let a_day = (bytes - bytes_made) as f64 / f64::from(number) / hours.max(1) as f64 * 24.0;
    println!(
        "seed {seed}: {} nodes, {hours} simulated hours, {changes} changes, {events} events, trace {hash}; \
         {:.1} MB a device and day; {:.0} s, {} MB of memory; {} faults",
        number + MEETING,
        a_day / 1e6,
        real_now() - begun,
        memory_mb(),
        faults.len()
    );
    crowd.iter_mut().flat_map(|household| &mut household.devices).for_each(Device::stop);
    faults
}

fn household(
    world: &World,
    disk: &Disk,
    dice: &mut Dice,
    first: u16,
    count: u16,
) -> Result<Household, locker_engine::Error> {
    let mut devices: Vec<Device> = Vec::new();
    for number in first..first + count {
        let mut device = Device::new(number, &disk.path(""), number > first + 1 && dice.chance(1, 2));
        let latency = Duration::from_millis(dice.within(1, 40));
        world.network.set_host(device.ip, Host { is_on: true, latency, rate: 2_000_000, lies: false });
        match devices.first() {
            None => device.create(world)?,
            Some(one) => device.join(world, one)?,
        }
        device.start(world)?;
        devices.push(device);
    }
    Ok(Household { devices })
}

/// Seconds of the real clock, which nothing else in here reads.
fn real_now() -> f64 {
    hooks::real_ns() as f64 / 1e9
}

/// The memory of this process.
fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1_024
}
