//! Refusals about secrets: none in an argument, none without a passphrase.

use locker_tests::files::write;
use locker_tests::{Home, Outcome};

use crate::bench::Bench;

/// Goal: a link or a phrase as an argument is refused, wherever it stands, and not repeated in the sentence.
#[test]
fn secrets_in_arguments() {
    let mut bench = Bench::new();
    let fresh = Home::empty();
    let phrase = fresh.json(["init"])["phrase"].as_str().unwrap().to_owned();
    let words: Vec<&str> = phrase.split(' ').collect();
    let in_place = format!("--phrase-file={phrase}");
    let link = format!("locker:l#{}", "A".repeat(80));
    let web = format!("https://gate.example/l#{}", "A".repeat(80));
    bench.refuse(&[
        ("a link as an argument", &["get", &link, "--to", "DIR/x"], 2, "E_USAGE"),
        ("a web link as an argument", &["cat", &web], 2, "E_USAGE"),
        ("a phrase as one argument", &["cat", &phrase], 2, "E_USAGE"),
        ("a phrase in the place of its file", &["recover", &in_place], 2, "E_USAGE"),
        ("a phrase whose words are joined", &["cat", &phrase.replace(' ', "-")], 2, "E_USAGE"),
    ]);
    let mut split = vec!["add"];
    split.extend(&words);
    bench.refuse(&[("a phrase as 24 arguments", &split, 2, "E_USAGE")]);
    for arguments in [["cat", &phrase], ["recover", &in_place]] {
        let told = bench.home.run(arguments);
        for word in words.iter().filter(|word| word.len() > 6) {
            assert!(!told.err.contains(word), "the sentence repeats the phrase: {told:?}");
        }
    }
    bench.finish("secrets");
}

#[test]
fn passphrases() {
    let mut bench = Bench::new();
    for (name, text) in
        [("right", "a long sentence that opens\n"), ("wrong", "another sentence\n"), ("empty", "\n")]
    {
        write(&bench.home.beside(name), text.as_bytes());
    }
    let long = bench.home.beside("long");
    write(&long, "word ".repeat(820).as_bytes());
    let home = bench.home.beside("closed");
    let run = |bench: &Bench, json: bool, file: Option<&str>, arguments: &[&str]| {
        let mut command = bench.home.program().command();
        command.arg("--home").arg(&home).args(json.then_some("--json"));
        if let Some(file) = file {
            command.arg("--passphrase-file").arg(bench.home.beside(file));
        }
        command.args(arguments);
        Outcome::of(command)
    };
    let mut refuse = |what: &str, file: Option<&str>, arguments: &[&str], exit: i32, name: &str| {
        let (text, json) = (run(&bench, false, file, arguments), run(&bench, true, file, arguments));
        bench.look(what, exit, name, &text, &json);
    };
    let init = ["init", "--vault", "passphrase"];
    refuse("init without a passphrase", None, &init, 8, "E_LOCKED");
    refuse("init with an empty passphrase", Some("empty"), &init, 2, "E_USAGE");
    refuse("init with a passphrase file that is not there", Some("nowhere"), &init, 1, "E_IO");
    refuse("init with a passphrase that is too long", Some("long"), &init, 2, "E_USAGE");
    assert!(!home.exists(), "a refused init made something");
    run(&bench, false, Some("right"), &init).ok();
    let mut refuse = |what: &str, file: Option<&str>, arguments: &[&str], exit: i32, name: &str| {
        let (text, json) = (run(&bench, false, file, arguments), run(&bench, true, file, arguments));
        bench.look(what, exit, name, &text, &json);
    };
    refuse("the wrong passphrase", Some("wrong"), &["ls"], 4, "E_PASSPHRASE");
    refuse("no passphrase", None, &["ls"], 8, "E_LOCKED");
    refuse("a passphrase that is too long", Some("long"), &["ls"], 2, "E_USAGE");
    let share = ["share", "/", "--link-passphrase-file", long.to_str().unwrap()];
    refuse("a passphrase that is too long for a link", Some("right"), &share, 2, "E_USAGE");
    let allow = ["held", "allow", "--phrase-file", long.to_str().unwrap()];
    refuse("words from a file that is too long", Some("right"), &allow, 2, "E_USAGE");
    refuse("the passphrase of the locker for a link", Some("right"), &["share", "/"], 2, "E_USAGE");
    run(&bench, false, Some("right"), &["ls"]).ok();
    let (papers, of_link) = (bench.home.beside("papers"), bench.home.beside("wrong"));
    run(&bench, false, Some("right"), &["add", papers.to_str().unwrap()]).ok();
    let share = ["share", "papers", "--link-passphrase-file", of_link.to_str().unwrap()];
    assert!(run(&bench, false, Some("right"), &share).ok().err.contains("and the passphrase"));
    bench.finish("passphrases");
}
