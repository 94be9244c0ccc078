//! Frames on the socket: type u8, length LE32, body. A body is JSON, but for [`Kind::Bytes`].

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Longest body in bytes.
pub(super) const BODY_MAX: usize = 16 << 20;
/// Bytes that are reserved before they come: a body that is moved while it grows leaves copies behind.
const RESERVED_MAX: usize = 64 << 10;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Client to server: the verb.
    Request = 1,
    /// How far it is.
    Progress = 2,
    /// A path that is durable now.
    Saved = 3,
    /// Bytes of a file.
    Bytes = 4,
    /// Lines of a listing, an array.
    Entries = 5,
    /// The answer; the last frame.
    Reply = 6,
    /// The failure; the last frame.
    Failure = 7,
    /// Server to client, first: this command is being served. Before it a client may go elsewhere.
    Ready = 8,
    /// A pairing shows something.
    Pairing = 9,
    /// Client to server: what the person answers to a pairing.
    Answer = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Kind::Request,
            Kind::Progress,
            Kind::Saved,
            Kind::Bytes,
            Kind::Entries,
            Kind::Reply,
            Kind::Failure,
            Kind::Ready,
            Kind::Pairing,
            Kind::Answer,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Writes one frame.
pub(super) fn write(stream: &mut impl Write, kind: Kind, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_MAX);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    let mut head = [kind as u8, 0, 0, 0, 0];
    head[1..].copy_from_slice(&len.to_le_bytes());
    stream.write_all(&head)?;
    stream.write_all(body)
}

/// Writes a value as JSON in one frame.
pub(super) fn write_json(stream: &mut impl Write, kind: Kind, value: &impl Serialize) -> io::Result<()> {
    // Words may stand in it: the room is there before, so that none is left behind as it grows.
    let mut body = Zeroizing::new(Vec::with_capacity(RESERVED_MAX));
    serde_json::to_writer(&mut *body, value)?;
    write(stream, kind, &body)
}

/// Reads one frame, which is wiped when dropped: there may be words in it. More than 64 KiB is reserved as the bytes arrive,
/// never from the length alone.
pub(super) fn read(stream: &mut impl Read) -> io::Result<(Kind, Zeroizing<Vec<u8>>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let kind = Kind::from_byte(head[0]).ok_or_else(|| invalid("unknown frame"))?;
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if len as usize > BODY_MAX {
        return Err(invalid("frame too long"));
    }
    let mut body = Zeroizing::new(Vec::with_capacity((len as usize).min(RESERVED_MAX)));
    stream.take(u64::from(len)).read_to_end(&mut body)?;
    if body.len() == len as usize { Ok((kind, body)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads a body as JSON.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|_| invalid("a frame that this program does not understand"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_bad_ones_are_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Bytes, b"abc").unwrap();
        assert_eq!(read(&mut &bytes[..]).unwrap(), (Kind::Bytes, Zeroizing::new(b"abc".to_vec())));
        for cut in 0..bytes.len() {
            assert!(read(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(&mut &[11, 0, 0, 0, 0][..]).is_err(), "unknown kind");
        assert!(read(&mut &[4, 0xff, 0xff, 0xff, 0xff][..]).is_err(), "longer than the limit");
        assert!(write(&mut Vec::new(), Kind::Bytes, &vec![0; BODY_MAX + 1]).is_err());
    }
}
