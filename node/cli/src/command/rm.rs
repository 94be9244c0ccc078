//! `locker rm`

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::count;
use crate::request::Request;

/// Move a file or folder to the trash
///
/// It can be brought back with `locker restore`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker rm Photos/blurred.jpg
  locker rm Downloads")]
pub(crate) struct Arguments {
    /// What to remove
    path: String,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let request = Request::Remove { path: self.path };
        let removed = reply_of!(context.ask(request, &context.terminal.watch("Removing"))?, Removed);
        context.terminal.result(&removed, || {
            format!(
                "{} moved to the trash; `locker restore` brings back",
                count(removed.files, "file", "files")
            )
        })
    }
}
