//! Making, walking and copying plain files: the world outside the locker.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::Dice;

/// Writes a file, with its folders.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Sets the modification time, in unix milliseconds; negative ones lie before 1970.
pub fn set_mtime(path: &Path, unix_ms: i64) {
    let distance = Duration::from_millis(unix_ms.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if unix_ms < 0 { epoch - distance } else { epoch + distance };
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Makes a file of `len` bytes that do not compress; fast, and never whole in memory.
pub fn write_big(path: &Path, len: u64, dice: &mut Dice) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    let mut block = vec![0; 4 << 20];
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left.min(block.len() as u64)).unwrap();
        dice.fill(&mut block[..part]);
        file.write_all(&block[..part]).unwrap();
        left -= part as u64;
    }
}

/// Everything below a folder, the folder itself not included; links are not followed.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Copies a folder as `cp -a` would, leaving out what `skip` says.
pub fn copy_tree(from: &Path, to: &Path, skip: &dyn Fn(&Path) -> bool) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if skip(&source) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_tree(&source, &target, skip);
        } else if kind.is_file() {
            fs::copy(&source, &target).unwrap();
            let time = entry.metadata().unwrap().modified().unwrap();
            // A file that may only be read keeps its new time.
            if let Ok(file) = File::options().write(true).open(&target) {
                file.set_modified(time).unwrap();
            }
        }
    }
}

/// Turns one bit of each byte in `range` of a file.
pub fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << (at % 8);
    file.write_all_at(&byte, at).unwrap();
}

/// How many things [`nasty_tree`] leaves for `add` to skip.
pub const NASTY_SKIPPED: usize = 3;

/// Makes a folder with every kind of name and file that real disks hold and programs trip over. With links, a pipe
/// and a dangling link, which `add` must leave out and name.
pub fn nasty_tree(folder: &Path, dice: &mut Dice) {
    let names: Vec<OsString> = [
        "plain.txt",
        "name with  two spaces.txt",
        " space at the start",
        "space at the end ",
        "dots...",
        ".hidden",
        "..three",
        "-n",
        "--json",
        "#hash?question*star",
        "quote'and\"double",
        "back\\slash",
        "new\nline",
        "tab\tand\u{7f}delete",
        "semicolon; rm -rf .",
        "$HOME `pwd` $(id)",
        "%2e%2e%2fescaped",
        "C:drive",
        "CON",
        "nul.txt",
        "COM1.tar.gz",
        "Ünïcödé.txt",
        "Caf\u{e9} twin.txt",
        "Cafe\u{301} twin.txt",
        "UPPER.txt",
        "upper.TXT",
        "Straße",
        "STRASSE",
        "emoji 🦊📚👩‍👩‍👧.jpg",
        "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
        "日本語の本.epub",
        "שלום עולם",
        "مرحبا\u{200f}.mp3",
        "right\u{202e}gpj.exe",
        "zero\u{200b}width",
        "\u{feff}mark",
        "a (2).txt",
        "a.txt",
        "a (2) (2).txt",
    ]
    .iter()
    .map(OsString::from)
    .chain([
        OsString::from_vec(b"not-utf8-\xff\xfe.bin".to_vec()),
        OsString::from_vec(b"latin-\xe9t\xe9.txt".to_vec()),
        OsString::from_vec(b"latin-\xe8t\xe8.txt".to_vec()),
        OsString::from_vec(b"\xc0\xaf".to_vec()),
        OsString::from_vec(b"\xed\xa0\x80 surrogate".to_vec()),
        OsString::from("n".repeat(255)),
        OsString::from("ü".repeat(127)),
    ])
    .collect();
    for (index, name) in names.iter().enumerate() {
        // Files beside each other, and one folder of each name with a file of that name in it.
        let len = usize::try_from(dice.below(3_000)).unwrap();
        write(&folder.join("files").join(name), &dice.bytes(len));
        write(&folder.join("folders").join(name).join(name), &dice.bytes(index));
    }
    write(&folder.join("sizes/empty"), b"");
    for (name, len) in [
        ("one", 1),
        ("segment", 65_536),
        ("segment and one", 65_537),
        ("least chunk", 262_144),
        ("least chunk and one", 262_145),
        ("greatest chunk", 4_194_304),
        ("greatest chunk and one", 4_194_305),
    ] {
        write(&folder.join("sizes").join(name), &dice.bytes(len));
    }
    write(&folder.join("sizes/zeros"), &vec![0; 5_000_000]);
    fs::create_dir_all(folder.join("empty folder/in empty folder")).unwrap();
    write(&folder.join("deep").join("d/".repeat(60)).join("file"), b"far down");

    for (name, time) in [
        ("1969", -86_400_123),
        ("1970", 0),
        ("2001", 1_000_000_000_001),
        ("2038", 2_147_483_648_999),
        ("2106", 4_294_967_296_007),
    ] {
        let path = folder.join("times").join(name);
        write(&path, name.as_bytes());
        set_mtime(&path, time);
    }
    let script = folder.join("modes/script.sh");
    write(&script, b"#!/bin/sh\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let read_only = folder.join("modes/read-only");
    write(&read_only, b"look, do not touch");
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o444)).unwrap();

    let odd = folder.join("odd");
    fs::create_dir_all(&odd).unwrap();
    symlink("../files/plain.txt", odd.join("link")).unwrap();
    symlink("nowhere", odd.join("dangling")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, odd.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
}
