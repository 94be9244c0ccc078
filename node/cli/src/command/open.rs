//! `locker open`

use std::path::PathBuf;

use clap::Args;
use locker_engine::report::Opened;
use locker_engine::{Env, Error, OpenOptions, link_needs_passphrase, open_link};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::network::{self, Network};
use crate::output::{count, printable, size};
use crate::secret_input;

/// Open a link
///
/// Writes what the link gives into a folder of this computer, or lists it. Needs no locker and leaves nothing behind but
/// what it writes; every byte is checked against the link. The link is asked for, or read from a file or standard input.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker open --to ~/Downloads
  locker open --link-file link.txt --list
  locker open --link-file - --to . < link.txt")]
pub(crate) struct Arguments {
    /// Read the link from FILE, or from standard input with -
    #[arg(long, value_name = "FILE")]
    link_file: Option<PathBuf>,
    /// List what the link gives and write nothing
    #[arg(long, conflicts_with = "to")]
    list: bool,
    /// Folder to write into, made if it is missing [default: the current folder]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
}

#[derive(Serialize)]
struct Written<'a> {
    files: u64,
    bytes: u64,
    label: &'a str,
    expires: u64,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let link = secret_input::link(self.link_file.as_deref())?;
        let passphrase = match (link_needs_passphrase(&link)?, context.passphrase_file()) {
            (false, _) => None,
            (true, file) => {
                let asked = secret_input::passphrase(file, "Passphrase of the link: ");
                Some(asked.map_err(|error| match error {
                    Error::PassphraseNeeded => Error::LinkPassphraseNeeded,
                    other => other,
                })?)
            }
        };
        let to = match (self.list, self.to) {
            (true, _) => None,
            (false, Some(to)) => Some(to),
            (false, None) => Some(".".into()),
        };
        let node = network::options(&[], &self.network.resolve(&context.home)?)?;
        let options = OpenOptions { link, passphrase, to: to.clone(), node };
        let watch = context.terminal.watch("Getting");
        let opened = open_link(options, &Env::system(), &watch);
        watch.finish();
        let opened = opened.map_err(|error| {
            let is_damage = matches!(error, Error::Integrity { .. });
            let failure = Failure::from(error);
            let hint =
                "Nothing wrong was written. Try again, or ask whoever gave you the link for a new one.";
            if is_damage { Failure { hint: hint.into(), ..failure } } else { failure }
        })?;
        let sum = format!("{}, {}", count(opened.files, "file", "files"), size(opened.bytes));
        match to {
            None => context.terminal.result(&opened, || listing(&opened, &sum)),
            Some(_) => {
                let Opened { files, bytes, ref label, expires, .. } = opened;
                context.terminal.result(&Written { files, bytes, label, expires }, || sum)
            }
        }
    }
}

fn listing(opened: &Opened, sum: &str) -> String {
    let mut lines: Vec<String> = opened
        .entries
        .iter()
        .map(|entry| match entry.b3 {
            Some(_) => format!("{:>10}  {}", size(entry.size), printable(&entry.path)),
            None => format!("{:>10}  {}/", "", printable(&entry.path)),
        })
        .collect();
    lines.push(format!("{}: {sum}", printable(&opened.label)));
    lines.join("\n")
}
