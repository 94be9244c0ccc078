//! Cutting a stream into frames: `LE32 length | type u8 | body`; the length counts type and body.

use locker_crypto::Refusal;
use zeroize::Zeroizing;

use crate::limits::{
    EARLY_FRAME_LEN_MAX, FRAME_LEN_MAX, LONG_FRAME_LEN_MAX, PAIRING_MESSAGE_LEN_MAX, PROOF_FRAME_LEN_MAX,
};

/// Length of what stands before the body.
pub const HEAD_LEN: usize = LENGTH_LEN + 1;
/// What a peer gets for every failure, whatever it was: one frame of type 0.
pub const REFUSAL: [u8; 16] = [12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const LENGTH_LEN: usize = 4;

/// The types of frames.
pub mod kind {
    /// A refusal: the other end closes after it.
    pub const REFUSED: u8 = 0;
    /// The server's nonce.
    pub const NONCE: u8 = 1;
    /// The client's nonce and MACs.
    pub const KNOCK: u8 = 2;
    /// The server's certificate.
    pub const ANSWER: u8 = 3;
    /// The client's proofs.
    pub const PROOF: u8 = 4;
    /// What the client may ask.
    pub const OK: u8 = 5;
    /// Heads of a log.
    pub const FRONTIER: u8 = 16;
    /// A request for entries, pin deltas or person-log entries.
    pub const PULL: u8 = 17;
    /// An entry.
    pub const ENTRY: u8 = 18;
    /// What is stored durably.
    pub const ACK: u8 = 19;
    /// More bytes that may be sent.
    pub const CREDIT: u8 = 20;
    /// An object.
    pub const OBJECT: u8 = 21;
    /// Entries of a person log.
    pub const PERSON: u8 = 22;
    /// Packs that are wanted.
    pub const WANT: u8 = 23;
    /// Packs that are held.
    pub const HAVE: u8 = 24;
    /// A pin delta.
    pub const PINS: u8 = 25;
    /// The end.
    pub const BYE: u8 = 29;
    /// A request for an object.
    pub const ASK: u8 = 30;
    /// An envelope is stored durably.
    pub const STORED: u8 = 31;
    /// A device asks to go on under a new key. 32 to 37 are those of pairing.
    pub const SUCCEED: u8 = 38;
    /// How much room a blind store has.
    pub const ROOM: u8 = 39;
    /// The slot under which a blind store is to be found from now on.
    pub const SLOT: u8 = 40;
}

/// Which frames may come, and how long they may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameLimits {
    /// Before OK: 4 KiB, a PROOF 16 KiB.
    Early,
    /// After OK: 64 KiB, those that carry logs and objects more.
    Session,
    /// Frames of pairing, each with one Noise message.
    Pairing,
    /// Messages inside the Noise channel of a pairing, before both users confirmed and always on the old device.
    PairingShort,
    /// The same on the new device afterwards: what it is given.
    PairingGrant,
}

impl FrameLimits {
    /// Returns the longest frame of a type, its length bytes included.
    pub const fn frame_len_max(self, kind: u8) -> usize {
        match (self, kind) {
            (Self::Early, kind::PROOF) => PROOF_FRAME_LEN_MAX,
            (Self::Early, _) => EARLY_FRAME_LEN_MAX,
            (Self::Session, kind::ENTRY | kind::OBJECT | kind::PERSON | kind::PINS) => LONG_FRAME_LEN_MAX,
            (Self::Session, _) => FRAME_LEN_MAX,
            (Self::Pairing, _) => HEAD_LEN + 65_535,
            (Self::PairingShort, _) => EARLY_FRAME_LEN_MAX,
            (Self::PairingGrant, _) => PAIRING_MESSAGE_LEN_MAX,
        }
    }
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// What it carries.
    pub body: Vec<u8>,
}

/// Writes a frame.
///
/// # Panics
/// If the body is longer than 4 GiB; every message is limited far below.
pub fn encode_frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 1).expect("a body is far shorter than 4 GiB");
    let mut out = Vec::with_capacity(HEAD_LEN + body.len());
    out.extend_from_slice(&len.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    out
}

/// Cuts a stream into frames, however it arrives. Holds no more than the bytes it was given and never reserves memory
/// from a length. Its buffer is wiped when dropped.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: FrameLimits,
    held: Zeroizing<Vec<u8>>,
    /// Where in `held` the next frame begins.
    at: usize,
}

impl FrameDecoder {
    /// Starts at the beginning of a stream.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, held: Zeroizing::new(Vec::new()), at: 0 }
    }

    /// Changes what may come, from the next frame on.
    pub const fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        self.held.extend_from_slice(bytes);
    }

    /// Returns the next frame, once all of it is here.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for a length without room for the type; [`Refusal::Limit`] for a frame that is too long, as
    /// soon as its first five bytes are here.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Refusal> {
        let rest = &self.held[self.at..];
        let Some((length, after)) = rest.split_first_chunk::<LENGTH_LEN>() else { return Ok(None) };
        let len = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Refusal::Limit)?;
        if len == 0 {
            return Err(Refusal::Canon);
        }
        let Some(kind) = after.first() else { return Ok(None) };
        if len > self.limits.frame_len_max(*kind) - LENGTH_LEN {
            return Err(Refusal::Limit);
        }
        let Some(content) = after.get(..len) else { return Ok(None) };
        let frame = Frame { kind: *kind, body: content[1..].to_vec() };
        self.at += LENGTH_LEN + len;
        Ok(Some(frame))
    }

    /// Number of bytes that are here and not part of a frame given out.
    pub fn held_len(&self) -> usize {
        self.held.len() - self.at
    }

    /// Takes out what follows the frames given out, for the next user of the stream.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.held.split_off(self.at)
    }
}
