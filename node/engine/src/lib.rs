//! Everything a person can do with a locker: the facade [`Locker`] and the rooms behind it.
//!
//! | Room | Holds |
//! |---|---|
//! | [`Locker`] | each thing a user can do, one method |
//! | `vault`, `keys` | how the keys of this device are closed, and the keys themselves while it is open |
//! | `create` | a new person, device and home space |
//! | `writer` | the one place that signs and commits |
//! | `import` | files in: walking, cutting, sealing, packing, committing |
//! | `reader`, `export`, `leave`, `place` | bytes out |
//! | `share`, `open` | links: made and listed here, opened anywhere |
//! | `listing`, `organise`, `history`, `status`, `verify` | one verb or family of verbs each |
//! | `replicas` | what this person's devices know of its replicas |
//! | `gc` | what is kept and for how long; giving room back |
//! | `depot` | what is kept for a person who alone can read it: blind replicas, cold drives |
//! | `doctor` | every part of this device looked at, with cause and cure |
//! | `recover` | everything back from the phrase |
//! | `drives` | folders that keep everything without a process |
//! | `revoke`, `rotate`, `person_keys` | a device ended; the keys that follow; how the person's keys are handed on |
//! | `older_keys` | under which older keys of the person devices still find one another |
//! | `newcomers` | devices that came in lately: noted when they are heard of, told by `status` |
//! | `care`, `scrub` | packs in which damage was met; when which pack is looked at in the background |
//!
//! It knows neither HTTP nor clap; floors above name nothing below it.

mod care;
mod checked;
mod config;
mod copies;
mod create;
mod depot;
mod doctor;
mod drives;
mod env;
mod error;
mod export;
mod gc;
mod groups;
mod held;
mod history;
mod import;
mod join;
mod kept;
mod keys;
mod leave;
mod limits;
mod listing;
mod locker;
mod needs;
mod newcomers;
mod node;
mod older_keys;
mod open;
mod organise;
mod path;
mod person_chains;
mod person_keys;
mod phrase;
mod pin_heads;
mod place;
mod process;
mod progress;
mod reader;
mod rebirth;
mod recover;
mod replicas;
pub mod report;
mod residue;
mod restore;
mod revoke;
mod rotate;
mod scrub;
mod share;
#[cfg(feature = "simulation")]
pub mod simulation;
mod status;
#[cfg(test)]
mod test_mesh;
mod time;
mod tree;
mod vault;
mod verify;
mod writer;

pub use config::{Config, RATE_MIN, Remembered};
pub use copies::Rule;
pub use env::{Clock, Env};
pub use error::Error;
pub use join::{JoinAs, JoinOptions};
pub use listing::ListOptions;
pub use locker::{InitOptions, Locker, VerifyOptions};
pub use node::{Node, NodeOptions, Signals, Woken};
pub use open::{OpenOptions, link_needs_passphrase, open_link};
pub use process::{guard_process, hear_interrupts};
pub use recover::{DrillOptions, RecoverFrom, RecoverOptions};
pub use report::Secret;
pub use share::{EXPIRES_DEFAULT_S, EXPIRES_MAX_S, ShareOptions};
pub use time::{parse_span_s, parse_time};
pub use vault::{Vault, is_passphrase_of};

/// Whether a text is a valid recovery phrase of 24 words; used to refuse one that was given in the wrong place.
pub fn is_phrase(text: &str) -> bool {
    locker_crypto::phrase::Phrase::parse(text).is_ok()
}
