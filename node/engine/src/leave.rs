//! `leave`: everything as plain files, with records that other programs can read (`docs/spec/13-export.md`).
//!
//! Writing the files is the business of [`crate::export`]; here is what stands beside them, and how an import knows it
//! again.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};

use crate::place::make_file;
use crate::tree::Version;

/// Version of the records.
const VERSION: u64 = 1;
/// Longest first line of `metadata.jsonl` that is looked at.
const HEAD_BYTES_MAX: u64 = 4_096;
/// Greatest number in the name of a `metadata.jsonl` that is looked for.
const NUMBER_READ_MAX: u32 = 9;
/// Names of the records; one that is taken gets a number.
const NAMES: [&str; 3] = ["MANIFEST.b3", "metadata.jsonl", "README.txt"];

/// First line of `metadata.jsonl`.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Version of the records.
    locker_export: u64,
    /// Names of the records in this folder.
    records: Vec<String>,
    /// When it was made, unix milliseconds.
    made: u64,
}

/// Each further line of `metadata.jsonl`: a file or folder.
#[derive(Serialize)]
struct Line<'a> {
    /// Path in the locker.
    path: &'a str,
    /// `file` or `folder`.
    kind: &'a str,
    /// Path below this folder where it is another, hexadecimal: names are bytes here.
    #[serde(skip_serializing_if = "Option::is_none")]
    outside_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b3: Option<String>,
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<bool>,
    /// Of a file with several versions that wait for a decision: number of this one, the newest is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<usize>,
}

/// The records of an export that is being written.
pub(crate) struct Records {
    manifest: BufWriter<File>,
    metadata: BufWriter<File>,
}

/// A file of an export.
pub(crate) struct Written<'a> {
    /// Path in the locker.
    pub(crate) path: &'a str,
    /// Path below the folder of the export.
    pub(crate) outside: &'a [u8],
    /// What was written; `None` for a file without content.
    pub(crate) version: Option<&'a Version>,
    /// Its number if there are several, the newest is 1.
    pub(crate) number: Option<usize>,
}

impl Records {
    /// Begins the records in the folder of the export. `is_taken` says which names of that folder belong to the tree.
    ///
    /// # Errors
    /// What the system tells.
    pub(crate) fn begin(dir: &Dir, made: u64, is_taken: &dyn Fn(&str) -> bool) -> std::io::Result<Self> {
        let names = NAMES.map(|name| free_name(name, is_taken));
        let [manifest, metadata, readme] = names.each_ref().map(|name| make_file(dir, name.as_ref()));
        readme?.write_all(readme_text(&names).as_bytes())?;
        let mut records = Self { manifest: BufWriter::new(manifest?), metadata: BufWriter::new(metadata?) };
        records.line(&Head { locker_export: VERSION, records: names.into(), made })?;
        Ok(records)
    }

    /// Notes a folder.
    ///
    /// # Errors
    /// What the system tells.
    pub(crate) fn folder(&mut self, path: &str, outside: &[u8]) -> std::io::Result<()> {
        let outside_hex = outside_hex(path, outside);
        self.line(&Line {
            path,
            kind: "folder",
            outside_hex,
            size: None,
            b3: None,
            mtime: None,
            exec: None,
            version: None,
        })
    }

    /// Notes a file.
    ///
    /// # Errors
    /// What the system tells.
    pub(crate) fn file(&mut self, written: &Written<'_>) -> std::io::Result<()> {
        let Written { path, outside, version, number } = *written;
        let hash = version.map_or_else(|| blake3::hash(&[]).into(), |v| *v.file.content_hash().as_bytes());
        let hash = blake3::Hash::from_bytes(hash).to_hex();
        if let Some(name) = manifest_name(outside) {
            let mark = if name.len() == outside.len() { "" } else { "\\" };
            writeln!(self.manifest, "{mark}{hash}  {name}")?;
        }
        self.line(&Line {
            path,
            kind: "file",
            outside_hex: outside_hex(path, outside),
            size: Some(version.map_or(0, |v| v.file.size())),
            b3: Some(hash.to_string()),
            mtime: version.map(|v| v.mtime_ms),
            exec: version.map(|v| v.exec),
            version: number,
        })
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// What the system tells.
    pub(crate) fn finish(mut self) -> std::io::Result<()> {
        self.manifest.flush()?;
        self.metadata.flush()
    }

    fn line(&mut self, line: &impl Serialize) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.metadata, line)?;
        self.metadata.write_all(b"\n")
    }
}

/// Whether a file is one of the records of the export in whose folder it lies: an import leaves it out.
pub(crate) fn is_record(path: &Path) -> bool {
    let (Some(name), Some(folder)) = (path.file_name().and_then(|name| name.to_str()), path.parent()) else {
        return false;
    };
    let is_like = |record: &str| {
        let (stem, extension) = parts(record);
        name.starts_with(stem) && name.ends_with(extension)
    };
    if !NAMES.into_iter().any(is_like) {
        return false;
    }
    (1..=NUMBER_READ_MAX).any(|number| {
        let Ok(metadata) = File::open(folder.join(numbered(NAMES[1], number))) else { return false };
        let mut first = String::new();
        let read = BufReader::new(metadata.take(HEAD_BYTES_MAX)).read_line(&mut first);
        let head: Option<Head> = read.ok().and_then(|_| serde_json::from_str(&first).ok());
        head.is_some_and(|head| {
            head.locker_export == VERSION && head.records.iter().any(|record| record == name)
        })
    })
}

/// The name as `b3sum --check` reads it, backslashes and line ends escaped; `None` if it cannot read such a name.
fn manifest_name(outside: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(outside).ok()?;
    let is_readable = !name.contains([char::REPLACEMENT_CHARACTER, '\r', '\0']);
    is_readable.then(|| name.replace('\\', "\\\\").replace('\n', "\\n"))
}

fn outside_hex(path: &str, outside: &[u8]) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (path.as_bytes() != outside).then(|| hex(outside))
}

fn free_name(name: &str, is_taken: &dyn Fn(&str) -> bool) -> String {
    (1..).map(|number| numbered(name, number)).find(|name| !is_taken(name)).unwrap_or_default()
}

fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = parts(name);
    if number == 1 { name.to_owned() } else { format!("{stem} ({number}).{extension}") }
}

fn parts(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

fn readme_text([manifest, metadata, _]: &[String; 3]) -> String {
    format!(
        "\
This folder holds everything that was in a locker, as plain files.

{manifest}
  The BLAKE3 hash of every file. Check them with the common tool, in this folder:
  b3sum --check '{manifest}'

{metadata}
  One JSON object a line: first about this export, then one for each file and folder
  with its path, size, hash and time (unix milliseconds).

To take it into a locker again: locker add THIS-FOLDER/*
These three records are left out then.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_manifest_as_b3sum_reads_them() {
        assert_eq!(manifest_name(b"a/b c.txt").as_deref(), Some("a/b c.txt"));
        assert_eq!(manifest_name(b"a\\b\nc").as_deref(), Some("a\\\\b\\nc"));
        assert_eq!(manifest_name(b"a\xff"), None);
        assert_eq!(manifest_name("\u{fffd}".as_bytes()), None);
    }

    #[test]
    fn a_record_gives_way_to_a_file_of_its_name() {
        let taken = ["MANIFEST.b3", "MANIFEST (2).b3"];
        assert_eq!(free_name("MANIFEST.b3", &|name| taken.contains(&name)), "MANIFEST (3).b3");
        assert_eq!(free_name("README.txt", &|_| false), "README.txt");
    }

    #[test]
    fn records_are_known_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        Records::begin(&dir, 1, &|name| name == "README.txt").unwrap().finish().unwrap();
        std::fs::write(folder.path().join("README.txt"), "mine").unwrap();
        for (name, expected) in [
            ("MANIFEST.b3", true),
            ("metadata.jsonl", true),
            ("README (2).txt", true),
            ("README.txt", false),
            ("other", false),
        ] {
            assert_eq!(is_record(&folder.path().join(name)), expected, "{name}");
        }
        std::fs::write(folder.path().join("metadata.jsonl"), "{\"a\":1}\n").unwrap();
        assert!(!is_record(&folder.path().join("metadata.jsonl")));
    }
}
