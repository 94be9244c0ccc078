//! The answering side: LE64 size, then the bao content of the ranges, every group compared with the hash before it is
//! sent, because disks lie.

use std::io::{self, Write};
use std::time::Duration;

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{ReadAt, encode_ranges_validated};
use locker_crypto::id::PackHash;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::groups::{GroupRanges, tree};
use super::reading;
use crate::pace::Pace;

/// Bytes that the reading thread collects before it hands them on: with how many such pieces may wait, what one answer
/// holds in memory.
const PIECE_BYTES: usize = 262_144;
/// Whoever does not take a piece for so long is left: an answer under way holds a thread.
const PIECE_TIME: Duration = Duration::from_secs(30);

/// A pack as it lies somewhere: its bytes, and its outboard in pre-order without size prefix, 64 bytes per inner node.
/// Methods are called on a thread where blocking is allowed. Nothing that they give is trusted.
pub trait PackSource: Send + 'static {
    /// Returns the length of the pack in bytes.
    fn byte_len(&self) -> u32;

    /// Fills a buffer from the pack's bytes at an offset.
    ///
    /// # Errors
    /// If it cannot be filled.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Fills a buffer from the outboard at an offset.
    ///
    /// # Errors
    /// If it cannot be filled.
    fn read_outboard_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Why an answer was not completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The source is damaged or does not have these groups. Nothing was sent: refuse the request.
    #[error("the pack cannot be read")]
    Source(#[source] io::Error),
    /// The source failed, or the stream broke, in the middle of the answer: drop the stream, never use it again.
    #[error("the answer was given up in the middle")]
    Broken(#[source] io::Error),
}

/// Answers a request for groups of a pack, after the gate has allowed it. Returns the bytes sent. The stream stays open
/// for the next request. Content waits for its time by `pace`. If the future is dropped in the middle, the stream must be
/// dropped too.
///
/// # Errors
/// [`AnswerError`].
pub async fn answer<S: PackSource>(
    stream: &mut (impl AsyncWrite + Unpin),
    pack: &PackHash,
    source: S,
    ranges: &GroupRanges,
    pace: &Pace,
) -> Result<u64, AnswerError> {
    let len = source.byte_len();
    if !ranges.fit(len) {
        return Err(AnswerError::Source(io::ErrorKind::InvalidInput.into()));
    }
    let (pieces, mut ready) = reading::queue();
    let (root, chunks) = (blake3::Hash::from(pack.0), ranges.to_chunks());
    let reading = reading::begin(move || {
        let source = Shared(&source);
        let outboard = PreOrderOutboard { root, tree: tree(len), data: Outboard(source.0) };
        let mut sink = Pieces { piece: Vec::with_capacity(PIECE_BYTES), pieces };
        encode_ranges_validated(source, outboard, &chunks, &mut sink).map_err(io::Error::from)?;
        sink.flush()
    });

    let mut sent = 0;
    while let Some(piece) = ready.recv().await {
        if sent == 0 {
            in_time(stream.write_all(&u64::from(len).to_le_bytes())).await?;
            sent = 8;
        }
        for part in piece.chunks(pace.piece(u32::MAX) as usize) {
            pace.pass(part.len() as u64).await;
            in_time(stream.write_all(part)).await?;
        }
        sent += piece.len() as u64;
    }
    match reading.await {
        Ok(()) => in_time(stream.flush()).await?,
        Err(error) if sent == 0 => return Err(AnswerError::Source(error)),
        Err(error) => return Err(AnswerError::Broken(error)),
    }
    Ok(sent)
}

/// Waits for the other end, but not without end.
async fn in_time(writing: impl Future<Output = io::Result<()>>) -> Result<(), AnswerError> {
    let late = |_| AnswerError::Broken(io::ErrorKind::TimedOut.into());
    timeout(PIECE_TIME, writing).await.map_err(late)?.map_err(AnswerError::Broken)
}

struct Shared<'a, S>(&'a S);

impl<S: PackSource> ReadAt for Shared<'_, S> {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(at, buffer)?;
        Ok(buffer.len())
    }
}

struct Outboard<'a, S>(&'a S);

impl<S: PackSource> ReadAt for Outboard<'_, S> {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_outboard_at(at, buffer)?;
        Ok(buffer.len())
    }
}

/// Collects what the encoder writes and hands it to the stream; waits while the stream is behind.
struct Pieces {
    piece: Vec<u8>,
    pieces: reading::Pieces,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        // Nobody takes it any more if the stream broke.
        self.pieces.put(piece.into())
    }
}
