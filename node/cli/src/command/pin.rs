//! `locker pin`

use clap::Args;
use locker_engine::report::Pinned;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::size;
use crate::request::Request;

/// Get content back that was let go on this device
///
/// What `locker free` let go, or what the rule of this device does not ask for, is fetched from the other devices while `locker
/// up` or `locker wait --synced` runs, and kept until `locker unpin`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker pin Videos/2019")]
pub(crate) struct Arguments {
    /// A file or folder of the locker
    #[arg(value_name = "PATH")]
    path: String,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let watch = context.terminal.watch("Looking");
        let reply = context.ask(Request::Pin { path: self.path }, &watch);
        watch.finish();
        let pinned = reply_of!(reply?, Pinned);
        context.terminal.result(&pinned, || told(&pinned))
    }
}

fn told(pinned: &Pinned) -> String {
    match pinned.wanted_bytes {
        0 => "All of it is here already.".into(),
        bytes => format!("{} are fetched from other devices while the node runs.", size(bytes)),
    }
}
