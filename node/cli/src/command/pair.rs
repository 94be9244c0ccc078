//! `locker pair`

use std::io::{self, BufRead, Write};

use clap::Args;
use locker_engine::JoinAs;
use locker_engine::report::{Entry, Observer, ROLE_BLIND};
use serde_json::json;

use super::reply_of;
use crate::argument::parse_size;
use crate::context::Context;
use crate::execute::Sink;
use crate::failure::Failure;
use crate::output::{self, Terminal, printable, time};
use crate::request::{PairEvent, Request};

/// Invite a device
///
/// Shows eight words, which the new device is given with `locker join`. Then both show six digits: only if they are the
/// same on both, and you confirm it on both, the new device becomes one of this locker.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker pair
  locker pair --role blind --quota 500G
  locker --json pair --assume-yes")]
pub(crate) struct Arguments {
    /// Confirm the digits without asking; only where nobody else can know the words
    #[arg(long)]
    assume_yes: bool,
    /// What the new device becomes: one that reads and writes, or one that stores and cannot read
    #[arg(long, value_enum, default_value = "full")]
    role: Role,
    /// Bytes that a blind device keeps at most, such as 500G [default: as many as fit on its disk]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    quota: Option<u64>,
}

/// What a device may become.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Role {
    /// It reads and writes.
    Full,
    /// It stores and cannot read.
    Blind,
}

impl Role {
    /// What is asked of the engine.
    pub(super) fn wanted(self, quota: Option<u64>) -> Result<JoinAs, Failure> {
        match (self, quota) {
            (Self::Blind, quota) => Ok(JoinAs::Blind { quota: quota.unwrap_or(0) }),
            (Self::Full, None) => Ok(JoinAs::Full),
            (Self::Full, Some(_)) => Err(Failure::usage(
                "a quota is for a device that only stores",
                "Add --role blind, or leave --quota out.",
            )),
        }
    }
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let screen = Screen { terminal: context.terminal, assume_yes: self.assume_yes };
        let wanted = self.role.wanted(self.quota)?;
        let paired = reply_of!(context.ask(Request::Pair { wanted }, &screen)?, Paired);
        let joined = json!({
            "event": "joined",
            "device_id": paired.device_id,
            "name": paired.name,
            "role": paired.role,
        });
        context.terminal.result(&joined, || match paired.role.as_str() {
            ROLE_BLIND => {
                format!("{} stores for this locker now, and cannot read it.", printable(&paired.name))
            }
            _ => format!("{} is now a device of this locker.", printable(&paired.name)),
        })
    }
}

/// Shows what a pairing says, as lines of JSON or as sentences, and asks for the digits.
pub(super) struct Screen {
    /// How this command talks.
    pub(super) terminal: Terminal,
    /// Confirm without asking.
    pub(super) assume_yes: bool,
}

impl Screen {
    /// Shows the digits and asks whether they are the same on the other device.
    pub(super) fn confirm(&self, digits: &str, name: Option<&str>) -> io::Result<bool> {
        if self.terminal.json {
            let mut line = json!({ "event": "confirm", "digits": digits });
            if let (Some(name), Some(line)) = (name, line.as_object_mut()) {
                line.insert("name".into(), name.into());
            }
            text(&format!("{line}\n"))?;
        } else {
            let who = name.map_or_else(String::new, |name| format!("{} wants to join. ", printable(name)));
            text(&format!("{who}Digits: {digits}\n"))?;
        }
        if self.assume_yes {
            return Ok(true);
        }
        if self.terminal.json {
            // A program answers with a line: yes or no.
            return answer().map(|answer| answer == "yes");
        }
        let mut err = io::stderr();
        write!(err, "Does the other device show the same digits? Type yes or no: ")?;
        err.flush()?;
        answer().map(|answer| answer == "yes" || answer == "y")
    }
}

/// Reads what the person types, or a program sends.
pub(super) fn answer() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_lowercase())
}

fn text(text: &str) -> io::Result<()> {
    output::text(text).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

impl Observer for Screen {}

impl Sink for Screen {
    fn entry(&self, _: Entry) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn pairing(&self, event: PairEvent) -> io::Result<bool> {
        match event {
            PairEvent::Ticket(shown) if self.terminal.json => text(&format!(
                "{}\n",
                json!({
                    "event": "ticket",
                    "ticket": shown.ticket.expose(),
                    "words": shown.words.expose(),
                    "expires": shown.expires,
                })
            ))?,
            PairEvent::Ticket(shown) => {
                let until = time(i64::try_from(shown.expires).unwrap_or(i64::MAX));
                text(&format!(
                    "On the new device run `locker join` and type these words, until {until}:\n\n  {}\n\n",
                    shown.words.expose()
                ))?;
            }
            PairEvent::Waiting => {}
            PairEvent::Confirm { digits, name } => return self.confirm(&digits, name.as_deref()),
        }
        Ok(true)
    }
}
