//! `HOME/config.toml`: nothing in it is needed; everything has a sensible default.

use std::io::Write;
use std::path::Path;

use serde::Deserialize;

use crate::Error;

/// The lowest rate that may be set, in bytes per second.
pub const RATE_MIN: u64 = locker_net::Pace::RATE_MIN;

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
    /// Whether the router is asked to pass a port on; so if it is not said.
    pub port_mapping: Option<bool>,
    /// Bytes of packs a second that are sent beyond the local network; 0, or nothing said, means no limit.
    pub upload_limit: Option<u64>,
    /// As [`Config::upload_limit`], for what is fetched.
    pub download_limit: Option<u64>,
}

/// What [`Config::remember`] keeps; `None` leaves what is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remembered<'a> {
    /// [`Config::bootstrap`].
    pub bootstrap: Option<&'a [String]>,
    /// [`Config::lan`].
    pub lan: Option<bool>,
    /// [`Config::port_mapping`].
    pub port_mapping: Option<bool>,
    /// [`Config::upload_limit`].
    pub upload_limit: Option<u64>,
    /// [`Config::download_limit`].
    pub download_limit: Option<u64>,
}

impl Config {
    /// File name in the home.
    pub const FILE: &'static str = "config.toml";
    /// Longest file in bytes.
    const LEN_MAX: u64 = 64 * 1024;

    /// Remembers how the network is reached. The file is left alone if it says so already; what else stands in it
    /// stays, comments only as long as none of it was set before.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn remember(home: &Path, said: Remembered<'_>) -> Result<(), Error> {
        let before = Self::read(home)?;
        let is_known = said.bootstrap.is_none_or(|bootstrap| bootstrap == before.bootstrap)
            && said.lan.is_none_or(|lan| before.lan == Some(lan))
            && said.port_mapping.is_none_or(|mapping| before.port_mapping == Some(mapping))
            && said.upload_limit.is_none_or(|limit| before.upload_limit == Some(limit))
            && said.download_limit.is_none_or(|limit| before.download_limit == Some(limit));
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
        if let Some(addresses) = said.bootstrap {
            set.insert("bootstrap".into(), toml::Value::from(addresses.to_vec()));
        }
        for (key, value) in [("lan", said.lan), ("port_mapping", said.port_mapping)] {
            value.map(|value| set.insert(key.into(), toml::Value::from(value)));
        }
        for (key, value) in [("upload_limit", said.upload_limit), ("download_limit", said.download_limit)] {
            let value = value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
            value.map(|value| set.insert(key.into(), toml::Value::from(value)));
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
        let remember = |bootstrap, lan, port_mapping| {
            Config::remember(
                home.path(),
                Remembered { bootstrap, lan, port_mapping, ..Remembered::default() },
            )
            .unwrap();
        };
        remember(Some(&one), Some(false), None);
        let config = Config::read(home.path()).unwrap();
        assert_eq!((config.threads, &config.bootstrap[..], config.lan), (3, &one[..], Some(false)));
        assert!(std::fs::read_to_string(&file).unwrap().contains("# mine"));
        let two = ["192.0.2.2:4001".to_owned()];
        remember(Some(&two), None, Some(false));
        let config = Config::read(home.path()).unwrap();
        assert_eq!((config.threads, &config.bootstrap[..], config.lan), (3, &two[..], Some(false)));
        assert_eq!(config.port_mapping, Some(false));
        let limits =
            |up, down| Remembered { upload_limit: up, download_limit: down, ..Remembered::default() };
        Config::remember(home.path(), limits(Some(1 << 20), Some(u64::MAX))).unwrap();
        Config::remember(home.path(), limits(Some(0), None)).unwrap();
        let config = Config::read(home.path()).unwrap();
        assert_eq!((config.upload_limit, config.download_limit), (Some(0), Some(i64::MAX as u64)));
        let before = std::fs::read(&file).unwrap();
        remember(Some(&two), Some(false), Some(false));
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}
