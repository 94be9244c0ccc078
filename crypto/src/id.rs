//! Public identifiers, each a type of its own: what it names is in the type, not in the variable.
//!
//! All of them are plain bytes that may be stored and sent in clear. Secrets live in [`crate::secret`].

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Size in bytes.
            pub const LEN: usize = $len;
            /// All bytes zero: the value that formats use for "none".
            pub const ZERO: Self = Self([0; $len]);

            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads an identifier from a slice.
            ///
            /// # Errors
            /// [`crate::Refusal::Canon`] if the slice has another length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Refusal> {
                bytes.try_into().map(Self).map_err(|_| crate::Refusal::Canon)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), Hex(&self.0[..self.0.len().min(6)]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&Hex(&self.0), f)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }
    };
}

id!(/** A person: the public key of the first root key (`docs/spec/02-identity.md`). */ PersonId, 32);
id!(/** An ed25519 public key that signs: a device, a root, a link or a guest. */ VerifyingKey, 32);
id!(/** A space: the entry id of its genesis entry (`docs/spec/04-spaces.md`). */ SpaceId, 32);
id!(/** The short public name of a space or person log on the wire and in headers. */ SpaceTag, 16);
id!(/** BLAKE3 of a log entry without its signature. */ EntryId, 32);
id!(/** Names an epoch and commits to its secret. */ EpochId, 32);
id!(/** BLAKE3 of all bytes of a pack: the name of the blob. */ PackHash, 32);
id!(/** BLAKE3 of the whole content of a file. */ ContentHash, 32);
id!(/** BLAKE3 of an object kept beside the log (boxes, keys, capsules). */ ObjectHash, 32);
id!(/** BLAKE3 of a pin delta without its signature. */ PinId, 32);
id!(/** Short name of a sealed chunk, derived from its key. */ ChunkTag, 16);
id!(/** A node of the tree: file, folder or mount (`docs/spec/05-tree.md`). */ NodeId, 16);
id!(/** Fingerprint of a person in a link. */ OwnerFp, 16);
id!(/** Names the recipient of a box in an epoch bundle, for him alone to recognise. */ BoxTag, 16);
id!(/** A version of a file: derived from the operation that wrote it. */ VersionId, 16);
id!(/** A capability token: the chained hash of its blocks, `h_n` (`docs/spec/06-capabilities.md`). */ TokenId, 32);
id!(/** The short public name of a link (`docs/spec/07-links.md`). */ LinkTag, 16);

impl NodeId {
    /// The root folder of a space.
    pub const ROOT: Self = Self([0; 16]);
    /// The parent of everything that lies in the trash.
    pub const TRASH: Self = Self([0xff; 16]);
}

/// Prints bytes as lower-case hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A listing prints a hash for every file: one write each, not one for every byte.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for piece in self.0.chunks(text.len() / 2) {
            for (pair, byte) in text.chunks_exact_mut(2).zip(piece) {
                pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            f.write_str(std::str::from_utf8(&text[..2 * piece.len()]).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}
