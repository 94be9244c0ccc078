//! Whole nodes on a simulated network, clock and dice: one seed, one run (`docs/laboratory.md`, "Simulation").
//!
//! `simulate one SEED` runs one schedule in this process. `simulate many FIRST COUNT` runs each in a process of its own, as
//! many at once as there are processors, some of them twice, and says which found a fault.

mod canary;
mod crash;
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
mod walker;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    match (arguments.first().map(String::as_str), number(1), number(2)) {
        (Some("one"), Some(seed), None) => one(seed),
        (Some("many"), Some(first), Some(count)) => many::run(first, count),
        (Some("crowd"), Some(seed), Some(nodes)) => {
            let nodes = u16::try_from(nodes).unwrap_or(u16::MAX);
            tell(&crowd::run(seed, nodes, number(3).unwrap_or(24)))
        }
        (Some("liar"), Some(first), Some(count)) => tell(&liar::run(first, count)),
        _ => {
            eprintln!(
                "simulate one SEED | simulate many FIRST COUNT | simulate crowd SEED NODES [HOURS] | simulate liar FIRST COUNT"
            );
            ExitCode::from(2)
        }
    }
}

/// Runs one schedule.
fn one(seed: u64) -> ExitCode {
    std::panic::set_hook(Box::new(move |panic| {
        println!("seed {seed} FAULT at {:.3} s: something panicked", hooks::elapsed().as_secs_f64());
        eprintln!("{panic}\n{}", std::backtrace::Backtrace::force_capture());
        // A task that panics is caught by the runtime, and what is left behaves as no program should.
        std::process::exit(1);
    }));
    let outcome = schedule::run(seed);
    println!("{}", schedule::line(seed, &outcome));
    tell(&outcome.faults)
}

fn tell(faults: &[String]) -> ExitCode {
    for fault in faults {
        println!("  {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
