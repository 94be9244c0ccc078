//! `locker leave`

use std::path::PathBuf;

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, size};
use crate::request::{HostPath, Request};

/// Write everything out as plain files
///
/// Names, times and content are those that went in; of a file with several versions that wait for a decision all are
/// written. Beside them stand MANIFEST.b3, which `b3sum --check` reads, and metadata.jsonl. DIR must be missing or empty,
/// and appears whole or not at all. The locker stays as it is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker leave --to /media/usb/everything
  cd /media/usb/everything && b3sum --check --quiet MANIFEST.b3")]
pub(crate) struct Arguments {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let to = HostPath::absolute(&self.to)
            .map_err(|e| Failure::io(&format!("cannot use {}", self.to.display()), &e))?;
        let watch = context.terminal.watch_files("Writing");
        let reply = context.ask(Request::Leave { to }, &watch);
        watch.finish();
        let got = reply_of!(reply?, Got);
        context.terminal.result(&got, || {
            format!(
                "{}, {}; {} names their hashes",
                count(got.files, "file", "files"),
                size(got.bytes),
                self.to.join("MANIFEST.b3").display()
            )
        })
    }
}
