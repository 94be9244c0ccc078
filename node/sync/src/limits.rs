//! Every limit of what is said on the wire (`docs/spec/10-limits.md`, section 8).
//!
//! A limit is the last value that is accepted. Limits per source address belong to `net`.

/// Longest frame before OK, its four length bytes included.
pub const EARLY_FRAME_LEN_MAX: usize = 4_096;
/// Longest PROOF frame.
pub const PROOF_FRAME_LEN_MAX: usize = 16_384;
/// Longest frame after OK.
pub const FRAME_LEN_MAX: usize = 65_536;
/// Longest frame of ENTRY, OBJECT, PERSON, PINS and REGISTER.
pub const LONG_FRAME_LEN_MAX: usize = 1_114_112;
/// Time for one frame before OK, in milliseconds.
pub const EARLY_FRAME_TIME_MS: u64 = 5_000;
/// How long after the end of a frame a refusal is sent, in milliseconds.
pub const REFUSAL_DELAY_MS: u64 = 50;

/// Own secrets that are checked against a knock.
pub const DOORS_MAX: usize = 4_096;
/// MACs in a knock.
pub const KNOCK_MACS: usize = 32;
/// Knocks of one search of a recovery that a node may not know; further ones it is spared.
pub const RECOVERY_KNOCKS_MAX: usize = 16;
/// Life of a server's nonce, in seconds.
pub const NONCE_LIFE_S: u64 = 600;
/// Life of a session, in seconds.
pub const SESSION_LIFE_S: u64 = 86_400;
/// Tokens in a session.
pub const TOKENS_MAX: usize = 8;
/// Signatures that are checked for one PROOF.
pub const SIGNATURES_MAX: usize = 32;

/// Credit of a sender at the start: bytes of entries and objects under way.
pub const CREDIT_BYTES: u64 = 1_048_576;
/// Bytes of received messages that wait for the store before the stream is no longer read.
pub const UNTAKEN_BYTES_MAX: u64 = 2 * CREDIT_BYTES;
/// Time between two live pushes to one peer, in milliseconds.
pub const PUSH_INTERVAL_MS: u64 = 20;
/// Time between two frontier exchanges, in milliseconds.
pub const FRONTIER_INTERVAL_MS: u64 = 600_000;
/// Entries per author, space and minute, by arrival; then the sender is slowed.
pub const AUTHOR_ENTRIES_PER_MINUTE: u32 = 600;
/// Authors in one frontier.
pub const AUTHORS_MAX: usize = 512;
/// Pin heads in one frontier; others follow with the next exchange.
pub const PIN_HEADS_MAX: usize = 256;
/// Answers that a peer may have asked for and not got yet.
pub const REQUESTS_MAX: usize = 1_024;
/// Packs in one WANT or HAVE.
pub const PACKS_PER_MESSAGE_MAX: usize = 1_900;
/// Packs that a peer wants from us and that we do not have yet.
pub const WANTED_MAX: usize = 65_536;

/// Bytes of packs in flight, of the whole node.
pub const NODE_FLIGHT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of packs in flight, of one session.
pub const SESSION_FLIGHT_BYTES: u64 = 32 * 1024 * 1024;
/// Blob streams of one session.
pub const BLOB_STREAMS: usize = 8;

/// Life of a pairing ticket, in seconds.
pub const TICKET_LIFE_S: u64 = 600;
/// Runs of a ticket that passed message 1 and then failed or showed other digits; with this one it ends.
pub const TICKET_RUNS_MAX: u32 = 3;
/// Time for the user to confirm on both devices, in seconds.
pub const CONFIRM_TIME_S: u64 = 120;
/// Bytes of what one side of a pairing sends after both confirmed.
pub const PAIRING_MESSAGE_LEN_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the table of the specification back, in its order.
    #[test]
    fn limits_are_those_of_the_table() {
        let (kib, mib) = (1_024, 1_024 * 1_024);
        assert_eq!((EARLY_FRAME_LEN_MAX, EARLY_FRAME_TIME_MS), (4 * kib, 5_000));
        assert_eq!((DOORS_MAX, KNOCK_MACS, RECOVERY_KNOCKS_MAX), (4_096, 32, 16));
        assert_eq!((PROOF_FRAME_LEN_MAX, TOKENS_MAX, SIGNATURES_MAX), (16 * kib, 8, 32));
        assert_eq!((REFUSAL_DELAY_MS, NONCE_LIFE_S, SESSION_LIFE_S), (50, 10 * 60, 24 * 60 * 60));
        assert_eq!((FRAME_LEN_MAX, LONG_FRAME_LEN_MAX, BLOB_STREAMS), (64 * kib, 1_114_112, 8));
        assert_eq!((NODE_FLIGHT_BYTES, SESSION_FLIGHT_BYTES), (64 * mib, 32 * mib));
        assert_eq!((CREDIT_BYTES, AUTHOR_ENTRIES_PER_MINUTE, AUTHORS_MAX), (mib, 600, 512));
        assert_eq!((PUSH_INTERVAL_MS, FRONTIER_INTERVAL_MS), (20, 600_000));
        assert_eq!((TICKET_LIFE_S, TICKET_RUNS_MAX, CONFIRM_TIME_S), (10 * 60, 3, 2 * 60));
    }
}
