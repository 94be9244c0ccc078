//! The request for leases: frame type 4, CBOR `[space_tag, [pack hash...], seconds]`, answered by a frame of type 5,
//! CBOR `[pack hash...]`: those that the answering side promises to keep for so long (`docs/spec/12-sync.md`, "Leases").

use std::collections::BTreeSet;

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{PackHash, SpaceTag};
use tokio::io::{AsyncRead, AsyncWrite};

use super::fetch::FetchError;
use crate::frame::{read_frame, write_frame};

/// The frame type of a request for leases.
pub const HOLD: u8 = 4;
/// The frame type of its answer.
const HELD: u8 = 5;
/// Most packs in a request.
pub const PACKS_PER_HOLD: usize = 1_024;
/// Longest promise that can be asked for: 7 days.
const SECONDS_MAX: u32 = 7 * 86_400;
/// Bytes of the longest answer.
const HELD_BYTES_MAX: u32 = 34 * PACKS_PER_HOLD as u32 + 16;

/// A request to keep packs of a space for a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoldPacks {
    /// The space.
    pub space: SpaceTag,
    /// The packs, sorted, at most [`PACKS_PER_HOLD`].
    pub packs: BTreeSet<PackHash>,
    /// For how many seconds, at most 604,800.
    pub seconds: u32,
}

impl HoldPacks {
    /// Reads the body of a frame of type [`HOLD`].
    ///
    /// # Errors
    /// [`Refusal::Canon`] for any other form, no packs, or packs that are not sorted; [`Refusal::Limit`] for too many, or
    /// too long.
    pub fn decode(body: &[u8]) -> Result<Self, Refusal> {
        let mut from = Reader::new(body);
        from.array_of(3)?;
        let space = SpaceTag(from.fixed()?);
        let packs = read_packs(&mut from)?;
        let seconds = u32::try_from(from.u64()?).map_err(|_| Refusal::Limit)?;
        from.finish()?;
        if packs.is_empty() || seconds == 0 {
            return Err(Refusal::Canon);
        }
        if seconds > SECONDS_MAX { Err(Refusal::Limit) } else { Ok(Self { space, packs, seconds }) }
    }

    /// Writes the body of a frame of type [`HOLD`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(3).bytes(self.space.as_bytes());
        write_packs(&self.packs, &mut out);
        out.u64(self.seconds.into());
        out.finish()
    }
}

/// Asks for leases; gives those packs that the other end promises to keep. If the future is dropped, the stream must be
/// dropped too.
///
/// # Errors
/// [`FetchError::Denied`] if the other end refuses, or answers with what was not asked for; [`FetchError::Stream`].
pub async fn hold<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &mut S,
    request: &HoldPacks,
) -> Result<BTreeSet<PackHash>, FetchError> {
    let broken = |error| FetchError::Stream(std::io::Error::other(error));
    write_frame(stream, HOLD, &request.encode()).await.map_err(broken)?;
    let (kind, body) = read_frame(stream, HELD_BYTES_MAX).await.map_err(broken)?;
    let read = || -> Result<BTreeSet<PackHash>, Refusal> {
        let mut from = Reader::new(&body);
        let packs = read_packs(&mut from)?;
        from.finish()?;
        if packs.is_subset(&request.packs) { Ok(packs) } else { Err(Refusal::Canon) }
    };
    if kind == HELD { read().map_err(|_| FetchError::Denied) } else { Err(FetchError::Denied) }
}

/// Answers a request for leases.
///
/// # Errors
/// As the stream.
pub async fn grant<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &mut S,
    packs: &BTreeSet<PackHash>,
) -> std::io::Result<()> {
    let mut out = Writer::new();
    write_packs(packs, &mut out);
    write_frame(stream, HELD, &out.finish()).await.map_err(std::io::Error::other)
}

fn write_packs(packs: &BTreeSet<PackHash>, out: &mut Writer) {
    out.array(packs.len());
    packs.iter().for_each(|pack| _ = out.bytes(pack.as_bytes()));
}

fn read_packs(from: &mut Reader<'_>) -> Result<BTreeSet<PackHash>, Refusal> {
    let count = from.array()?;
    if count > PACKS_PER_HOLD {
        return Err(Refusal::Limit);
    }
    let mut packs = BTreeSet::new();
    for _ in 0..count {
        let pack = PackHash(from.fixed()?);
        if packs.last().is_some_and(|last| *last >= pack) {
            return Err(Refusal::Canon);
        }
        packs.insert(pack);
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(packs: u8, seconds: u32) -> HoldPacks {
        HoldPacks {
            space: SpaceTag([7; 16]),
            packs: (0..packs).map(|n| PackHash([n; 32])).collect(),
            seconds,
        }
    }

    #[test]
    fn a_request_has_one_form() {
        let sample = request(3, 86_400);
        let body = sample.encode();
        assert_eq!(HoldPacks::decode(&body).as_ref(), Ok(&sample));
        for cut in 0..body.len() {
            assert_eq!(HoldPacks::decode(&body[..cut]), Err(Refusal::Canon));
        }
        assert_eq!(HoldPacks::decode(&[body.as_slice(), &[0]].concat()), Err(Refusal::Canon));
        assert_eq!(HoldPacks::decode(&request(0, 1).encode()), Err(Refusal::Canon));
        assert_eq!(HoldPacks::decode(&request(1, 0).encode()), Err(Refusal::Canon));
        assert_eq!(HoldPacks::decode(&request(1, SECONDS_MAX + 1).encode()), Err(Refusal::Limit));
        assert!(HoldPacks::decode(&request(1, SECONDS_MAX).encode()).is_ok());
        let mut unsorted = Writer::new();
        unsorted.array(3).bytes(&[7; 16]).array(2).bytes(&[2; 32]).bytes(&[1; 32]);
        unsorted.u64(1);
        assert_eq!(HoldPacks::decode(&unsorted.finish()), Err(Refusal::Canon));
        let many = |count: u16| HoldPacks {
            packs: (0..count)
                .map(|n| {
                    let mut id = [0; 32];
                    id[..2].copy_from_slice(&n.to_be_bytes());
                    PackHash(id)
                })
                .collect(),
            ..request(0, 1)
        };
        assert!(HoldPacks::decode(&many(1_024).encode()).is_ok());
        assert_eq!(HoldPacks::decode(&many(1_025).encode()), Err(Refusal::Limit));
    }

    #[tokio::test]
    async fn only_what_was_asked_for_is_granted() {
        let asked = request(4, 60);
        let answers = [
            (asked.packs.clone(), true),
            (BTreeSet::from([PackHash([2; 32])]), true),
            (BTreeSet::new(), true),
            (BTreeSet::from([PackHash([9; 32])]), false),
        ];
        for (granted, is_fine) in answers {
            let (mut near, mut far) = tokio::io::duplex(4_096);
            let (answer, ()) = tokio::join!(hold(&mut near, &asked), async {
                let (kind, body) = read_frame(&mut far, 65_536).await.unwrap();
                assert_eq!((kind, HoldPacks::decode(&body).unwrap()), (HOLD, asked.clone()));
                grant(&mut far, &granted).await.unwrap();
            });
            assert_eq!(answer.ok(), is_fine.then_some(granted));
        }
        let (mut near, mut far) = tokio::io::duplex(4_096);
        let (answer, ()) = tokio::join!(hold(&mut near, &asked), async {
            read_frame(&mut far, 65_536).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut far, &crate::refusal::REFUSAL).await.unwrap();
        });
        assert!(matches!(answer, Err(FetchError::Denied)));
    }
}
