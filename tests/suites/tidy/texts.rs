//! All files: citations lead somewhere, and nothing in them belongs to one machine only.

use crate::{assert_none, files, root, rust_files, text};

/// Goal: a citation of the specification in code leads to a page that is there.
#[test]
fn every_cited_page_exists() {
    let mut complaints = Vec::new();
    let mut cited = 0;
    for (path, text) in rust_files() {
        for start in text.match_indices("docs/").map(|(start, _)| start) {
            let rest = &text[start..];
            let len =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c))).unwrap_or(rest.len());
            let page = rest[..len].trim_end_matches(['.', '/']);
            // Not the end of a longer path.
            if text[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '/') {
                continue;
            }
            cited += 1;
            let exists = root().join(page).exists() || root().join(format!("{page}.md")).exists();
            if !exists {
                let line = text[..start].lines().count();
                complaints.push(format!("{}:{line}: {page}", path.display()));
            }
        }
    }
    assert!(cited > 50, "only {cited} citations were found");
    assert_none("cited pages that are not there", &complaints);
}

/// Goal: links between our own pages lead somewhere.
#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut complaints = Vec::new();
    for path in files() {
        if path.extension().is_none_or(|e| e != "md") {
            continue;
        }
        let text = text(&path).unwrap();
        for (start, _) in text.match_indices("](") {
            let rest = &text[start + 2..];
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !root().join(path.parent().unwrap()).join(target).exists() {
                complaints.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert_none("links that lead nowhere", &complaints);
}

/// Goal: nothing in the repository belongs to one machine, or names where packages are fetched from: that is the business
/// of each package client's own settings.
#[test]
fn nothing_belongs_to_one_machine() {
    // Put together here, so that this file does not hold what it looks for.
    let forbidden: Vec<String> = [
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/home/", "user/"],
        ["/Us", "ers/"],
        ["crates", ".io"],
        ["pypi", ".org"],
        ["python", "hosted"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["deb.", "debian"],
        ["proxy.", "golang"],
    ]
    .map(|parts| parts.concat())
    .to_vec();
    let mut complaints = Vec::new();
    for path in files() {
        // Cargo writes its own index into the lock file; the next test looks at it.
        let Some(text) = text(&path).filter(|_| !path.ends_with("Cargo.lock")) else { continue };
        for (index, line) in text.lines().enumerate() {
            let found = forbidden.iter().find(|word| line.contains(word.as_str()));
            complaints.extend(found.map(|word| format!("{}:{}: {word}", path.display(), index + 1)));
        }
    }
    assert_none("what belongs to one machine", &complaints);
}

/// Goal: every dependency comes from cargo's ordinary index, with a checksum.
#[test]
fn the_lock_file_knows_one_source() {
    let lock: toml::Table = text("Cargo.lock".as_ref()).unwrap().parse().unwrap();
    let index = ["registry+https://github.com/rust-lang/crates", ".io-index"].concat();
    let mut complaints = Vec::new();
    let packages = lock["package"].as_array().unwrap();
    for package in packages {
        let source = package.get("source").and_then(|s| s.as_str());
        let has_checksum = package.get("checksum").is_some();
        match source {
            None if package["name"].as_str().unwrap().starts_with("locker") => {}
            Some(source) if source == index && has_checksum => {}
            other => complaints.push(format!("{}: {other:?}", package["name"])),
        }
    }
    assert!(packages.len() > 20);
    assert_none("packages from elsewhere", &complaints);
}

/// T80: one version each of what keys and bytes on disk stand on, so that one set of checks holds everywhere; the one that
/// makes boxes is fixed to the last digit. Both lock files.
#[test]
fn t80_one_version_of_each_primitive() {
    let root: toml::Table = text("Cargo.toml".as_ref()).unwrap().parse().unwrap();
    let wanted = root["workspace"]["dependencies"]["hpke"]["version"].as_str().unwrap();
    assert!(wanted.starts_with('='), "hpke is not fixed to one version: {wanted}");
    for file in ["Cargo.lock", "tests/simulation/Cargo.lock"] {
        let lock: toml::Table = text(file.as_ref()).unwrap().parse().unwrap();
        let versions = |name: &str| -> Vec<&str> {
            let packages = lock["package"].as_array().unwrap().iter();
            packages
                .filter(|package| package["name"].as_str() == Some(name))
                .map(|package| package["version"].as_str().unwrap())
                .collect()
        };
        for name in ["ed25519-dalek", "x25519-dalek", "hpke", "blake3", "redb"] {
            assert_eq!(versions(name).len(), 1, "{file}: {name} {:?}", versions(name));
        }
        assert_eq!(versions("hpke"), [wanted.trim_start_matches('=')], "{file}");
    }
}
