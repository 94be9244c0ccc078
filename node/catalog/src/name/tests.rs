//! Tests of `name`.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../docs/spec/vectors/names.json")).unwrap()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn accepted_names_of_the_vectors_pass() {
    let names = texts(&vectors()["accepted"]);
    assert!(names.len() >= 29);
    for name in names {
        assert_eq!(check(&name), Ok(()), "{name:?}");
        assert_eq!(import(name.as_bytes()), Imported { name: name.clone(), orig: None });
    }
}

/// T16: nothing that a disk could read as a path, a device or a drive gets in; import finds another name for it.
#[test]
fn t16_refused_names_of_the_vectors_are_refused() {
    let mut names = texts(&vectors()["refused"]);
    assert!(names.len() >= 29);
    names.extend(["..", "a/b", "a\\b", "C:x", "\0", "CON", "x.", "lpt².x", "AUX", "c:"].map(str::to_owned));
    for name in names {
        assert_eq!(check(&name), Err(Refusal::Name), "{name:?}");
        let imported = import(name.as_bytes());
        assert_eq!(check(&imported.name), Ok(()), "{name:?} became {:?}", imported.name);
        assert_eq!(imported.orig, Some(name.into_bytes()));
    }
}

#[test]
fn collision_keys_match_the_vectors() {
    let vectors = vectors();
    let cases = vectors["folded"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let (a, b) = (case["a"].as_str().unwrap(), case["b"].as_str().unwrap());
        assert_eq!(collision_key(a), case["key_a"].as_str().unwrap(), "{a}");
        assert_eq!(collision_key(a) == collision_key(b), case["equal"].as_bool().unwrap(), "{a} {b}");
    }
}

/// The rule as it is written: first ones keep their names, the others take the least free number.
pub(crate) fn naive_display(names_in_creation_order: &[String]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let first: Vec<bool> =
        names_in_creation_order.iter().map(|name| taken.insert(collision_key(name))).collect();
    std::iter::zip(names_in_creation_order, first)
        .map(|(name, first)| {
            let mut number = if first { 0 } else { 2 };
            while !first && !taken.insert(collision_key(&numbered(name, number))) {
                number += 1;
            }
            numbered(name, number)
        })
        .collect()
}

#[test]
fn naive_display_matches_the_vectors() {
    let vectors = vectors();
    let cases = vectors["display"].as_array().unwrap();
    assert!(cases.len() >= 5);
    for case in cases {
        assert_eq!(naive_display(&texts(&case["in_creation_order"])), texts(&case["displayed"]));
    }
}

#[test]
fn imports_are_repaired_as_prescribed() {
    let mark = |bytes: &[u8]| mark_of(bytes);
    let cases: &[(&[u8], String)] = &[
        (b"CON.tar.gz", format!("CON_.tar{}.gz", mark(b"CON.tar.gz"))),
        (b"CON .txt", format!("CON _{}.txt", mark(b"CON .txt"))),
        (b"a\\b.txt", format!("a_b{}.txt", mark(b"a\\b.txt"))),
        (b"C:x", format!("C_x{}", mark(b"C:x"))),
        (b"x.", format!("x_{}", mark(b"x."))),
        (b"caf\xe9.txt", format!("caf_{}.txt", mark(b"caf\xe9.txt"))),
        ("cafe\u{301}".as_bytes(), "café".to_owned()),
    ];
    for (bytes, expected) in cases {
        let imported = import(bytes);
        assert_eq!(imported.name, *expected);
        assert_eq!(imported.orig.as_deref(), Some(*bytes));
    }
    assert_eq!(export("what?.mp3", Disk::Strict), format!("what_{}.mp3", mark(b"what?.mp3")));
    assert_eq!(export("what?.mp3", Disk::Plain), "what?.mp3");
    assert_eq!(tagged("a.b"), format!("a{}.b", mark(b"a.b")));
}

proptest! {
    #[test]
    fn every_import_is_allowed_and_short(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(check(&import(&bytes).name), Ok(()));
    }

    #[test]
    fn every_imported_text_is_allowed(text in "\\PC{0,90}", tail in "[ .:/a-zé\u{301}]{0,8}") {
        let text = format!("{text}{tail}");
        let imported = import(text.as_bytes());
        prop_assert_eq!(check(&imported.name), Ok(()));
        for disk in [Disk::Plain, Disk::Strict] {
            let out = export(&imported.name, disk);
            prop_assert_eq!(check(&out), Ok(()));
        }
    }

    /// Numbers go before the extension of the key as before that of the name, so that a group of twins is judged
    /// by its key alone.
    #[test]
    fn numbering_commutes_with_folding(text in "[a-cA-C .()0-9ßİςΣﬁé\u{301}\u{338}≯]{1,8}|\\PC{1,8}", number in 2u32..12) {
        let name: String = text.nfc().collect();
        prop_assert_eq!(collision_key(&numbered(&name, number)), numbered(&collision_key(&name), number));
        let shown = numbered(&name, number);
        prop_assert_eq!(unnumbered(&shown), Some((name, number)));
    }
}
