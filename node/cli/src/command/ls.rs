//! `locker ls`

use clap::Args;
use locker_engine::ListOptions;
use locker_engine::report::{Entry, Kind};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Listing, printable, size, time};
use crate::request::Request;

/// List a folder
///
/// Times in JSON are unix milliseconds, `b3` is the BLAKE3 hash of the content, `local` tells whether the content is on
/// this device.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker ls
  locker ls -R Photos
  locker --json ls Photos/2026")]
pub(crate) struct Arguments {
    /// Folder, or a single file [default: everything]
    #[arg(default_value = "", hide_default_value = true)]
    dir: String,
    /// Go down into folders
    #[arg(short = 'R', long)]
    recursive: bool,
    /// List what all entries give, not what is shown here while something is held
    #[arg(long)]
    replayed: bool,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let listing = Listing::new(&context.terminal, line);
        let options = ListOptions { recursive: self.recursive, replayed: self.replayed };
        let request = Request::List { dir: self.dir, options };
        let result = context.ask(request, &listing).map(|_| ());
        listing.finish(result).map(|_| ())
    }
}

/// One line: size, time, path; a folder ends in a slash, a file that waits for a decision in a mark.
pub(super) fn line(entry: &Entry) -> String {
    let path = printable(&entry.path);
    match entry.kind {
        Kind::Folder | Kind::Mount => format!("{:>10}  {:16}  {path}/", "-", ""),
        Kind::File => {
            let when = entry.mtime.map(time).unwrap_or_default();
            let mark = if entry.conflict { "  (to decide)" } else { "" };
            format!("{:>10}  {when:16}  {path}{mark}", size(entry.size))
        }
    }
}
