//! `locker rm`

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, printable};
use crate::request::{Reply, Request};

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
        let Reply::Removed { removed, holders } = context.ask(Request::Remove { path: self.path }, &watch)?
        else {
            return Err(super::mismatched());
        };
        watch.finish();
        if !holders.is_empty() {
            let on = holders.iter().map(|name| printable(name)).collect::<Vec<_>>().join(" or ");
            context.terminal.say(&format!(
                "This is much at once: the other devices go on showing what went, until it is decided on {on} with `locker \
                 held`, or here with the 24 words."
            ));
        }
        context.terminal.result(&removed, || {
            format!(
                "{} moved to the trash; `locker restore` brings back",
                count(removed.files, "file", "files")
            )
        })
    }
}
