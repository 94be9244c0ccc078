//! `locker wait`

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::request::Request;

/// Wait until everything is here
///
/// Ends when a device was reached, all entries that it knows are here, and so is all their content. Ends with exit code 6
/// when the time is over.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker wait --synced
  locker wait --synced --timeout 60")]
pub(crate) struct Arguments {
    /// Wait for every entry and all content; so without it too
    #[arg(long)]
    synced: bool,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
}

#[derive(Serialize)]
struct Told {
    seconds: f64,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { synced: _, timeout } = self;
        let timeout_ms = match timeout.map(Duration::try_from_secs_f64).transpose() {
            Ok(time) => time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            Err(_) => {
                return Err(Failure::usage("that is no time", "Give seconds, for example --timeout 60."));
            }
        };
        let start = Instant::now();
        let watch = context.terminal.watch("Waiting");
        let reply = context.ask(Request::Wait { timeout_ms }, &watch);
        watch.finish();
        reply?;
        let told = Told { seconds: start.elapsed().as_secs_f64() };
        context.terminal.result(&told, || "Everything is here.".into())
    }
}
