//! `locker status`

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, size, time};
use crate::request::Request;

/// Say how the locker is: one true sentence, then the facts
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker status
  locker --json status")]
pub(crate) struct Arguments {}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let status = *reply_of!(context.ask(Request::Status, &context.terminal.watch("Looking"))?, Status);
        context.terminal.result(&status, || {
            let mut text = format!(
                "{}\n\n{} in {}, {}; {} on this disk\n",
                status.sentence,
                count(status.files, "file", "files"),
                count(status.folders, "folder", "folders"),
                size(status.bytes),
                size(status.store_bytes)
            );
            for device in &status.devices {
                text.push_str(&format!("device {}\n", super::device::line(device)));
            }
            text.push_str(&format!("vault: {}\n", status.vault));
            for transfer in &status.transfers {
                text.push_str(&format!(
                    "to come: {}, {} of {} here\n",
                    transfer.what,
                    size(transfer.done),
                    size(transfer.total)
                ));
            }
            if let Some(traffic) = status.traffic {
                text.push_str(&format!(
                    "content moved since the node started: {} sent, {} received\n",
                    size(traffic.pack_bytes_sent),
                    size(traffic.pack_bytes_received)
                ));
            }
            if let Some(oldest) = status.scrub.oldest_verified {
                let oldest = i64::try_from(oldest).unwrap_or(i64::MAX);
                text.push_str(&format!("every stored byte was checked since {}\n", time(oldest)));
            }
            for problem in &status.problems {
                text.push_str(&format!("problem: {} ({})\n", problem.message, problem.code));
            }
            text
        })
    }
}
