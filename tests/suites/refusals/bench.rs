//! One refusal after another on one locker, each looked at from all sides.

use std::ffi::OsString;
use std::fmt::Write;

use locker_tests::files::write;
use locker_tests::snapshot::assert_snapshot;
use locker_tests::{Home, Outcome};

/// A refused command: what it is called, its arguments, exit code, error name.
pub(crate) type Case<'a> = (&'a str, &'a [&'a str], i32, &'a str);

/// A locker with a few files, and the sentences that it has given so far.
pub(crate) struct Bench {
    pub(crate) home: Home,
    sentences: String,
    complaints: Vec<String>,
}

impl Bench {
    /// A locker with `papers/a.txt`, `papers/sub/b.txt`, and `gone.txt` in the trash.
    pub(crate) fn new() -> Self {
        let home = Home::new();
        let source = home.beside("papers");
        write(&source.join("a.txt"), b"first");
        write(&source.join("sub/b.txt"), b"second");
        write(&home.beside("gone.txt"), b"third");
        home.ok(["add".as_ref(), source.as_os_str(), home.beside("gone.txt").as_os_str()]);
        home.ok(["rm", "gone.txt"]);
        Self { home, sentences: String::new(), complaints: Vec::new() }
    }

    /// Runs each case, in text and with `--json`, and asserts that nothing was changed by any.
    pub(crate) fn refuse(&mut self, cases: &[Case<'_>]) {
        assert!(!cases.is_empty());
        for (what, arguments, exit, name) in cases {
            let arguments: Vec<OsString> = arguments.iter().map(|a| self.in_place(a).into()).collect();
            self.refuse_command(what, &arguments, *exit, name);
        }
    }

    /// Puts the folder of this run where `DIR` stands.
    fn in_place(&self, text: &str) -> String {
        text.replace("DIR", self.home.beside("").to_str().unwrap().trim_end_matches('/'))
    }

    fn refuse_command(&mut self, what: &str, arguments: &[OsString], exit: i32, name: &str) {
        let before = self.state();
        let text = self.home.run(arguments);
        let json = self.home.run_json(arguments);
        self.look(what, exit, name, &text, &json);
        if self.state() != before {
            self.complaints.push(format!("{what}: something was changed by {text:?}"));
        }
    }

    /// Looks at a refusal given as text and as JSON, and keeps its sentence.
    pub(crate) fn look(&mut self, what: &str, exit: i32, name: &str, text: &Outcome, json: &Outcome) {
        let is_named = json.error_name().as_deref() == Some(name);
        if text.code() != Some(exit) || json.code() != Some(exit) || !is_named {
            self.complaints.push(format!("{what}: not exit code {exit} and {name}: {text:?}\n{json:?}"));
            return;
        }
        let error = json.json()["error"].take();
        let (message, hint) = (error["message"].as_str().unwrap(), error["hint"].as_str().unwrap());
        let internals = ["unwrap", "panicked", "Err(", "Some(", "src/", "Os {"];
        for (is_good, wanted) in [
            (text.out.is_empty(), "print no result"),
            (message.len() > 10 && hint.len() > 10, "say what and why, and what to do next"),
            // The usage line of the hint repeats the options that were given.
            (text.err.contains(message) && text.err.lines().count() >= 2, "say the same in text as in JSON"),
            (json.err.contains(message), "talk on standard error with `--json` too"),
            (!internals.iter().any(|word| text.err.contains(word)), "keep its inside to itself"),
        ] {
            if !is_good {
                self.complaints.push(format!("{what}: a refusal must {wanted}: {text:?}\n{json:?}"));
            }
        }
        let place = self.home.beside("");
        let clean = |text: &str| text.replace(place.to_str().unwrap().trim_end_matches('/'), "DIR");
        writeln!(self.sentences, "{what}\n  {name}, exit {exit}").unwrap();
        writeln!(self.sentences, "  {}\n  {}\n", clean(message).replace('\n', "\n  "), clean(hint)).unwrap();
    }

    /// What must not change: the replayed state, and what `ls` shows.
    fn state(&self) -> (String, String) {
        (self.home.json(["status"])["state_hash"].to_string(), self.home.ok(["--json", "ls", "-R"]).text())
    }

    /// Compares all sentences of this bench with those that are kept.
    #[track_caller]
    pub(crate) fn finish(self, name: &str) {
        assert!(self.complaints.is_empty(), "{}", self.complaints.join("\n\n"));
        assert_snapshot(&format!("refusals/{name}.txt"), &self.sentences);
    }
}
