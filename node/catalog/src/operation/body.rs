//! The body of an entry with its operations read. The outer shape, its limits and its padding are those of
//! `locker_crypto::entry`.

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::entry::{Dep, EntryBody};

use super::Op;

/// What an entry says, once opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Hybrid logical clock: 48 bits of unix milliseconds, 16 bits of counter.
    pub hlc: u64,
    /// Heads of other authors that the author had newly seen.
    pub deps: Vec<Dep>,
    /// The operations, in order.
    pub ops: Vec<Op>,
}

impl Body {
    /// Reads the operations of an opened entry; what this version does not understand stays among them
    /// ([`Op::decode`]).
    ///
    /// # Errors
    /// [`Refusal::Canon`] if an operation is not an array that starts with a code.
    pub fn read(body: EntryBody) -> Result<Self, Refusal> {
        let read = |item: &Vec<u8>| {
            let mut r = Reader::new(item);
            let op = Op::decode(&mut r)?;
            r.finish().map(|()| op)
        };
        let ops = body.ops.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { hlc: body.hlc, deps: body.deps, ops })
    }

    /// Returns the body in the form that is sealed.
    pub fn write(&self) -> EntryBody {
        let bytes = |op: &Op| {
            let mut w = Writer::new();
            op.encode(&mut w);
            w.finish()
        };
        EntryBody { hlc: self.hlc, deps: self.deps.clone(), ops: self.ops.iter().map(bytes).collect() }
    }

    /// Writes the canonical bytes.
    ///
    /// # Errors
    /// [`Refusal::Limit`] above a limit of an entry.
    pub fn encode(&self) -> Result<Vec<u8>, Refusal> {
        self.write().encode()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for any other form than the one allowed; [`Refusal::Version`] for a later version in
    /// canonical form; [`Refusal::Limit`] over a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        EntryBody::decode(bytes).and_then(Self::read)
    }
}
