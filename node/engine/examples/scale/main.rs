//! A locker of a million files without content, for benchmarks: makes one, adds to it what another device wrote late,
//! and measures calls of the engine on it. Prints one JSON object. No part of the product.
//!
//! ```text
//! scale make HOME FILES [own|other] [OPS]   HOME is new (`locker init`); who wrote the files; operations of an entry
//! scale late HOME FILES KIND COUNT BATCH    COUNT late entries of the other device, so many in one commit
//! scale calls HOME                          what calls of the engine take
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: its result and its failure are printed"
)]

mod calls;
mod late;
mod pen;
mod plan;

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use locker_catalog::operation::{EntryRef, Op};
use locker_crypto::encode::Writer;
use serde_json::json;

use crate::pen::{Hand, Pen, Tip};
use crate::plan::Plan;

/// Whatever goes wrong ends the run.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Operations of an entry of an import.
const ENTRY_OPS: usize = 1_000;
/// Bytes of operations of an entry of an import.
const ENTRY_BYTES: usize = 240_000;
/// Bytes of entries of a commit.
const COMMIT_BYTES: usize = 4 << 20;
/// Entries of a commit.
const COMMIT_ENTRIES: usize = 4_096;
/// Distance of the clocks of two entries: others fit in between.
pub(crate) const CLOCK_STEP: u64 = 16;

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

pub(crate) fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Gathers operations into entries and entries into commits.
struct Scribe {
    pen: Pen,
    hand: Hand,
    tip: Tip,
    /// What the first entry names: by this its author knows that it is a member.
    deps: Vec<EntryRef>,
    ops_max: usize,
    ops: Vec<Op>,
    ops_len: usize,
    entries: Vec<locker_catalog::space::OpenedEntry>,
    entries_len: usize,
    /// Entries and operations so far, and seconds of taking them in, signing not counted.
    count: (u64, u64),
    seconds: f64,
}

impl Scribe {
    fn push(&mut self, op: Op) -> Result<(), Failure> {
        let mut w = Writer::new();
        op.encode(&mut w);
        if self.ops.len() >= self.ops_max || self.ops_len + w.len() > ENTRY_BYTES {
            self.sign()?;
        }
        self.ops_len += w.len();
        self.ops.push(op);
        Ok(())
    }

    fn sign(&mut self) -> Result<(), Failure> {
        if self.ops.is_empty() {
            return Ok(());
        }
        self.count = (self.count.0 + 1, self.count.1 + self.ops.len() as u64);
        self.ops_len = 0;
        let (hlc, ops) = (self.tip.hlc + CLOCK_STEP, std::mem::take(&mut self.ops));
        let entry = self.pen.sign(self.hand, &mut self.tip, hlc, std::mem::take(&mut self.deps), ops)?;
        self.entries_len += entry.sealed.len();
        self.entries.push(entry);
        if self.entries_len >= COMMIT_BYTES || self.entries.len() >= COMMIT_ENTRIES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        self.entries_len = 0;
        let entries = std::mem::take(&mut self.entries);
        let start = Instant::now();
        match self.hand {
            Hand::Own => self.pen.write(entries, now_ms())?,
            Hand::Other => {
                let bytes: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.sealed).collect();
                if self.pen.take(&bytes, now_ms())? > 0 {
                    return Err("operations without effect".into());
                }
            }
        }
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }
}

fn make(home: &Path, files: u64, hand: Hand, ops_max: usize) -> Result<serde_json::Value, Failure> {
    let (mut pen, _) = Pen::open(home)?;
    pen.enrol(now_ms())?;
    let mut tip = pen.tip(hand)?;
    let own = pen.tip(Hand::Own)?;
    tip.hlc = tip.hlc.max(own.hlc);
    let deps = own.name.filter(|_| hand == Hand::Other).into_iter().collect();
    let start = Instant::now();
    let mut scribe = Scribe {
        pen,
        hand,
        tip,
        deps,
        ops_max,
        ops: Vec::new(),
        ops_len: 0,
        entries: Vec::new(),
        entries_len: 0,
        count: (0, 0),
        seconds: 0.0,
    };
    Plan::new(files).each(&mut |op| scribe.push(op))?;
    scribe.sign()?;
    scribe.commit()?;
    let all = start.elapsed().as_secs_f64();
    let Scribe { pen, count: (entries, ops), seconds, .. } = scribe;
    pen.close()?;
    let database = std::fs::metadata(home.join("locker.redb"))?.len();
    Ok(json!({
        "files": files, "entries": entries, "ops": ops, "seconds": seconds, "with_signing_s": all,
        "peak_bytes": peak_bytes(), "database_bytes": database,
    }))
}

/// The most memory that this process ever had, as the system counts it.
fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// A line of the system's account of this process, in bytes.
pub(crate) fn status_bytes(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).map_or(0, |kib: u64| kib << 10)
}

fn run(words: &[String]) -> Result<serde_json::Value, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", home, files, rest @ ..] => {
            let hand = if rest.first() == Some(&"other") { Hand::Other } else { Hand::Own };
            let ops = rest.get(1).map_or(Ok(ENTRY_OPS), |ops| ops.parse())?;
            make(home.as_ref(), files.parse()?, hand, ops)
        }
        ["late", home, files, kind, count, batch] => {
            late::run(home.as_ref(), files.parse()?, kind, count.parse()?, batch.parse()?)
        }
        ["list", home, dir, times] => calls::list_often(home.as_ref(), dir, times.parse()?),
        ["calls", home] => calls::run(home.as_ref()),
        _ => Err(
            "usage: scale make HOME FILES [own|other] [OPS] | late HOME FILES KIND COUNT BATCH | calls HOME"
                .into(),
        ),
    }
}

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(told) => {
            println!("{told}");
            std::process::ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("scale: {failure}");
            std::process::ExitCode::FAILURE
        }
    }
}
