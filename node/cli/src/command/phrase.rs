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
        let drafted = context.ask(Request::DraftPhrase { old: old.clone() }, &watch).map_err(not_begun)?;
        let drafted = reply_of!(drafted, Drafted);
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
    let behind = context.ask(Request::ChangePhrase { old, new }, watch).map_err(failed)?;
    Ok(reply_of!(behind, PhraseChanged))
}

/// A change that was refused before new words were told.
fn not_begun(mut failure: Failure) -> Failure {
    if failure.code == "E_LIMIT" {
        failure.hint = "The words stay as they are. Nothing was changed.".into();
    }
    failure
}

/// A change that failed after the new words were told, as the person is to hear of it.
fn failed(failure: Failure) -> Failure {
    let why = &failure.message;
    let message = match failure.code.as_str() {
        // What stands in the way is found before anything is written.
        "E_DENIED" | "E_PHRASE" | "E_LIMIT" | "E_FULL" | "E_NETWORK" | "E_ROLLBACK" => {
            format!("the words were not changed, the old ones still count: {why}")
        }
        _ => format!("it is not known whether the new words count: {why}"),
    };
    let hint = match failure.code.as_str() {
        "E_NETWORK" | "E_ROLLBACK" => {
            format!("{} Keep the old paper: the new words count for nothing.", failure.hint)
        }
        _ => "Keep both papers; `locker drill` takes the words that count.".into(),
    };
    Failure { message, hint, ..failure }
}

#[cfg(test)]
mod tests {
    use locker_engine::Error;

    use super::*;

    /// Goal: whoever wrote new words down hears whether they count, and why not.
    #[test]
    fn a_change_that_failed_is_told_with_its_cause() {
        let told = failed(Error::Network("nothing was heard yet".into()).into());
        let message = "the words were not changed, the old ones still count: nothing was heard yet";
        assert_eq!((told.message.as_str(), told.code.as_str()), (message, "E_NETWORK"));
        assert!(told.hint.contains("`locker up`") && told.hint.ends_with("the new words count for nothing."));
        assert!(failed(Error::Restored.into()).message.starts_with("the words were not changed"));
        // What was written then may stand.
        let broken = std::io::Error::other("broken");
        let told = failed(Failure::io("cannot write", &broken));
        assert_eq!(told.message, "it is not known whether the new words count: cannot write: broken");
        assert!(told.hint.starts_with("Keep both papers"));
    }
}
