//! Manifests of strangers: what passes and what does not.

#![allow(clippy::unwrap_used, reason = "test code")]

use locker_crypto::id::{ChunkTag, PackHash};
use locker_crypto::pack::Loc;
use proptest::prelude::*;

use super::*;

fn folder(parent: Option<usize>, name: &str) -> ManifestNode {
    ManifestNode { parent, name: name.into(), file: None, mtime_ms: 0, exec: false }
}

fn file(parent: Option<usize>, name: &str) -> ManifestNode {
    ManifestNode { file: Some(FileRef::empty()), mtime_ms: -5, exec: true, ..folder(parent, name) }
}

fn pack(n: u8) -> PackOp {
    let loc = Loc { tag: ChunkTag([n; 16]), offset: 0, sealed_len: 32 + 1 + 16 };
    PackOp::new(PackHash([n; 32]), 4_096, vec![loc]).unwrap()
}

fn sample() -> Manifest {
    let nodes = vec![folder(None, "a"), folder(Some(0), "b"), file(Some(1), "c.txt"), file(Some(0), "c.txt")];
    Manifest { nodes, packs: vec![pack(1), pack(2)] }
}

#[test]
fn a_manifest_comes_back_as_it_was() {
    let bytes = sample().encode().unwrap();
    assert_eq!(Manifest::decode(&bytes).unwrap(), sample());
    assert_eq!(sample().paths(), ["a", "a/b", "a/b/c.txt", "a/c.txt"]);
    let empty = Manifest::default();
    assert_eq!(Manifest::decode(&empty.encode().unwrap()).unwrap(), empty);
}

/// Goal: nothing that would be written to another place, twice or not at all passes.
#[test]
fn what_a_stranger_must_not_say_is_refused() {
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = sample();
        change(&mut manifest);
        manifest.encode().err()
    };
    for name in ["..", ".", "", "a/b", "a\\b", "C:x", "nul", "x.", "a\0"] {
        assert_eq!(with(&|m| m.nodes[2].name = name.into()), Some(Refusal::Name), "{name:?}");
    }
    assert_eq!(with(&|m| m.nodes[1].parent = Some(2)), Some(Refusal::Canon), "a later parent");
    assert_eq!(with(&|m| m.nodes[1].parent = Some(1)), Some(Refusal::Canon), "itself");
    assert_eq!(with(&|m| m.nodes[3].parent = Some(2)), Some(Refusal::Canon), "in a file");
    assert_eq!(with(&|m| m.nodes[3].name = "b".into()), Some(Refusal::Canon), "a name twice");
    assert_eq!(with(&|m| m.nodes[0].mtime_ms = 1), Some(Refusal::Canon), "a folder with a time");
    assert_eq!(with(&|m| m.packs[1] = pack(1)), Some(Refusal::Canon), "a pack twice");
    assert_eq!(with(&|_| ()), None);
}

#[test]
fn limits_are_those_of_the_table() {
    let wide = |count: usize| Manifest {
        nodes: (0..count).map(|n| folder(None, &format!("n{n}"))).collect(),
        packs: Vec::new(),
    };
    assert!(Manifest::decode(&wide(NODES_MAX).encode().unwrap()).is_ok());
    assert_eq!(wide(NODES_MAX + 1).encode(), Err(Refusal::Limit));
    let deep = |depth: usize| Manifest {
        nodes: (0..depth).map(|n| folder(n.checked_sub(1), "d")).collect(),
        packs: Vec::new(),
    };
    assert!(deep(DEPTH_MAX).encode().is_ok());
    assert_eq!(deep(DEPTH_MAX + 1).encode(), Err(Refusal::Limit));
    // Long names, one below the other: 16 of 255 bytes with 15 slashes are 4,095.
    let long = |depth: usize| Manifest {
        nodes: (0..depth).map(|n| folder(n.checked_sub(1), &"n".repeat(255))).collect(),
        packs: Vec::new(),
    };
    assert!(long(16).encode().is_ok());
    assert_eq!(long(17).encode(), Err(Refusal::Limit));
    // A short manifest must not make long lists of paths.
    let mut wide = long(15);
    wide.nodes.extend((0..20_000).map(|n| folder(Some(14), &format!("n{n}"))));
    assert_eq!(wide.encode(), Err(Refusal::Limit));
}

#[test]
fn other_versions_and_kinds_are_refused() {
    let bytes = sample().encode().unwrap();
    let mut other = bytes.clone();
    other[1] = 2;
    assert_eq!(Manifest::decode(&other), Err(Refusal::Version));
    for end in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..end]).is_err());
    }
}

proptest! {
    /// Goal: bytes of a stranger never panic, and what passes is in its one form.
    #[test]
    fn changed_bytes_pass_only_in_their_one_form(at in any::<prop::sample::Index>(), byte: u8, cut in 0usize..4) {
        let mut bytes = sample().encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.drain(at..(at + cut).min(bytes.len()));
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode().unwrap(), bytes);
        }
    }
}
