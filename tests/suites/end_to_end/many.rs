//! A folder with thousands of files: read by several threads, and looked into name by name.

use locker_tests::Home;
use locker_tests::files::write;
use serde_json::Value;

/// More than what one thread reads alone (4,096), so that the folder is listed in parts.
const FILES: usize = 4_500;

/// Goal: a large folder is listed whole and in order, and what is added to it finds the files that are there. Method:
/// one unchanged file, one changed, one new, one whose name differs in its case only; then 100 unchanged ones, for which
/// all of the folder is read on the way.
#[test]
fn a_large_folder_is_listed_and_added_to() {
    let home = Home::new();
    let source = home.beside("large");
    let name = |n: usize| format!("{} file {n}.txt", ["b", "a", "Ä"][n % 3]);
    for n in 0..FILES {
        write(&source.join(name(n)), format!("content of {n}").as_bytes());
    }
    home.ok(["add".as_ref(), source.as_os_str()]);
    let mut wanted: Vec<String> = (0..FILES).map(|n| format!("large/{}", name(n))).collect();
    wanted.sort();
    let listed = || -> Vec<String> {
        let told = home.json(["ls", "large"]);
        let entries = told["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(), wanted);

    let add = |names: &[String]| -> Value {
        let mut words: Vec<_> = vec!["add".into(), "--to".into(), "large".into()];
        words.extend(names.iter().map(|name| source.join(name).into_os_string()));
        home.json(words)
    };
    let same = add(&[name(7)]);
    assert_eq!((&same["files"], &same["unchanged"]), (&Value::from(1), &Value::from(1)), "{same}");
    write(&source.join(name(8)), b"another content");
    let changed = add(&[name(8)]);
    assert_eq!((&changed["files"], &changed["unchanged"]), (&Value::from(1), &Value::from(0)), "{changed}");
    assert_eq!(home.ok(["cat", &format!("large/{}", name(8))]).text(), "another content");
    assert_eq!(listed(), wanted, "a change makes no second file");

    write(&source.join("new.txt"), b"new");
    write(&source.join("B FILE 0.txt"), b"upper case");
    add(&["new.txt".to_owned(), "B FILE 0.txt".to_owned()]);
    wanted.extend(["large/B FILE 0 (2).txt".to_owned(), "large/new.txt".to_owned()]);
    wanted.sort();
    assert_eq!(listed(), wanted);

    let hundred: Vec<String> = (100..200).map(name).collect();
    let again = add(&hundred);
    assert_eq!((&again["files"], &again["unchanged"]), (&Value::from(100), &Value::from(100)), "{again}");
    assert_eq!(listed(), wanted);
}
