//! How the network is reached: arguments first, then the environment, then what `config.toml` remembers.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use locker_engine::{Config, NodeOptions, RATE_MIN, Remembered};

use crate::argument::parse_size;
use crate::failure::Failure;

/// Options of every command that may be the first to use the network. What they say is remembered.
#[derive(Args, Clone, Default)]
pub(crate) struct Network {
    /// Meeting point to begin with: ip:port or a multiaddr; may be given several times [default: LOCKER_BOOTSTRAP, else
    /// what was given last]
    #[arg(long, value_name = "ADDR")]
    pub(crate) bootstrap: Vec<String>,
    /// Neither look for devices on the local network nor tell of this one there
    #[arg(long)]
    pub(crate) no_lan: bool,
    /// Do not ask the router to pass a port on to this device (also: LOCKER_PORT_MAPPING=off)
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
}

/// Rates of packs, for a node that stays. What they say is remembered.
#[derive(Args, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Send at most so many bytes of content a second beyond the local network, as 500K or 2M; 0 lifts it
    #[arg(long, value_name = "BYTES", value_parser = parse_rate)]
    pub(crate) upload_limit: Option<u64>,
    /// Fetch at most so many bytes of content a second from beyond the local network; 0 lifts it
    #[arg(long, value_name = "BYTES", value_parser = parse_rate)]
    pub(crate) download_limit: Option<u64>,
}

impl Rates {
    /// Puts what was said on the command line over what is remembered.
    pub(crate) fn apply(self, resolved: &mut Resolved) {
        let over = |said: Option<u64>, known: &mut Option<u64>| {
            if let Some(limit) = said {
                *known = Some(limit).filter(|limit| *limit > 0);
            }
        };
        over(self.upload_limit, &mut resolved.upload_limit);
        over(self.download_limit, &mut resolved.download_limit);
    }

    /// Keeps what was said on the command line for the next time.
    pub(crate) fn remember(self, home: &Path) -> Result<(), Failure> {
        let Self { upload_limit, download_limit } = self;
        Ok(Config::remember(home, Remembered { upload_limit, download_limit, ..Remembered::default() })?)
    }
}

/// A rate: none, or enough that what many streams share gets on.
fn parse_rate(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    match parse_size(text)? {
        rate @ 1..RATE_MIN => {
            Err(format!("{rate} bytes a second are too few: at least 64K, or 0 for no limit"))
        }
        rate => Ok(rate),
    }
}

/// What arguments, environment and configuration come to.
pub(crate) struct Resolved {
    /// Addresses as they were written.
    pub(crate) bootstrap: Vec<String>,
    /// Whether the local network is used.
    pub(crate) lan: bool,
    /// Whether the router is asked to pass a port on.
    pub(crate) port_mapping: bool,
    /// Bytes of content a second, beyond the local network.
    pub(crate) upload_limit: Option<u64>,
    /// As [`Resolved::upload_limit`], the other way.
    pub(crate) download_limit: Option<u64>,
}

impl Network {
    /// Brings arguments, environment and configuration together; the first that says something is taken.
    pub(crate) fn resolve(&self, home: &Path) -> Result<Resolved, Failure> {
        let config = Config::read(home)?;
        let bootstrap = if !self.bootstrap.is_empty() {
            self.bootstrap.clone()
        } else {
            match std::env::var("LOCKER_BOOTSTRAP") {
                Ok(text) if !text.trim().is_empty() => text
                    .split(',')
                    .map(|part| part.trim().to_owned())
                    .filter(|part| !part.is_empty())
                    .collect(),
                _ => config.bootstrap,
            }
        };
        let is_off = std::env::var_os("LOCKER_PORT_MAPPING").is_some_and(|value| value == "off");
        Ok(Resolved {
            bootstrap,
            lan: !self.no_lan && config.lan.unwrap_or(true),
            port_mapping: !self.no_port_mapping && !is_off && config.port_mapping.unwrap_or(true),
            upload_limit: config.upload_limit.filter(|limit| *limit > 0),
            download_limit: config.download_limit.filter(|limit| *limit > 0),
        })
    }

    /// Keeps what was said on the command line for the next time.
    pub(crate) fn remember(&self, home: &Path) -> Result<(), Failure> {
        let bootstrap = (!self.bootstrap.is_empty()).then_some(&self.bootstrap[..]);
        let lan = self.no_lan.then_some(false);
        let port_mapping = self.no_port_mapping.then_some(false);
        Ok(Config::remember(home, Remembered { bootstrap, lan, port_mapping, ..Remembered::default() })?)
    }
}

/// What the engine is told.
pub(crate) fn options(listen: &[SocketAddr], resolved: &Resolved) -> Result<NodeOptions, Failure> {
    Ok(NodeOptions {
        listen: listen.to_vec(),
        bootstrap: NodeOptions::read_bootstrap(&resolved.bootstrap)?,
        lan: resolved.lan,
        port_mapping: resolved.port_mapping,
        upload_limit: resolved.upload_limit,
        download_limit: resolved.download_limit,
        ..NodeOptions::default()
    })
}
