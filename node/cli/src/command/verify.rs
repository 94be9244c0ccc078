//! `locker verify`

use std::process::ExitCode;

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{count, printable, size};
use crate::request::Request;

/// Check every stored byte and every reference
///
/// Reads all packs, all log entries and the whole database, and opens what every file refers to. Ends with exit code 7 if
/// anything is damaged or missing, and names it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker verify
  locker --json verify")]
pub(crate) struct Arguments {}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let watch = context.terminal.watch("Checking");
        let reply = context.ask(Request::Verify, &watch);
        watch.finish();
        let verified = reply_of!(reply?, Verified);
        context.terminal.result(&verified, || {
            let mut text = format!(
                "{} checked, {}",
                count(verified.checked, "object", "objects"),
                size(verified.checked_bytes)
            );
            match verified.bad {
                0 => text.push_str(": everything is whole"),
                n => text.push_str(&format!(": {} damaged or missing", count(n, "is", "are"))),
            }
            for problem in &verified.problems {
                text.push_str(&format!("\n{} ({})", printable(&problem.message), problem.code));
            }
            for file in &verified.damaged_files {
                text.push_str(&format!("\ncannot be read whole: {}", printable(file)));
            }
            text
        })?;
        Ok(if verified.bad == 0 { ExitCode::SUCCESS } else { ExitCode::from(Exit::Integrity as u8) })
    }
}
