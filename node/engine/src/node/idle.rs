//! Streams for packs: those that wait open between two requests, how many are in use, and who is far away.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use locker_crypto::id::VerifyingKey;
use locker_net::{ConnectionId, Stream};

/// Streams that wait for their next request. A source has at most as many as were in use at a time.
#[derive(Default)]
pub(super) struct Idle {
    waiting: Mutex<HashMap<VerifyingKey, Vec<Stream>>>,
    in_use: Mutex<HashMap<VerifyingKey, usize>>,
    far: Mutex<HashSet<VerifyingKey>>,
}

/// The right to have one request under way.
pub(super) struct Lane<'a> {
    of: &'a Idle,
    device: VerifyingKey,
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut in_use = lock(&self.of.in_use);
        if let Some(count) = in_use.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                in_use.remove(&self.device);
            }
        }
    }
}

impl Idle {
    /// Takes a stream of a connection; those of earlier connections with the same device go.
    pub(super) fn take(&self, device: &VerifyingKey, connection: ConnectionId) -> Option<Stream> {
        let mut waiting = lock(&self.waiting);
        let streams = waiting.get_mut(device)?;
        streams.retain(|stream| stream.connection() == connection);
        streams.pop()
    }

    pub(super) fn put(&self, device: VerifyingKey, stream: Stream) {
        lock(&self.waiting).entry(device).or_default().push(stream);
    }

    /// Notes whether the answer of a device began late.
    pub(super) fn note_far(&self, device: VerifyingKey, is_far: bool) {
        let mut far = lock(&self.far);
        if is_far {
            far.insert(device);
        } else {
            far.remove(&device);
        }
    }

    /// Whether the last answer of a device began late.
    pub(super) fn is_far(&self, device: &VerifyingKey) -> bool {
        lock(&self.far).contains(device)
    }

    /// Counts a request to a device, whatever is under way.
    pub(super) fn lane(&self, device: VerifyingKey) -> Lane<'_> {
        *lock(&self.in_use).entry(device).or_default() += 1;
        Lane { of: self, device }
    }

    /// Counts one more request to a device, if fewer than `most` are under way.
    pub(super) fn spare_lane(&self, device: VerifyingKey, most: usize) -> Option<Lane<'_>> {
        let is_spare = lock(&self.in_use).get(&device).is_none_or(|count| *count < most);
        is_spare.then(|| self.lane(device))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
