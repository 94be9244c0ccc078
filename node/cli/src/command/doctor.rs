//! `locker doctor`

use std::process::ExitCode;

use clap::Args;
use locker_engine::report::{Check, CheckState, Diagnosis};

use super::reply_of;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::network::{Network, Resolved};
use crate::output::printable;
use crate::request::Request;

/// Look at every part of this device and say what to do
///
/// Tries the clock, the disk, the store, where it listens, the local network, the meeting points, the DHT, the relay, the
/// way in from outside and every other device, and names cause and cure of what does not work. Asks the node that runs; where none does, it runs one for the
/// time. Ends with exit code 7 if what is stored is damaged, 6 if no other device is reached or the network does not work,
/// 1 if anything else does not.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker doctor
  locker --json doctor --bootstrap 192.0.2.1:24766")]
pub(crate) struct Arguments {
    #[command(flatten)]
    network: Network,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let Resolved { bootstrap, lan, port_mapping, .. } = self.network.resolve(&context.home)?;
        let watch = context.terminal.watch_checks("Looking");
        let reply = context.ask(Request::Doctor { bootstrap, lan, port_mapping }, &watch);
        watch.finish();
        let diagnosis = match reply {
            Err(failure) if failure.is_of_store() => unopened(&failure),
            reply => reply_of!(reply?, Diagnosis),
        };
        context.terminal.result(&diagnosis, || text(&diagnosis))?;
        Ok(exit_code(&diagnosis))
    }
}

/// A locker that cannot be opened: nothing else can be looked at.
fn unopened(failure: &Failure) -> Diagnosis {
    let cause = format!("{} ({}).", failure.message, failure.code);
    // A disk that is full or may not be written has damaged nothing.
    let part = if ["E_FULL", "E_READ_ONLY"].contains(&&*failure.code) { "disk" } else { "store" };
    Diagnosis::new(vec![Check::failed(part, "The locker cannot be opened.", cause, &*failure.hint)], 0.0)
}

fn exit_code(diagnosis: &Diagnosis) -> ExitCode {
    let has_failed = |parts: &[&str]| parts.iter().any(|part| diagnosis.has_failed(part));
    if has_failed(&["store"]) {
        ExitCode::from(Exit::Integrity as u8)
    } else if has_failed(&["clock", "disk"]) {
        ExitCode::from(Exit::Failed as u8)
    } else if diagnosis.is_alone() || diagnosis.checks.iter().any(|check| check.state == CheckState::Failed) {
        ExitCode::from(Exit::Unreachable as u8)
    } else {
        ExitCode::SUCCESS
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = format!("{}\n", diagnosis.sentence);
    for check in &diagnosis.checks {
        let state = match check.state {
            CheckState::Ok => "ok",
            CheckState::Off => "off",
            CheckState::Warning => "look",
            CheckState::Failed => "FAILED",
        };
        text.push_str(&format!("\n{state:<6}  {:<9}  {}", check.name, printable(&check.found)));
        for more in [&check.cause, &check.cure].into_iter().flatten() {
            text.push_str(&format!("\n{:19}{}", "", printable(more)));
        }
    }
    text
}
