//! `locker gc`

use clap::Args;
use locker_engine::report::{Collected, Fate, PackGroup, Why};

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, size};
use crate::request::Request;

/// Give back the room of what is not needed any more
///
/// What lies in the trash, and versions that were replaced, are kept for 30 days on which this device runs; after that their
/// room is given back, and they cannot be restored any more. What is needed is put together anew where it lies scattered. A
/// running node does all this by itself, once a day.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker gc --dry-run
  locker --json gc")]
pub(crate) struct Arguments {
    /// Change nothing; only say what would be done, and why
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let watch = context.terminal.watch("Looking for room");
        let reply = context.ask(Request::Gc { dry_run: self.dry_run }, &watch);
        watch.finish();
        let collected = reply_of!(reply?, Collected);
        context.terminal.result(&collected, || told(&collected))
    }
}

fn told(collected: &Collected) -> String {
    let verb = if collected.dry_run { "Would give back" } else { "Gave back" };
    let mut text = format!(
        "{verb} {}. In use: {}; kept for its time: {}.",
        size(collected.reclaimed_bytes),
        size(collected.live_bytes),
        size(collected.recent_bytes)
    );
    let rows: Vec<[String; 4]> = collected.groups.iter().map(|group| row(group, collected.dry_run)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [fate, packs, bytes, why] in &rows {
        let [a, b, c] = widths;
        text.push_str(&format!("\n  {fate:<a$}  {packs:>b$}  {bytes:>c$}  {why}"));
    }
    if !collected.complete {
        text.push_str("\nSome of it was in use or changed meanwhile; the next time goes on there.");
    }
    text
}

fn row(group: &PackGroup, is_dry: bool) -> [String; 4] {
    let fate = match (group.fate, is_dry) {
        (Fate::Kept, _) => "stays",
        (Fate::Wanted, _) => "asked for",
        (Fate::Repacked, false) => "made anew",
        (Fate::Repacked, true) => "to make anew",
        (Fate::Released, false) => "gone",
        (Fate::Released, true) => "to go",
    };
    let why = match group.why {
        Why::InUse => "files need it",
        Why::Recent => "in the trash or replaced, for less than 30 days of running",
        Why::Linked => "a link gives it",
        Why::InTransfer => "it is being sent or fetched",
        Why::Unknown => "what some file is made of is not here, so anything may be needed",
        Why::AwaitsCopies => "stored twice, and the other devices do not have the new copy yet",
        Why::OnOthers => "let go here; another device still has it",
        Why::Unpinned => "no device pins it any more, for less days of running than are set",
        Why::Unneeded => "nothing needs it any more",
        Why::StoredTwice => "all that is needed of it is stored elsewhere too",
        Why::MostlyUnneeded => "less than half of it is needed",
        Why::Small => "one of many small packs",
    };
    [fate.to_owned(), count(group.packs, "pack", "packs"), size(group.bytes), why.to_owned()]
}
