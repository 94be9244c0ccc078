//! Key derivation: `KDF(name, parts…)` and `XOF`, and the frozen table of all names (`docs/spec/01-conventions.md`).
//!
//! One name for each key and one key for each name: a part list is framed with its lengths, so that no two calls
//! share an input by accident.

use zeroize::Zeroize;

macro_rules! names {
    ($($variant:ident = $text:literal),* $(,)?) => {
        /// The purpose of a derived key. The list is frozen: a name is never reused for another purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Purpose { $(#[doc = concat!("`", $text, "`")] $variant),* }

        impl Purpose {
            /// Every purpose, in the order of the specification.
            pub const ALL: &'static [Purpose] = &[$(Purpose::$variant),*];

            /// Returns the frozen name.
            pub const fn name(self) -> &'static str {
                match self { $(Purpose::$variant => $text),* }
            }

            const fn context(self) -> &'static str {
                match self { $(Purpose::$variant => concat!("locker-v1 ", $text)),* }
            }
        }
    };
}

names! {
    RootSign = "root-sign", RootBox = "root-box", RdvMaster = "rdv-master", RdvReplica = "rdv-replica",
    RdvDevice = "rdv-device", PukBox = "puk-box", PukData = "puk-data", PukBack = "puk-back",
    EpochId = "epoch-id", Log = "log", EpochBack = "epoch-back", Inbox = "inbox", SpaceTag = "space-tag",
    Dedup = "dedup", DedupManifest = "dedup-manifest", Cdc = "cdc", ChunkEnc = "chunk-enc",
    ChunkCom = "chunk-com", ChunkTag = "chunk-tag", PackPad = "pack-pad", DedupIndex = "dedup-index",
    BoxTag = "box-tag", OwnerFp = "owner-fp", LinkCheck = "link-check", LinkPwSalt = "link-pw-salt",
    LinkSeed = "link-seed", LinkTag = "link-tag", LinkSign = "link-sign", LinkBox = "link-box",
    LinkRdv = "link-rdv", ContactRdv = "contact-rdv", PairRdv = "pair-rdv", PairPsk = "pair-psk",
    PairSas = "pair-sas", Safety = "safety", RdvPeriod = "rdv-period",
    RdvSign = "rdv-sign", RdvEnc = "rdv-enc", Lan = "lan", Knock = "knock", Session = "session", Db = "db",
}

/// Derives 32 bytes: BLAKE3 `derive_key` with context `"locker-v1 " + name` over the parts, each preceded by its
/// length as LE32.
///
/// # Panics
/// If a part is longer than `u32::MAX` bytes; callers pass keys, ids and short tuples.
pub fn kdf(purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(purpose.context());
    for part in parts {
        let len = u32::try_from(part.len()).expect("a part of a key derivation is short");
        hasher.update(&len.to_le_bytes());
        hasher.update(part);
    }
    let mut out = [0; 32];
    let mut output = hasher.finalize_xof();
    output.fill(&mut out);
    output.zeroize();
    hasher.zeroize();
    out
}

/// Derives 16 bytes: the first half of [`kdf`].
pub fn kdf16(purpose: Purpose, parts: &[&[u8]]) -> [u8; 16] {
    let mut full = kdf(purpose, parts);
    let mut half = [0; 16];
    half.copy_from_slice(&full[..16]);
    full.zeroize();
    half
}

/// Fills `out` with the extended output of BLAKE3 keyed with `key` over nothing.
pub fn xof(key: &[u8; 32], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.finalize_xof().fill(out);
    hasher.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../docs/spec/vectors/kdf.json")).unwrap()
    }

    /// T68: one name for each key and one key for each name.
    #[test]
    fn t68_names_are_the_frozen_list_and_unique() {
        let listed: Vec<String> = vectors()["frozen_names"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_str().unwrap().to_owned())
            .collect();
        let ours: Vec<String> = Purpose::ALL.iter().map(|p| p.name().to_owned()).collect();
        assert_eq!(ours, listed);
        let unique: std::collections::BTreeSet<_> = ours.iter().collect();
        assert_eq!(unique.len(), ours.len());
    }

    #[test]
    fn kdf_and_xof_match_the_vectors() {
        let v = vectors();
        let mut seen = 0;
        for case in v["kdf"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let purpose = *Purpose::ALL.iter().find(|p| p.name() == name).unwrap();
            let parts: Vec<Vec<u8>> = case["parts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| hex::decode(p.as_str().unwrap()).unwrap())
                .collect();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            assert_eq!(hex::encode(kdf(purpose, &parts)), case["out"].as_str().unwrap(), "{name}");
            seen += 1;
        }
        assert!(seen >= 43);
        for case in v["xof"].as_array().unwrap() {
            let key: [u8; 32] = hex::decode(case["key"].as_str().unwrap()).unwrap().try_into().unwrap();
            let mut out = vec![0; usize::try_from(case["n"].as_u64().unwrap()).unwrap()];
            xof(&key, &mut out);
            assert_eq!(blake3::hash(&out).to_hex().as_str(), case["b3_of_out"].as_str().unwrap());
        }
    }
}
