//! `locker drive`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use locker_engine::report::DriveTold;
use serde::Serialize;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{printable, size};
use crate::request::{HostPath, Request};

/// Keep a copy of everything on a disk in a drawer
///
/// A drive is a folder that holds the whole locker, encrypted: whoever finds it can read nothing. A device that runs
/// `locker up` brings it up to date by itself whenever it is plugged in; it may be pulled out at any moment. With the 24 words
/// and the drive alone everything comes back: `locker recover --from DIR`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker drive init /media/usb/locker --name drawer
  locker drive update
  locker drive update /media/usb/locker")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a folder a drive and fill it
    Init {
        /// Folder that is empty or does not exist yet
        dir: PathBuf,
        /// Name of the drive [default: that of the folder]
        #[arg(long)]
        name: Option<String>,
    },
    /// Bring drives up to date now
    Update {
        /// Folder of the drive [default: every drive that is plugged in]
        dir: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Told<'a> {
    drives: &'a [DriveTold],
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let absolute = |dir: &Path| {
            HostPath::absolute(dir).map_err(|e| Failure::io("cannot tell the folder's place", &e))
        };
        let request = match self.verb {
            Verb::Init { dir, name } => Request::InitDrive { dir: absolute(&dir)?, name },
            Verb::Update { dir } => Request::UpdateDrives { dir: dir.as_deref().map(absolute).transpose()? },
        };
        let watch = context.terminal.watch("Copying");
        let drives = reply_of!(context.ask(request, &watch)?, Drives);
        watch.finish();
        context
            .terminal
            .result(&Told { drives: &drives }, || drives.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

fn line(drive: &DriveTold) -> String {
    let id = drive.id.get(..8).unwrap_or(&drive.id);
    let state = match drive.missing {
        0 => "has everything".into(),
        n => format!("lacks {n} packs that are not on this device either"),
    };
    format!(
        "{id}  {}  {}  ({} new, {} in all; {state})",
        printable(&drive.name),
        printable(&drive.path),
        size(drive.new_bytes),
        size(drive.bytes)
    )
}
