//! Many schedules, each in a process of its own, so that nothing of one is left for the next.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::disk;

/// Every so many schedules are run a second time, and must leave the same trace.
const TWICE_EVERY: u64 = 16;

#[derive(Default)]
struct Tally {
    faults: BTreeMap<u64, String>,
    runs: u64,
    hours: f64,
    twice: u64,
    /// Sentences of `status` that were held against the disks, and those that said "Safe".
    sentences: f64,
    safe: f64,
    /// Schedules in which one said so.
    safely: u64,
}

/// Runs `count` schedules from `first` on.
pub fn run(first: u64, count: u64) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let tally = Mutex::new(Tally::default());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let (mut is_fine, told) = one(seed);
                    let mut fault = told.clone();
                    let is_twice = seed.is_multiple_of(TWICE_EVERY);
                    if is_twice && is_fine {
                        let again = one(seed);
                        if again.1 != told {
                            is_fine = false;
                            fault = format!("{told}  another trace the second time: {}", again.1);
                        }
                    }
                    if !is_fine {
                        eprintln!("{fault}");
                    }
                    let Ok(mut tally) = tally.lock() else { return };
                    tally.runs += 1;
                    tally.twice += u64::from(is_twice);
                    tally.hours += figure(&told, "hours");
                    tally.sentences += figure(&told, "sentences");
                    tally.safe += figure(&told, "safe");
                    tally.safely += u64::from(figure(&told, "safe") > 0.0);
                    if !is_fine {
                        tally.faults.insert(seed, fault);
                    }
                    if tally.runs % 100 == 0 {
                        let (runs, faults) = (tally.runs, tally.faults.len());
                        eprintln!(
                            "{runs} of {count}, {faults} faults, {:.0} s",
                            begun.elapsed().as_secs_f64()
                        );
                    }
                }
            });
        }
    });
    let Ok(tally) = tally.into_inner() else { return ExitCode::FAILURE };
    println!(
        "LOCKER_SEED={first}: {} schedules, {} of them twice, {:.0} simulated hours, {:.0} s: {} faults",
        tally.runs,
        tally.twice,
        tally.hours,
        begun.elapsed().as_secs_f64(),
        tally.faults.len()
    );
    println!(
        "{} sentences of status held against all disks, {} of them Safe, in {} schedules",
        tally.sentences, tally.safe, tally.safely
    );
    for seed in tally.faults.keys() {
        println!("  simulate one {seed}");
    }
    if tally.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64) -> (bool, String) {
    let run = std::env::current_exe().and_then(|own| {
        let mut run = Command::new(own);
        run.args(["one", &seed.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = run.spawn()?;
        let homes = disk::place(child.id(), seed);
        let ended = child.wait_with_output();
        // One that ended by a panic leaves them.
        _ = std::fs::remove_dir_all(homes);
        ended
    });
    match run {
        Ok(run) if run.status.success() => (true, String::from_utf8_lossy(&run.stdout).into_owned()),
        Ok(run) => {
            let (told, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
            (false, format!("seed {seed} {}\n{told}{errors}", run.status))
        }
        Err(error) => (false, format!("seed {seed} cannot be run: {error}")),
    }
}

/// The number behind a word of a line.
fn figure(told: &str, word: &str) -> f64 {
    told.split_once(&format!(" {word} "))
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
