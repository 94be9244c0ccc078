//! What proofs and failures of a device come to.

use locker_crypto::id::VerifyingKey;
use locker_store::audits::{self, Audited};
use locker_store::{Reads, WriteTxn};

use crate::Error;
use crate::limits::{AUDITS_PER_DAY_CLOSE, MISSES_MAX, PROOF_FRESH_S};
use crate::locker::Inner;

/// How long after a failure a device is looked at closely.
const CLOSE_LOOK_S: u64 = 86_400;

/// What came of asking for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The bytes that were asked for came, and are those of the pack.
    Given,
    /// It was refused, or other bytes came.
    Failed,
    /// No answer came in time.
    Missed,
}

/// How far the word of a device is to be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It proved that it holds what it says within the last seven days.
    Proved,
    /// It says so.
    Said,
    /// It failed to prove it within the last seven days: its copies do not count.
    Failed,
}

impl Standing {
    /// What is known of a device comes to this.
    pub(crate) fn of(audited: &Audited, now_s: u64) -> Self {
        let is_fresh = |at_s: u64| at_s > 0 && now_s.saturating_sub(at_s) <= PROOF_FRESH_S;
        if is_fresh(audited.failed_s) {
            Self::Failed
        } else if is_fresh(audited.proved_s) {
            Self::Proved
        } else {
            Self::Said
        }
    }
}

/// Adds what came of asking.
fn add(audited: &mut Audited, proof: Proof, now_s: u64) {
    match proof {
        Proof::Given => {
            *audited =
                Audited { proved_s: now_s, misses: 0, proofs: audited.proofs.saturating_add(1), ..*audited };
        }
        Proof::Failed => audited.failed_s = now_s,
        Proof::Missed => {
            audited.misses = audited.misses.saturating_add(1);
            if audited.misses >= MISSES_MAX {
                *audited = Audited { failed_s: now_s, misses: 0, ..*audited };
            }
        }
    }
}

impl Inner {
    /// Writes down what came of asking a device.
    pub(crate) fn note_proof(&self, device: &VerifyingKey, proof: Proof, now_s: u64) -> Result<(), Error> {
        self.store()?.write(|txn: &mut WriteTxn<'_>| {
            let mut audited = audits::of(txn, device)?;
            add(&mut audited, proof, now_s);
            audits::put(txn, device, &audited);
            Ok(())
        })
    }

    /// Whether a device is to be looked at closely: it is new, did not answer the last time, or failed not long ago.
    pub(crate) fn is_audit_due(&self, device: &VerifyingKey, now_s: u64) -> Result<bool, Error> {
        let audited = audits::of(&self.store()?.read()?, device)?;
        let has_failed = audited.failed_s > 0 && now_s.saturating_sub(audited.failed_s) <= CLOSE_LOOK_S;
        Ok(has_failed || audited.misses > 0 || audited.proofs < u64::from(AUDITS_PER_DAY_CLOSE))
    }

    /// Whether a device failed in the last seven days.
    pub(crate) fn has_failed(&self, device: &VerifyingKey) -> Result<bool, Error> {
        Ok(self.standing_of(&self.store()?.read()?, device)? == Standing::Failed)
    }

    /// How a device stands.
    pub(crate) fn standing_of<R: Reads>(&self, reads: &R, device: &VerifyingKey) -> Result<Standing, Error> {
        Ok(Standing::of(&audits::of(reads, device)?, self.env().now_ms() / 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn after(proofs: &[Proof]) -> (Audited, Standing) {
        let mut audited = Audited::default();
        proofs.iter().for_each(|proof| add(&mut audited, *proof, NOW));
        (audited, Standing::of(&audited, NOW))
    }

    #[test]
    fn one_wrong_answer_or_three_silences_in_a_row_are_a_failure() {
        use Proof::{Failed, Given, Missed};
        assert_eq!(after(&[]).1, Standing::Said);
        assert_eq!(after(&[Given]).1, Standing::Proved);
        assert_eq!(after(&[Given, Failed, Given]).1, Standing::Failed);
        assert_eq!(after(&[Missed, Missed]).1, Standing::Said);
        assert_eq!(after(&[Missed, Missed, Given, Missed, Missed]).1, Standing::Proved);
        assert_eq!(after(&[Given, Missed, Missed, Missed]).1, Standing::Failed);
    }

    #[test]
    fn proofs_and_failures_count_for_seven_days() {
        let day = 86_400;
        let (proved, _) = after(&[Proof::Given]);
        assert_eq!(Standing::of(&proved, NOW + 7 * day), Standing::Proved);
        assert_eq!(Standing::of(&proved, NOW + 7 * day + 1), Standing::Said);
        let (failed, _) = after(&[Proof::Failed]);
        assert_eq!(Standing::of(&failed, NOW + 7 * day), Standing::Failed);
        assert_eq!(Standing::of(&failed, NOW + 7 * day + 1), Standing::Said);
    }
}
