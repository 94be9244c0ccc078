//! Real nodes on loopback. They wait on events with a deadline, and say what was missing when it passed.

mod dht;
mod eclipse;
pub(crate) mod kit;
mod lan;
mod relays;
mod strangers;
mod streams;

/// T38: what would answer, store or dial behind our back (design: blob transfer, rule 1).
#[test]
fn t38_only_the_harmless_parts_of_the_blob_library_are_named() {
    let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        read += 1;
        for line in text.lines().filter(|line| line.contains("iroh_blobs::") || line.contains("iroh::")) {
            let harmless =
                ["iroh_blobs::Hash", "iroh_blobs::protocol::", "iroh_blobs::get::", "iroh_blobs::util::"];
            let named =
                harmless.iter().any(|one| line.contains(one)) || line.contains("iroh::endpoint::VarInt");
            assert!(named || path.ends_with("src/tests.rs"), "{}: {line}", path.display());
        }
    }
    assert!(read > 30);
}
