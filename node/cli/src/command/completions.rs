//! `locker completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::failure::Failure;

/// Print a completion script for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker completions bash > /etc/bash_completion.d/locker
  locker completions fish > ~/.config/fish/completions/locker.fish")]
pub(crate) struct Arguments {
    /// Which shell
    shell: Shell,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "locker", &mut script);
        crate::output::text(&String::from_utf8_lossy(&script))
    }
}
