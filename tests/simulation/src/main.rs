//! Whole nodes on a simulated network, clock and dice: one seed, one run (`docs/laboratory.md`, "Simulation").
//!
//! `simulate one SEED` runs one schedule in this process. `simulate many FIRST COUNT` runs each in a process of its own, as
//! many at once as there are processors, some of them twice, and says which found a fault.

mod canary;
mod crash;
mod crossing;
mod crowd;
mod device;
mod dice;
mod disk;
mod hooks;
mod liar;
mod many;
mod meeting;
mod model;
mod network;
mod pipe;
mod schedule;
mod trace;
mod unsynced;
mod walker;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

/// Stack of the thread that does the work: that of the first thread of a process.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    match (arguments.first().map(String::as_str), number(1), number(2)) {
        (Some("one"), Some(seed), None) => without_farewell(move || one(seed)),
        (Some("many"), Some(first), Some(count)) => many::run(first, count),
        (Some("crowd"), Some(seed), Some(nodes)) => {
            let nodes = u16::try_from(nodes).unwrap_or(u16::MAX);
            tell(&crowd::run(seed, nodes, number(3).unwrap_or(24)))
        }
        (Some("liar"), Some(first), Some(count)) => tell(&liar::run(first, count)),
        (Some("crossing"), Some(first), Some(count)) => tell(&crossing::run(first, count)),
        _ => {
            eprintln!(
                "simulate one SEED | simulate many FIRST COUNT | simulate crowd SEED NODES [HOURS] \
                 | simulate liar FIRST COUNT | simulate crossing FIRST COUNT"
            );
            ExitCode::from(2)
        }
    }
}

/// Ends the process without the thread that did the work: what the libraries tear down in a thread that ends asks for the
/// time, which is simulated, when there is nobody any more to tell it (once in some 3,000 schedules).
fn without_farewell(work: impl FnOnce() -> bool + Send + 'static) -> ExitCode {
    let (told, heard) = mpsc::channel();
    let worker = move || {
        _ = told.send(work());
        loop {
            thread::park();
        }
    };
    let started = thread::Builder::new().stack_size(STACK_BYTES).spawn(worker);
    started.expect("a thread can be started");
    std::process::exit(if heard.recv() == Ok(true) { 0 } else { 1 })
}

/// Runs one schedule; whether all was as it must be.
fn one(seed: u64) -> bool {
    std::panic::set_hook(Box::new(move |panic| {
        println!("seed {seed} FAULT at {:.3} s: something panicked", hooks::elapsed().as_secs_f64());
        eprintln!("{panic}\n{}", std::backtrace::Backtrace::force_capture());
        // A task that panics is caught by the runtime, and what is left behaves as no program should.
        std::process::exit(1);
    }));
    let outcome = schedule::run(seed);
    println!("{}", schedule::line(seed, &outcome));
    _ = tell(&outcome.faults);
    outcome.faults.is_empty()
}

fn tell(faults: &[String]) -> ExitCode {
    for fault in faults {
        println!("  {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
