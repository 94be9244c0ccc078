//! `locker free`

use std::process::ExitCode;

use clap::Args;
use locker_engine::report::Freed;

use super::reply_of;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{count, printable, size};
use crate::request::Request;

/// Reasons that are shown.
const SHOWN: usize = 10;

/// Let content go on this device that other devices hold
///
/// The files stay in the locker and are read from the other devices. Only what these prove now that they hold, and promise
/// to keep for a day, is let go; nothing else is touched. Replicas, which cannot read, count too, but one of these devices
/// must be one that reads. `locker pin` gets it back. Asks through the node that runs; where
/// none does, it runs one for the time. If nothing is let go it ends with exit code 6 if others were asked and nobody proved
/// anything, else with 4.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker free Videos
  locker free --copies 1 Videos/2019")]
pub(crate) struct Arguments {
    /// A file or folder of the locker
    #[arg(value_name = "PATH")]
    path: String,
    /// How many other devices must hold it, 1 to 8
    #[arg(long, value_name = "N", default_value_t = 2)]
    copies: u32,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let watch = context.terminal.watch("Asking for proofs");
        let reply = context.ask(Request::Free { path: self.path, copies: self.copies }, &watch);
        watch.finish();
        let freed = reply_of!(reply?, Freed);
        context.terminal.result(&freed, || told(&freed))?;
        Ok(match &freed {
            Freed { files: 0, kept_files: 1.., asked: 1.., holders: 0, .. } => {
                ExitCode::from(Exit::Unreachable as u8)
            }
            Freed { files: 0, kept_files: 1.., .. } => ExitCode::from(Exit::Refused as u8),
            _ => ExitCode::SUCCESS,
        })
    }
}

fn told(freed: &Freed) -> String {
    let mut text = match freed.files {
        0 => "Nothing was let go.".to_owned(),
        files => format!(
            "Let go of {}, {}: {} of this disk are free again. {} proved that they hold it.",
            count(files, "file", "files"),
            size(freed.bytes),
            size(freed.freed_bytes),
            count(freed.holders, "other device", "other devices")
        ),
    };
    if freed.kept_files > 0 {
        text.push_str(&format!(
            "\n{}, {}, stay here:",
            count(freed.kept_files, "file", "files"),
            size(freed.kept_bytes)
        ));
    }
    for kept in freed.kept.iter().take(SHOWN) {
        text.push_str(&format!("\n  {}: {}", printable(&kept.path), kept.reason));
    }
    if freed.kept_files > SHOWN as u64 {
        text.push_str(&format!(
            "\n  and {} more (--json names up to a thousand)",
            freed.kept_files - SHOWN as u64
        ));
    }
    text
}
