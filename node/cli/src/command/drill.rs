//! `locker drill`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use locker_engine::report::Drilled;
use locker_engine::{DrillOptions, Locker};

use super::recover::whence;
use super::reply_of;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::network::{self, Network};
use crate::output::{count, printable, size, time};
use crate::request::Request;
use crate::secret_input;

/// Paths that are shown; `--json` has them all.
const SHOWN: usize = 20;

/// Rehearse the recovery from the 24 words
///
/// Does what `locker recover` does, in a place that is thrown away and without anything of this device: finds who else keeps
/// the locker, brings all names back, asks who has which content, and reads some files drawn by lot. Changes nothing
/// anywhere. Do it now and then: a backup that was never tried is a hope.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker drill
  locker drill --phrase-file words.txt
  locker --json drill --phrase-file - --from /media/drive

Exits with 7 if something would not come back.")]
pub(crate) struct Arguments {
    /// Read the words from FILE, or from standard input with -
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// Where else a copy is: an address, or a folder such as a drive; may be given several times
    #[arg(long, value_name = "ADDR|DIR")]
    from: Vec<String>,
    #[command(flatten)]
    network: Network,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let watch = context.terminal.watch("Rehearsing");
        let rehearsal = reply_of!(context.ask(Request::Rehearsal, &watch)?, Rehearsal);
        let options = DrillOptions {
            phrase: secret_input::phrase(self.phrase_file.as_deref())?,
            rehearsal,
            from: self.from.into_iter().map(whence).collect(),
            node: network::options(&[], &self.network.resolve(&context.home)?)?,
        };
        let mut ask = || secret_input::passphrase(context.passphrase_file(), "Passphrase of the folder: ");
        let drilled = Locker::drill(&context.home, options, &mut ask, &watch)?;
        watch.finish();
        context.terminal.result(&drilled, || text(&drilled))?;
        let is_whole = drilled.missing.is_empty() && drilled.awaited == 0;
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(Exit::Integrity as u8) })
    }
}

fn text(drilled: &Drilled) -> String {
    let mut text = format!(
        "{}\n{}, {}; {:.1} s",
        drilled.sentence,
        count(drilled.files, "file", "files"),
        size(drilled.bytes),
        drilled.seconds
    );
    if let Some(newest) = &drilled.newest_evidence {
        let at = time(i64::try_from(newest.at).unwrap_or(i64::MAX));
        text.push_str(&format!(
            "\nThe newest that came back was signed {at} by {}.",
            printable(&newest.name)
        ));
    }
    for path in drilled.missing.iter().take(SHOWN) {
        text.push_str(&format!("\nmissing: {}", printable(path)));
    }
    if drilled.missing.len() > SHOWN {
        text.push_str(&format!("\nand {} more; --json lists them", drilled.missing.len() - SHOWN));
    }
    text
}
