//! The asking side: sends the request, verifies every group as it comes and hands it to a sink at its place.

use std::io;

use bao_tree::io::fsm::BaoContentItem;
use iroh::endpoint::VarInt;
use iroh_blobs::get::StreamPair;
use iroh_blobs::get::fsm::{
    AtBlobContent, AtConnected, BlobContentNext, ConnectedNext, DecodeError, RequestCounters,
};
use iroh_blobs::util::{AsyncReadRecvStream, AsyncReadRecvStreamExtra, SendStream};
use locker_crypto::encode::Writer;
use locker_crypto::id::{PackHash, SpaceTag};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf, split};

use super::groups::{GROUP_BYTES, GroupRanges, GroupSet, PACK_LEN_MAX, tree};
use super::request::{GET, GetPack, frame_body};
use crate::frame::write_frame;
use crate::refusal::REFUSAL;

const READ_BUFFER: usize = 65_536;
/// Bytes of an inner node: two hashes.
const NODE_BYTES: u64 = 64;

/// Where what was verified goes. Called on the runtime's threads: write to a file or hand on, do not sync a disk here.
///
/// The nodes above a group come before it, in every answer anew.
pub trait GroupSink {
    /// Takes the two hashes of an inner node, which stand at `offset` of the outboard (pre-order, without size prefix).
    ///
    /// # Errors
    /// If they cannot be taken; the fetch ends with it.
    fn write_node(&mut self, offset: u32, pair: &[u8; 64]) -> io::Result<()>;

    /// Takes a group, or the shorter last one, that starts at `offset` of the pack.
    ///
    /// # Errors
    /// If it cannot be taken; the fetch ends with it.
    fn write_group(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()>;
}

/// Why a fetch ended early. The stream is of no more use after any of these. What the sink took stays good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The other end refused, whatever its reason.
    #[error("refused")]
    Denied,
    /// The other end says that the pack has another length than its `pack` operation or pin. Nothing was reserved.
    #[error("the pack has another length there")]
    Size,
    /// A group does not match the hash (`E_HASH`): wrong bytes name the holder.
    #[error("wrong bytes")]
    Hash,
    /// The sink did not take a group or a node.
    #[error("what came could not be kept")]
    Sink(#[source] io::Error),
    /// The stream broke.
    #[error("the stream broke")]
    Stream(#[source] io::Error),
}

/// Fetches groups of a pack whose length, `held.byte_len()`, is known from a verified place. Each group is noted in
/// `held` once the sink has it, so that after a break [`GroupSet::missing`] says what to ask for next. Returns the bytes
/// of content received. If the future is dropped, the stream must be dropped too; groups noted before stay good.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &mut S,
    request: &GetPack,
    held: &mut GroupSet,
    sink: &mut impl GroupSink,
) -> Result<u64, FetchError> {
    let (mut content, size) = begin(stream, request).await?;
    let len = u64::from(held.byte_len());
    if size != len {
        return Err(if size == refusal_size() { FetchError::Denied } else { FetchError::Size });
    }
    let (tree, mut received) = (tree(held.byte_len()), 0);
    loop {
        match content.next().await {
            BlobContentNext::More((more, item)) => {
                content = more;
                match item.map_err(fetch_error)? {
                    BaoContentItem::Parent(parent) => {
                        let index = tree.pre_order_offset(parent.node).ok_or(FetchError::Hash)?;
                        let offset = u32::try_from(index * NODE_BYTES).map_err(|_| FetchError::Hash)?;
                        let mut pair = [0; 64];
                        pair[..32].copy_from_slice(parent.pair.0.as_bytes());
                        pair[32..].copy_from_slice(parent.pair.1.as_bytes());
                        sink.write_node(offset, &pair).map_err(FetchError::Sink)?;
                    }
                    BaoContentItem::Leaf(leaf) => {
                        let offset = u32::try_from(leaf.offset).map_err(|_| FetchError::Hash)?;
                        sink.write_group(offset, &leaf.data).map_err(FetchError::Sink)?;
                        held.insert(offset / GROUP_BYTES);
                        received += leaf.data.len() as u64;
                    }
                }
            }
            // Not `next`: it would wait for the end of the stream, which stays open for the next request.
            BlobContentNext::Done(_) => return Ok(received),
        }
    }
}

/// Asks how long a pack is, of which nothing but the hash is known: fetches its first group and its last one. Their bytes and
/// places are such as the hash vouches for under one length only. Nothing is reserved. Costs up to two round trips.
///
/// # Errors
/// [`FetchError`]; [`FetchError::Size`] for a length that no pack has, [`FetchError::Hash`] for one that is not this pack's.
pub async fn fetch_length<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &mut S,
    space: SpaceTag,
    pack: PackHash,
) -> Result<u32, FetchError> {
    let of = |bytes| {
        GroupRanges::covering(bytes)
            .map(|ranges| GetPack { space, pack, ranges })
            .map_err(|_| FetchError::Size)
    };
    let len = verify(stream, &of(0..1)?).await?;
    // A tree of another length may begin in the same form; it does not end so.
    if len > GROUP_BYTES && verify(stream, &of(len - 1..len)?).await? != len {
        return Err(FetchError::Hash);
    }
    Ok(len)
}

/// Fetches groups, keeps nothing of them and returns the length that the other end says the pack has.
async fn verify<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &mut S,
    request: &GetPack,
) -> Result<u32, FetchError> {
    let (mut content, size) = begin(stream, request).await?;
    if size == refusal_size() {
        return Err(FetchError::Denied);
    }
    let len =
        u32::try_from(size).ok().filter(|len| (1..=PACK_LEN_MAX).contains(len)).ok_or(FetchError::Size)?;
    loop {
        match content.next().await {
            BlobContentNext::More((more, item)) => {
                content = more;
                item.map_err(fetch_error)?;
            }
            BlobContentNext::Done(_) => return Ok(len),
        }
    }
}

/// An answer whose length was read.
type Content<'s, S> = AtBlobContent<AsyncReadRecvStream<Receiving<&'s mut S>>>;

/// Sends a request and reads the length with which the answer begins.
async fn begin<'s, S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &'s mut S,
    request: &GetPack,
) -> Result<(Content<'s, S>, u64), FetchError> {
    let (reading, writing) = split(stream);
    let reader = AsyncReadRecvStream::new(Receiving(BufReader::with_capacity(READ_BUFFER, reading)));
    let writer = Asking { space: request.space, request: Vec::new(), stream: writing };
    let pair = StreamPair::new(0, reader, writer);
    let counters = RequestCounters::default();
    let connected = AtConnected::new(pair.t0, pair.recv, pair.send, request.to_request(), counters);
    let next = connected.next().await.map_err(|error| FetchError::Stream(io::Error::other(error)))?;
    let ConnectedNext::StartRoot(start) = next else {
        // Requests ask for something at offset 0, so there is no other state.
        return Err(FetchError::Stream(io::ErrorKind::InvalidInput.into()));
    };
    start.next().next().await.map_err(|error| FetchError::Stream(io::Error::from(error)))
}

/// What a refusal reads as where a size is expected.
fn refusal_size() -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = REFUSAL;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn fetch_error(error: DecodeError) -> FetchError {
    match error {
        DecodeError::ParentHashMismatch { .. } | DecodeError::LeafHashMismatch { .. } => FetchError::Hash,
        other => FetchError::Stream(other.into()),
    }
}

/// The reading half, as the library wants it.
struct Receiving<S>(BufReader<ReadHalf<S>>);

impl<S: AsyncRead + Unpin + Send> AsyncReadRecvStreamExtra for Receiving<S> {
    fn inner(&mut self) -> &mut (impl AsyncRead + Unpin + Send) {
        &mut self.0
    }

    fn stop(&mut self, _: VarInt) -> io::Result<()> {
        Ok(())
    }

    fn id(&self) -> u64 {
        0
    }
}

/// The writing half: collects the bytes of the request into one frame of ours, which `sync` sends. Dropping it closes
/// nothing.
struct Asking<S> {
    space: SpaceTag,
    request: Vec<u8>,
    stream: WriteHalf<S>,
}

impl<S: AsyncWrite + Unpin + Send> SendStream for Asking<S> {
    async fn send_bytes(&mut self, bytes: bytes::Bytes) -> io::Result<()> {
        self.send(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.request.extend_from_slice(bytes);
        Ok(())
    }

    async fn sync(&mut self) -> io::Result<()> {
        let mut body = Writer::new();
        frame_body(&self.space, &self.request, &mut body);
        write_frame(&mut self.stream, GET, &body.finish()).await.map_err(io::Error::other)
    }

    fn reset(&mut self, _: VarInt) -> io::Result<()> {
        Ok(())
    }

    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        std::future::pending().await
    }

    fn id(&self) -> u64 {
        0
    }
}
