//! Goal: what is written out goes where it was asked to go and nowhere else, whatever somebody puts in its way
//! meanwhile (T16). Method: links beside what is written, and in its place in the middle of the writing, with a
//! folder behind them that must stay as it is.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::report::{Observer, Progress, Silent};
use crate::test_mesh::World;

/// Names and contents of a folder of files.
fn files(folder: &Path) -> Vec<(OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

/// A folder that belongs to somebody else.
fn victim(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    std::fs::create_dir(path).unwrap();
    std::fs::write(path.join("keep"), b"as it was").unwrap();
    files(path)
}

/// T16: a link where a folder or a file is to be made or opened is refused, be it to a folder, to a file or to
/// nothing.
#[test]
fn t16_a_link_in_the_way_is_not_followed() {
    let temporary = tempfile::tempdir().unwrap();
    let (victim_path, out) = (temporary.path().join("victim"), temporary.path().join("out"));
    let before = victim(&victim_path);
    std::fs::create_dir(&out).unwrap();
    symlink(&victim_path, out.join("folder")).unwrap();
    symlink(victim_path.join("keep"), out.join("file")).unwrap();
    symlink(victim_path.join("new"), out.join("dangling")).unwrap();
    let parent = open(&out).unwrap();
    for name in ["folder", "file", "dangling"] {
        let name = OsStr::new(name);
        assert!(make_folder(&parent, name).is_err(), "{name:?}");
        assert!(open_folder(&parent, name).is_err(), "{name:?}");
        assert!(make_file(&parent, name).is_err(), "{name:?}");
        for fills_empty in [false, true] {
            let taken = Place::new(&parent, &out, name.to_owned(), fills_empty);
            assert!(matches!(taken, Err(Error::Exists(_))), "{name:?}");
        }
    }
    assert_eq!(files(&victim_path), before);
}

/// T16: a link that comes under the name of the copy while that is written keeps its name; the copy goes.
#[test]
fn t16_a_link_that_comes_first_is_not_replaced() {
    let temporary = tempfile::tempdir().unwrap();
    let (victim_path, out) = (temporary.path().join("victim"), temporary.path().join("out"));
    let before = victim(&victim_path);
    let links = [victim_path.clone(), victim_path.join("keep"), victim_path.join("new"), "nowhere".into()];
    for to in links {
        let place = Place::named(&out, true).unwrap();
        let copy = place.temporary(&Env::system());
        copy.note(&make_folder(copy.parent, &copy.name).unwrap()).unwrap();
        symlink(&to, &out).unwrap();
        assert!(matches!(place.publish(copy), Err(Error::Exists(_))), "{to:?}");
        assert_eq!(std::fs::read_link(&out).unwrap(), to);
        std::fs::remove_file(&out).unwrap();
        assert_eq!(files(&victim_path), before);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1, "the copy is left");
    }
}

/// Puts a link in the place of what is being written, as soon as something of it is.
struct Swapper<'a> {
    out: &'a Path,
    victim: &'a Path,
    has_swapped: AtomicBool,
}

impl Observer for Swapper<'_> {
    fn progress(&self, _: Progress) {
        let mut entries = std::fs::read_dir(self.out).unwrap().map(|entry| entry.unwrap().path());
        let Some(copy) = entries.find(|path| path.extension() == Some(OsStr::new("part"))) else { return };
        if !self.has_swapped.swap(true, Ordering::SeqCst) {
            std::fs::rename(&copy, self.out.join("aside")).unwrap();
            symlink(self.victim, &copy).unwrap();
        }
    }
}

/// T16: another folder, or nothing, in the place of what was made is not given the name of the copy, and is not removed; the
/// same if something else comes under that name at last.
#[test]
fn t16_only_what_was_made_gets_the_name_of_the_copy() {
    let temporary = tempfile::tempdir().unwrap();
    let out = temporary.path().join("out");
    for (is_other_there, is_one_of_many) in [(false, false), (true, false), (true, true)] {
        let place = Place { stays_open: !is_one_of_many, ..Place::named(&out, true).unwrap() };
        let copy = place.temporary(&Env::system());
        let (path, aside) = (temporary.path().join(&copy.name), temporary.path().join("aside"));
        copy.note(&make_folder(copy.parent, &copy.name).unwrap()).unwrap();
        std::fs::rename(&path, &aside).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("keep"), b"as it was").unwrap();
        if is_one_of_many {
            // Of these only the kind is known.
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::write(&path, b"as it was").unwrap();
        } else {
            let inside = copy.open_folder().unwrap();
            make_file(&inside, OsStr::new("written")).unwrap();
            assert!(aside.join("written").exists(), "it is written where the folder is now");
        }
        if !is_other_there {
            std::fs::remove_dir_all(&path).unwrap();
        }
        assert!(matches!(place.publish(copy), Err(Error::Io { .. })));
        assert!(!out.exists());
        assert_eq!(path.exists(), is_other_there, "what is not the copy is left alone");
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        std::fs::remove_dir_all(&aside).unwrap();
    }
}

/// T16: the folder of a copy that is exchanged for a link while the copy is written leads nowhere: not one file of it
/// comes to where the link points, in folders below it neither, and the copy is not said to be there.
#[test]
fn t16_a_folder_exchanged_for_a_link_leads_nowhere() {
    let (world, locker) = World::new();
    let source = world.path("source");
    for folder in ["", "sub", "sub/below"] {
        std::fs::create_dir(source.join(folder)).unwrap();
        for n in 0..3 {
            std::fs::write(source.join(folder).join(n.to_string()), vec![n; 40_000]).unwrap();
        }
    }
    locker.add(&[&source], "", &Silent).unwrap();
    let (victim_path, out) = (world.path("victim"), world.path("out"));
    let before = victim(&victim_path);
    std::fs::create_dir(&out).unwrap();
    let swapper = Swapper { out: &out, victim: &victim_path, has_swapped: AtomicBool::new(false) };
    let done = locker.get("source", &out, &swapper).map(|got| got.files);
    assert!(swapper.has_swapped.load(Ordering::SeqCst), "nothing was exchanged");
    assert_eq!(files(&victim_path), before, "{done:?}");
    assert!(matches!(&done, Err(Error::Io { .. })), "{done:?}");
    assert!(std::fs::symlink_metadata(out.join("source")).is_err(), "the link got the name of the copy");
    assert_eq!(std::fs::read(out.join("aside/sub/below/2")).unwrap(), vec![2; 40_000]);
}
