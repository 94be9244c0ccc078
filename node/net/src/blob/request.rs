//! The request for a pack: frame type 1, CBOR `[space_tag, request]`, where request is one `Request::Get` of
//! iroh-blobs in postcard, with one root hash and ranges of whole groups at offset 0.

use iroh_blobs::Hash;
use iroh_blobs::protocol::{ChunkRangesSeq, GetRequest, Request};
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{PackHash, SpaceTag};

use super::groups::GroupRanges;
use crate::limits::Limits;

/// The frame type of a request for a pack.
pub const GET: u8 = 1;

/// A request for groups of a pack in the context of a space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetPack {
    /// The space, or the link, by whose right it is asked for.
    pub space: SpaceTag,
    /// The pack.
    pub pack: PackHash,
    /// Which of its groups.
    pub ranges: GroupRanges,
}

impl GetPack {
    /// Reads the body of a frame of type [`GET`].
    ///
    /// # Errors
    /// [`Refusal::Canon`] for any other form: another request of the library, a list of hashes, ranges at another
    /// offset or not of whole groups, bytes left over, or a second spelling of the same; [`Refusal::Limit`] for too
    /// many bytes or ranges.
    pub fn decode(body: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut reader = Reader::new(body);
        reader.array_of(2)?;
        let space = SpaceTag(reader.fixed()?);
        let request = reader.bytes()?;
        reader.finish()?;
        if request.len() > limits.get_request_bytes {
            return Err(Refusal::Limit);
        }
        // The first byte is the kind. What is not a get is not even parsed.
        if request.first() != Some(&0) {
            return Err(Refusal::Canon);
        }
        let (parsed, rest) = postcard::take_from_bytes::<Request>(request).map_err(|_| Refusal::Canon)?;
        let Request::Get(get) = parsed else { return Err(Refusal::Canon) };
        if !rest.is_empty() || !get.ranges.is_blob() {
            return Err(Refusal::Canon);
        }
        let chunks = match get.ranges.as_single() {
            Some((0, chunks)) => chunks,
            _ => return Err(Refusal::Canon),
        };
        let ranges = GroupRanges::from_chunks(chunks)?;
        if ranges.count() > limits.ranges_per_get {
            return Err(Refusal::Limit);
        }
        let decoded = Self { space, pack: PackHash(get.hash.into()), ranges };
        if decoded.encode() == body { Ok(decoded) } else { Err(Refusal::Canon) }
    }

    /// Writes the body of a frame of type [`GET`].
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        // Writing into memory cannot fail.
        let request = postcard::to_stdvec(&Request::Get(self.to_request())).unwrap_or_default();
        frame_body(&self.space, &request, &mut writer);
        writer.finish()
    }

    pub(super) fn to_request(&self) -> GetRequest {
        let ranges = ChunkRangesSeq::from_ranges([self.ranges.to_chunks()]);
        GetRequest::new(Hash::from(self.pack.0), ranges)
    }
}

/// Writes `[space_tag, request]`.
pub(super) fn frame_body(space: &SpaceTag, request: &[u8], writer: &mut Writer) {
    writer.array(2).bytes(space.as_bytes()).bytes(request);
}
