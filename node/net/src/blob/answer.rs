//! The answering side: LE64 size, then the bao content of the ranges, every group compared with the hash before it is
//! sent, because disks lie.

use std::io::{self, Write};
use std::time::Duration;

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{ReadAt, encode_ranges_validated};
use locker_crypto::id::PackHash;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::groups::{GROUP_BYTES, GroupRanges, tree};
use super::reading;
use crate::pace::Pace;

/// Bytes that the reading thread collects before it hands them on: with how many such pieces may wait, what one answer
/// holds in memory.
const PIECE_BYTES: usize = 262_144;
/// Whoever takes less of an answer in the time that he has is left: an answer under way holds a thread. It is little,
/// as several streams may share a thin line; but whoever takes a byte now and then is left too.
const LEAST_TAKEN: usize = GROUP_BYTES as usize;
/// And whoever takes the whole of it more slowly, in bytes a second, is left after his time for it.
const LEAST_RATE: u32 = 4_096;

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
/// for the next request. Content waits for its time by `pace`. Whoever takes less than a group within `patience`, that
/// wait apart, is left; and so is whoever takes longer for all of it than `patience` and a second for each 4 KiB. If
/// the future is dropped in the middle, the stream must be dropped too.
///
/// # Errors
/// [`AnswerError`].
pub async fn answer<S: PackSource>(
    stream: &mut (impl AsyncWrite + Unpin),
    pack: &PackHash,
    source: S,
    ranges: &GroupRanges,
    pace: &Pace,
    patience: Duration,
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

    let (mut sent, mut taker) = (0, Taker::new(patience, ranges.byte_count(len)));
    while let Some(piece) = ready.recv().await {
        if sent == 0 {
            taker.give(stream, &u64::from(len).to_le_bytes()).await?;
            sent = 8;
        }
        for part in piece.chunks(pace.piece(u32::MAX) as usize) {
            pace.pass(part.len() as u64).await;
            taker.give(stream, part).await?;
        }
        sent += piece.len() as u64;
    }
    match reading.await {
        Ok(()) => in_time(taker.time(), stream.flush()).await?,
        Err(error) if sent == 0 => return Err(AnswerError::Source(error)),
        Err(error) => return Err(AnswerError::Broken(error)),
    }
    Ok(sent)
}

/// Who takes an answer.
struct Taker {
    /// How long he may need for [`LEAST_TAKEN`].
    patience: Duration,
    /// How long he was waited for since he last took as much.
    waited: Duration,
    /// What he took since then.
    taken: usize,
    /// How long he may still be waited for in all.
    left: Duration,
}

impl Taker {
    /// Of somebody who is given so many bytes of a pack.
    fn new(patience: Duration, bytes: u64) -> Self {
        let whole = Duration::from_secs(bytes) / LEAST_RATE;
        Self { patience, waited: Duration::ZERO, taken: 0, left: patience.saturating_add(whole) }
    }

    /// How long he is waited for now.
    fn time(&self) -> Duration {
        self.patience.saturating_sub(self.waited).min(self.left)
    }

    /// Gives him all of these bytes.
    async fn give(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        mut bytes: &[u8],
    ) -> Result<(), AnswerError> {
        while !bytes.is_empty() {
            let begun = Instant::now();
            let taken = in_time(self.time(), stream.write(bytes)).await?;
            if taken == 0 {
                return Err(AnswerError::Broken(io::ErrorKind::WriteZero.into()));
            }
            self.note(taken, begun.elapsed());
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn note(&mut self, taken: usize, waited: Duration) {
        self.taken = self.taken.saturating_add(taken);
        self.waited = self.waited.saturating_add(waited);
        self.left = self.left.saturating_sub(waited);
        if self.taken >= LEAST_TAKEN {
            (self.taken, self.waited) = (0, Duration::ZERO);
        }
    }
}

/// Waits for the other end, but not without end.
async fn in_time<T>(time: Duration, writing: impl Future<Output = io::Result<T>>) -> Result<T, AnswerError> {
    let late = |_| AnswerError::Broken(io::ErrorKind::TimedOut.into());
    timeout(time, writing).await.map_err(late)?.map_err(AnswerError::Broken)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Gives so many bytes to somebody who takes a KiB and then waits. Says what came of it, and how long it took.
    async fn give(bytes: usize, pause: Duration) -> (Result<(), AnswerError>, Duration) {
        let (mut ours, mut theirs) = duplex(1_024);
        let taking = tokio::spawn(async move {
            let mut kib = [0; 1_024];
            loop {
                tokio::time::sleep(pause).await;
                if theirs.read_exact(&mut kib).await.is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        let outcome = Taker::new(PATIENCE, bytes as u64).give(&mut ours, &vec![7; bytes]).await;
        let took = begun.elapsed();
        drop(ours);
        taking.await.unwrap();
        (outcome, took)
    }

    /// Goal: whoever is slow and goes on taking gets all of it; whoever stalls, or takes little now and then, is left.
    #[tokio::test(start_paused = true)]
    async fn who_is_slow_is_served_and_who_stalls_is_not() {
        let second = Duration::from_secs(1);
        let (outcome, took) = give(3_000 * 1_024, second / 5).await;
        assert!(outcome.is_ok() && took > 10 * PATIENCE, "{took:?}: {outcome:?}");
        // One stalls, one takes a KiB now and then, and one takes enough each time and too little in all.
        for (pause, left) in [(100_000, PATIENCE), (3, PATIENCE), (1, PATIENCE + 75 * second)] {
            let (outcome, took) = give(300 * 1_024, pause * second).await;
            assert!(matches!(outcome, Err(AnswerError::Broken(_))), "{pause}");
            assert!((left..left + second).contains(&took), "{pause}: {took:?}");
        }
    }

    /// Goal: what was given counts, however it was cut; the time between two parts does not.
    #[tokio::test(start_paused = true)]
    async fn only_time_in_which_he_is_waited_for_counts() {
        let (mut ours, theirs) = duplex(1 << 20);
        let mut taker = Taker::new(PATIENCE, 4_096);
        assert_eq!(taker.left, PATIENCE + Duration::from_secs(1));
        for _ in 0..10 {
            taker.give(&mut ours, &[7; 1_000]).await.unwrap();
            tokio::time::sleep(PATIENCE).await;
        }
        assert_eq!((taker.taken, taker.waited), (10_000, Duration::ZERO));
        assert_eq!(taker.left, PATIENCE + Duration::from_secs(1));
        taker.give(&mut ours, &[7; 10_000]).await.unwrap();
        assert_eq!(taker.taken, 0);
        drop(theirs);
    }
}
