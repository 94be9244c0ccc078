//! Randomness and time as the system would give them, from the seed and the clock of the simulation: these functions
//! take the place of those of the C library, for the standard library and every crate of this program.
//!
//! Before [`begin`] the clock is that of the system. Unsafe code of the simulation is here and in [`crate::unsynced`] only.

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Unix milliseconds at which a simulation begins: in the year 2030.
pub const EPOCH_MS: u64 = 1_900_000_000_000;
/// The moment, since the start of the machine, at which it begins. Early: who waits for a moment of the system's own
/// clock, which simulated time never does, finds it past.
const FIRST_NS: u64 = 1_000_000_000;

/// Nanoseconds since the start of the machine, as threads beside the one of the simulation read them.
static NOW_NS: AtomicU64 = AtomicU64::new(FIRST_NS);
static RUNS: AtomicBool = AtomicBool::new(false);
static START: OnceLock<Instant> = OnceLock::new();
static SEED: AtomicU64 = AtomicU64::new(0);
/// Counts what is done from outside; threads that help with it draw from dice of their own, begun anew each time.
static DEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WORLD: Cell<bool> = const { Cell::new(false) };
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
    static DICE: Cell<u64> = const { Cell::new(0) };
    static DREW_FOR: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Makes this thread the one of the simulation. Its runtime must be entered, and its clock be held.
pub fn begin(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
    DICE.set(mixed(seed));
    RUNS.store(true, Ordering::Relaxed);
    _ = START.set(Instant::now());
    IS_WORLD.set(true);
}

/// Something is done from outside of the nodes.
pub fn next_deed() {
    DEED.fetch_add(1, Ordering::Relaxed);
}

/// Time since the simulation began.
pub fn elapsed() -> Duration {
    Duration::from_nanos(now_ns() - FIRST_NS)
}

/// Nanoseconds of the system's own clock: how long a run takes.
pub fn real_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn now_ns() -> u64 {
    if IS_WORLD.get() && !IS_ASKING.replace(true) {
        // Outside of the runtime this reads the clock of the system, which is this one, and gets the last time.
        if let Some(start) = START.get() {
            let since = Instant::now().saturating_duration_since(*start);
            let ns = FIRST_NS + u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            NOW_NS.fetch_max(ns, Ordering::Relaxed);
        }
        IS_ASKING.set(false);
    }
    NOW_NS.load(Ordering::Relaxed)
}

/// One step of SplitMix64.
fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn draw() -> u64 {
    if !IS_WORLD.get() {
        let deed = DEED.load(Ordering::Relaxed);
        if DREW_FOR.replace(deed) != deed {
            DICE.set(mixed(SEED.load(Ordering::Relaxed) ^ mixed(deed)));
        }
    }
    let state = DICE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    DICE.set(state);
    mixed(state)
}

/// Fills a buffer from the dice of the simulation.
///
/// # Safety
/// As that of the C library: `buffer` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, _flags: c_uint) -> isize {
    if len > 0 {
        // SAFETY: the caller says that these bytes are his to be written.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&draw().to_le_bytes()[..piece.len()]);
        }
    }
    isize::try_from(len).unwrap_or(isize::MAX)
}

/// Tells the time of the simulation.
///
/// # Safety
/// As that of the C library: `time` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(which: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let is_wall = which == libc::CLOCK_REALTIME || which == libc::CLOCK_REALTIME_COARSE;
    let is_ours = is_wall
        || which == libc::CLOCK_MONOTONIC
        || which == libc::CLOCK_MONOTONIC_COARSE
        || which == libc::CLOCK_MONOTONIC_RAW
        || which == libc::CLOCK_BOOTTIME;
    if !is_ours || !RUNS.load(Ordering::Relaxed) {
        // SAFETY: the arguments are those of the caller.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, which, time) } as c_int;
    }
    let mut ns = now_ns();
    if is_wall {
        ns += EPOCH_MS * 1_000_000 - FIRST_NS;
    }
    let told = libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the caller says that `time` is his to be written.
    unsafe { time.write(told) };
    0
}
