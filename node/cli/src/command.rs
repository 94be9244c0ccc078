//! The commands: what they take, and which file carries each out.

mod add;
mod audit;
mod cat;
mod completions;
mod device;
mod doctor;
mod drill;
mod drive;
mod find;
mod free;
mod gc;
mod get;
mod held;
mod history;
mod init;
mod join;
mod leave;
mod ls;
mod mkdir;
mod mv;
mod open;
mod pair;
mod phrase;
mod pin;
mod recover;
mod restore;
mod rm;
mod rule;
mod share;
mod status;
mod tree;
mod unpin;
mod up;
mod verify;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::context::Context;
use crate::failure::Failure;

/// An open, authenticated place of one's own for digital things
///
/// A locker keeps photos, music, films, books and papers end-to-end encrypted on your own devices. Nobody provides it
/// and nobody can take it away.
#[derive(Parser)]
#[command(
    name = "locker",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  locker init                         make a locker and show its 24 words once
  locker add ~/Photos ~/Music         take folders in; the originals stay untouched
  locker ls Photos                    list a folder
  locker get Photos --to ~/Desktop/P  write a plain copy

Exit codes:
  0 done, 1 failed, 2 wrong usage, 3 no such thing, 4 refused, 5 a decision is needed,
  6 nobody reachable, 7 integrity failure, 8 locked or busy"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args)]
pub(crate) struct Global {
    /// Folder in which the locker lives [default: LOCKER_HOME, else the platform's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; with `add`, name each file when it is safe
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Read the vault's passphrase from FILE, or from standard input with -
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Add(add::Arguments),
    Ls(ls::Arguments),
    Tree(tree::Arguments),
    Find(find::Arguments),
    Cat(cat::Arguments),
    Get(get::Arguments),
    Leave(leave::Arguments),
    Mkdir(mkdir::Arguments),
    Mv(mv::Arguments),
    Rm(rm::Arguments),
    Restore(restore::Arguments),
    History(history::Arguments),
    Held(held::Arguments),
    Status(status::Arguments),
    Verify(verify::Arguments),
    Gc(gc::Arguments),
    Free(free::Arguments),
    Pin(pin::Arguments),
    Unpin(unpin::Arguments),
    Rule(rule::Arguments),
    Audit(audit::Arguments),
    Up(up::Arguments),
    Pair(pair::Arguments),
    Join(join::Arguments),
    Recover(recover::Arguments),
    Drill(drill::Arguments),
    Phrase(phrase::Arguments),
    Drive(drive::Arguments),
    Device(device::Arguments),
    Wait(wait::Arguments),
    Doctor(doctor::Arguments),
    Share(share::Arguments),
    Open(open::Arguments),
    Completions(completions::Arguments),
}

impl Command {
    /// Carries the command out.
    pub(crate) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let done = |()| ExitCode::SUCCESS;
        match self {
            Command::Init(arguments) => arguments.run(context).map(done),
            Command::Add(arguments) => arguments.run(context).map(done),
            Command::Ls(arguments) => arguments.run(context).map(done),
            Command::Tree(arguments) => arguments.run(context).map(done),
            Command::Find(arguments) => arguments.run(context).map(done),
            Command::Cat(arguments) => arguments.run(context).map(done),
            Command::Get(arguments) => arguments.run(context).map(done),
            Command::Leave(arguments) => arguments.run(context).map(done),
            Command::Mkdir(arguments) => arguments.run(context).map(done),
            Command::Mv(arguments) => arguments.run(context).map(done),
            Command::Rm(arguments) => arguments.run(context).map(done),
            Command::Restore(arguments) => arguments.run(context).map(done),
            Command::History(arguments) => arguments.run(context).map(done),
            Command::Held(arguments) => arguments.run(context),
            Command::Status(arguments) => arguments.run(context).map(done),
            Command::Verify(arguments) => arguments.run(context),
            Command::Gc(arguments) => arguments.run(context).map(done),
            Command::Free(arguments) => arguments.run(context),
            Command::Pin(arguments) => arguments.run(context).map(done),
            Command::Unpin(arguments) => arguments.run(context).map(done),
            Command::Rule(arguments) => arguments.run(context).map(done),
            Command::Audit(arguments) => arguments.run(context),
            Command::Up(arguments) => arguments.run(context).map(done),
            Command::Pair(arguments) => arguments.run(context).map(done),
            Command::Join(arguments) => arguments.run(context).map(done),
            Command::Recover(arguments) => arguments.run(context).map(done),
            Command::Drive(arguments) => arguments.run(context).map(done),
            Command::Drill(arguments) => arguments.run(context),
            Command::Phrase(arguments) => arguments.run(context).map(done),
            Command::Device(arguments) => arguments.run(context).map(done),
            Command::Wait(arguments) => arguments.run(context).map(done),
            Command::Doctor(arguments) => arguments.run(context),
            Command::Share(arguments) => arguments.run(context).map(done),
            Command::Open(arguments) => arguments.run(context).map(done),
            Command::Completions(arguments) => arguments.run().map(done),
        }
    }
}

/// The answer of a verb did not have the form that belongs to it: the other process is of another version.
fn mismatched() -> Failure {
    Failure::new(
        crate::failure::Exit::Failed,
        "E_VERSION",
        "the process that has the locker open is of another version of this program",
        "Stop it, then run the command again.",
    )
}

/// Takes the one kind of [`crate::request::Reply`] that belongs to a verb.
macro_rules! reply_of {
    ($reply:expr, $kind:ident) => {
        match $reply {
            crate::request::Reply::$kind(value) => value,
            _ => return Err($crate::command::mismatched()),
        }
    };
}
use reply_of;
