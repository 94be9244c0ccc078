//! Keeps this process's memory to itself (`docs/spec/08-at-rest.md`, "Secrets").

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps and reading this process from outside. Call it first in `main`.
///
/// What the system does not allow is left as it is: a locker that cannot forbid a core dump still works.
pub fn guard_process() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
