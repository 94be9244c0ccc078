//! `locker find`

use clap::Args;

use super::ls::line;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Listing, count};
use crate::request::Request;

/// Find files and folders by name
///
/// Every word of QUERY must stand in the name; upper and lower case do not matter. `*` and `?` match as in a shell.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker find holiday
  locker find '*.flac'")]
pub(crate) struct Arguments {
    /// What to look for
    query: String,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let listing = Listing::new(&context.terminal, line);
        let result = context.ask(Request::Find { query: self.query }, &listing).map(|_| ());
        let found = listing.finish(result)?;
        if !context.terminal.json {
            context.terminal.say(&format!("{} found", count(found, "thing", "things")));
        }
        Ok(())
    }
}
