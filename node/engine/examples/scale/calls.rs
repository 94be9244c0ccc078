//! Calls of the engine on a large locker, as a program with a window would make them.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use locker_engine::report::{Observer, Progress};
use locker_engine::{Env, Locker};
use serde_json::json;

use crate::{Failure, ms, plan, status_bytes};

/// How often a call is made; the middle one counts.
const TIMES: usize = 21;

struct Silent;

impl Observer for Silent {
    fn progress(&self, _: Progress) {}

    fn saved(&self, _: &str) {}
}

/// The middle of some times and the longest.
fn middle(mut times: Vec<f64>) -> serde_json::Value {
    times.sort_by(f64::total_cmp);
    json!({ "median_ms": times[times.len() / 2], "most_ms": times[times.len() - 1] })
}

fn each(mut call: impl FnMut(usize) -> Result<(), Failure>) -> Result<serde_json::Value, Failure> {
    let mut times = Vec::with_capacity(TIMES);
    for number in 0..TIMES {
        let start = Instant::now();
        call(number)?;
        times.push(ms(start));
    }
    Ok(middle(times))
}

/// Lists the great folder; times until row 1,000 and until the end.
fn list(locker: &Locker, dir: &str) -> Result<(f64, f64, u64), Failure> {
    let (start, mut rows, mut first) = (Instant::now(), 0_u64, 0.0);
    locker.list(dir, false, &mut |entry| {
        std::hint::black_box(&entry);
        rows += 1;
        if rows == 1_000 {
            first = ms(start);
        }
        ControlFlow::Continue(())
    })?;
    Ok((first, ms(start), rows))
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
    Ok(json!({ "rows": rows, "first_1000": middle(first), "all": middle(all) }))
}

/// Makes the calls and tells what they took.
pub(crate) fn run(home: &Path) -> Result<serde_json::Value, Failure> {
    let start = Instant::now();
    let locker = Locker::open(home, Env::system(), &mut || Err(locker_engine::Error::PassphraseWrong))?;
    let open_ms = ms(start);
    let opened_bytes = status_bytes("VmRSS:");
    let (cold_first, cold_all, rows) = list(&locker, plan::BIG)?;
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (a, b, _) = list(&locker, plan::BIG)?;
        first.push(a);
        all.push(b);
    }
    let status = each(|_| locker.status().map(drop).map_err(Failure::from))?;
    let mkdir = each(|n| Ok(locker.make_folder(&format!("made {n}"), false)?))?;
    let mkdir_big = each(|n| Ok(locker.make_folder(&format!("{}/made {n}", plan::BIG), false)?))?;
    let rename = each(|n| Ok(locker.rename(&format!("made {n}"), &format!("{}/moved {n}", plan::BIG))?))?;
    let remove = each(|n| Ok(locker.remove(&format!("{}/moved {n}", plan::BIG)).map(drop)?))?;
    let folder = tempfile::tempdir()?;
    for n in 0..TIMES {
        std::fs::File::create(folder.path().join(format!("tiny {n}.txt")))?.write_all(&n.to_le_bytes())?;
    }
    let add = each(|n| {
        let path = folder.path().join(format!("tiny {n}.txt"));
        Ok(locker.add(&[&path], plan::BIG, &Silent).map(drop)?)
    })?;
    let peak = status_bytes("VmHWM:");
    let start = Instant::now();
    drop(locker);
    Ok(json!({
        "open_ms": open_ms, "opened_bytes": opened_bytes, "rows": rows,
        "list_cold": { "first_1000_ms": cold_first, "all_ms": cold_all },
        "list_first_1000": middle(first), "list_all": middle(all), "status": status,
        "mkdir": mkdir, "mkdir_big": mkdir_big, "mv": rename, "rm": remove, "add": add,
        "close_ms": ms(start), "peak_bytes": peak,
    }))
}
