//! `locker rule`

use clap::{Args, Subcommand};
use locker_engine::Rule;
use locker_engine::report::{RuleSet, RuleTold};

use super::reply_of;
use crate::argument::parse_size;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{count, printable, size};
use crate::request::Request;

/// Choose what this device keeps of the content
///
/// The names of everything are on every device. Content that is not kept here is read from the other devices, just the parts
/// that are asked for. What a new rule does not ask for is let go only if two other devices prove now that they hold it, as
/// with `locker free`; until then it stays, and `locker status` says so. Pinned files and folders are kept under every rule.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker rule ls
  locker rule set none
  locker rule set newest 50G
  locker rule set all")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the rule of this device, and what is pinned
    Ls,
    /// Set the rule of this device
    Set {
        #[command(subcommand)]
        rule: Wanted,
    },
}

#[derive(Clone, Copy, Subcommand)]
enum Wanted {
    /// Keep everything
    All,
    /// Keep what is pinned
    Pinned,
    /// Keep what was changed last
    Newest {
        /// How much, such as 50G
        #[arg(value_name = "BYTES", value_parser = parse_size)]
        bytes: u64,
    },
    /// Keep nothing: this device reads from the others
    None,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Ls => {
                let watch = context.terminal.watch("Looking");
                let told = reply_of!(context.ask(Request::Rule, &watch)?, Rule);
                watch.finish();
                context.terminal.result(&told, || rule_text(&told))
            }
            Verb::Set { rule } => {
                let rule = match rule {
                    Wanted::All => Rule::All,
                    Wanted::Pinned => Rule::Pinned,
                    Wanted::Newest { bytes } => Rule::Newest(bytes),
                    Wanted::None => Rule::None,
                };
                let watch = context.terminal.watch("Asking for proofs");
                let reply = context.ask(Request::SetRule { rule }, &watch);
                watch.finish();
                let set = reply_of!(reply?, RuleSet);
                context.terminal.result(&set, || set_text(&set))
            }
        }
    }
}

fn rule_text(told: &RuleTold) -> String {
    let mut text = match told.rule {
        Rule::All => "This device keeps everything.".into(),
        Rule::Pinned | Rule::None if told.pinned.is_empty() => {
            "This device keeps no content: it reads from the others.".to_owned()
        }
        Rule::Pinned | Rule::None => "This device keeps what is pinned.".into(),
        Rule::Newest(bytes) => format!("This device keeps what was changed last, up to {}.", size(bytes)),
    };
    for path in &told.pinned {
        text.push_str(&format!("\n  pinned: /{}", printable(path)));
    }
    if let Some(excess) = &told.excess {
        text.push_str(&format!("\n{}", printable(excess)));
    }
    text
}

/// The rule, and what was let go.
pub(super) fn set_text(set: &RuleSet) -> String {
    let mut text = rule_text(&set.rule);
    if set.freed.files > 0 {
        text.push_str(&format!(
            "\nLet go of {}, {}: {} of this disk are free again.",
            count(set.freed.files, "file", "files"),
            size(set.freed.bytes),
            size(set.freed.freed_bytes)
        ));
    }
    text
}
