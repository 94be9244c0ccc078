//! `locker up`

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use locker_engine::{Env, InitOptions, Locker, Node, Signals, Vault, Woken};
use serde_json::json;

use super::init;
use crate::context::Context;
use crate::failure::Failure;
use crate::network::{self, Network, Rates};
use crate::socket::Server;

/// A stop that takes longer is cut short; nothing that was acknowledged is lost by it.
const STOP_TIME: Duration = Duration::from_millis(4_500);

/// Run this device among the others of its locker
///
/// Stays in the foreground, keeps this device equal with the others and serves every other command, until Ctrl-C. In a
/// folder without a locker it makes one first and shows its 24 words once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker up
  locker up --listen 0.0.0.0:4001 --bootstrap 192.0.2.1:24766
  locker up --upload-limit 2M")]
pub(crate) struct Arguments {
    /// IP address and port to listen on, for UDP and TCP; may be given several times [default: a free port]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    rates: Rates,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let terminal = &context.terminal;
        let mut resolved = self.network.resolve(&context.home)?;
        self.rates.apply(&mut resolved);
        let options = network::options(&self.listen, &resolved)?;
        if Locker::check_new_home(&context.home).is_ok() {
            let made = InitOptions { name: None, vault: Vault::File };
            let created = Locker::create(&context.home, made, Env::system(), |created| {
                let event = json!({
                    "event": "created",
                    "phrase": created.phrase.expose(),
                    "person_id": created.person_id,
                    "device_id": created.device_id,
                });
                terminal.result(&event, || init::shown(created, context))
            })?;
            if terminal.is_interactive() {
                init::check_words(created.phrase.expose())
                    .map_err(|e| Failure::io("cannot read the answer", &e))?;
            }
        }
        let locker = context.open()?;
        let mut signals = Signals::hear()?;
        let mut node = Node::start(&locker, options)?;
        // Only what works is remembered.
        self.network.remember(&context.home)?;
        self.rates.remember(&context.home)?;
        let server = Server::start(&context.home, &locker)?;
        let mut listen = node.listen();
        let device_id = locker.device_id();
        let ready = json!({ "event": "ready", "device_id": device_id, "listen": listen });
        terminal.result(&ready, || format!("This device is up. Ctrl-C stops it.{}", in_lines(&listen)))?;
        while node.wait(&mut signals)? == Woken::Due {
            match server.between_commands(|| node.start_anew()) {
                // Others serve commands meanwhile: a minute later, then.
                None => continue,
                Some(Err(error)) => {
                    terminal.say(&format!(
                        "the network could not be started anew, which is tried again every minute: {error}"
                    ));
                    continue;
                }
                Some(Ok(())) => {}
            }
            if node.listen() != listen {
                listen = node.listen();
                let moved = json!({ "event": "listening", "listen": listen });
                terminal.result(&moved, || {
                    format!("This device goes on under a new name in the network.{}", in_lines(&listen))
                })?;
            }
        }
        std::thread::spawn(|| {
            std::thread::park_timeout(STOP_TIME);
            std::process::exit(0);
        });
        server.end_work();
        // First the node, so that commands that wait for it end.
        drop(node);
        server.stop();
        Ok(())
    }
}

fn in_lines(addresses: &[String]) -> String {
    addresses.iter().map(|address| format!("\n  {address}")).collect()
}
