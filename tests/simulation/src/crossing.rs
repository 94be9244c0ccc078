//! Two devices that find each other at the same moment over a long way: each dials while the other one does. They must agree
//! on one session soon, and keep it.

use std::time::Duration;

use locker_engine::Error;

use crate::device::{Device, World};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::network::Host;
use crate::{hooks, meeting};

/// How long two devices have to come to a session that stays.
const MEET_TIME: Duration = Duration::from_secs(10);
/// How long they are watched.
const WATCH_TIME: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Runs `count` times from a seed on; prints what it was, and what was wrong.
pub fn run(first: u64, count: u64) -> Vec<String> {
    // One process, one clock.
    let mut world = meeting::world(first, 1);
    let meeting = world.meeting.clone();
    let (mut faults, mut met, mut losses) = (Vec::new(), Vec::new(), 0);
    for seed in first..first + count {
        world.meeting.clone_from(&meeting);
        match one(&mut world, seed, u16::try_from(2 * (seed - first)).unwrap_or(0)) {
            Ok(watched) => {
                if watched.since.is_none_or(|since| since > MEET_TIME) {
                    faults.push(format!("seed {seed}: {watched:?}"));
                }
                met.extend(watched.since);
                losses += watched.losses;
            }
            Err(error) => faults.push(format!("seed {seed}: {error} ({error:?})")),
        }
    }
    met.sort();
    println!(
        "{} of {count} met for good; half after {:.3?}, the last after {:.3?}; {losses} sessions were lost again",
        met.len(),
        met.get(met.len() / 2),
        met.last()
    );
    faults
}

/// What was seen of two devices.
#[derive(Debug, Default)]
struct Watched {
    /// One way between them.
    way: Duration,
    /// The later one was started so much after the first.
    skew: Duration,
    /// From when on both had the other one, to the end.
    since: Option<Duration>,
    /// How often one had lost it.
    losses: usize,
}

fn one(world: &mut World, seed: u64, number: u16) -> Result<Watched, Error> {
    let (disk, mut dice) = (Disk::new(seed), Dice::new(seed, "crossing"));
    let mut devices: Vec<Device> = Vec::new();
    let latency = Duration::from_millis(dice.within(10, 80));
    for at in 0..2 {
        let mut device = Device::new(number + at, &disk.path(""), false);
        world.network.set_host(device.ip, Host { is_on: true, latency, rate: 20_000_000, lies: false });
        match devices.first() {
            None => device.create(world)?,
            Some(owner) => device.join(world, owner)?,
        }
        device.start(world)?;
        devices.push(device);
    }
    // Until each knows where the other one is.
    world.wait(Duration::from_secs(60));
    devices.iter_mut().for_each(Device::stop);
    world.meeting.clear();
    world.wait(Duration::from_secs(60));

    let mut watched = Watched { way: 2 * latency, ..Watched::default() };
    watched.skew = watched.way.mul_f64(dice.below(1_000) as f64 / 1_000.0);
    devices[0].start(world)?;
    world.wait(watched.skew);
    devices[1].start(world)?;
    let begun = hooks::elapsed();
    let mut had = [false; 2];
    while hooks::elapsed() < begun + WATCH_TIME {
        world.wait(LOOK);
        let mut has = [false; 2];
        for (has, device) in has.iter_mut().zip(&devices) {
            let listed = device.locker().map_or(Ok(Vec::new()), |locker| locker.devices())?;
            *has = listed.iter().any(|one| !one.this && one.online);
        }
        watched.losses += had.iter().zip(&has).filter(|(had, has)| **had && !**has).count();
        watched.since = match has {
            [true, true] => watched.since.or(Some(hooks::elapsed() - begun)),
            _ => None,
        };
        had = has;
    }
    devices.iter_mut().for_each(Device::stop);
    Ok(watched)
}
