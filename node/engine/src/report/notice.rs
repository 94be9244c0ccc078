//! What `status` tells that is not wrong by itself.

use serde::{Deserialize, Serialize};

/// One thing that is to be known: it may be what somebody else did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// What it is: `device_added`, `device_replaced` (it goes on under a new key) or `device_recovered` (it came by the words).
    pub code: String,
    /// The same as a sentence, with what to do.
    pub message: String,
    /// The device that came in, by its key, hexadecimal.
    pub device: String,
    /// Since when this device knows of it, in unix milliseconds by its own clock.
    pub at: u64,
}
