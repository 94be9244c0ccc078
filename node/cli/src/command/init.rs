//! `locker init`

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use locker_engine::report::Created;
use locker_engine::{Env, InitOptions, Locker, NodeOptions, Vault};

use crate::context::Context;
use crate::failure::Failure;
use crate::network::Network;
use crate::output::time;
use crate::{secret_input, sheet};

/// How the vault is closed.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum VaultKind {
    /// A key file that only this user can read; opens by itself
    File,
    /// A passphrase, asked for by every command
    Passphrase,
}

/// Make a new locker on this device
///
/// Shows 24 words once. They are the locker: with them and one surviving copy everything comes back, and without them
/// nobody can help. No network is needed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker init
  locker init --name laptop --vault passphrase
  locker init --sheet recovery.html
  locker --json init --vault passphrase --passphrase-file secret.txt")]
pub(crate) struct Arguments {
    /// Name of this device [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// How the keys on this device are closed
    #[arg(long, value_enum, default_value = "file")]
    vault: VaultKind,
    /// Write a page to be printed, with the words and what to do with them, to FILE (HTML); only this user can read it
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        Locker::check_new_home(&context.home)?;
        // Nobody is reached now: what is said of the network is for later.
        NodeOptions::read_bootstrap(&self.network.bootstrap)?;
        let options = InitOptions { name: self.name, vault: self.vault.ask(context)? };
        let terminal = &context.terminal;
        let now = i64::try_from(Env::system().now_ms()).unwrap_or(i64::MAX);
        let created = Locker::create(&context.home, options, Env::system(), |created| {
            if let Some(sheet) = &self.sheet {
                sheet::write(sheet, created, &time(now))?;
                terminal.say(&format!(
                    "The sheet is in {}. The words stand in it: print it, then delete it.",
                    sheet.display()
                ));
            }
            terminal.result(created, || shown(created, context))
        })?;
        if terminal.is_interactive() {
            check_words(created.phrase.expose()).map_err(|e| Failure::io("cannot read the answer", &e))?;
        }
        self.network.remember(&context.home)
    }
}

impl VaultKind {
    /// Asks for the passphrase, if there is to be one.
    pub(super) fn ask(self, context: &Context) -> Result<Vault, Failure> {
        Ok(match self {
            VaultKind::File => Vault::File,
            VaultKind::Passphrase => {
                Vault::Passphrase(secret_input::new_passphrase(context.passphrase_file())?)
            }
        })
    }
}

/// The words of a new locker, and where it is.
pub(super) fn shown(created: &Created, context: &Context) -> String {
    format!(
        "Write these 24 words on paper. They are shown this once.\n\n{}\nLocker ready on this device ({}).\n{}",
        columns(created.phrase.expose()),
        crate::output::printable(&created.name),
        context.home.display()
    )
}

/// The words with their numbers, in four columns.
pub(super) fn columns(phrase: &str) -> String {
    let words: Vec<&str> = phrase.split(' ').collect();
    let mut text = String::new();
    for row in 0..6 {
        for column in 0..4 {
            let n = row + column * 6;
            text.push_str(&format!("  {:>2} {:<10}", n + 1, words.get(n).unwrap_or(&"")));
        }
        text.push('\n');
    }
    text
}

/// Asks for two of the words, so that a copy with a slip is found while the words still stand above.
pub(super) fn check_words(phrase: &str) -> std::io::Result<()> {
    let words: Vec<&str> = phrase.split(' ').collect();
    let mut answers = std::io::stdin().lock().lines();
    let mut err = std::io::stderr();
    for n in [5, 17] {
        loop {
            write!(err, "Word {n}, as you wrote it (Enter alone skips): ")?;
            err.flush()?;
            let Some(answer) = answers.next().transpose()? else { return Ok(()) };
            match answer.trim() {
                "" => return Ok(()),
                word if words.get(n - 1) == Some(&word.to_lowercase().as_str()) => break,
                _ => writeln!(err, "That is not word {n}. Compare with the list above.")?,
            }
        }
    }
    writeln!(err, "Both right. Keep the paper where you keep deeds and passports.")
}
