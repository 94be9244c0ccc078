//! The one refusal for everything (`docs/spec/09-rendezvous.md`, section 3): same bytes, same moment, then close.

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::limits::REFUSAL_DELAY;
use crate::stream::Stream;

/// What every refused request is answered with. Read as a frame it has length 12 and type 0; read as the size that
/// begins a blob answer it is 12, which no pack can have.
pub const REFUSAL: [u8; 16] = [0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Tells whether bytes begin with the refusal.
pub fn is_refusal(bytes: &[u8]) -> bool {
    bytes.starts_with(&REFUSAL)
}

/// Refuses what was asked on a stream: writes [`REFUSAL`] at [`REFUSAL_DELAY`] after `frame_end`, the moment at which
/// the last byte of the frame was read, and closes the stream. Why is nobody's business, so there is no argument for
/// it, and that the other end may be gone already changes nothing.
///
/// Do nothing slow between `frame_end` and this call that depends on the reason: up to the delay the time is levelled,
/// beyond it it shows.
pub async fn refuse(mut stream: Stream, frame_end: Instant) {
    tokio::time::sleep_until(frame_end + REFUSAL_DELAY).await;
    // The other end may have gone; there is nobody else to tell.
    if stream.write_all(&REFUSAL).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}
