//! Collecting beside everything else that writes, day after day, with failures of the disk in between: nothing that is
//! there, or may be brought back, is ever missing, and hardly anything lies there that nothing needs.
//!
//! `LOCKER_KILLS` sets the number of rounds, `LOCKER_SEED` the first seed; a failure names the seed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::world::{World, random_bytes};
use crate::Error;
use crate::limits::KEEP_DAYS;
use crate::report::Silent;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// What one writer did in its own folder: name and seed of what is there, and of what lies in the trash and since when.
struct Writer {
    dice: ChaCha8Rng,
    folder: String,
    live: BTreeMap<String, u64>,
    trash: BTreeMap<String, (u64, u32)>,
    next: u64,
}

impl Writer {
    fn below(&mut self, n: u64) -> u64 {
        self.dice.next_u64() % n
    }

    fn size(seed: u64) -> usize {
        // Small ones, and now and then one that fills packs.
        if seed.is_multiple_of(17) { 4_500_000 } else { 1_000 + (seed % 90_000) as usize }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn step(&mut self, world: &World, today: u32) {
        let locker = world.locker();
        let some =
            |map: &BTreeMap<String, u64>, n: u64| map.iter().nth(n as usize).map(|(k, v)| (k.clone(), *v));
        match self.below(10) {
            0..=4 => {
                // New ones, and some that were there before under another name: those use what is here.
                let seed = if self.below(3) == 0 { self.below(self.next + 1) } else { self.next };
                let name = format!("{}-{seed}", self.next);
                self.next += 1;
                let source = world.source().join(&self.folder).join(&name);
                std::fs::create_dir_all(source.parent().unwrap()).unwrap();
                std::fs::write(&source, random_bytes(seed, Self::size(seed))).unwrap();
                world.add_path(&source, &self.folder);
                std::fs::remove_file(source).unwrap();
                self.live.insert(name, seed);
            }
            5..=7 if !self.live.is_empty() => {
                let at = self.below(self.live.len() as u64);
                let (name, seed) = some(&self.live, at).unwrap();
                locker.remove(&self.path(&name)).unwrap();
                self.live.remove(&name);
                self.trash.insert(name, (seed, today));
            }
            8 if !self.trash.is_empty() => {
                let at = self.below(self.trash.len() as u64);
                let (name, (seed, since)) =
                    self.trash.iter().nth(at as usize).map(|(k, v)| (k.clone(), *v)).unwrap();
                match locker.restore(&self.path(&name), None, None) {
                    Ok(_) => {
                        self.trash.remove(&name);
                        self.live.insert(name, seed);
                    }
                    Err(Error::Gone(_)) => {
                        assert!(today - since >= KEEP_DAYS, "{name} went after {} days", today - since);
                        self.trash.remove(&name);
                    }
                    Err(other) => panic!("{name}: {other}"),
                }
            }
            _ => {
                if let Some((name, seed)) = (!self.live.is_empty())
                    .then(|| some(&self.live, self.next % self.live.len() as u64).unwrap())
                {
                    assert_eq!(world.read(&self.path(&name)), random_bytes(seed, Self::size(seed)), "{name}");
                }
            }
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new();
    let mut writers: Vec<Writer> = (0..3)
        .map(|n| Writer {
            dice: ChaCha8Rng::seed_from_u64(seed * 3 + n),
            folder: format!("w{n}"),
            live: BTreeMap::new(),
            trash: BTreeMap::new(),
            next: 1 + n * 1_000,
        })
        .collect();
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    for today in 0..KEEP_DAYS + 15 {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let collector = scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    world.locker().gc(false, &Silent).unwrap();
                }
            });
            let working: Vec<_> = writers
                .iter_mut()
                .map(|writer| {
                    let world = &world;
                    scope.spawn(move || (0..4).for_each(|_| writer.step(world, today)))
                })
                .collect();
            working.into_iter().for_each(|writer| writer.join().unwrap());
            over.store(true, Ordering::SeqCst);
            collector.join().unwrap();
        });
        if dice.next_u64() % 5 == 0 {
            world.open();
        }
        world.next_day();
    }
    // At rest: what is there is whole, what was removed goes, and nothing else is left.
    for writer in &writers {
        for (name, seed) in &writer.live {
            assert_eq!(world.read(&writer.path(name)), random_bytes(*seed, Writer::size(*seed)), "{name}");
        }
    }
    world.assert_whole();
    for _ in 0..=KEEP_DAYS {
        world.gc();
        world.next_day();
    }
    let told = world.gc();
    world.assert_whole();
    assert_eq!(told.recent_bytes, 0);
    let (_, on_disk) = world.pack_files();
    // Half of a pack may be garbage before it is made anew.
    assert!(told.garbage_bytes * 2 <= told.live_bytes.max(1), "{told:?}");
    assert!(on_disk <= 3 * told.live_bytes + (1 << 20), "{on_disk} on disk for {told:?}");
    // What was removed is gone, or, where it lies beside what is needed, whole.
    let mut gone = 0;
    for writer in &writers {
        for (name, (seed, _)) in &writer.trash {
            match world.locker().restore(&writer.path(name), None, None) {
                Err(Error::Gone(_)) => gone += 1,
                Ok(_) => {
                    let bytes = world.read(&writer.path(name));
                    assert_eq!(bytes, random_bytes(*seed, Writer::size(*seed)), "{name}");
                }
                Err(other) => panic!("{name}: {other}"),
            }
        }
    }
    assert!(gone > 0);
    world.assert_whole();
}

#[test]
fn collecting_beside_imports_loses_nothing() {
    let (first, rounds) = (setting("LOCKER_SEED", 0), setting("LOCKER_KILLS", 2).div_ceil(50));
    for seed in first..first + rounds {
        let ran = std::panic::catch_unwind(|| run(seed));
        assert!(ran.is_ok(), "LOCKER_SEED={seed} LOCKER_KILLS=1");
    }
}
