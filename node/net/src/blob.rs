//! The blob protocol `/locker/blob/1` (design: blob transfer): a request for groups of a pack, the verified answer.
//!
//! A stream carries any number of requests, one after another; the next begins when the answer before it is complete.
//! The messages and the checking of answers are those of iroh-blobs, carried in our frames; an answer is encoded from
//! a [`PackSource`], never from a store of that library. Never here: who may ask for what; the engine asks its gate
//! between [`GetPack::decode`] and [`answer`], and refuses with [`crate::refuse`].

mod answer;
mod fetch;
mod groups;
mod hold;
mod reading;
mod request;

pub use answer::{AnswerError, PackSource, answer};
pub use fetch::{FetchError, GroupSink, fetch, fetch_length};
pub use groups::{GROUP_BYTES, GroupRanges, GroupSet, PACK_LEN_MAX};
pub use hold::{HOLD, HoldPacks, PACKS_PER_HOLD, grant, hold};
pub use request::{GET, GetPack};

#[cfg(test)]
mod tests;
