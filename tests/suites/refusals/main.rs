//! Every refusal that this version can give: exit code, name, sentence, hint, JSON object, and that nothing was changed;
//! and the help of every command. Sentences are held in `tests/snapshots`.

#![allow(clippy::unwrap_used, reason = "test code: a broken surrounding ends the test")]

mod bench;
mod help;
mod home;
mod paths;
mod secrets;
mod usage;
