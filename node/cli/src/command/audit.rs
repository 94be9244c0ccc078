//! `locker audit`

use std::process::ExitCode;

use clap::Args;
use locker_engine::report::Audit;
use serde::Serialize;

use super::reply_of;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::count;
use crate::request::Request;

/// Ask the other devices to prove that they hold what they say
///
/// Each device that can be reached is asked for up to 480 random parts of what it says that it holds. It cannot tell the
/// questions from reading, so that a device which dropped one part of a hundred is found out. A running node asks now and
/// then by itself; `locker status` tells how old the proofs are. A device that gives no answer is
/// asked the same again by the node that runs, and named when it stays silent. Ends with exit code 7 if a device could not
/// prove it, 6 if nobody was reached or an answer did not come.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker audit
  locker --json audit")]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Told {
    devices: Vec<Audit>,
    /// Parts that were proved.
    checked: u64,
    /// Devices that could not.
    bad: u64,
}

impl Arguments {
    #[expect(clippy::unused_self, reason = "it is called like all others")]
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let watch = context.terminal.watch("Asking for proofs");
        let reply = context.ask(Request::Audit, &watch);
        watch.finish();
        let devices = reply_of!(reply?, Audited);
        let checked = devices.iter().map(|one| one.proved).sum();
        let bad = devices.iter().filter(|one| one.failed > 0).count() as u64;
        let told = Told { devices, checked, bad };
        context.terminal.result(&told, || text(&told))?;
        Ok(match &told {
            Told { bad: 1.., .. } => ExitCode::from(Exit::Integrity as u8),
            Told { checked: 0, .. } => ExitCode::from(Exit::Unreachable as u8),
            told if told.devices.iter().any(|one| one.missed > 0) => ExitCode::from(Exit::Unreachable as u8),
            _ => ExitCode::SUCCESS,
        })
    }
}

fn text(told: &Told) -> String {
    if told.devices.is_empty() {
        return "No other device was reached.".into();
    }
    let lines: Vec<String> = told.devices.iter().map(line).collect();
    lines.join("\n")
}

fn line(one: &Audit) -> String {
    let id: String = one.device.chars().take(8).collect();
    if one.failed > 0 {
        return format!("{id}  could not prove that it holds what it says. Its copies are not counted.");
    }
    let missed = match one.missed {
        0 => String::new(),
        n => format!("; {} without an answer", count(n, "question", "questions")),
    };
    format!("{id}  {} proved{missed}", count(one.proved, "part", "parts"))
}
