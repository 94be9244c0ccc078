//! Frames and messages (`docs/spec/12-sync.md`, sections 1 and 2).
//!
//! Here: how bytes are cut into frames ([`FrameDecoder`]), and what stands in the frames after OK ([`v1`]). The bodies
//! of the handshake are in [`crate::handshake`], those of pairing in [`crate::pairing`].

mod frame;
pub mod v1;

pub use frame::{Frame, FrameDecoder, FrameLimits, HEAD_LEN, REFUSAL, encode_frame, kind};
