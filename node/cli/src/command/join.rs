//! `locker join`

use std::io;
use std::path::PathBuf;

use clap::Args;
use locker_engine::report::{Guide, ROLE_BLIND};
use locker_engine::{Env, JoinOptions, Locker};

use super::init::VaultKind;
use super::pair::{Role, Screen};
use crate::argument::parse_size;
use crate::context::Context;
use crate::failure::Failure;
use crate::network::{self, Network};
use crate::output::printable;
use crate::secret_input;

/// Become a device of a locker
///
/// Takes the eight words that `locker pair` shows on a device of that locker. Both then show six digits, to be compared and
/// confirmed on both. Everything that is in the locker comes here when `locker up` runs.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker join
  locker join --ticket-file words.txt --bootstrap 192.0.2.1:24766
  locker join --role blind --quota 500G")]
pub(crate) struct Arguments {
    /// Read the words from FILE, or from standard input with -
    #[arg(long, value_name = "FILE")]
    ticket_file: Option<PathBuf>,
    /// Name of this device [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    network: Network,
    /// Confirm the digits without asking; only where nobody else can know the words
    #[arg(long)]
    assume_yes: bool,
    /// How the keys on this device are closed
    #[arg(long, value_enum, default_value = "file")]
    vault: VaultKind,
    /// What this device becomes at most: with blind it stores and cannot read, whatever the other one offers
    #[arg(long, value_enum, default_value = "full")]
    role: Role,
    /// Bytes that this device keeps at most when it stores, such as 500G [default: as the other device says]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    quota: Option<u64>,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        Locker::check_new_home(&context.home)?;
        let ticket = secret_input::ticket(self.ticket_file.as_deref())?;
        let wanted = self.role.wanted(self.quota)?;
        let options = JoinOptions {
            wanted,
            ticket,
            name: self.name,
            vault: self.vault.ask(context)?,
            node: network::options(&[], &self.network.resolve(&context.home)?)?,
        };
        let screen = Screen { terminal: context.terminal, assume_yes: self.assume_yes };
        context.terminal.say("Looking for the other device…");
        let joined = Locker::join(&context.home, options, &Asked(screen), &Env::system())?;
        self.network.remember(&context.home)?;
        let person = joined.person_id.get(..16).unwrap_or(&joined.person_id);
        context.terminal.result(&joined, || match joined.role.as_str() {
            ROLE_BLIND => format!(
                "This device ({}) stores for {person}, and cannot read it. Run `locker up` to begin.",
                printable(&joined.name)
            ),
            _ => format!(
                "This device ({}) is now one of the locker. Run `locker up` to get what is in it.",
                printable(&joined.name)
            ),
        })
    }
}

/// The person in front of this device. With `--json` nothing but the result is said on standard output.
struct Asked(Screen);

impl Guide for Asked {
    fn confirm(&self, digits: &str, name: Option<&str>) -> io::Result<bool> {
        if self.0.terminal.json {
            self.0.terminal.say(&format!("Digits: {digits}"));
            return if self.0.assume_yes { Ok(true) } else { super::pair::answer().map(|a| a == "yes") };
        }
        self.0.confirm(digits, name)
    }
}
