//! Where secrets come in: a prompt, a file, or standard input. Never an argument.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::Path;

use locker_engine::{Error, Secret};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Longest passphrase in bytes.
const PASSPHRASE_MAX: u64 = 4_096;

/// Refuses a link or a recovery phrase that was given as an argument: arguments can be read by every process.
pub(crate) fn refuse_secrets_among(arguments: &[OsString]) -> Result<(), Failure> {
    let texts: Vec<&str> = arguments.iter().skip(1).filter_map(|a| a.to_str()).collect();
    // Anywhere in an argument: `--link-file=locker:l#...` is a slip too.
    let is_link = |text: &&str| {
        let text = text.to_ascii_lowercase();
        text.contains("locker:l#") || (text.contains("http") && text.contains("/l#"))
    };
    if texts.iter().any(is_link) {
        return Err(Failure::usage(
            "a link was given as an argument, where every program on this computer can read it",
            "Give it with --link-file FILE, or on standard input with --link-file -.",
        ));
    }
    // Whatever joins them: `--phrase-file="word word ..."`, `word-word-...`.
    let words = texts.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphabetic()));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    if words.windows(24).any(|w| locker_engine::is_phrase(&w.join(" "))) {
        return Err(Failure::usage(
            "a recovery phrase was given as an argument, where every program on this computer can read it",
            "Give it with --phrase-file FILE, or on standard input with --phrase-file -. Treat this phrase as known \
             to others.",
        ));
    }
    Ok(())
}

/// Gets a passphrase from `file` (`-` is standard input), or from a prompt at a terminal.
///
/// # Errors
/// [`Error::PassphraseNeeded`] when there is neither; [`Error::Io`] when the file cannot be read.
pub(crate) fn passphrase(file: Option<&Path>, prompt: &str) -> Result<Secret, Error> {
    let io = |source| Error::Io {
        doing: "cannot read the passphrase from",
        path: file.unwrap_or(Path::new("the terminal")).to_path_buf(),
        source,
    };
    let text = match file {
        Some(path) => {
            let mut text = Zeroizing::new(String::new());
            let source: Box<dyn Read> = if path == Path::new("-") {
                Box::new(std::io::stdin())
            } else {
                Box::new(std::fs::File::open(path).map_err(io)?)
            };
            source.take(PASSPHRASE_MAX).read_to_string(&mut text).map_err(io)?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        }
        None if std::io::stdin().is_terminal() => rpassword::prompt_password(prompt).map_err(io)?,
        None => return Err(Error::PassphraseNeeded),
    };
    Ok(Secret::new(text))
}

/// Gets a ticket from `file` (`-` is standard input), or from a prompt at a terminal.
pub(crate) fn ticket(file: Option<&Path>) -> Result<Secret, Failure> {
    match passphrase(file, "The eight words of the other device: ") {
        Ok(words) => Ok(words),
        Err(Error::PassphraseNeeded) => Err(Failure::usage(
            "the words of the other device are needed",
            "Give them with --ticket-file FILE, or on standard input with --ticket-file -.",
        )),
        Err(Error::Io { path, source, .. }) => {
            Err(Error::Io { doing: "cannot read the words from", path, source }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Gets a recovery phrase from `file` (`-` is standard input), or from a prompt at a terminal.
pub(crate) fn phrase(file: Option<&Path>) -> Result<Secret, Failure> {
    match passphrase(file, "The 24 words: ") {
        Ok(words) => Ok(words),
        Err(Error::PassphraseNeeded) => Err(Failure::usage(
            "the 24 words of the locker are needed",
            "Give them with --phrase-file FILE, or on standard input with --phrase-file -.",
        )),
        Err(Error::Io { path, source, .. }) => {
            Err(Error::Io { doing: "cannot read the words from", path, source }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Gets a link from `file` (`-` is standard input), or from a prompt at a terminal.
pub(crate) fn link(file: Option<&Path>) -> Result<Secret, Failure> {
    match passphrase(file, "Link: ") {
        Ok(link) => Ok(link),
        Err(Error::PassphraseNeeded) => Err(Failure::usage(
            "the link is needed",
            "Give it with --link-file FILE, or on standard input with --link-file -.",
        )),
        Err(Error::Io { path, source, .. }) => {
            Err(Error::Io { doing: "cannot read the link from", path, source }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Gets a new passphrase; at a terminal it is asked for twice.
pub(crate) fn new_passphrase(file: Option<&Path>) -> Result<Secret, Failure> {
    let first = passphrase(file, "New passphrase: ").map_err(|error| {
        let failure = Failure::from(error);
        let message = match failure.code.as_str() {
            "E_LOCKED" => "a new passphrase is needed".into(),
            _ => failure.message.clone(),
        };
        Failure { message, ..failure }
    })?;
    if file.is_none() {
        let second = passphrase(None, "The same again: ")?;
        if first.expose() != second.expose() {
            return Err(Failure::usage("the two passphrases differ", "Nothing was changed. Try again."));
        }
    }
    if first.expose().is_empty() {
        return Err(Failure::usage(
            "the passphrase is empty",
            "Give one, or leave it out. Nothing was changed.",
        ));
    }
    Ok(first)
}
