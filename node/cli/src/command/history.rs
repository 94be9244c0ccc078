//! `locker history`

use clap::Args;
use locker_engine::report::{Event, Happening};

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{printable, size, time};
use crate::request::Request;

/// Show what happened to a file or folder
///
/// Contents are numbered from 1; `locker restore PATH --version N` takes these numbers. Works for things in the trash too.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker history Papers/letter.txt")]
pub(crate) struct Arguments {
    /// File or folder
    path: String,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let request = Request::History { path: self.path };
        let events = reply_of!(context.ask(request, &context.terminal.watch("Reading"))?, History);
        context.terminal.result(&serde_json::json!({ "events": events }), || {
            events.iter().map(line).collect::<Vec<_>>().join("\n")
        })
    }
}

fn line(event: &Event) -> String {
    let what = match event.what {
        Happening::Created => "created as",
        Happening::Moved => "moved to",
        Happening::Written => "version",
        Happening::Kept => "kept, replaced before: version",
        Happening::Trashed => "moved to the trash",
        Happening::Restored => "restored to",
    };
    let what_to = match (event.version, &event.path) {
        (Some(version), _) if event.gone => format!(" {version}: not kept any more"),
        (Some(version), _) => format!(" {version}: {}", size(event.size.unwrap_or(0))),
        (None, Some(path)) => format!(" {}", printable(path)),
        (None, None) => String::new(),
    };
    format!(
        "{}  {what}{what_to}  ({})",
        time(i64::try_from(event.time).unwrap_or(i64::MAX)),
        event.device.get(..8).unwrap_or(&event.device)
    )
}
