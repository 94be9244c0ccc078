//! `locker recover`

use std::path::PathBuf;

use clap::Args;
use locker_engine::report::Recovered;
use locker_engine::{Env, Locker, RecoverFrom, RecoverOptions};

use super::init::VaultKind;
use crate::context::Context;
use crate::failure::Failure;
use crate::network::{self, Network};
use crate::output::{count, printable, size, time};
use crate::secret_input;

/// Bring a locker back from its 24 words
///
/// Looks for whatever keeps a copy of it (a device, a replica, a drive), takes everything from all that is found, and makes
/// this the device of the locker. Devices that were lost are ended: they can open nothing that is written from now on. Until
/// everything is here nothing changes anywhere; a recovery that was stopped goes on when it is run again.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker recover
  locker recover --from home.example:24766
  locker --json recover --phrase-file words.txt --from /media/drive")]
pub(crate) struct Arguments {
    /// Read the words from FILE, or from standard input with -
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// Where a copy is: an address, or a folder such as a drive; may be given several times [default: it is looked for]
    #[arg(long, value_name = "ADDR|DIR")]
    from: Vec<String>,
    /// Name of this device [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// Give up what nobody has who is reached; the rest can be used then
    #[arg(long)]
    accept_missing: bool,
    /// Bring back names only; the content comes when `locker up` runs, from the other devices, which are kept
    #[arg(long)]
    names_only: bool,
    /// Keep the other devices: none of them is lost
    #[arg(long)]
    keep_devices: bool,
    #[command(flatten)]
    network: Network,
    /// How the keys on this device are closed
    #[arg(long, value_enum, default_value = "file")]
    vault: VaultKind,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let options = RecoverOptions {
            phrase: secret_input::phrase(self.phrase_file.as_deref())?,
            name: self.name,
            vault: self.vault.ask(context)?,
            node: network::options(&[], &self.network.resolve(&context.home)?)?,
            from: self.from.into_iter().map(whence).collect(),
            accept_missing: self.accept_missing,
            names_only: self.names_only,
            keep_devices: self.keep_devices,
        };
        let watch = context.terminal.watch("Bringing back");
        let mut ask = || secret_input::passphrase(context.passphrase_file(), "Passphrase: ");
        let recovered = Locker::recover(&context.home, options, Env::system(), &mut ask, &watch)?;
        watch.finish();
        self.network.remember(&context.home)?;
        context.terminal.result(&recovered, || sentence(&recovered))
    }
}

/// What is there as a folder is one; all else is an address.
pub(super) fn whence(text: String) -> RecoverFrom {
    let path = PathBuf::from(&text);
    if path.is_dir() { RecoverFrom::Folder(path) } else { RecoverFrom::Address(text) }
}

fn sentence(recovered: &Recovered) -> String {
    let mut text = format!(
        "Everything that was found is here: {}, {}. This device ({}) is the one of this locker now.",
        count(recovered.files, "file", "files"),
        size(recovered.bytes),
        printable(&recovered.name)
    );
    if let Some(newest) = &recovered.newest_evidence {
        let at = time(i64::try_from(newest.at).unwrap_or(i64::MAX));
        text.push_str(&format!(
            "\nThe newest that came back was signed {at} by {}.",
            printable(&newest.name)
        ));
    }
    text
}
