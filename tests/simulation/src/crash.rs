//! A crash in the middle of a write: at some step of any device's writes one home is copied as it lies there, and its
//! device is gone for the others. Where the power fails, what was not synced may be missing of the copy.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use locker_store::failpoints;

use crate::dice::Dice;
use crate::network::Network;
use crate::trace::note;
use crate::{disk, unsynced};

/// The device that will be gone.
pub struct Armed {
    /// Steps until then.
    pub steps: u64,
    /// Its home, and where what it leaves is copied to.
    pub home: PathBuf,
    /// Where to.
    pub next: PathBuf,
    /// What the power takes, if it is that which fails.
    pub power: Option<Dice>,
    /// Its place in the network.
    pub ip: IpAddr,
    /// Whether others are told.
    pub is_told: bool,
    /// The network.
    pub network: Arc<Network>,
}

enum State {
    Idle,
    Armed(Box<Armed>),
    Fired,
}

static STATE: Mutex<State> = Mutex::new(State::Idle);

fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    f(&mut STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Listens to every step. Once a process.
///
/// # Panics
/// If failpoints are not compiled in.
pub fn listen() {
    for point in failpoints::ALL {
        fail::cfg_callback(*point, move || reached(point)).expect("failpoints are compiled in");
    }
}

/// Sets the moment.
pub fn arm(armed: Armed) {
    with(|state| *state = State::Armed(Box::new(armed)));
}

/// Whether it has come.
pub fn has_fired() -> bool {
    with(|state| matches!(state, State::Fired))
}

/// Takes it back if it has come; whether it has.
pub fn take_fired() -> bool {
    with(|state| {
        let fired = matches!(state, State::Fired);
        if fired {
            *state = State::Idle;
        }
        fired
    })
}

/// Takes it back, unless it has come.
pub fn disarm() {
    with(|state| {
        if matches!(state, State::Armed(_)) {
            *state = State::Idle;
        }
    });
}

/// A step is reached: one of those that are named, or a sync that is not done yet.
pub fn reached(point: &str) {
    with(|state| {
        let State::Armed(armed) = state else { return };
        armed.steps = armed.steps.saturating_sub(1);
        if armed.steps == 0 {
            note(format_args!("crash of {} at {point}", armed.ip));
            armed.network.kill(armed.ip, armed.is_told);
            disk::copy(&armed.home, &armed.next);
            if let Some(dice) = &mut armed.power {
                unsynced::cut(&armed.home, &armed.next, dice);
            }
            *state = State::Fired;
        }
    });
}
