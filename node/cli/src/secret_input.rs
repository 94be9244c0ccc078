//! Where secrets come in: a prompt, a file, or standard input. Never an argument.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Read};
use std::path::Path;

use locker_engine::{Error, Secret};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Longest passphrase, phrase or link in bytes; the end of its line does not count.
const SECRET_MAX: usize = 4_096;
/// Bytes that may end its line.
const LINE_END_MAX: usize = 2;

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
/// [`Error::PassphraseNeeded`] when there is neither; [`Error::Io`] when the file cannot be read; [`Error::Argument`]
/// when it holds more than any secret has: of a part nobody would know that it is one.
pub(crate) fn passphrase(file: Option<&Path>, prompt: &str) -> Result<Secret, Error> {
    let io = |source| Error::Io {
        doing: "cannot read the passphrase from",
        path: file.unwrap_or(Path::new("the terminal")).to_path_buf(),
        source,
    };
    let text = match file {
        Some(path) => {
            let source: Box<dyn Read> = if path == Path::new("-") {
                Box::new(std::io::stdin())
            } else {
                Box::new(std::fs::File::open(path).map_err(io)?)
            };
            let line = read_line(source).map_err(io)?;
            line.ok_or_else(|| {
                let is_file = path != Path::new("-");
                let name = if is_file { path.display().to_string() } else { "standard input".into() };
                Error::Argument(format!(
                    "{name} holds more than 4,096 bytes, the most that a passphrase, phrase or link may have"
                ))
            })?
        }
        None if std::io::stdin().is_terminal() => rpassword::prompt_password(prompt).map_err(io)?,
        None => return Err(Error::PassphraseNeeded),
    };
    Ok(Secret::new(text))
}

/// Reads a secret without the end of its line; `None` if it is too long.
fn read_line(source: impl Read) -> std::io::Result<Option<String>> {
    // One byte more than may be there. With its room from the start no copy of it is left behind.
    let most = SECRET_MAX + LINE_END_MAX + 1;
    let mut bytes = Zeroizing::new(Vec::<u8>::with_capacity(most));
    source.take(most as u64).read_to_end(&mut bytes)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > SECRET_MAX {
        return Ok(None);
    }
    let text = std::str::from_utf8(line);
    let text = text.map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "it is not text in UTF-8"))?;
    Ok(Some(text.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a secret is taken whole or not at all. Method: the longest one with each end of a line, and one byte more.
    #[test]
    fn a_secret_that_is_too_long_is_not_cut() {
        for end in ["", "\n", "\r\n"] {
            let longest = "a".repeat(SECRET_MAX);
            assert_eq!(read_line(format!("{longest}{end}").as_bytes()).unwrap(), Some(longest.clone()));
            assert_eq!(read_line(format!("{longest}b{end}").as_bytes()).unwrap(), None);
        }
        // What stands behind the first line belongs to it, and one end is taken off.
        assert_eq!(read_line("a\nb\n\n".as_bytes()).unwrap().as_deref(), Some("a\nb\n"));
        assert_eq!(read_line("".as_bytes()).unwrap().as_deref(), Some(""));
        assert_eq!(read_line(std::io::repeat(b'a')).unwrap(), None);
        // Where a long one was cut, a letter might have been: that it is too long is said first.
        assert_eq!(read_line("a\u{fc}".repeat(2_000).as_bytes()).unwrap(), None);
        assert_eq!(read_line(&b"\xff"[..]).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
