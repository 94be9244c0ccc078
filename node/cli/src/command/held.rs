//! `locker held`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use locker_engine::report::{Decided, Held};
use serde::Serialize;

use super::reply_of;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{count, printable, time};
use crate::request::Request;
use crate::secret_input;

/// Show what a device took away at once, and decide about it
///
/// When one device removes or overwrites more than 500 files, or more than a quarter of them, within ten minutes, the others
/// hold it: they show what was there before, and give nothing up, until somebody decides on one of them, or with the 24 words on
/// the device that did it. With something to decide this command ends with exit code 5.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker held
  locker held undo
  locker held allow 3f9a")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Let it be so, on every device
    Allow {
        /// The device that did it, if several did: its name, its id or the beginning of it
        device: Option<String>,
        /// A file with the 24 words, or - for standard input: they let this device decide about what it did itself
        #[arg(long, value_name = "FILE")]
        phrase_file: Option<PathBuf>,
    },
    /// Bring back what was there before, on every device
    Undo {
        /// The device that did it, if several did: its name, its id or the beginning of it
        device: Option<String>,
    },
}

#[derive(Serialize)]
struct Told<'a> {
    held: &'a [Held],
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.verb {
            None => list(context),
            Some(Verb::Allow { device, phrase_file }) => {
                let words = phrase_file.map(|file| secret_input::phrase(Some(&file))).transpose()?;
                let decided = decide(context, Request::AllowHeld { device, words })?;
                let text = || match decided.files {
                    0 => "Allowed: whatever the others hold of this device, up to now.".into(),
                    files => format!(
                        "Allowed: {} by {} are gone or replaced. `locker restore` brings single ones back.",
                        count(files, "file", "files"),
                        printable(&decided.name)
                    ),
                };
                context.terminal.result(&decided, text)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Verb::Undo { device }) => {
                let decided = decide(context, Request::UndoHeld { device })?;
                let text = || {
                    format!(
                        "Brought back: {} that {} took away.",
                        count(decided.files, "file", "files"),
                        printable(&decided.name)
                    )
                };
                context.terminal.result(&decided, text)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn list(context: &Context) -> Result<ExitCode, Failure> {
    let watch = context.terminal.watch("Looking");
    let held = reply_of!(context.ask(Request::Held, &watch)?, Held);
    watch.finish();
    context.terminal.result(&Told { held: &held }, || match held.len() {
        0 => "Nothing is held.".into(),
        _ => held.iter().map(line).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(if held.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Decision as u8) })
}

fn decide(context: &Context, request: Request) -> Result<Decided, Failure> {
    let watch = context.terminal.watch("Writing");
    let reply = context.ask(request, &watch);
    watch.finish();
    Ok(reply_of!(reply?, Decided))
}

fn line(held: &Held) -> String {
    let id = held.device.get(..8).unwrap_or(&held.device);
    let since = time(i64::try_from(held.since).unwrap_or(i64::MAX));
    let what = match held.this {
        true => String::new(),
        false => "\n  `locker held allow` lets it be so, `locker held undo` brings them back".into(),
    };
    format!("{id}  {}  (since {since})\n  {}{what}", printable(&held.name), printable(&held.sentence))
}
