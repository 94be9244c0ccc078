//! A vault that is closed with a passphrase.

use std::process::Stdio;

use locker_tests::files::write;
use locker_tests::{Home, Outcome};

/// Goal: nothing opens without the passphrase; a wrong one is refused; the phrase is told once. Method: passphrases come
/// from files and standard input, as scripts give them.
#[test]
fn nothing_opens_without_the_passphrase() {
    let home = Home::empty();
    let (right, wrong) = (home.beside("right"), home.beside("wrong"));
    write(&right, "ein ganz langer Satz mit Ümlaut\n".as_bytes());
    write(&wrong, b"another sentence\n");
    let with = |file: &std::path::Path, rest: &[&str]| {
        let mut command = home.command(["--json", "--passphrase-file"]);
        command.arg(file).args(rest);
        Outcome::of(command)
    };
    let made = with(&right, &["init", "--vault", "passphrase"]).ok().json();
    assert_eq!(made["phrase"].as_str().unwrap().split(' ').count(), 24);
    assert_eq!(with(&right, &["status"]).ok().json()["vault"], "passphrase");
    with(&wrong, &["status"]).refused(4, "E_PASSPHRASE");
    home.run_json(["ls"]).refused(8, "E_LOCKED");
    // The same text, decomposed, on standard input.
    let mut command = home.command(["--passphrase-file", "-", "ls"]);
    let decomposed = home.beside("decomposed");
    write(&decomposed, "ein ganz langer Satz mit U\u{308}mlaut\n".as_bytes());
    command.stdin(Stdio::from(std::fs::File::open(decomposed).unwrap()));
    Outcome::of(command).ok();
    // No key lies beside the wrap.
    let vault: Vec<_> =
        std::fs::read_dir(home.path().join("vault")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!vault.is_empty());
    for file in vault {
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() != 32, "{} looks like a bare key", file.display());
    }
}
