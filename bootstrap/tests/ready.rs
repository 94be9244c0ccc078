//! The program itself: what it prints, and that it keeps its key.

#![expect(clippy::unwrap_used, reason = "all of this is a test, its helpers too")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ready(key: &Path) -> (Running, Vec<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_locker-bootstrap"))
        .args(["--json", "--listen", "127.0.0.1:0", "--key"])
        .arg(key)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["event"], "ready");
    let listen = event["listen"].as_array().unwrap();
    (Running(child), listen.iter().map(|text| text.as_str().unwrap().to_owned()).collect())
}

#[test]
fn it_prints_whole_addresses_and_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let peer = |listen: &[String]| listen[0].rsplit('/').next().unwrap().to_owned();
    let (first, listen) = ready(&key);
    assert_eq!(listen.len(), 2);
    let kinds = ["/udp/", "/tcp/"].map(|kind| listen.iter().any(|text| text.contains(kind)));
    assert_eq!(kinds, [true, true]);
    for text in &listen {
        assert!(text.contains("/p2p/12D3KooW"), "{text}");
        assert!(text.parse::<locker_net::NodeAddress>().unwrap().key.is_some());
    }
    drop(first);
    let (_second, again) = ready(&key);
    assert_eq!(peer(&again), peer(&listen));
}
