//! `locker restore`

use clap::Args;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::count;
use crate::request::Request;

/// Bring something back from the trash, or set it back to an earlier state
///
/// Without options, PATH is looked for in the trash. With --at, PATH and all below it become as they were at that time;
/// with --version, a file gets the content that `locker history` lists under that number. Nothing is lost: what is there
/// now stays in the history.
#[derive(Args)]
#[command(
    disable_version_flag = true,
    after_help = "\
Examples:
  locker restore Photos/blurred.jpg
  locker restore Papers --at yesterday
  locker restore Papers --at '2026-11-20 18:00'
  locker restore notes.txt --version 2"
)]
pub(crate) struct Arguments {
    /// File or folder
    path: String,
    /// State of that time: a date, a date and time, `yesterday`, or a span such as `2h ago`
    #[arg(long, value_name = "TIME", conflicts_with = "version")]
    at: Option<String>,
    /// Number of a version in `locker history`
    #[arg(long, value_name = "N")]
    version: Option<u32>,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let at = self
            .at
            .as_deref()
            .map(|text| locker_engine::parse_time(text, &jiff::ZonedDateTime::now()))
            .transpose()?;
        let request = Request::Restore { path: self.path, at, version: self.version };
        let restored = reply_of!(context.ask(request, &context.terminal.watch("Restoring"))?, Restored);
        context.terminal.result(&restored, || match restored.entries {
            0 => "Nothing differs from that state".into(),
            n => format!("{} restored", count(n, "thing", "things")),
        })
    }
}
