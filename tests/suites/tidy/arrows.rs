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
    // The kit looks at the program from outside and links none of it. One suite does: `VISITOR`.
    ("locker-tests", &["locker-engine", "locker-sync", "locker-net", "locker-crypto"]),
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
    // In the tests it is the tool of strangers, in `VISITOR` alone.
    ("libp2p", &["locker-net", "locker-tests"]),
    ("redb", &["locker-store"]),
    ("x25519-dalek", &["locker-crypto"]),
];

/// The only folder of the tests that may name our crates, or what lies behind a wall: attackers bring their own tools, and
/// take ours.
const VISITOR: &str = "tests/suites/attacks";

/// A workspace of its own, which builds the product with a feature that nobody else may set.
const SIMULATION: &str = "tests/simulation";

/// Crates that are pure: time, dice, files and sockets come in as arguments, and clippy holds them to it.
const PURE: &[&str] = &["crypto", "node/catalog", "node/sync"];

/// Package name, what it depends on in any way, and the manifest.
fn packages() -> Vec<(String, BTreeSet<String>, toml::Table, PathBuf)> {
    let manifests = files()
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|n| n == "Cargo.toml") && !path.starts_with(SIMULATION));
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

/// Goal: the kit and all suites but one see the program from outside only, so that no test passes because both sides share
/// a fault. Method: what the library of the tests depends on, and what each file names.
#[test]
fn one_suite_alone_links_the_product() {
    let mut complaints = Vec::new();
    let mut ours = Vec::new();
    for (name, _, table, _) in packages() {
        if name == "locker-tests" {
            let kit = table["dependencies"].as_table().unwrap().keys();
            complaints.extend(kit.filter(|k| k.starts_with("locker") || *k == "libp2p").cloned());
        } else {
            ours.push(format!("{}::", name.replace('-', "_")));
        }
    }
    assert!(ours.len() >= 6);
    ours.push("libp2p::".into());
    for (path, text) in crate::rust_files() {
        let is_outside = path.starts_with("tests")
            && ![VISITOR, SIMULATION, "tests/suites/tidy"].iter().any(|known| path.starts_with(known));
        for (number, line) in text.lines().enumerate().filter(|_| is_outside) {
            let code = line.split("//").next().unwrap_or_default();
            let named = ours.iter().find(|krate| {
                code.match_indices(krate.as_str())
                    .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
            });
            complaints.extend(named.map(|krate| format!("{}:{}: {krate}", path.display(), number + 1)));
        }
    }
    assert_none("parts of the tests that link the product", &complaints);
}

/// T65, T38, T59: what nobody may name at all: another way to make a box than X-Wing, the parts of the blob library that
/// serve, store or dial by themselves, and the forms of ed25519 that are not strict.
#[test]
fn t65_t38_t59_what_must_not_be_used_is_named_nowhere() {
    // Put together here, so that this file does not hold what it looks for.
    let forbidden: Vec<(String, &str)> = [
        (["X25519Hkdf", "Sha256"], "another KEM"),
        (["DhP", "256"], "another KEM"),
        (["DhP", "384"], "another KEM"),
        (["DhP", "521"], "another KEM"),
        (["Dh", "Kem"], "another KEM"),
        (["MlKem", "512"], "another KEM"),
        (["MlKem", "768"], "another KEM"),
        (["MlKem", "1024"], "another KEM"),
        (["Ky", "ber"], "another KEM"),
        (["ky", "ber"], "another KEM"),
        (["iroh_blobs::", "provider"], "the provider of the blob library"),
        (["iroh_blobs::", "store"], "the store of the blob library"),
        (["iroh_blobs::", "api"], "the store of the blob library"),
        (["iroh_blobs::", "net_protocol"], "the server of the blob library"),
        (["iroh_blobs::", "downloader"], "the downloader of the blob library"),
        (["iroh_blobs::", "BlobsProtocol"], "the server of the blob library"),
        (["Fs", "Store"], "the store of the blob library"),
        (["iroh::", "Endpoint"], "the socket of the blob library"),
        (["legacy_", "compatibility"], "lenient ed25519"),
    ]
    .map(|(parts, what)| (parts.concat(), what))
    .to_vec();
    let mut complaints = Vec::new();
    for (path, text) in crate::rust_files() {
        // The crate's own tests name what they look for.
        if path.ends_with("crypto/src/sealed_box/tests.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found = forbidden.iter().filter(|(word, _)| code.contains(word.as_str()));
            complaints.extend(
                found.map(|(word, what)| format!("{}:{}: {word}: {what}", path.display(), number + 1)),
            );
        }
    }
    assert_none("what must not be used", &complaints);
    // One crate alone can make boxes, and takes no more of its library than X-Wing needs.
    let root: toml::Table = text("Cargo.toml".as_ref()).unwrap().parse().unwrap();
    let features = root["workspace"]["dependencies"]["hpke"]["features"].as_array().unwrap();
    let features: BTreeSet<&str> = features.iter().map(|feature| feature.as_str().unwrap()).collect();
    assert_eq!(features, BTreeSet::from(["mlkem", "x25519", "chacha", "hkdfsha2", "alloc"]));
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
                let features = how.get("features").and_then(toml::Value::as_array).into_iter().flatten();
                if features.into_iter().any(|one| one.as_str() == Some("simulation")) {
                    complaints.push(format!("{name} builds {wanted} for the simulation"));
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
