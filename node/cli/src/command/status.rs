//! `locker status`

use clap::Args;
use locker_engine::report::{ROLE_BLIND, StateHash};

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, size, time};
use crate::request::Request;

/// Say how the locker is: one true sentence, then the facts
///
/// Devices that know the same have the same state hash. Every file is looked at for it: in JSON it is told unasked up to
/// 20,000 files and folders.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker status
  locker --json status --state-hash")]
pub(crate) struct Arguments {
    /// Tell the state hash too
    #[arg(long)]
    state_hash: bool,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let hash = if self.state_hash { StateHash::Always } else { StateHash::IfQuick };
        let watch = context.terminal.watch("Looking");
        let status = *reply_of!(context.ask(Request::Status { hash }, &watch)?, Status);
        context.terminal.result(&status, || {
            let mut text = format!("{}\n\n", status.sentence);
            if !status.devices.iter().any(|device| device.this && device.role == ROLE_BLIND) {
                text.push_str(&format!(
                    "{} in {}, {}; ",
                    count(status.files, "file", "files"),
                    count(status.folders, "folder", "folders"),
                    size(status.bytes)
                ));
            }
            text.push_str(&format!("{} on this disk\n", size(status.store_bytes)));
            for device in &status.devices {
                text.push_str(&format!("device {}\n", super::device::line(device)));
            }
            text.push_str(&format!("vault: {}\n", status.vault));
            if let Some(hash) = status.state_hash.as_ref().filter(|_| self.state_hash) {
                text.push_str(&format!("state: {hash}\n"));
            }
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
            if let Some(reborn) = &status.reborn {
                text.push_str(&format!("note: {}\n", reborn.sentence));
            }
            for problem in &status.problems {
                text.push_str(&format!("problem: {} ({})\n", problem.message, problem.code));
            }
            for notice in &status.notices {
                text.push_str(&format!("notice: {}\n", notice.message));
            }
            text
        })
    }
}
