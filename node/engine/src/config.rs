//! `HOME/config.toml`: nothing in it is needed; everything has a sensible default.

use std::io::Write;
use std::path::Path;

use serde::Deserialize;

use crate::Error;

/// What a person may set. Unknown keys are refused, so that a slip does not pass unnoticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads for hashing and sealing; 0 means one for each core.
    pub threads: usize,
    /// Nodes of the DHT to begin with: `ip:port`, or a multiaddr with or without `/p2p/`.
    pub bootstrap: Vec<String>,
    /// Whether other devices are looked for on the local network; so if it is not said.
    pub lan: Option<bool>,
}

impl Config {
    /// File name in the home.
    pub const FILE: &'static str = "config.toml";
    /// Longest file in bytes.
    const LEN_MAX: u64 = 64 * 1024;

    /// Remembers how the network is reached. The file is left alone if it says so already; what else stands in it
    /// stays, comments only as long as neither of the two was set before.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn remember(home: &Path, bootstrap: Option<&[String]>, lan: Option<bool>) -> Result<(), Error> {
        let before = Self::read(home)?;
        let is_known =
            bootstrap.is_none_or(|b| b == before.bootstrap) && lan.is_none_or(|l| before.lan == Some(l));
        if is_known {
            return Ok(());
        }
        let path = home.join(Self::FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io("cannot read", path, error)),
        };
        let mut table: toml::Table = toml::from_str(&text)
            .map_err(|e| Error::Config { path: path.clone(), reason: e.message().into() })?;
        let mut set = toml::Table::new();
        if let Some(addresses) = bootstrap {
            set.insert("bootstrap".into(), toml::Value::from(addresses.to_vec()));
        }
        if let Some(lan) = lan {
            set.insert("lan".into(), toml::Value::from(lan));
        }
        let is_new = set.keys().all(|key| !table.contains_key(key));
        let text = if is_new {
            // In front: keys of the file itself come before those of its sections.
            format!("{set}{text}")
        } else {
            table.extend(set);
            table.to_string()
        };
        let write = || -> std::io::Result<()> {
            let temporary = home.join("config.toml.new");
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|e| Error::io("cannot write", path.as_path(), e))
    }

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
    #[test]
    fn the_way_to_the_network_is_remembered() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(Config::FILE);
        std::fs::write(&file, "# mine\nthreads = 3\n").unwrap();
        let one = ["192.0.2.1:4001".to_owned()];
        Config::remember(home.path(), Some(&one), Some(false)).unwrap();
        let config = Config::read(home.path()).unwrap();
        assert_eq!((config.threads, &config.bootstrap[..], config.lan), (3, &one[..], Some(false)));
        assert!(std::fs::read_to_string(&file).unwrap().contains("# mine"));
        let two = ["192.0.2.2:4001".to_owned()];
        Config::remember(home.path(), Some(&two), None).unwrap();
        let config = Config::read(home.path()).unwrap();
        assert_eq!((config.threads, &config.bootstrap[..], config.lan), (3, &two[..], Some(false)));
        let before = std::fs::read(&file).unwrap();
        Config::remember(home.path(), Some(&two), Some(false)).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}
