//! `locker mkdir`

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;
use crate::request::Request;

/// Make a folder
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker mkdir Books
  locker mkdir -p Books/Poems/German")]
pub(crate) struct Arguments {
    /// Folder to make
    path: String,
    /// Make missing parents too, and be content if it is there
    #[arg(short, long)]
    parents: bool,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let request = Request::MakeFolder { path: self.path.clone(), parents: self.parents };
        context.ask(request, &context.terminal.watch("Making"))?;
        context.terminal.result(&serde_json::json!({ "path": self.path.trim_matches('/') }), String::new)
    }
}
