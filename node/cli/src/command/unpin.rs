//! `locker unpin`

use clap::Args;

use super::reply_of;
use super::rule::set_text;
use crate::context::Context;
use crate::failure::Failure;
use crate::request::Request;

/// Keep content no longer that was pinned on this device
///
/// If the rule of this device does not ask for it (`locker rule ls`), it is let go as far as two other devices prove now that
/// they hold it. It stays in the locker and is read from them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker unpin Videos/2019")]
pub(crate) struct Arguments {
    /// A file or folder of the locker
    #[arg(value_name = "PATH")]
    path: String,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let watch = context.terminal.watch("Asking for proofs");
        let reply = context.ask(Request::Unpin { path: self.path }, &watch);
        watch.finish();
        let set = reply_of!(reply?, RuleSet);
        context.terminal.result(&set, || set_text(&set))
    }
}
