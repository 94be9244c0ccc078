//! What this process asks of the system: to keep its memory to itself (`docs/spec/08-at-rest.md`, "Secrets"), and to tell
//! when it is to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps and reading this process from outside. Call it first in `main`.
///
/// What the system does not allow is left as it is: a locker that cannot forbid a core dump still works.
pub fn guard_process() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Hears SIGINT and SIGTERM from now on, for work that can be stopped in order: the flag becomes true with the first, and
/// the second ends the process.
///
/// Where the system does not tell of them, they end the process as they always do.
pub fn hear_interrupts() -> Arc<AtomicBool> {
    use tokio::signal::unix::{SignalKind, signal};

    let flag = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&flag);
    let hear = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if told.swap(true, Ordering::SeqCst) {
                    std::process::exit(INTERRUPTED);
                }
            }
        })
    };
    // It lives as long as the process.
    std::thread::spawn(hear);
    flag
}

/// How a process ends that was interrupted: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;
