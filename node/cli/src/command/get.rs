//! `locker get`

use std::path::PathBuf;

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, size};
use crate::request::{HostPath, Request};

/// Write a plain copy of a file or folder
///
/// Names, times and content are those that went in. DEST appears whole or not at all; nothing is overwritten. If DEST is
/// a folder that exists, the copy is put into it under its own name.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker get Photos/2026 --to ~/Desktop/2026
  locker get / --to /media/usb/everything")]
pub(crate) struct Arguments {
    /// File or folder of the locker; / is everything
    path: String,
    /// Where to write
    #[arg(long, value_name = "DEST")]
    to: PathBuf,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let to = HostPath::absolute(&self.to)
            .map_err(|e| Failure::io(&format!("cannot use {}", self.to.display()), &e))?;
        let watch = context.terminal.watch_files("Writing");
        let reply = context.ask(Request::Get { path: self.path, to }, &watch);
        watch.finish();
        let got = reply_of!(reply?, Got);
        context
            .terminal
            .result(&got, || format!("{}, {}", count(got.files, "file", "files"), size(got.bytes)))
    }
}
