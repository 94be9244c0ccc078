//! What happened, as one hash: everything that a wire carried, and everything that was done. Two runs of one seed must
//! give the same.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::hooks;

struct Trace {
    hash: blake3::Hasher,
    events: u64,
    is_told: bool,
}

fn with<T>(f: impl FnOnce(&mut Trace) -> T) -> T {
    static TRACE: OnceLock<Mutex<Trace>> = OnceLock::new();
    let trace = TRACE.get_or_init(|| {
        let is_told = std::env::var_os("LOCKER_SIMULATION_LOG").is_some();
        Mutex::new(Trace { hash: blake3::Hasher::new(), events: 0, is_told })
    });
    f(&mut trace.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Notes something that was done, and tells it if that was asked for (`LOCKER_SIMULATION_LOG`).
pub fn note(what: fmt::Arguments<'_>) {
    let at = hooks::elapsed();
    with(|trace| {
        trace.events += 1;
        let line = format!("{:>12.6} {what}", at.as_secs_f64());
        trace.hash.update(line.as_bytes());
        if trace.is_told {
            eprintln!("{line}");
        }
    });
}

/// Notes bytes that a wire took.
pub fn carried(from: std::net::IpAddr, to: std::net::IpAddr, bytes: &[u8]) {
    let at = hooks::elapsed();
    with(|trace| {
        trace.events += 1;
        trace.hash.update(&at.as_nanos().to_le_bytes());
        trace.hash.update(format!("{from} {to} {}", bytes.len()).as_bytes());
        trace.hash.update(bytes);
    });
}

/// How many events there were, and their hash so far.
pub fn told() -> (u64, String) {
    with(|trace| (trace.events, trace.hash.finalize().to_hex()[..16].to_owned()))
}
