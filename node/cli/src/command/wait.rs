//! `locker wait`

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::request::Request;

/// Wait until everything is here, or on enough devices
///
/// Ends when a device was reached, all entries that it knows are here, and so is all their content; with --copies when all content
/// is on so many devices, this one and replicas among them. Ends with exit code 6 when the time is over.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker wait --synced
  locker wait --synced --timeout 60
  locker wait --copies 2")]
pub(crate) struct Arguments {
    /// Wait for every entry and all content; so without --copies too
    #[arg(long)]
    synced: bool,
    /// Wait until all content is on so many devices
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    copies: Option<u32>,
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
        let Self { synced, copies, timeout } = self;
        let timeout_ms = match timeout.map(Duration::try_from_secs_f64).transpose() {
            Ok(time) => time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            Err(_) => {
                return Err(Failure::usage("that is no time", "Give seconds, for example --timeout 60."));
            }
        };
        let start = Instant::now();
        let watch = context.terminal.watch("Waiting");
        let reply =
            context.ask(Request::Wait { synced: synced || copies.is_none(), copies, timeout_ms }, &watch);
        watch.finish();
        reply?;
        let told = Told { seconds: start.elapsed().as_secs_f64() };
        context.terminal.result(&told, || match copies {
            None => "Everything is here.".into(),
            Some(1) => "Everything is on one device at least.".into(),
            Some(copies) => format!("Everything is on {copies} devices at least."),
        })
    }
}
