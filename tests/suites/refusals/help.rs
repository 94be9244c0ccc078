//! `--help` of every command: an imperative, sentences, an example; held in `tests/snapshots/help`.

use locker_tests::snapshot::assert_snapshot;
use locker_tests::{Outcome, Program};

/// The commands as `locker help` lists them.
fn commands(program: &Program) -> Vec<String> {
    let help = program.run(["-h"]).ok().text();
    let (_, after) = help.split_once("Commands:\n").unwrap();
    let (list, _) = after.split_once("\n\n").unwrap();
    list.lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn every_command_has_a_help_that_reads_well() {
    let program = Program::find();
    let commands = commands(&program);
    assert!(commands.len() >= 15, "{commands:?}");
    assert_snapshot("help/locker.txt", &program.run(["--help"]).ok().text());
    for command in &commands {
        let help = program.run([command, "--help"]).ok();
        assert!(help.err.is_empty(), "{help:?}");
        let text = help.text();
        assert_snapshot(&format!("help/{command}.txt"), &text);
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with(|c: char| c.is_ascii_uppercase()) && !first.ends_with('.'),
            "{command}: {first:?}"
        );
        let example = text.split_once("Examples:\n").unwrap_or_else(|| panic!("{command} has no example")).1;
        assert!(example.trim_start().starts_with("locker "), "{command}: {example:?}");
        assert!(example.contains(&format!(" {command}")), "{command}: its example is of another command");
        // What is said of an option is a sentence, or nothing would be said.
        assert!(!text.contains("\u{1b}"), "{command}: colour where no terminal is");
        // The short form exists too, and is not longer.
        let short = program.run([command, "-h"]).ok().text();
        assert!(short.lines().count() <= text.lines().count());
        // `help COMMAND` says the same.
        assert_eq!(program.run(["help", command]).ok().text(), text);
    }
}

/// Goal: an example in a help is one that the program understands. Method: each line that begins with `locker` is parsed
/// by it, in a home that is not there: it may miss the locker, not the usage.
#[test]
fn every_example_is_understood() {
    let program = Program::find();
    let nowhere = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for command in commands(&program) {
        let text = program.run([&command, "--help"]).ok().text();
        for line in text.split_once("Examples:\n").unwrap().1.lines() {
            let Some(line) = line.trim().strip_prefix("locker ") else { continue };
            if ["init", "join", "open", "recover", "up"].contains(&command.as_str())
                || line.contains("completions")
            {
                continue;
            }
            let line = line.split(['|', '>']).next().unwrap();
            let mut shell = std::process::Command::new("sh");
            shell.arg("-c").arg(format!("exec \"$0\" --home \"$1\" {line}")).arg(program.path());
            shell.arg(nowhere.path().join("home")).env("HOME", nowhere.path());
            let outcome = Outcome::of(shell);
            assert_eq!(outcome.code(), Some(3), "locker {line}: {outcome:?}");
            tried += 1;
        }
    }
    assert!(tried >= 20, "only {tried} examples");
}

#[test]
fn completions_and_version() {
    let program = Program::find();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program.run(["completions", shell]).ok().text();
        for command in commands(&program) {
            assert!(script.contains(&command), "{shell}: {command} is missing");
        }
    }
    let version = program.run(["--version"]).ok().text();
    assert_eq!(version, format!("locker {}\n", env!("CARGO_PKG_VERSION")));
}
