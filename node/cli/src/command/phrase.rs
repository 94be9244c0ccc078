//! `locker phrase`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use locker_engine::{Env, Secret};

use super::init::{check_words, columns};
use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Watch, printable, time};
use crate::request::Request;
use crate::{secret_input, sheet};

/// The 24 words of this locker
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker phrase change
  locker phrase change --sheet recovery.html")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Put 24 new words in the place of the old ones
    ///
    /// For when somebody may have seen them. Once your other devices, replicas and drives have heard of it, the old words, which
    /// are asked for, open nothing that is written then and bring nothing back; at those that have not heard they still work. All
    /// devices stay as they are. Whoever had the old words may have read everything so far: new words cannot change that.
    #[command(after_help = "\
Examples:
  locker phrase change
  locker phrase change --sheet recovery.html
  locker --json phrase change --phrase-file words.txt")]
    Change {
        /// Read the old words from FILE, or from standard input with -
        #[arg(long, value_name = "FILE")]
        phrase_file: Option<PathBuf>,
        /// Write a page to be printed, with the new words and what to do with them, to FILE (HTML); only this user can read it
        #[arg(long, value_name = "FILE")]
        sheet: Option<PathBuf>,
    },
}

/// What is to be done with the old words.
fn text(behind: &[String]) -> String {
    let told = "The new words count from now on. Keep the paper with the old ones until your other devices have met this one, \
                and `locker status` names no replica and no drive to which the new ones are not known; then destroy it.";
    if behind.is_empty() {
        return told.into();
    }
    let names = behind.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ");
    format!("{told}\nNot known yet to: {names}.")
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let Verb::Change { phrase_file, sheet } = self.verb;
        let terminal = &context.terminal;
        let watch = terminal.watch("Changing the words");
        // Who has no locker is not asked for its words.
        context.ask(Request::Devices, &watch)?;
        let old = secret_input::phrase(phrase_file.as_deref())?;
        let drafted = reply_of!(context.ask(Request::DraftPhrase { old: old.clone() }, &watch)?, Drafted);
        if let Some(path) = &sheet {
            let now = i64::try_from(Env::system().now_ms()).unwrap_or(i64::MAX);
            sheet::write(path, &drafted, &time(now))?;
            terminal.say(&format!(
                "The sheet is in {}. The words stand in it: print it, then delete it.",
                path.display()
            ));
        }
        // They are told before they count: whoever was not told could never be.
        let told = terminal.begin_result(&drafted, || {
            format!(
                "Write these 24 words on paper. They are shown this once.\n\n{}",
                columns(drafted.phrase.expose())
            )
        })?;
        let behind = told.finish(change(context, old, drafted.phrase, &watch))?;
        watch.finish();
        terminal.say(&text(&behind));
        Ok(())
    }
}

/// Lets new words take the place of the old ones, when the person has written them down; gives who has not heard of it.
fn change(context: &Context, old: Secret, new: Secret, watch: &Watch) -> Result<Vec<String>, Failure> {
    if context.terminal.is_interactive() {
        context.terminal.say("They take the place of the old ones when you have answered.");
        check_words(new.expose()).map_err(|e| Failure::io("cannot read the answer", &e))?;
    }
    let behind = context.ask(Request::ChangePhrase { old, new }, watch).map_err(|mut failure| {
        let why = failure.message;
        failure.message = match failure.code.as_str() {
            "E_DENIED" | "E_PHRASE" | "E_LIMIT" | "E_FULL" => {
                format!("the words were not changed, the old ones still count: {why}")
            }
            _ => format!("it is not known whether the new words count: {why}"),
        };
        failure.hint = "Keep both papers; `locker drill` takes the words that count.".into();
        failure
    })?;
    Ok(reply_of!(behind, PhraseChanged))
}
