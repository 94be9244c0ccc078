//! Refusals about the command line itself.

use crate::bench::Bench;

#[test]
fn wrong_use() {
    let mut bench = Bench::new();
    bench.refuse(&[
        ("no command", &[], 2, "E_USAGE"),
        ("unknown command", &["teleport"], 2, "E_USAGE"),
        ("a command of a later version", &["mount"], 2, "E_USAGE"),
        ("drive without a verb", &["drive"], 2, "E_USAGE"),
        ("drive init without a folder", &["drive", "init"], 2, "E_USAGE"),
        ("no drive is here", &["drive", "update"], 3, "E_NOT_FOUND"),
        ("revoke without a device", &["device", "revoke"], 2, "E_USAGE"),
        ("revoke that nobody confirms", &["device", "revoke", "00000000"], 2, "E_USAGE"),
        ("revoke of no device", &["device", "revoke", "00000000", "--yes"], 3, "E_NOT_FOUND"),
        ("revoke of what is no id", &["device", "revoke", "laptop", "--yes"], 2, "E_USAGE"),
        ("drill without words", &["drill"], 2, "E_USAGE"),
        ("recover where a locker is, without words", &["recover"], 2, "E_USAGE"),
        ("unknown option", &["ls", "--sideways"], 2, "E_USAGE"),
        ("quiet and loud at once", &["-q", "-v", "ls"], 2, "E_USAGE"),
        ("add without a path", &["add"], 2, "E_USAGE"),
        ("add of an empty path", &["add", ""], 2, "E_USAGE"),
        ("cat without a path", &["cat"], 2, "E_USAGE"),
        ("cat of two", &["cat", "papers/a.txt", "papers/sub/b.txt"], 2, "E_USAGE"),
        ("cat from a place that is no number", &["cat", "papers/a.txt", "--offset", "far"], 2, "E_USAGE"),
        ("cat from a place before the start", &["cat", "papers/a.txt", "--offset=-1"], 2, "E_USAGE"),
        (
            "cat of more than there are numbers",
            &["cat", "papers/a.txt", "--length", "18446744073709551616"],
            2,
            "E_USAGE",
        ),
        ("get without a target", &["get", "papers"], 2, "E_USAGE"),
        ("mv to nowhere", &["mv", "papers"], 2, "E_USAGE"),
        (
            "restore by time and by number",
            &["restore", "papers/a.txt", "--at", "now", "--version", "1"],
            2,
            "E_USAGE",
        ),
        ("restore to a time that is none", &["restore", "papers/a.txt", "--at", "soon"], 2, "E_USAGE"),
        ("restore to a day that is none", &["restore", "papers/a.txt", "--at", "2026-02-30"], 2, "E_USAGE"),
        (
            "restore of a version that is no number",
            &["restore", "papers/a.txt", "--version", "last"],
            2,
            "E_USAGE",
        ),
        ("a vault that is not there yet", &["init", "--vault", "keyring"], 2, "E_USAGE"),
        ("completions for no shell", &["completions", "abacus"], 2, "E_USAGE"),
        ("help for no command", &["help", "teleport"], 2, "E_USAGE"),
    ]);
    bench.finish("usage");
}

/// Goal: a name like an option can still be used, after `--`.
#[test]
fn a_name_like_an_option_is_a_name() {
    let bench = Bench::new();
    bench.home.ok(["mkdir", "--", "--json"]);
    let json = bench.home.run(["ls", "--", "--json"]).ok();
    assert!(json.out.is_empty(), "{json:?}");
    bench.home.run(["ls", "--", "nothing --json"]).code().map(|code| assert_eq!(code, 3)).unwrap();
    assert!(bench.home.paths().contains(&"--json".to_owned()));
}

/// Goal: whoever reads may stop reading: that is no error. Method: a listing into a pipe that nobody reads, and the first
/// bytes of a long file.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let bench = Bench::new();
    let long = bench.home.beside("long.bin");
    locker_tests::files::write(&long, &vec![7; 3_000_000]);
    bench.home.ok(["add".as_ref(), long.as_os_str()]);
    for (arguments, reader) in [(["ls", "-R"], "true"), (["cat", "long.bin"], "head -c 10 >/dev/null")] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("(\"$@\"; echo \"code $?\" >&2) | {reader}"), "sh"]);
        shell.arg(bench.home.program().path()).arg("--home").arg(bench.home.path()).args(arguments);
        let outcome = locker_tests::Outcome::of(shell);
        assert_eq!(outcome.err, "code 0\n", "{outcome:?}");
    }
}
