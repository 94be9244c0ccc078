//! Why the engine could not do what was asked. One variant for each thing that a caller would do differently.

use std::io;
use std::path::PathBuf;

use locker_catalog::rows::RowError;
use locker_crypto::Refusal;
use locker_crypto::id::PersonId;
use locker_net::StartError;
use locker_store::StoreError;

/// Why an operation failed. Nothing was changed unless the docstring of the operation says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The home holds no locker.
    #[error("there is no locker in {}", .0.display())]
    NoLocker(PathBuf),
    /// The home already holds one.
    #[error("there is already a locker in {}", .0.display())]
    LockerExists(PathBuf),
    /// The home is a folder with something else in it.
    #[error("{} is not an empty folder and holds no locker", .0.display())]
    HomeNotEmpty(PathBuf),
    /// Another process has the locker open.
    #[error("another process has this locker open{}", .pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    Busy {
        /// Its process id, if it is known.
        pid: Option<u32>,
    },
    /// The home was written by a newer program.
    #[error("this locker was made by a newer program (format {found})")]
    NewerFormat {
        /// The format number found.
        found: String,
    },
    /// The vault is closed with a passphrase and none was given.
    #[error("this locker is closed with a passphrase")]
    PassphraseNeeded,
    /// The passphrase does not open the vault.
    #[error("the passphrase does not open this locker")]
    PassphraseWrong,
    /// No such thing in the locker.
    #[error("there is no {0} in the locker")]
    NotFound(String),
    /// No such thing in the trash, in the history or at that time: a whole sentence.
    #[error("{0}")]
    NoSuch(String),
    /// What is to be brought back is not kept any more: a whole sentence.
    #[error("{0}")]
    Gone(String),
    /// A file was needed, a folder was named.
    #[error("{0} is a folder")]
    IsFolder(String),
    /// A folder was needed, a file was named.
    #[error("{0} is not a folder")]
    NotFolder(String),
    /// The name is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// A name that the model does not allow.
    #[error("{name:?} cannot be a name here")]
    Name {
        /// The refused name.
        name: String,
    },
    /// The root folder itself cannot be moved or removed.
    #[error("the root of the locker cannot be moved or removed")]
    IsRoot,
    /// A folder cannot go into itself.
    #[error("{0} cannot be moved into itself")]
    IntoItself(String),
    /// Over a limit that binds the writer.
    #[error("{0}")]
    Limit(String),
    /// An operation was refused by the rules of the formats.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Several things answer to one name; the caller must choose.
    #[error("{0}")]
    Ambiguous(String),
    /// An argument has a form that cannot be understood.
    #[error("{0}")]
    Argument(String),
    /// Something stored is not what was written.
    #[error("{what} is damaged")]
    Integrity {
        /// What is damaged, in a person's words.
        what: String,
        /// The named reason.
        why: Refusal,
    },
    /// No room on the disk.
    #[error("the disk is full")]
    Full,
    /// The disk or folder cannot be written.
    #[error("{0} is on a disk that cannot be written")]
    ReadOnly(String),
    /// A path outside the locker leads nowhere.
    #[error("there is no {} on this disk", .0.display())]
    Missing(PathBuf),
    /// A file or folder outside the locker failed.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// What was being done ("cannot read").
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This device took away itself what others hold: they decide, or who has the 24 words.
    #[error("this device took them away itself: that is decided on {}", .0.join(" or "))]
    OwnHold(Vec<String>),
    /// The network, or who was to be reached over it.
    #[error("{0}")]
    Network(String),
    /// This device cannot listen where it was told to.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A link was refused by a device that serves it: revoked, expired, or its passphrase is another.
    #[error("{0}")]
    LinkRefused(String),
    /// A link takes a passphrase that was not given.
    #[error("this link is closed with a passphrase")]
    LinkPassphraseNeeded,
    /// The person who had asked for the work stopped it.
    #[error("stopped before it was done")]
    Stopped,
    /// What was being written to went to the trash meanwhile, here or on another device.
    #[error("a folder that was being filled was moved to the trash meanwhile")]
    Displaced,
    /// The key of this device is not its home's alone; it writes nothing until it has another one.
    #[error(
        "this device was restored from an older copy of its home, or its home was copied and both are in use: it writes \
         nothing until it has a new key, which another device of the locker gives it when they meet"
    )]
    Restored,
    /// This device keeps for somebody what it cannot read, and was asked for something that it would have to read.
    #[error("this device stores for {person} and cannot read what is there")]
    Blind {
        /// The person, as the beginning of its id.
        person: String,
    },
    /// This home is one to which a locker comes back, and not all of it has.
    #[error("the recovery into this home has not been completed")]
    Unrecovered,
    /// The phrase is not what it was when it was written down; a whole sentence.
    #[error("{0}")]
    Phrase(String),
    /// Whoever was reached does not know the phrase, or it is not that of what is here; a whole sentence.
    #[error("{0}")]
    PhraseRefused(String),
    /// A pairing was not completed: who took part broke it off, or the digits differ.
    #[error("{0}")]
    Pairing(String),
    /// The configuration file is not understood.
    #[error("{}: {reason}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed in another way.
    #[error(transparent)]
    Store(StoreError),
}

impl Error {
    /// Makes an [`Error::Io`], or [`Error::Full`] when the system says that the disk is full.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full,
            io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly(path.display().to_string()),
            _ => Error::Io { doing, path, source },
        }
    }

    /// Makes an [`Error::Blind`].
    pub(crate) fn blind(person: &PersonId) -> Self {
        Error::Blind { person: person.to_string().chars().take(16).collect() }
    }

    /// Makes an [`Error::Integrity`].
    pub(crate) fn damaged(what: impl Into<String>, why: Refusal) -> Self {
        Error::Integrity { what: what.into(), why }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { what } => Error::damaged(what, Refusal::Tag),
            StoreError::Damaged { pack } | StoreError::Absent { pack } => {
                Error::damaged(format!("pack {pack}"), Refusal::Hash)
            }
            StoreError::Refused(why) => Error::Refused(why),
            StoreError::Full => Error::Full,
            StoreError::ReadOnly => Error::ReadOnly("the locker".into()),
            StoreError::Locked { pid } => Error::Busy { pid },
            StoreError::Busy => Error::Busy { pid: None },
            StoreError::NewerFormat { found, .. } => Error::NewerFormat { found: found.to_string() },
            StoreError::NotAHome { path } => Error::NoLocker(path),
            StoreError::NotEmpty { path } => Error::HomeNotEmpty(path),
            StoreError::Io { what, path, source } => Error::Io { doing: what, path, source },
            other => Error::Store(other),
        }
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Listen { address, source } => Error::Listen { address, source },
            other => Error::Network(other.to_string()),
        }
    }
}

impl From<RowError> for Error {
    fn from(error: RowError) -> Self {
        StoreError::from(error).into()
    }
}
