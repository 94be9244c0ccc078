//! Errors as a person meets them: kind, sentence, hint and exit code, all in one table.

use std::io::ErrorKind;

use locker_engine::Error;
use serde::{Deserialize, Serialize};

/// How a command can end. The numbers are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something else failed.
    Failed = 1,
    /// The command was used wrongly.
    Usage = 2,
    /// No such thing.
    NotFound = 3,
    /// Refused: capability, expiry, revocation, passphrase.
    Refused = 4,
    /// A decision is needed.
    Decision = 5,
    /// Nobody can be reached.
    Unreachable = 6,
    /// Something stored is damaged.
    Integrity = 7,
    /// Locked or busy.
    Busy = 8,
}

/// What goes wrong, ready to be shown: `message` says what and why, `hint` what to do next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Stable name, `E_…`.
    pub code: String,
    /// What failed and why.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Exit code of the process.
    #[serde(rename = "exit")]
    pub exit_code: u8,
}

impl Failure {
    /// Makes a failure.
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: hint.into(), exit_code: exit as u8 }
    }

    /// Whether it says that what is stored here is damaged, or cannot be read.
    pub(crate) fn is_of_store(&self) -> bool {
        self.exit_code == Exit::Integrity as u8
            || ["E_STORE", "E_IO", "E_FULL", "E_READ_ONLY"].contains(&&*self.code)
    }

    /// Wrong use of the command line.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "E_USAGE", message, hint)
    }

    /// The terminal, a pipe or the local socket failed.
    pub(crate) fn io(doing: &str, source: &std::io::Error) -> Self {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => return Error::Full.into(),
            ErrorKind::ReadOnlyFilesystem => return Error::ReadOnly("what is written to".into()).into(),
            _ => {}
        }
        Self::new(
            Exit::Failed,
            "E_IO",
            format!("{doing}: {source}"),
            "Look at what the system says above, put it right and run the command again.",
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (exit, code, hint): (Exit, &str, String) = match &error {
            Error::NoLocker(_) => (
                Exit::NotFound,
                "E_NO_LOCKER",
                "Make one with `locker init`, or name its home with --home or LOCKER_HOME.".into(),
            ),
            Error::LockerExists(_) => (
                Exit::Failed,
                "E_EXISTS",
                "Use it as it is, or name another home with --home. Nothing was changed.".into(),
            ),
            Error::HomeNotEmpty(_) => (
                Exit::Usage,
                "E_HOME",
                "Name a folder that is empty or does not exist yet with --home. Nothing was changed.".into(),
            ),
            Error::Busy { .. } => (
                Exit::Busy,
                "E_BUSY",
                "Wait until it has finished, then run the command again.".into(),
            ),
            Error::NewerFormat { .. } => {
                (Exit::Failed, "E_VERSION", "Update this program. Nothing was changed.".into())
            }
            Error::PassphraseNeeded => (
                Exit::Busy,
                "E_LOCKED",
                "Run the command at a terminal, or give the passphrase with --passphrase-file FILE (or - for standard \
                 input)."
                    .into(),
            ),
            Error::PassphraseWrong => {
                (Exit::Refused, "E_PASSPHRASE", "Try again. Nothing was changed.".into())
            }
            Error::NotFound(_) | Error::NoSuch(_) => (
                Exit::NotFound,
                "E_NOT_FOUND",
                "`locker ls` and `locker find NAME` show what is there.".into(),
            ),
            Error::Gone(_) => (
                Exit::NotFound,
                "E_GONE",
                "`locker history PATH` shows which versions are kept. Nothing was changed.".into(),
            ),
            Error::Missing(_) => {
                (Exit::NotFound, "E_NOT_FOUND", "Look at the path again. Nothing was changed.".into())
            }
            Error::IsFolder(_) => {
                (Exit::Usage, "E_IS_FOLDER", "Name a file, or use `locker get` for a whole folder.".into())
            }
            Error::NotFolder(_) => (Exit::Usage, "E_NOT_FOLDER", "Name a folder.".into()),
            Error::Exists(_) => (
                Exit::Failed,
                "E_EXISTS",
                "Choose another name, or move what is there out of the way first.".into(),
            ),
            Error::Name { .. } => (
                Exit::Usage,
                "E_NAME",
                "A name is 1 to 255 bytes, has no slash, backslash or control character, does not end in a space or \
                 dot, and is not a device name such as CON."
                    .into(),
            ),
            Error::IsRoot => (Exit::Usage, "E_NODE", "Name a file or folder in it.".into()),
            Error::IntoItself(_) => (Exit::Usage, "E_CYCLE", "Choose a folder outside it.".into()),
            Error::Limit(_) => (Exit::Failed, "E_LIMIT", "Use sub-folders. Nothing was changed.".into()),
            Error::Refused(why) => {
                (Exit::Refused, why.code(), "The locker's rules do not allow this. Nothing was changed.".into())
            }
            Error::Ambiguous(_) => {
                (Exit::Decision, "E_DECISION", "Choose one with `locker restore PATH --version N`.".into())
            }
            Error::Argument(_) => {
                (Exit::Usage, "E_USAGE", "`locker help COMMAND` shows the forms that are understood.".into())
            }
            Error::Integrity { why, .. } => (
                Exit::Integrity,
                why.code(),
                "Nothing wrong was given out. Run `locker verify` to see everything that is damaged; other copies can \
                 replace it."
                    .into(),
            ),
            Error::Full => (
                Exit::Failed,
                "E_FULL",
                "Free some space and run the command again: it goes on where it stopped. What was saved before is safe."
                    .into(),
            ),
            Error::ReadOnly(_) => (
                Exit::Failed,
                "E_READ_ONLY",
                "Make it writable for this user, then run the command again.".into(),
            ),
            Error::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => (
                Exit::Failed,
                "E_IO",
                "Give this user the right to read and write there, then run the command again.".into(),
            ),
            Error::Io { .. } => (
                Exit::Failed,
                "E_IO",
                "Look at what the system says above, put it right and run the command again.".into(),
            ),
            Error::Network(_) => (
                Exit::Unreachable,
                "E_NETWORK",
                "See that the other device runs `locker up` and that both know a common bootstrap address or are on \
                 one local network."
                    .into(),
            ),
            Error::OwnHold(_) => (
                Exit::Refused,
                "E_HELD",
                "Run `locker held allow` or `locker held undo` there, or here `locker held allow --phrase-file FILE` with your \
                 24 words. `locker restore` brings single things back from here."
                    .into(),
            ),
            Error::Displaced => (
                Exit::Failed,
                "E_NODE",
                "Run the command again: it goes on where it stopped. What was saved before is safe.".into(),
            ),
            Error::Listen { source, .. } => (
                if source.kind() == ErrorKind::AddrInUse { Exit::Busy } else { Exit::Failed },
                "E_LISTEN",
                "Name another address with --listen, or leave it out: then a free port is taken.".into(),
            ),
            Error::Stopped => (
                Exit::Failed,
                "E_STOPPED",
                "Nothing is left half done. Run the command again: what was stored is not stored twice.".into(),
            ),
            Error::LinkRefused(_) => (
                Exit::Refused,
                "E_LINK",
                "Ask whoever gave it to you for a new one. Nothing was changed here.".into(),
            ),
            Error::LinkPassphraseNeeded => (
                Exit::Refused,
                "E_PASSPHRASE",
                "Run the command at a terminal, or give the passphrase of the link with --passphrase-file FILE.".into(),
            ),
            Error::Restored => (
                Exit::Busy,
                "E_ROLLBACK",
                "Let `locker up` run here and on another device until they have met, then run the command again. Where \
                 there is no other one, copy out what is new here with `locker get`, and bring the locker back in another \
                 folder with `locker recover`. Nothing that was saved is lost."
                    .into(),
            ),
            Error::Blind { .. } => (
                Exit::Refused,
                "E_BLIND",
                "Run the command on a device of that person. Here `locker status`, `verify`, `gc` and `doctor` work.".into(),
            ),
            Error::Unrecovered => (
                Exit::Busy,
                "E_RECOVERY",
                "Run `locker recover` again: it goes on where it stopped.".into(),
            ),
            Error::Phrase(_) => (
                Exit::Usage,
                "E_PHRASE",
                "Compare with the paper, word by word. Nothing was changed.".into(),
            ),
            Error::PhraseRefused(_) => (
                Exit::Refused,
                "E_DENIED",
                "See that these are the words of this locker. Nothing was changed.".into(),
            ),
            Error::Pairing(_) => (
                Exit::Refused,
                "E_PAIRING",
                "Nothing was changed here. Run `locker pair` on the other device again and use the new words.".into(),
            ),
            Error::Config { .. } => (Exit::Usage, "E_CONFIG", "Correct or remove that line.".into()),
            Error::Store(_) => (
                Exit::Failed,
                "E_STORE",
                "What was saved before is safe. Run the command again; if it fails again, run `locker verify`.".into(),
            ),
            _ => (Exit::Failed, "E_FAILED", "Run the command again with -v to see more.".into()),
        };
        Failure::new(exit, code, message, hint)
    }
}
