//! What proofs and failures of a device come to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use locker_crypto::id::{PackHash, VerifyingKey};
use locker_store::audits::{self, Audited};
use locker_store::{Reads, StoreError, WriteTxn, replicas};

use super::Challenge;
use crate::Error;
use crate::limits::{AUDITS_PER_DAY_CLOSE, MISS_PAUSE_S, MISSES_MAX, PROOF_FRESH_S};
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
    /// It was found to have less than it had, and proved nothing since: its copies do not count.
    SetBack,
    /// It failed to prove it within the last seven days: its copies do not count.
    Failed,
}

impl Standing {
    /// What is known of a device comes to this.
    pub(crate) fn of(audited: &Audited, now_s: u64) -> Self {
        let is_fresh = |at_s: u64| at_s > 0 && now_s.saturating_sub(at_s) <= PROOF_FRESH_S;
        if is_fresh(audited.failed_s) {
            Self::Failed
        } else if audited.set_back_s > 0 {
            Self::SetBack
        } else if is_fresh(audited.proved_s) {
            Self::Proved
        } else {
            Self::Said
        }
    }

    /// Whether what the device says that it holds counts as a copy.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Proved | Self::Said)
    }
}

/// Adds what came of asking.
fn add(audited: &mut Audited, proof: Proof, now_s: u64) {
    match proof {
        Proof::Given => {
            let proofs = audited.proofs.saturating_add(1);
            *audited = Audited { proved_s: now_s, misses: 0, proofs, set_back_s: 0, ..*audited };
        }
        Proof::Failed => audited.failed_s = now_s,
        Proof::Missed => audited.misses = audited.misses.saturating_add(1),
    }
}

/// Takes back what was proved before a device was found to have less than it had. It is looked at closely again, as a new
/// one is. By the order in which things were found, and not by their times: a clock may be wrong.
fn set_back(audited: &mut Audited, now_s: u64) {
    *audited = Audited { proved_s: 0, proofs: 0, set_back_s: now_s.max(1), ..*audited };
}

/// Writes down that a device was found to have less than it had: neither what it proved before nor what it said counts any
/// more, until it proves something anew.
///
/// # Errors
/// What reading gives.
pub(crate) fn note_set_back(txn: &mut WriteTxn<'_>, device: &VerifyingKey, now_s: u64) -> Result<(), Error> {
    // What cannot be read is written anew.
    let mut audited = match audits::of(txn, device) {
        Err(StoreError::Corrupt { .. }) => Audited::default(),
        read => read?,
    };
    set_back(&mut audited, now_s);
    audits::put(txn, device, &audited);
    // One proof is no word for what it lost: a replica is asked in every session what it holds, and says it again.
    replicas::forget_packs(txn, device)?;
    Ok(())
}

/// Questions that were not answered, one of each device: it is asked that one again, and not another, until it answers or
/// need not, else whoever is silent about what it lost would be asked something else the next time. Held by an open locker;
/// after a start it begins anew.
#[derive(Default)]
pub(crate) struct Unanswered(Mutex<BTreeMap<VerifyingKey, Silence>>);

#[derive(Clone)]
struct Silence {
    challenge: Challenge,
    misses: u32,
    last_s: u64,
}

impl Unanswered {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<VerifyingKey, Silence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a device is to be asked again now.
    pub(crate) fn due(&self, device: &VerifyingKey, now_s: u64) -> Option<Challenge> {
        let silence = self.lock().get(device)?.clone();
        (now_s.saturating_sub(silence.last_s) >= MISS_PAUSE_S).then_some(silence.challenge)
    }

    /// Forgets what a device need not answer any more.
    pub(crate) fn forget(&self, device: &VerifyingKey, pack: &PackHash) {
        let mut silences = self.lock();
        if silences.get(device).is_some_and(|silence| silence.challenge.pack == *pack) {
            silences.remove(device);
        }
    }

    /// Notes what came of a question, and says what that is: silence about one question, often enough and far enough
    /// apart, is a failure. An outage is one silence, however much was asked meanwhile.
    fn note(&self, device: &VerifyingKey, challenge: &Challenge, proof: Proof, now_s: u64) -> Proof {
        if proof != Proof::Missed {
            self.forget(device, &challenge.pack);
            return proof;
        }
        let mut silences = self.lock();
        let begun = Silence { challenge: challenge.clone(), misses: 0, last_s: 0 };
        let silence = silences.entry(*device).or_insert(begun);
        if silence.challenge.pack == challenge.pack && now_s.saturating_sub(silence.last_s) >= MISS_PAUSE_S {
            (silence.misses, silence.last_s) = (silence.misses + 1, now_s);
        }
        if silence.misses < MISSES_MAX {
            return Proof::Missed;
        }
        silences.remove(device);
        Proof::Failed
    }
}

impl Inner {
    /// Writes down what came of asking a device, and gives it.
    pub(crate) fn note_proof(
        &self,
        device: &VerifyingKey,
        challenge: &Challenge,
        proof: Proof,
        now_s: u64,
    ) -> Result<Proof, Error> {
        let proof = self.unanswered().note(device, challenge, proof, now_s);
        self.store()?.write(|txn: &mut WriteTxn<'_>| {
            let mut audited = audits::of(txn, device)?;
            add(&mut audited, proof, now_s);
            audits::put(txn, device, &audited);
            Ok(proof)
        })
    }

    /// Whether a device is to be looked at closely: it is new, was set back, or failed not long ago.
    pub(crate) fn is_audit_due(&self, device: &VerifyingKey, now_s: u64) -> Result<bool, Error> {
        let audited = audits::of(&self.store()?.read()?, device)?;
        let has_failed = audited.failed_s > 0 && now_s.saturating_sub(audited.failed_s) <= CLOSE_LOOK_S;
        Ok(has_failed || audited.proofs < u64::from(AUDITS_PER_DAY_CLOSE))
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
    use crate::Locker;
    use crate::replicas::says;
    use crate::test_mesh::World;

    const NOW: u64 = 1_800_000_000;

    fn after(proofs: &[Proof]) -> (Audited, Standing) {
        let mut audited = Audited::default();
        proofs.iter().for_each(|proof| add(&mut audited, *proof, NOW));
        (audited, Standing::of(&audited, NOW))
    }

    #[test]
    fn one_wrong_answer_is_a_failure() {
        use Proof::{Failed, Given, Missed};
        assert_eq!(after(&[]).1, Standing::Said);
        assert_eq!(after(&[Given]).1, Standing::Proved);
        assert_eq!(after(&[Given, Failed, Given]).1, Standing::Failed);
        assert_eq!(after(&[Missed, Missed, Missed]).1, Standing::Said);
        assert_eq!(after(&[Missed, Given, Missed]).1, Standing::Proved);
    }

    /// Goal: who is silent about one thing is named, whatever else it answers; who was away for a while is not, however much
    /// it was asked.
    #[test]
    fn silence_about_one_question_three_times_and_apart_is_a_failure() {
        use Proof::{Failed, Given, Missed};
        let (unanswered, device) = (Unanswered::default(), VerifyingKey([1; 32]));
        let about = |n| Challenge { pack: PackHash([n; 32]), len: 9, parts: [0..1, 1..2] };
        // An outage: many questions within minutes.
        for n in 0..100 {
            assert_eq!(unanswered.note(&device, &about(n), Missed, NOW + u64::from(n)), Missed);
        }
        assert_eq!(unanswered.due(&device, NOW + MISS_PAUSE_S - 1), None);
        assert_eq!(unanswered.due(&device, NOW + MISS_PAUSE_S), Some(about(0)));
        // What else is answered does not make up for it; another silence meanwhile is not counted twice.
        assert_eq!(unanswered.note(&device, &about(5), Given, NOW + MISS_PAUSE_S), Given);
        assert_eq!(unanswered.note(&device, &about(0), Missed, NOW + MISS_PAUSE_S), Missed);
        assert_eq!(unanswered.note(&device, &about(0), Missed, NOW + MISS_PAUSE_S + 1), Missed);
        assert_eq!(unanswered.note(&device, &about(0), Missed, NOW + 2 * MISS_PAUSE_S), Failed);
        assert_eq!(unanswered.due(&device, NOW + 9 * MISS_PAUSE_S), None);
        // Answered in the end.
        unanswered.note(&device, &about(7), Missed, NOW);
        assert_eq!(unanswered.note(&device, &about(7), Given, NOW + 2 * MISS_PAUSE_S), Given);
        assert_eq!(unanswered.due(&device, NOW + 9 * MISS_PAUSE_S), None);
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

    #[test]
    fn t17_what_was_proved_before_a_device_was_set_back_does_not_count() {
        let (mut audited, _) = after(&[Proof::Given, Proof::Given]);
        // Within the same second too.
        set_back(&mut audited, NOW);
        assert_eq!((audited.proved_s, audited.proofs), (0, 0));
        add(&mut audited, Proof::Missed, NOW);
        for now_s in [NOW, NOW + 30 * 86_400] {
            assert_eq!(Standing::of(&audited, now_s), Standing::SetBack);
        }
        assert!(!Standing::SetBack.counts() && !Standing::Failed.counts());
        // A new proof counts, whatever became of the clock.
        add(&mut audited, Proof::Given, NOW - 60);
        assert_eq!(Standing::of(&audited, NOW - 60), Standing::Proved);
        assert_eq!((audited.proofs, audited.set_back_s), (1, 0));
        // Who failed as well is told to have failed; once that is over, to have been set back.
        add(&mut audited, Proof::Failed, NOW);
        set_back(&mut audited, NOW);
        assert_eq!(Standing::of(&audited, NOW), Standing::Failed);
        assert_eq!(Standing::of(&audited, NOW + 8 * 86_400), Standing::SetBack);
    }

    #[test]
    fn t17_what_was_proved_and_said_before_is_gone_after_a_restart_too() {
        let (world, locker) = World::new();
        let (device, pack) = (VerifyingKey([1; 32]), PackHash([2; 32]));
        let challenge = Challenge { pack, len: 9, parts: [0..1, 1..2] };
        let prove = |locker: &Locker| {
            let (inner, now_s) = (locker.inner(), locker.inner().env().now_ms() / 1_000);
            assert_eq!(inner.note_proof(&device, &challenge, Proof::Given, now_s).unwrap(), Proof::Given);
        };
        let looked_at = |locker: &Locker| {
            let (inner, now_s) = (locker.inner(), locker.inner().env().now_ms() / 1_000);
            let snapshot = inner.store().unwrap().read().unwrap();
            let says = says(&snapshot, &device, &pack, now_s).unwrap();
            (inner.standing_of(&snapshot, &device).unwrap(), says)
        };
        locker.inner().note_said(&device, &[pack]).unwrap();
        prove(&locker);
        assert_eq!(looked_at(&locker), (Standing::Proved, true));
        let inner = locker.inner();
        inner.store().unwrap().write(|txn| note_set_back(txn, &device, NOW)).unwrap();
        drop(inner);
        assert_eq!(looked_at(&locker), (Standing::SetBack, false));
        drop(locker);
        let locker = world.open("first");
        assert_eq!(looked_at(&locker), (Standing::SetBack, false));
        // It proves something: only what it says since counts.
        prove(&locker);
        assert_eq!(looked_at(&locker), (Standing::Proved, false));
        locker.inner().note_said(&device, &[pack]).unwrap();
        assert_eq!(looked_at(&locker), (Standing::Proved, true));
    }
}
