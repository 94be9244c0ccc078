//! `locker mv`

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;
use crate::request::Request;

/// Move or rename a file or folder
///
/// If DST is a folder that exists, SRC is moved into it. No content is copied, however large it is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker mv notes.txt Papers/
  locker mv Photos/2025 Archive/Photos-2025")]
pub(crate) struct Arguments {
    /// What to move
    #[arg(value_name = "SRC")]
    from: String,
    /// Where to
    #[arg(value_name = "DST")]
    to: String,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        context.ask(Request::Move { from: self.from, to: self.to }, &context.terminal.watch("Moving"))?;
        context.terminal.result(&serde_json::json!({}), String::new)
    }
}
