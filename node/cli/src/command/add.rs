//! `locker add`

use std::path::PathBuf;

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, printable, size};
use crate::request::{HostPath, Request};

/// Take files and folders in
///
/// The originals stay untouched. What is here already is not stored twice. Stopped at any moment, the same command goes
/// on where it was. Links, devices and sockets are left out and named.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker add ~/Photos ~/Music
  locker add scan.pdf --to Papers/2026")]
pub(crate) struct Arguments {
    /// Files and folders to take in
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Folder of the locker to put them in; made if it is missing
    #[arg(long, default_value = "", hide_default_value = true, value_name = "DIR")]
    to: String,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let paths = self
            .paths
            .iter()
            .map(|p| {
                HostPath::absolute(p).map_err(|e| Failure::io(&format!("cannot use {}", p.display()), &e))
            })
            .collect::<Result<_, _>>()?;
        let watch = context.terminal.watch_files("Adding");
        let reply = context.ask(Request::Add { paths, to: self.to }, &watch);
        watch.finish();
        let added = reply_of!(reply?, Added);
        context.terminal.result(&added, || {
            let rate = added.bytes as f64 / added.seconds.max(0.001);
            let mut text = format!(
                "{} in {}, {} ({} new on disk) in {:.1} s, {}/s",
                count(added.files, "file", "files"),
                count(added.folders, "folder", "folders"),
                size(added.bytes),
                size(added.new_bytes),
                added.seconds,
                size(rate as u64),
            );
            if added.unchanged > 0 {
                text.push_str(&format!(
                    "\n{} here already",
                    count(added.unchanged, "file was", "files were")
                ));
            }
            for skipped in &added.skipped {
                text.push_str(&format!("\nleft out {}: {}", printable(&skipped.path), skipped.reason));
            }
            text
        })
    }
}
