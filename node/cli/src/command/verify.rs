//! `locker verify`

use std::process::ExitCode;

use clap::Args;
use locker_engine::report::Verified;

use super::reply_of;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{count, printable, size};
use crate::request::Request;

/// Check every stored byte and every reference
///
/// Reads all packs, all log entries and the whole database, and opens what every file refers to. Ends with exit code 7 if
/// anything is damaged or missing, and names it. Ctrl-C stops it; the next `locker verify` then goes on where it was.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker verify
  locker verify --repair
  locker --json verify")]
pub(crate) struct Arguments {
    /// Heal what is damaged, from any other device that has it
    #[arg(long)]
    repair: bool,
    /// Begin anew, even if an earlier run was stopped
    #[arg(long)]
    all: bool,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let Self { repair, all } = self;
        let watch = context.terminal.watch_packs("Checking");
        let reply = context.ask(Request::Verify { repair, all }, &watch);
        watch.finish();
        let verified = reply_of!(reply?, Verified);
        context.terminal.result(&verified, || text(&verified, repair))?;
        Ok(match (verified.is_damaged(), verified.complete) {
            (true, _) => ExitCode::from(Exit::Integrity as u8),
            (false, true) => ExitCode::SUCCESS,
            // Nothing wrong was met, and nobody knows of the rest.
            (false, false) => ExitCode::from(Exit::Failed as u8),
        })
    }
}

fn text(verified: &Verified, repair: bool) -> String {
    let Verified { checked, checked_bytes, bad, repaired, .. } = verified;
    let rate = *checked_bytes as f64 / verified.seconds.max(0.001);
    let mut text = format!(
        "{} checked, {} in {:.1} s, {}/s",
        count(*checked, "object", "objects"),
        size(*checked_bytes),
        verified.seconds,
        size(rate as u64)
    );
    match (bad - repaired.min(bad), verified.complete) {
        (0, true) => text.push_str(": everything is whole"),
        (0, false) => text.push_str(": so far everything is whole"),
        (n, _) => text.push_str(&format!(": {} damaged or missing", count(n, "is", "are"))),
    }
    if *repaired > 0 {
        text.push_str(&format!("\n{} damaged and healed", count(*repaired, "pack was", "packs were")));
    }
    if verified.earlier > 0 {
        text.push_str(&format!(
            "\nwent on where it was stopped: {} checked before (`--all` begins anew)",
            count(verified.earlier, "pack was", "packs were")
        ));
    }
    if !verified.complete {
        text.push_str("\nnot done: the next `locker verify` goes on from here");
    }
    for problem in &verified.problems {
        text.push_str(&format!("\n{} ({})", printable(&problem.message), problem.code));
    }
    for file in &verified.damaged_files {
        text.push_str(&format!("\ncannot be read whole: {}", printable(file)));
    }
    for note in &verified.notes {
        text.push_str(&format!("\nnote: {}", printable(note)));
    }
    if verified.is_damaged() && !repair {
        text.push_str("\n`locker verify --repair` fetches what is damaged from other devices");
    }
    text
}
