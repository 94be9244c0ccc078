//! What proofs and failures of a device come to.

use locker_crypto::id::{PackHash, VerifyingKey};
use locker_store::audits::{self, Audited, Silence};
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

/// What a device is to be asked again now. It is asked the one question that it did not answer, and not another, until
/// it answers or need not: else whoever is silent about what it lost would be asked something else the next time.
fn due(audited: &Audited, now_s: u64) -> Option<Challenge> {
    let is_due = |silence: &Silence| is_apart(silence, now_s) || now_s < silence.last_s;
    let silence = audited.silence.filter(is_due)?;
    let parts = silence.parts.map(|[from, to]| from..to);
    Some(Challenge { pack: silence.pack, len: silence.len, parts })
}

/// Whether a silence is long enough ago for another one to count.
fn is_apart(silence: &Silence, now_s: u64) -> bool {
    silence.misses == 0 || now_s.saturating_sub(silence.last_s) >= MISS_PAUSE_S
}

/// Forgets what a device need not answer any more. Returns whether there was such a thing.
fn forget(audited: &mut Audited, pack: &PackHash) -> bool {
    audited.silence.take_if(|silence| silence.pack == *pack).is_some()
}

/// Notes what came of a question, and says what that is: silence about one question, often enough and far enough apart,
/// is a failure. An outage is one silence, however much was asked meanwhile.
fn hear(audited: &mut Audited, challenge: &Challenge, proof: Proof, now_s: u64) -> Proof {
    if proof != Proof::Missed {
        forget(audited, &challenge.pack);
        return proof;
    }
    let parts = challenge.parts.clone().map(|part| [part.start, part.end]);
    let begun = Silence { pack: challenge.pack, len: challenge.len, parts, misses: 0, last_s: 0 };
    let silence = audited.silence.get_or_insert(begun);
    // Where a clock that was ahead is put right, nobody knows how long ago the last silence was: as if now.
    silence.last_s = silence.last_s.min(now_s);
    if silence.pack == challenge.pack && is_apart(silence, now_s) {
        (silence.misses, silence.last_s) = (silence.misses.saturating_add(1), now_s);
    }
    if silence.misses < MISSES_MAX {
        return Proof::Missed;
    }
    audited.silence = None;
    Proof::Failed
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
        self.store()?.write(|txn: &mut WriteTxn<'_>| {
            let mut audited = audits::of(txn, device)?;
            let proof = hear(&mut audited, challenge, proof, now_s);
            add(&mut audited, proof, now_s);
            audits::put(txn, device, &audited);
            Ok(proof)
        })
    }

    /// What a device is to be asked again now, as it did not answer.
    pub(crate) fn unanswered(&self, device: &VerifyingKey, now_s: u64) -> Result<Option<Challenge>, Error> {
        Ok(due(&audits::of(&self.store()?.read()?, device)?, now_s))
    }

    /// A device need not answer any more what it was asked about a pack.
    pub(crate) fn forget_unanswered(&self, device: &VerifyingKey, pack: &PackHash) -> Result<(), Error> {
        let store = self.store()?;
        // Mostly there is nothing to forget, and nothing to be written.
        if !forget(&mut audits::of(&store.read()?, device)?, pack) {
            return Ok(());
        }
        store.write(|txn: &mut WriteTxn<'_>| {
            let mut audited = audits::of(txn, device)?;
            forget(&mut audited, pack);
            audits::put(txn, device, &audited);
            Ok(())
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
    fn t55_one_wrong_answer_is_a_failure() {
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
    fn t55_silence_about_one_question_three_times_and_apart_is_a_failure() {
        use Proof::{Failed, Given, Missed};
        let mut audited = Audited::default();
        let about = |n| Challenge { pack: PackHash([n; 32]), len: 9, parts: [0..1, 1..2] };
        // An outage: many questions within minutes.
        for n in 0..100 {
            assert_eq!(hear(&mut audited, &about(n), Missed, NOW + u64::from(n)), Missed);
        }
        assert_eq!(due(&audited, NOW + MISS_PAUSE_S - 1), None);
        assert_eq!(due(&audited, NOW + MISS_PAUSE_S), Some(about(0)));
        // What else is answered does not make up for it; another silence meanwhile is not counted twice.
        assert_eq!(hear(&mut audited, &about(5), Given, NOW + MISS_PAUSE_S), Given);
        assert_eq!(hear(&mut audited, &about(0), Missed, NOW + MISS_PAUSE_S), Missed);
        assert_eq!(hear(&mut audited, &about(0), Missed, NOW + MISS_PAUSE_S + 1), Missed);
        assert_eq!(hear(&mut audited, &about(0), Missed, NOW + 2 * MISS_PAUSE_S), Failed);
        assert_eq!(due(&audited, NOW + 9 * MISS_PAUSE_S), None);
        // Answered in the end.
        hear(&mut audited, &about(7), Missed, NOW);
        assert_eq!(hear(&mut audited, &about(7), Given, NOW + 2 * MISS_PAUSE_S), Given);
        assert_eq!(due(&audited, NOW + 9 * MISS_PAUSE_S), None);
        // A clock that was years ahead and is right again keeps no silence for ever, and makes none of itself: the time
        // counts from where it was put right.
        hear(&mut audited, &about(8), Missed, NOW + 100_000_000);
        assert_eq!(due(&audited, NOW), Some(about(8)));
        for _ in 0..5 {
            assert_eq!(hear(&mut audited, &about(8), Missed, NOW), Missed);
        }
        assert_eq!(due(&audited, NOW + MISS_PAUSE_S - 1), None);
        assert_eq!(hear(&mut audited, &about(8), Missed, NOW + MISS_PAUSE_S - 1), Missed);
        assert_eq!(hear(&mut audited, &about(8), Missed, NOW + MISS_PAUSE_S), Missed);
        assert_eq!(hear(&mut audited, &about(8), Missed, NOW + 2 * MISS_PAUSE_S), Failed);
    }

    /// T55: one answer that is late, or two, do not count, and three do, whatever restarts between them.
    #[test]
    fn t55_a_restart_makes_no_silence_forgotten() {
        use Proof::{Failed, Missed};
        let (world, mut locker) = World::new();
        let device = VerifyingKey([1; 32]);
        let asked = Challenge { pack: PackHash([2; 32]), len: 9, parts: [0..1, 3..9] };
        let last_s = locker.inner().env().now_ms() / 1_000;
        for (n, expected) in [Missed, Missed, Failed].into_iter().enumerate() {
            let now_s = last_s - (2 - n as u64) * MISS_PAUSE_S;
            let inner = locker.inner();
            if n > 0 {
                assert_eq!(inner.unanswered(&device, now_s).unwrap(), Some(asked.clone()));
            }
            assert_eq!(inner.note_proof(&device, &asked, Missed, now_s).unwrap(), expected);
            assert_eq!(inner.has_failed(&device).unwrap(), expected == Failed);
            drop(inner);
            drop(locker);
            locker = world.open("first");
        }
        assert_eq!(locker.inner().unanswered(&device, last_s + MISS_PAUSE_S).unwrap(), None);
        // What need not be answered any more is forgotten for good, and nothing else is.
        let inner = locker.inner();
        inner.note_proof(&device, &asked, Missed, last_s).unwrap();
        inner.forget_unanswered(&device, &PackHash([3; 32])).unwrap();
        assert_eq!(inner.unanswered(&device, last_s + MISS_PAUSE_S).unwrap(), Some(asked.clone()));
        inner.forget_unanswered(&device, &asked.pack).unwrap();
        assert_eq!(inner.unanswered(&device, last_s + MISS_PAUSE_S).unwrap(), None);
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
