//! `locker tree`

use clap::Args;
use locker_engine::ListOptions;
use locker_engine::report::{Entry, Kind};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Listing, count, printable};
use crate::request::Request;

/// Show a folder and all below it as a tree
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker tree
  locker tree Music/Bach")]
pub(crate) struct Arguments {
    /// Folder to start from [default: everything]
    #[arg(default_value = "", hide_default_value = true)]
    dir: String,
    /// List what all entries give, not what is shown here while something is held
    #[arg(long)]
    replayed: bool,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let start = self.dir.split('/').filter(|c| !c.is_empty()).count();
        let (mut files, mut folders) = (0_u64, 0_u64);
        let listing = Listing::new(&context.terminal, |entry: &Entry| {
            let is_file = entry.kind == Kind::File;
            *(if is_file { &mut files } else { &mut folders }) += 1;
            let mut parts = entry.path.split('/').skip(start);
            let (depth, name) = parts.by_ref().fold((0_usize, ""), |(depth, _), part| (depth + 1, part));
            let slash = if is_file { "" } else { "/" };
            format!("{}{}{slash}", "   ".repeat(depth.saturating_sub(1)), printable(name))
        });
        let options = ListOptions { recursive: true, replayed: self.replayed };
        let request = Request::List { dir: self.dir, options };
        let result = context.ask(request, &listing).map(|_| ());
        listing.finish(result)?;
        if !context.terminal.json {
            context.terminal.say(&format!(
                "{}, {}",
                count(folders, "folder", "folders"),
                count(files, "file", "files")
            ));
        }
        Ok(())
    }
}
