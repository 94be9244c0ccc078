//! A meeting point for lockers that anybody can run: a DHT server, an open relay, and a prober of addresses. It keeps
//! records of 640 bytes that it cannot read, for at most 30 hours and in memory, passes on what two nodes say to one
//! another in ciphertext, a little of it, and has no user data.
//!
//! It is the one program that keeps its transport key, because others write it down with its address.

mod key;

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use locker_net::{Clock, Config, Env, Event, Limits, NodeAddress, RelayMode, Role, TransportSeed};

/// Run a meeting point for lockers
///
/// Prints the addresses to give to others when it is ready. Ends on Ctrl-C.
#[derive(Parser)]
#[command(name = "locker-bootstrap", version)]
struct Arguments {
    /// IP address and port to listen on, for UDP and TCP; may be given several times. With 0.0.0.0 or [::] TCP port 443
    /// is tried as well, for those whose network lets nothing else out
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// File with the key of this node; made if it does not exist. Without it the key is a new one at every start
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Other nodes of the DHT, as they print themselves
    #[arg(long, value_name = "MULTIADDR")]
    join: Vec<String>,
    /// Print events as JSON, one a line
    #[arg(long)]
    json: bool,
}

const DEFAULT_PORT: u16 = 24_766;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody to tell if this fails.
            let _ = writeln!(std::io::stderr(), "locker-bootstrap: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut dice = rand_core::UnwrapErr(getrandom::SysRng);
    let transport = match &arguments.key {
        Some(file) => TransportSeed::Kept(key::load_or_make(file, &mut dice)?),
        None => TransportSeed::Fresh,
    };
    let join = arguments.join.iter().map(|text| {
        text.parse::<NodeAddress>().map_err(|_| format!("{text} is no address of a node of the DHT"))
    });
    let everywhere =
        || vec![(Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(), (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()];
    let config = Config {
        listen: if arguments.listen.is_empty() { everywhere() } else { arguments.listen },
        bootstrap: join.collect::<Result<_, _>>()?,
        role: Role::Server,
        relay: RelayMode::Open,
        tcp_443: true,
        transport,
        lan: None,
        limits: Limits::bootstrap(),
        ..Config::default()
    };
    let env = Env { dice: Box::new(dice), clock: Clock::system() };
    let (handle, mut events) = locker_net::start(config, env).await?;
    report(&handle, "ready", arguments.json)?;
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => break,
                Some(Event::Listening { .. }) => report(&handle, "listening", arguments.json)?,
                // It speaks nothing of lockers itself. A stream that is dropped is reset.
                Some(_) => {}
            },
            stop = tokio::signal::ctrl_c() => {
                stop?;
                break;
            }
        }
    }
    handle.shutdown().await;
    Ok(())
}

/// Prints where this node is, with its key.
fn report(handle: &locker_net::Handle, event: &str, json: bool) -> std::io::Result<()> {
    let key = Some(handle.transport_key());
    let listen: Vec<String> = handle
        .listen_addresses()
        .into_iter()
        .map(|address| NodeAddress { address, key }.to_string())
        .collect();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "event": event, "listen": listen }))?;
    } else {
        writeln!(out, "{event}")?;
        for address in listen {
            writeln!(out, "  {address}")?;
        }
    }
    out.flush()
}
