//! Which operation fails, and how: the orders of `locker_tests::faults`, carried out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use locker_tests::faults::{Counts, Fault, How, Kind};

/// What is to happen with one operation.
pub(crate) enum Verdict {
    /// It is carried out.
    Work,
    /// It fails with this number of an error.
    Fail(i32),
    /// A write takes half.
    Short,
}

/// The fault that is set, and what was seen since.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    fault: Option<Fault>,
    counts: BTreeMap<Kind, u64>,
    fired: u64,
}

impl Faults {
    /// Carries out an order: a fault to be set from now on, or `heal`. The answer is what was seen up to now.
    pub(crate) fn obey(&self, order: &str) -> String {
        let fault = match order {
            "heal" => None,
            _ => match order.parse() {
                Ok(fault) => Some(fault),
                Err(why) => return why,
            },
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *seen, Seen { fault, ..Seen::default() });
        Counts { by_kind: before.counts, fired: before.fired }.to_string()
    }

    /// Counts an operation and decides about it.
    pub(crate) fn judge(&self, kind: Kind) -> Verdict {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.counts.entry(kind).or_default();
        *count += 1;
        let count = *count;
        let Some(fault) = seen.fault.clone().filter(|fault| fault.kind == kind && fault.hits(count)) else {
            return Verdict::Work;
        };
        seen.fired += 1;
        match fault.how {
            How::Errno(number) => Verdict::Fail(number),
            How::Short => Verdict::Short,
        }
    }
}
