//! Frames: `LE32 length | type | body`, where length counts type and body (`docs/spec/09-rendezvous.md`, section 2).

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The stream ended before the first byte of a frame: an orderly end.
    #[error("the stream has ended")]
    Ended,
    /// The frame says that it is empty or longer than allowed. Nothing was reserved for it.
    #[error("a frame of {len} bytes where at most {max} are allowed")]
    Length {
        /// What the frame says.
        len: u32,
        /// What is allowed.
        max: u32,
    },
    /// The stream broke, or ended within a frame.
    #[error("the stream broke")]
    Io(#[from] std::io::Error),
}

/// How much is reserved before the bytes are there.
const STEP: usize = 8_192;

/// Reads one frame of at most `max` bytes, type and body. Memory grows with what has arrived, never with what the
/// length promises. Not safe to cancel: a dropped read leaves the stream in the middle of a frame.
///
/// # Errors
/// Those of [`FrameError`]; after any but [`FrameError::Ended`] the stream is of no more use.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    max: u32,
) -> Result<(u8, Vec<u8>), FrameError> {
    let mut head = [0; 4];
    if stream.read(&mut head[..1]).await? == 0 {
        return Err(FrameError::Ended);
    }
    stream.read_exact(&mut head[1..]).await?;
    let len = u32::from_le_bytes(head);
    if len == 0 || len > max {
        return Err(FrameError::Length { len, max });
    }
    let kind = stream.read_u8().await?;
    let body_len = usize::try_from(len - 1).map_err(|_| FrameError::Length { len, max })?;
    let mut body = Vec::with_capacity(body_len.min(STEP));
    while body.len() < body_len {
        let start = body.len();
        body.resize(body_len.min(start + STEP), 0);
        stream.read_exact(&mut body[start..]).await?;
    }
    Ok((kind, body))
}

/// Writes one frame and flushes it.
///
/// # Errors
/// [`FrameError::Io`]; [`FrameError::Length`] for a body that no frame can hold.
pub async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    body: &[u8],
) -> Result<(), FrameError> {
    let len = u32::try_from(body.len())
        .ok()
        .and_then(|len| len.checked_add(1))
        .ok_or(FrameError::Length { len: u32::MAX, max: u32::MAX - 1 })?;
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.extend_from_slice(&len.to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(body);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back_and_limits_hold() {
        for body_len in [0, 1, STEP - 1, STEP, STEP + 1, 65_535] {
            let body: Vec<u8> = (0..body_len).map(|i| (i % 251) as u8).collect();
            let mut wire = Vec::new();
            write_frame(&mut wire, 7, &body).await.unwrap();
            assert_eq!(wire.len(), body_len + 5);
            assert_eq!(read_frame(&mut &wire[..], 65_536).await.unwrap(), (7, body));
            let max = u32::try_from(body_len).unwrap();
            assert!(matches!(read_frame(&mut &wire[..], max).await, Err(FrameError::Length { .. })));
            if let Err(error) = read_frame(&mut &wire[..wire.len() - 1], 65_536).await {
                assert!(matches!(error, FrameError::Io(_)));
            } else {
                panic!("a cut frame was read");
            }
        }
        assert!(matches!(read_frame(&mut &[][..], 9).await, Err(FrameError::Ended)));
        for head in [[0; 4], [0xff; 4]] {
            assert!(matches!(read_frame(&mut &head[..], 4_096).await, Err(FrameError::Length { .. })));
        }
    }
}
