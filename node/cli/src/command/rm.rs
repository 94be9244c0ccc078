//! `locker rm`

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, printable};
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
        let watch = context.terminal.watch("Removing");
        let holders = reply_of!(context.ask(Request::Holders { path: self.path.clone() }, &watch)?, Holders);
        if !holders.is_empty() {
            let on = holders.iter().map(|name| printable(name)).collect::<Vec<_>>().join(" or ");
            context.terminal.say(&format!(
                "This is much at once: the other devices go on showing what goes, until it is decided on {on} with `locker \
                 held`."
            ));
        }
        let removed = reply_of!(context.ask(Request::Remove { path: self.path }, &watch)?, Removed);
        watch.finish();
        context.terminal.result(&removed, || {
            format!(
                "{} moved to the trash; `locker restore` brings back",
                count(removed.files, "file", "files")
            )
        })
    }
}
