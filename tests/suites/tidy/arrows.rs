//! Which crate may depend on which, and which foreign crate stands behind which wall.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::{assert_none, files, text};

/// The arrows that `ARCHITECTURE.md` allows, those of floors to come included; a new one is a decision and changes both.
const ARROWS: &[(&str, &[&str])] = &[
    ("locker-crypto", &[]),
    ("locker-catalog", &["locker-crypto"]),
    ("locker-net", &["locker-crypto"]),
    ("locker-store", &["locker-catalog", "locker-crypto"]),
    ("locker-sync", &["locker-catalog", "locker-crypto"]),
    ("locker-engine", &["locker-store", "locker-sync", "locker-net", "locker-catalog", "locker-crypto"]),
    ("locker-gateways", &["locker-engine"]),
    ("locker-folders", &["locker-engine"]),
    ("locker", &["locker-gateways", "locker-folders", "locker-engine"]),
    ("locker-bootstrap", &["locker-net", "locker-crypto"]),
    // Looks at the program from outside and links none of it.
    ("locker-tests", &[]),
];

/// Foreign crates whose types stop at one of ours.
const WALLS: &[(&str, &[&str])] = &[
    ("argon2", &["locker-crypto"]),
    ("bao-tree", &["locker-store", "locker-net"]),
    ("bip39", &["locker-crypto"]),
    ("chacha20poly1305", &["locker-crypto"]),
    ("clap", &["locker", "locker-bootstrap"]),
    ("clap_complete", &["locker"]),
    ("ed25519-dalek", &["locker-crypto"]),
    ("fastcdc", &["locker-crypto"]),
    ("hpke", &["locker-crypto"]),
    ("icu_casemap", &["locker-catalog"]),
    ("indicatif", &["locker"]),
    ("iroh-blobs", &["locker-net"]),
    ("libp2p", &["locker-net"]),
    ("redb", &["locker-store"]),
    ("x25519-dalek", &["locker-crypto"]),
];

/// Crates that are pure: time, dice, files and sockets come in as arguments, and clippy holds them to it.
const PURE: &[&str] = &["crypto", "node/catalog", "node/sync"];

/// Package name, what it depends on in any way, and the manifest.
fn packages() -> Vec<(String, BTreeSet<String>, toml::Table, PathBuf)> {
    let manifests = files().into_iter().filter(|path| path.file_name().is_some_and(|n| n == "Cargo.toml"));
    manifests
        .filter_map(|path| {
            let table: toml::Table = text(&path).unwrap().parse().unwrap();
            let name = table.get("package")?.get("name")?.as_str()?.to_owned();
            let mut wanted = BTreeSet::new();
            for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let list = table.get(kind).and_then(|v| v.as_table());
                wanted.extend(list.into_iter().flat_map(|list| list.keys().cloned()));
            }
            assert!(
                table.get("target").is_none(),
                "{name}: dependencies by target are not looked at here yet"
            );
            Some((name, wanted, table, path))
        })
        .collect()
}

/// Goal: arrows between floors point down, and only along the list.
#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let packages = packages();
    let ours: BTreeSet<_> = packages.iter().map(|(name, ..)| name.clone()).collect();
    let mut complaints = Vec::new();
    for (name, wanted, ..) in &packages {
        let Some(allowed) = allowed.get(name.as_str()) else {
            complaints.push(format!("{name} is not in the list of crates"));
            continue;
        };
        let strange = wanted.intersection(&ours).filter(|other| !allowed.contains(&other.as_str()));
        complaints.extend(strange.map(|other| format!("{name} depends on {other}")));
    }
    assert_none("arrows that are not allowed", &complaints);
    assert!(ours.len() >= 6, "only {ours:?} were found");
}

/// Goal: foreign types stop at the crate that wraps them.
#[test]
fn foreign_crates_stay_behind_their_walls() {
    let mut complaints = Vec::new();
    for (name, wanted, ..) in packages() {
        let through =
            WALLS.iter().filter(|(krate, by)| wanted.contains(*krate) && !by.contains(&name.as_str()));
        complaints.extend(
            through.map(|(krate, by)| format!("{name} uses {krate}, which belongs to {}", by.join(", "))),
        );
    }
    assert_none("foreign crates outside their wall", &complaints);
}

/// Goal: one set of lints, versions in one place, pure crates with the list of what they may not call.
#[test]
fn every_crate_follows_the_workspace() {
    let mut complaints = Vec::new();
    for (name, _, table, path) in packages() {
        if table.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
            complaints.push(format!("{name} does not take the lints of the workspace"));
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (wanted, how) in table.get(kind).and_then(|v| v.as_table()).into_iter().flatten() {
                if how.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    complaints.push(format!("{name} names a version of {wanted} of its own"));
                }
            }
        }
        let folder = path.parent().unwrap().to_owned();
        if PURE.iter().any(|pure| folder == std::path::Path::new(pure)) {
            let list = crate::root().join(&folder).join("clippy.toml");
            let list = std::fs::read_to_string(list).unwrap_or_default();
            for forbidden in ["SystemTime::now", "Instant::now", "std::fs"] {
                if !list.contains(forbidden) {
                    complaints.push(format!("{}/clippy.toml does not forbid {forbidden}", folder.display()));
                }
            }
        }
    }
    assert_none("crates that go their own way", &complaints);
}
