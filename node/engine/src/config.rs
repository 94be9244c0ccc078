//! `HOME/config.toml`: nothing in it is needed; everything has a sensible default.

use std::path::Path;

use serde::Deserialize;

use crate::Error;

/// What a person may set. Unknown keys are refused, so that a slip does not pass unnoticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads for hashing and sealing; 0 means one for each core.
    pub threads: usize,
}

impl Config {
    /// File name in the home.
    pub const FILE: &'static str = "config.toml";
    /// Longest file in bytes.
    const LEN_MAX: u64 = 64 * 1024;

    /// Reads the configuration of a home; all defaults if there is none.
    ///
    /// # Errors
    /// [`Error::Config`] if the file is not understood, [`Error::Io`] if it cannot be read.
    pub fn read(home: &Path) -> Result<Self, Error> {
        let path = home.join(Self::FILE);
        let text = match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > Self::LEN_MAX => {
                return Err(Error::Config { path, reason: "the file is longer than 64 KiB".into() });
            }
            Ok(_) => {
                std::fs::read_to_string(&path).map_err(|e| Error::io("cannot read", path.as_path(), e))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io("cannot read", path, error)),
        };
        toml::from_str(&text).map_err(|e| Error::Config { path, reason: e.message().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_values_and_slips() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(Config::FILE);
        assert_eq!(Config::read(home.path()).unwrap(), Config::default());
        std::fs::write(&file, "threads = 3\n").unwrap();
        assert_eq!(Config::read(home.path()).unwrap().threads, 3);
        std::fs::write(&file, "thread = 3\n").unwrap();
        assert!(matches!(Config::read(home.path()), Err(Error::Config { .. })));
        std::fs::write(&file, vec![b'#'; 70_000]).unwrap();
        assert!(matches!(Config::read(home.path()), Err(Error::Config { .. })));
    }
}
