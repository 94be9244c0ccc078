//! What a household was told as done: each file by its path, who put it there, and what is in it.

use std::collections::BTreeMap;

use locker_tests::Home;

use super::files;

/// What is to be found of a file in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It is there, as it was written last.
    Stays,
    /// Somebody removed it.
    Went,
    /// Somebody removed it, and it may have been brought back with other things that he removed.
    Either,
}

struct File {
    state: State,
    b3: String,
    owner: usize,
}

/// Only who put a file there changes it, so that every order of deliveries gives the same.
#[derive(Default)]
pub(crate) struct Model {
    files: BTreeMap<String, File>,
    /// The content of everything that was ever written, in this order.
    written: Vec<String>,
}

impl Model {
    pub(crate) fn add(&mut self, path: &str, bytes: &[u8], owner: usize) {
        let b3 = blake3::hash(bytes).to_hex().to_string();
        self.written.push(b3.clone());
        self.files.insert(path.to_owned(), File { state: State::Stays, b3, owner });
    }

    pub(crate) fn rename(&mut self, path: &str, new: &str) {
        let file = self.files.remove(path).unwrap();
        self.files.insert(new.to_owned(), file);
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.files.get_mut(path).unwrap().state = State::Went;
    }

    /// What somebody removed not long ago is undone: it may be that all of it is.
    pub(crate) fn undo(&mut self, owner: usize) {
        let went = self.files.values_mut().filter(|file| file.owner == owner && file.state == State::Went);
        went.for_each(|file| file.state = State::Either);
    }

    /// The files that somebody put there and that are there, without the archive.
    pub(crate) fn files_of(&self, owner: usize) -> Vec<String> {
        let of = |(path, file): &(&String, &File)| {
            file.owner == owner && file.state == State::Stays && !path.starts_with("archive/")
        };
        self.files.iter().filter(of).map(|(path, _)| path.clone()).collect()
    }

    /// How much was written so far.
    pub(crate) fn count(&self) -> usize {
        self.written.len()
    }

    pub(crate) fn written_since(&self, count: usize) -> Vec<String> {
        self.written[count..].to_vec()
    }

    pub(crate) fn expected(&self) -> BTreeMap<String, (State, String)> {
        self.files.iter().map(|(path, file)| (path.clone(), (file.state, file.b3.clone()))).collect()
    }

    /// Compares what somebody shows with what was told.
    pub(crate) fn compare(&self, shown: &BTreeMap<String, String>, who: &str) {
        let stays = self.files.iter().filter(|(_, file)| file.state == State::Stays);
        let wanted: BTreeMap<String, String> =
            stays.map(|(path, file)| (path.clone(), file.b3.clone())).collect();
        let lost: Vec<_> = wanted.iter().filter(|(path, b3)| shown.get(*path) != Some(*b3)).collect();
        let either = |path: &String, b3: &String| {
            self.files.get(path).is_some_and(|file| file.state == State::Either && file.b3 == *b3)
        };
        let more = shown.iter().filter(|(path, b3)| !wanted.contains_key(*path) && !either(path, b3));
        let more: Vec<_> = more.collect();
        assert!(lost.is_empty() && more.is_empty(), "{who}: not there {lost:?}; too much {more:?}");
    }
}

/// Path and hash of every file that is shown.
pub(crate) fn shown(home: &Home) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    files(home).iter().map(|entry| (text(&entry["path"]), text(&entry["b3"]))).collect()
}
