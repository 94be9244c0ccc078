//! Calls of the engine on a large locker, as a program with a window would make them.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use locker_engine::report::{Silent, StateHash};
use locker_engine::{Env, ListOptions, Locker};
use serde_json::json;

use crate::{Failure, ms, plan, status_bytes};

/// How often a call is made; the middle one counts.
const TIMES: usize = 21;

/// A moment: on the clock on the wall, and on the processor's account of this thread. On a machine with other work the
/// second one is what the call costs.
pub(crate) struct Moment(Instant, f64);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(Instant::now(), cpu_ms())
    }

    /// Milliseconds since: wall, processor.
    pub(crate) fn since(&self) -> [f64; 2] {
        [ms(self.0), cpu_ms() - self.1]
    }
}

/// How long the main thread has run, in milliseconds.
fn cpu_ms() -> f64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    told.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).map_or(0.0, |ns| ns / 1e6)
}

/// The middle of some times, the longest, and the middle of what they took of the processor.
pub(crate) fn middle(times: &[[f64; 2]]) -> serde_json::Value {
    let sorted = |which: usize| {
        let mut sorted: Vec<f64> = times.iter().map(|time| time[which]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let (wall, cpu) = (sorted(0), sorted(1));
    json!({ "median_ms": wall[wall.len() / 2], "most_ms": wall[wall.len() - 1], "cpu_ms": cpu[cpu.len() / 2] })
}

fn each(mut call: impl FnMut(usize) -> Result<(), Failure>) -> Result<serde_json::Value, Failure> {
    let mut times = Vec::with_capacity(TIMES);
    for number in 0..TIMES {
        let start = Moment::now();
        call(number)?;
        times.push(start.since());
    }
    Ok(middle(&times))
}

/// Lists the great folder; times until row 1,000 and until the end.
fn list(locker: &Locker, dir: &str) -> Result<([f64; 2], [f64; 2], u64), Failure> {
    let (start, mut rows, mut first) = (Moment::now(), 0_u64, [0.0; 2]);
    locker.list(dir, ListOptions::default(), &mut |entry| {
        std::hint::black_box(&entry);
        rows += 1;
        if rows == 1_000 {
            first = start.since();
        }
        ControlFlow::Continue(())
    })?;
    Ok((first, start.since(), rows))
}

/// Lists one folder again and again: for a profile.
pub(crate) fn list_often(home: &Path, dir: &str, times: usize) -> Result<serde_json::Value, Failure> {
    let locker = Locker::open(home, Env::system(), &mut || Err(locker_engine::Error::PassphraseWrong))?;
    let (mut first, mut all, mut rows) = (Vec::new(), Vec::new(), 0);
    for _ in 0..times {
        let (a, b, n) = list(&locker, dir)?;
        first.push(a);
        all.push(b);
        rows = n;
    }
    Ok(json!({ "rows": rows, "first_1000": middle(&first), "all": middle(&all) }))
}

/// Makes the calls and tells what they took.
pub(crate) fn run(home: &Path) -> Result<serde_json::Value, Failure> {
    let start = Moment::now();
    let locker = Locker::open(home, Env::system(), &mut || Err(locker_engine::Error::PassphraseWrong))?;
    let open = start.since();
    let opened_bytes = status_bytes("VmRSS:");
    let (cold_first, cold_all, rows) = list(&locker, plan::BIG)?;
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (a, b, _) = list(&locker, plan::BIG)?;
        first.push(a);
        all.push(b);
    }
    let status = each(|_| locker.status(StateHash::IfQuick).map(drop).map_err(Failure::from))?;
    // Another run finds other names.
    let run = crate::now_ms();
    let mkdir = each(|n| Ok(locker.make_folder(&format!("made {run} {n}"), false)?))?;
    let mkdir_big = each(|n| Ok(locker.make_folder(&format!("{}/made {run} {n}", plan::BIG), false)?))?;
    let rename =
        each(|n| Ok(locker.rename(&format!("made {run} {n}"), &format!("{}/moved {run} {n}", plan::BIG))?))?;
    let remove = each(|n| Ok(locker.remove(&format!("{}/moved {run} {n}", plan::BIG)).map(drop)?))?;
    let folder = tempfile::tempdir()?;
    for n in 0..TIMES {
        std::fs::File::create(folder.path().join(format!("tiny {n}.txt")))?.write_all(&n.to_le_bytes())?;
    }
    let add = each(|n| {
        let path = folder.path().join(format!("tiny {n}.txt"));
        Ok(locker.add(&[&path], plan::BIG, &Silent).map(drop)?)
    })?;
    let peak = status_bytes("VmHWM:");
    let start = Moment::now();
    drop(locker);
    Ok(json!({
        "open": middle(&[open]), "opened_bytes": opened_bytes, "rows": rows,
        "list_cold": { "first_1000": middle(&[cold_first]), "all": middle(&[cold_all]) },
        "list_first_1000": middle(&first), "list_all": middle(&all), "status": status,
        "mkdir": mkdir, "mkdir_big": mkdir_big, "mv": rename, "rm": remove, "add": add,
        "close": middle(&[start.since()]), "peak_bytes": peak,
    }))
}
