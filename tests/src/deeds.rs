//! A script of what a person does with a locker, decided by dice before it begins, and what must be there after each step
//! of it, whatever happened to the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::files::{walk, write};
use crate::{Dice, Home, Outcome, tree};

/// Where everything is taken in.
const IN: &str = "in";
/// A file that gets a new content with each `add`.
const CHANGING: &str = "in/changing";

/// What lies at a path: the BLAKE3 of a file's content, or nothing for a folder.
pub type Item = Option<String>;

/// What a locker holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Everything that is listed.
    pub items: BTreeMap<String, Item>,
    /// What lies in the trash and was not brought back: path, and all that was below.
    trash: Vec<(String, BTreeMap<String, Item>)>,
    /// Contents that the changing file had, in order.
    contents: Vec<String>,
    /// Copies that were written out, beside the home: name, and BLAKE3.
    copies: BTreeMap<String, String>,
}

impl State {
    fn files(&self) -> Vec<&str> {
        let movable = |path: &&String| self.items[*path].is_some() && *path != CHANGING;
        self.items.keys().filter(movable).map(String::as_str).collect()
    }

    fn folders(&self) -> Vec<&str> {
        let movable = |path: &&String| self.items[*path].is_none() && *path != IN;
        self.items.keys().filter(movable).map(String::as_str).collect()
    }

    /// Takes out a path and everything below it.
    fn take(&mut self, path: &str) -> BTreeMap<String, Item> {
        let below = format!("{path}/");
        let (taken, left) = std::mem::take(&mut self.items)
            .into_iter()
            .partition(|(other, _)| other == path || other.starts_with(&below));
        self.items = left;
        taken
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Deed {
    /// Make the locker.
    Init,
    /// Take these in.
    Add(Vec<PathBuf>),
    /// Make a folder.
    Mkdir(String),
    /// Give another name.
    Move(String, String),
    /// Into the trash.
    Remove(String),
    /// Out of the trash.
    Restore(String),
    /// Give the changing file its first content.
    SetBack,
    /// Give room back.
    Gc,
    /// Write a copy out, under this name beside the home.
    Get(String, String),
}

/// What a person was told of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many steps were done.
    pub done: usize,
    /// Whether the next one was begun.
    pub has_begun: bool,
    /// Paths that the one begun has declared safe.
    pub saved: BTreeSet<String>,
}

impl Told {
    /// Reads what steps said, with the marks of [`Script::begins`] before each.
    ///
    /// # Panics
    /// If something is said that no step says.
    pub fn read(text: &str) -> Self {
        let mut told = Self::default();
        // A last line without its end was not said.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            if let Some(step) = line.strip_prefix("begin ") {
                assert_eq!(step.parse(), Ok(told.done), "a step was not done: {text}");
                told.has_begun = true;
            } else if let Some(path) = line.strip_prefix("saved ") {
                told.saved.insert(path.to_owned());
            } else if line.starts_with('{') && !line.starts_with("{\"error\"") {
                serde_json::from_str::<Value>(line).unwrap();
                told = Self { done: told.done + 1, ..Self::default() };
            } else {
                panic!("{line}");
            }
        }
        told
    }
}

/// Steps, and the state after each.
pub struct Script {
    source: PathBuf,
    deeds: Vec<Deed>,
    /// One more than steps: the first is that before all of them.
    states: Vec<State>,
}

impl Script {
    /// Throws dice for `steps` steps, the first of which makes the locker. What they take in is laid down below `source`.
    pub fn new(dice: &mut Dice, steps: usize, source: &Path) -> Self {
        let source = source.to_owned();
        let mut script = Self { source, deeds: Vec::new(), states: vec![State::default()] };
        script.push(Deed::Init, State::default());
        while script.deeds.len() < steps {
            let (deed, state) = script.next(dice);
            script.push(deed, state);
        }
        script
    }

    fn push(&mut self, deed: Deed, after: State) {
        self.deeds.push(deed);
        self.states.push(after);
    }

    /// One more step, and the state after it.
    fn next(&self, dice: &mut Dice) -> (Deed, State) {
        let step = self.deeds.len();
        let mut state = self.states[step].clone();
        let pick = |dice: &mut Dice, of: Vec<&str>| {
            of[usize::try_from(dice.below(of.len() as u64)).unwrap()].to_owned()
        };
        let (files, folders) = (state.files().len(), state.folders().len());
        let deed = match dice.below(10) {
            2 if files > 0 => Deed::Gc,
            3 => {
                let path = format!("made {step}");
                state.items.insert(path.clone(), None);
                Deed::Mkdir(path)
            }
            4 | 5 if files > 0 => {
                let from = if folders > 0 && dice.below(2) == 0 {
                    pick(dice, state.folders())
                } else {
                    pick(dice, state.files())
                };
                let to = format!("moved {step}");
                for (path, item) in state.take(&from) {
                    state.items.insert(format!("{to}{}", &path[from.len()..]), item);
                }
                Deed::Move(from, to)
            }
            6 if files > 0 => {
                let path = if folders > 0 && dice.below(3) == 0 {
                    pick(dice, state.folders())
                } else {
                    pick(dice, state.files())
                };
                let taken = state.take(&path);
                state.trash.push((path.clone(), taken));
                Deed::Remove(path)
            }
            7 if state.restorable().is_some() => {
                let (path, items) = state.trash.remove(state.restorable().unwrap());
                state.items.extend(items);
                Deed::Restore(path)
            }
            8 if state.contents.len() > 1 => {
                let first = state.contents[0].clone();
                state.contents.push(first.clone());
                state.items.insert(CHANGING.to_owned(), Some(first));
                Deed::SetBack
            }
            9 if files > 0 => {
                let path = pick(dice, state.files());
                let copy = format!("copy {step}");
                state.copies.insert(copy.clone(), state.items[&path].clone().unwrap());
                Deed::Get(path, copy)
            }
            _ => self.add(dice, &mut state),
        };
        (deed, state)
    }

    /// New files: small ones that share a pack, one of several chunks, now and then one that fills packs of its own; and
    /// another content for the one that changes.
    fn add(&self, dice: &mut Dice, state: &mut State) -> Deed {
        let step = self.deeds.len();
        let mut lay = |relative: &str, len: u64| {
            let bytes = dice.bytes(usize::try_from(len).unwrap());
            let path = self.source.join(step.to_string()).join(relative);
            write(&path, &bytes);
            state.items.insert(format!("{IN}/{relative}"), Some(blake3::hash(&bytes).to_hex().to_string()));
        };
        let folder = format!("drop {step}");
        let sizes = [0, 1, 700, 20_000 + step as u64 * 1_000, 600_000];
        for (n, size) in sizes.into_iter().enumerate() {
            lay(&format!("{folder}/{n}"), size);
        }
        if step.is_multiple_of(5) {
            lay(&format!("{folder}/solid"), 4_300_000);
        }
        lay("changing", 3_000);
        let content = state.items[CHANGING].clone().unwrap();
        state.contents.push(content);
        state.items.insert(IN.to_owned(), None);
        state.items.insert(format!("{IN}/{folder}"), None);
        let laid = self.source.join(step.to_string());
        Deed::Add(vec![laid.join(folder), laid.join("changing")])
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.deeds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.deeds.is_empty()
    }

    /// The line to note before a step.
    pub fn begins(step: usize) -> String {
        format!("begin {step}\n")
    }

    /// The command that does a step.
    pub fn command(&self, home: &Home, step: usize) -> Command {
        let mut all: Vec<OsString> = vec!["--json".into(), "-v".into()];
        let word = |text: &str| OsString::from(text);
        match &self.deeds[step] {
            Deed::Init => all.extend(["init", "--name", "bench"].map(OsString::from)),
            Deed::Add(paths) => {
                all.push("add".into());
                all.extend(paths.iter().map(|path| path.clone().into_os_string()));
                all.extend(["--to", IN].map(OsString::from));
            }
            Deed::Mkdir(path) => all.extend([word("mkdir"), word(path)]),
            Deed::Move(from, to) => all.extend([word("mv"), word(from), word(to)]),
            Deed::Remove(path) => all.extend([word("rm"), word(path)]),
            Deed::Restore(path) => all.extend([word("restore"), word(path)]),
            Deed::Gc => all.push(word("gc")),
            Deed::SetBack => all.extend([word("restore"), word(CHANGING), word("--version"), word("1")]),
            Deed::Get(path, to) => {
                all.extend([word("get"), word(path), word("--to"), copy(home, to).into_os_string()]);
            }
        }
        home.command(all)
    }

    /// Asserts that a locker holds what it must after what was told: all that was acknowledged, of a step that was only
    /// begun all, nothing, or what such a step may do in parts; every byte as it was; and that work goes on without any
    /// help.
    #[track_caller]
    pub fn check(&self, home: &Home, told: &Told, after: &str) {
        if told.done == 0 {
            // The phrase was not shown: nobody could use what may be there, so it must not stand in the way.
            home.json(["init", "--name", "bench"]);
        } else {
            self.look(home, told, after);
        }
        self.check_work(home, told, after);
    }

    /// The part of [`Script::check`] that changes nothing.
    #[track_caller]
    pub fn look(&self, home: &Home, told: &Told, after: &str) {
        self.check_listed(home, told, after);
        self.check_content(home, after);
    }

    /// Asserts that the history of the changing file tells its contents in the order in which it got them.
    #[track_caller]
    pub fn check_order(&self, home: &Home, done: usize, after: &str) {
        let contents = &self.states[done].contents;
        if contents.is_empty() {
            return;
        }
        let events = home.json(["history", CHANGING])["events"].take();
        let written = events.as_array().unwrap().iter().filter(|event| event["what"] == "written");
        let told: Vec<&str> = written.map(|event| event["b3"].as_str().unwrap()).collect();
        assert_eq!(told, *contents, "after {after}: the contents in another order");
    }

    #[track_caller]
    fn check_listed(&self, home: &Home, told: &Told, after: &str) {
        let old = &self.states[told.done];
        let new = self.states.get(told.done + 1).filter(|_| told.has_begun).unwrap_or(old);
        let found = listed(home);
        if matches!(self.deeds.get(told.done), Some(Deed::Add(_))) {
            // In parts, file by file.
            for path in old.items.keys().chain(new.items.keys()).chain(found.keys()) {
                let (old, new, found) = (old.items.get(path), new.items.get(path), found.get(path));
                let is_saved = told.saved.contains(path);
                assert!(
                    found == new || (found == old && !is_saved),
                    "after {after}: {path} is {found:?}, was {old:?}, is to be {new:?}, saved: {is_saved}"
                );
            }
        } else {
            assert!(
                found == old.items || found == new.items,
                "after {after}: neither before nor after {:?}: {}",
                self.deeds.get(told.done),
                difference(&old.items, &found)
            );
        }
        for (name, hash) in &new.copies {
            // A copy that was only begun is whole or not there.
            let copy = copy(home, name);
            let is_free = !old.copies.contains_key(name) && !copy.exists();
            assert!(is_free || copy.is_file(), "after {after}: {} is gone", copy.display());
            assert!(
                is_free || tree::hash(&copy).to_hex().as_str() == hash,
                "after {after}: {}",
                copy.display()
            );
        }
    }

    /// Everything that is listed comes out as it is listed, and the locker finds no fault with itself.
    #[track_caller]
    fn check_content(&self, home: &Home, after: &str) {
        let listed = listed(home);
        let verified = home.run_json(["verify"]);
        assert_eq!(verified.code(), Some(0), "after {after}: {verified:?}");
        assert_eq!(verified.json()["bad"], 0, "after {after}: {verified:?}");
        let out = home.beside("everything");
        let _ = std::fs::remove_dir_all(&out);
        home.ok(["get".as_ref(), "/".as_ref(), "--to".as_ref(), out.as_os_str()]);
        let came = walk(&out).into_iter().map(|path| {
            let name = path.strip_prefix(&out).unwrap().to_str().unwrap().to_owned();
            let item = path.is_file().then(|| tree::hash(&path).to_hex().to_string());
            (name, item)
        });
        let came: BTreeMap<_, _> = came.collect();
        assert!(came == listed, "after {after}: {}", difference(&listed, &came));
        std::fs::remove_dir_all(&out).unwrap();
    }

    /// Something new is taken in; an old content and something of the trash come back.
    #[track_caller]
    fn check_work(&self, home: &Home, told: &Told, after: &str) {
        let state = &self.states[told.done];
        let probe = home.beside("probe");
        write(&probe, after.as_bytes());
        home.ok(["add".as_ref(), probe.as_os_str()]);
        assert_eq!(home.ok(["cat", "probe"]).out, after.as_bytes(), "after {after}");
        // A step that was begun may have done one of these already.
        if told.has_begun {
            return;
        }
        if let Some(first) = state.contents.first() {
            home.ok(["restore", CHANGING, "--version", "1"]);
            let read = home.ok(["cat", CHANGING]).out;
            assert_eq!(blake3::hash(&read).to_hex().as_str(), first, "after {after}: the first content");
        }
        if let Some(place) = state.restorable() {
            let (path, items) = &state.trash[place];
            home.ok(["restore", path]);
            let found = listed(home);
            let all = items.iter().all(|(path, item)| found.get(path) == Some(item));
            assert!(all, "after {after}: {path} did not come back from the trash whole: {found:?}");
        }
    }

    /// Whether a step takes in files.
    pub fn takes_in(&self, step: usize) -> bool {
        matches!(self.deeds[step], Deed::Add(_))
    }

    /// Asserts that a step that failed can be done now, unless it was done after all: the same command leads to the state
    /// after it.
    #[track_caller]
    pub fn finish(&self, home: &Home, step: usize, after: &str) {
        let new = &self.states[step + 1];
        let is_done = match &self.deeds[step] {
            Deed::Init => true,
            Deed::Get(_, name) => copy(home, name).exists(),
            Deed::Add(_) | Deed::Gc => false,
            Deed::Remove(path) => !listed(home).contains_key(path),
            _ => new.items.iter().all(|(path, item)| listed(home).get(path) == Some(item)),
        };
        if !is_done {
            self.run(home, step).ok();
        }
        let found = listed(home);
        for (path, item) in &new.items {
            assert_eq!(found.get(path), Some(item), "after {after}: {path} when it was done again");
        }
    }

    /// Does a step of the script.
    pub fn run(&self, home: &Home, step: usize) -> Outcome {
        Outcome::of(self.command(home, step))
    }
}

impl State {
    /// Something in the trash whose folder and name are free for it.
    fn restorable(&self) -> Option<usize> {
        self.trash.iter().rposition(|(path, _)| {
            let has_folder = path.rsplit_once('/').is_none_or(|(folder, _)| self.items.contains_key(folder));
            has_folder && !self.items.contains_key(path)
        })
    }
}

/// Where a copy is written.
fn copy(home: &Home, name: &str) -> PathBuf {
    home.path().with_file_name(name)
}

#[track_caller]
fn listed(home: &Home) -> BTreeMap<String, Item> {
    let entries = home.list();
    let named = entries.iter().map(|entry| {
        let path = entry["path"].as_str().unwrap().to_owned();
        (path, entry["b3"].as_str().map(str::to_owned))
    });
    named.collect()
}

fn difference(wanted: &BTreeMap<String, Item>, found: &BTreeMap<String, Item>) -> String {
    let paths: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let differing = paths.into_iter().filter(|path| wanted.get(*path) != found.get(*path));
    differing.map(|path| format!("{path}: {:?}, not {:?}; ", found.get(path), wanted.get(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_to_the_last_whole_line() {
        let text = "begin 0\n{\"a\":1}\nbegin 1\nsaved in/x\nsaved in/y\n{\"files\":2}\nbegin 2\nsaved in/z\nsaved in/c";
        let read = |len: usize| Told::read(&text[..len]);
        let told = |done, has_begun, saved: &[&str]| Told {
            done,
            has_begun,
            saved: saved.iter().map(|path| (*path).to_owned()).collect(),
        };
        assert_eq!(read(0), told(0, false, &[]));
        assert_eq!(read(8), told(0, true, &[]));
        assert_eq!(read(16), told(1, false, &[]));
        assert_eq!(read(46), told(1, true, &["in/x", "in/y"]));
        assert_eq!(read(58), told(2, false, &[]));
        assert_eq!(read(text.len()), told(2, true, &["in/z"]));
    }

    #[test]
    fn a_seed_gives_one_script_with_steps_of_every_kind() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str| Script::new(&mut Dice::new("script", 3), 60, &folder.path().join(name));
        let (first, second) = (script("a"), script("b"));
        assert_eq!(first.states, second.states);
        let names: BTreeSet<String> = first
            .deeds
            .iter()
            .map(|deed| format!("{deed:?}").split('(').next().unwrap().to_owned())
            .collect();
        assert_eq!(names.len(), 9, "{names:?}");
    }
}
