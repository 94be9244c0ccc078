//! `locker share`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use locker_engine::report::Shared;
use locker_engine::{EXPIRES_DEFAULT_S, is_passphrase_of, parse_span_s};
use serde::Serialize;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, printable, size, time};
use crate::request::Request;
use crate::secret_input;

/// Share by a link
///
/// Makes a link that gives a file or folder, as it stands now, to whoever has its text, until it ends or is revoked.
/// Whoever opens it needs no locker. It is served by the devices of this locker that run `locker up`.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  locker share Photos/2026
  locker share Photos/2026 --expires 7d --label 'for Anna'
  locker share ls
  locker share revoke 1a2b3c4d"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// File or folder of the locker; / is everything
    #[arg(required = true)]
    path: Option<String>,
    /// How long the link lasts: 12h, 30d, 2w, 1y [default: 30d]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// What the link is called in the list of links [default: the name of what is shared]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Give the state of now; changes made later do not show. This is what links do
    #[arg(long)]
    snapshot: bool,
    /// Close the link with a passphrase, asked for at the terminal; --link-passphrase-file gives it otherwise
    #[arg(long)]
    with_passphrase: bool,
    /// Close the link with the passphrase in FILE, or on standard input with -
    #[arg(long, value_name = "FILE")]
    link_passphrase_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// List every link that was made, on whatever device
    Ls,
    /// End a link, on every device
    Revoke {
        /// Its id, or the beginning of it
        id: String,
    },
}

#[derive(Serialize)]
struct Told<'a> {
    shares: &'a [Shared],
}

/// A link that has ended: what is told of it, and the same as a register of one.
#[derive(Serialize)]
struct Ended<'a> {
    #[serde(flatten)]
    shared: &'a Shared,
    shares: [&'a Shared; 1],
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            None => self.make(context),
            Some(Verb::Ls) => list(context),
            Some(Verb::Revoke { id }) => revoke(context, id),
        }
    }

    fn make(self, context: &Context) -> Result<(), Failure> {
        let expires_s = self.expires.as_deref().map_or(Ok(EXPIRES_DEFAULT_S), parse_span_s)?;
        let of_link = self.link_passphrase_file.as_deref();
        let file = of_link.or(context.passphrase_file());
        let is_closed = self.with_passphrase || file.is_some();
        let passphrase = is_closed.then(|| secret_input::new_passphrase(file)).transpose()?;
        if passphrase.as_ref().is_some_and(|one| is_passphrase_of(&context.home, one)) {
            return Err(Failure::usage(
                "this is the passphrase of this locker, and a link is given to others",
                "Give another one with --link-passphrase-file FILE; --passphrase-file is then that of this locker.",
            ));
        }
        let request =
            Request::Share { path: self.path.unwrap_or_default(), expires_s, label: self.label, passphrase };
        let watch = context.terminal.watch("Looking");
        // Alone, --passphrase-file is that of the link.
        let reply = match of_link {
            Some(_) => context.ask(request, &watch),
            None => context.without_passphrase_file().ask(request, &watch),
        };
        watch.finish();
        let made = reply_of!(reply?, Shared);
        let who = if is_closed { "Whoever has it and the passphrase" } else { "Whoever has it" };
        context.terminal.say(&format!(
            "A link to {} ({}, {}), until {}. {who} can open it; `locker share revoke {}` ends it.",
            if made.path.is_empty() { "everything".into() } else { printable(&made.path) },
            count(made.files, "file", "files"),
            size(made.bytes),
            time(i64::try_from(made.expires).unwrap_or(i64::MAX)),
            made.id,
        ));
        context.terminal.result(&made, || made.link.expose().to_owned())
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let watch = context.terminal.watch("Looking");
    let reply = context.ask(Request::Shares, &watch);
    watch.finish();
    let shares = reply_of!(reply?, Shares);
    context.terminal.result(&Told { shares: &shares }, || match shares.as_slice() {
        [] => "There are no links.".into(),
        shares => shares.iter().map(line).collect::<Vec<_>>().join("\n"),
    })
}

fn revoke(context: &Context, id: String) -> Result<(), Failure> {
    let watch = context.terminal.watch("Looking");
    let reply = context.ask(Request::RevokeShare { id }, &watch);
    watch.finish();
    let [ended] = <[Shared; 1]>::try_from(reply_of!(reply?, Shares)).map_err(|_| super::mismatched())?;
    context.terminal.result(&Ended { shared: &ended, shares: [&ended] }, || {
        format!("{} has ended. Devices refuse it as soon as they hear of it.", printable(&ended.label))
    })
}

/// One link as a line.
fn line(shared: &Shared) -> String {
    let until = time(i64::try_from(shared.expires).unwrap_or(i64::MAX));
    let state = if shared.revoked { "revoked".to_owned() } else { format!("until {until}") };
    let path = if shared.path.is_empty() { "/".to_owned() } else { printable(&shared.path) };
    let uses = count(shared.uses, "use", "uses");
    format!("{}  {path}  \"{}\"  {state}, {uses} here", shared.id, printable(&shared.label))
}
