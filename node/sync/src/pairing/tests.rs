//! Whole runs of a pairing: the gate of both users, the times, the tries, and what a wire can do.

use locker_crypto::Refusal;
use locker_crypto::capability::{self, Capability, Rights, Scope, Terms};
use locker_crypto::id::{PersonId, SpaceTag, VerifyingKey};
use locker_crypto::identity::{DeviceKeys, Slot};
use locker_crypto::pairing::Digits;
use locker_crypto::secret::{PersonKey, RendezvousMaster, RendezvousSecret, Ticket};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::message::Message;
use super::*;
use crate::message::{FrameDecoder, FrameLimits};

const NOW: u64 = 1_800_000_000;
const PERSON: PersonId = PersonId([7; 32]);

/// Both ends of a run, joined byte by byte.
struct Run {
    new: NewDevice,
    old: OldDevice,
    to_new: Vec<u8>,
    to_old: Vec<u8>,
    digits: [Option<Digits>; 2],
    welcome: Option<PersonId>,
    enrol: Option<Box<Enrol>>,
    granted: Option<Box<Grant>>,
    is_done: bool,
    /// All that went over the wire.
    wire: Vec<u8>,
}

impl Run {
    fn start(ticket: &Ticket, other: &Ticket) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        let (new, to_old) = NewDevice::start(ticket, Role::Full, "laptop of Ada", &mut dice).unwrap();
        let old = OldDevice::start(other, PERSON, &mut dice).unwrap();
        Self {
            new,
            old,
            to_new: Vec::new(),
            to_old,
            digits: [None; 2],
            welcome: None,
            enrol: None,
            granted: None,
            is_done: false,
            wire: Vec::new(),
        }
    }

    /// Delivers everything, a few bytes at a time.
    fn deliver(&mut self, now: u64) -> Result<(), Refusal> {
        while !self.to_new.is_empty() || !self.to_old.is_empty() {
            let bytes = std::mem::take(&mut self.to_old);
            self.wire.extend_from_slice(&bytes);
            for part in bytes.chunks(97) {
                for step in self.old.receive(part, now)? {
                    match step {
                        OldStep::Send(bytes) => self.to_new.extend_from_slice(&bytes),
                        OldStep::Begun => {}
                        OldStep::Compare(digits, name) => {
                            assert_eq!((name.role, name.name.as_str()), (Role::Full, "laptop of Ada"));
                            self.digits[1] = Some(digits);
                        }
                        OldStep::Enrol(enrol) => self.enrol = Some(enrol),
                        OldStep::Done => self.is_done = true,
                    }
                }
            }
            let bytes = std::mem::take(&mut self.to_new);
            self.wire.extend_from_slice(&bytes);
            for part in bytes.chunks(89) {
                let steps = self.new.receive(part, now)?;
                self.take(steps);
            }
        }
        Ok(())
    }

    fn take(&mut self, steps: Vec<NewStep>) {
        for step in steps {
            match step {
                NewStep::Send(bytes) => self.to_old.extend_from_slice(&bytes),
                NewStep::Compare(digits) => self.digits[0] = Some(digits),
                NewStep::Welcome(person) => self.welcome = Some(person),
                NewStep::Granted(grant) => self.granted = Some(grant),
            }
        }
    }

    fn confirm_new(&mut self, now: u64) -> Result<(), Refusal> {
        let steps = self.new.confirm(now)?;
        self.take(steps);
        Ok(())
    }

    fn confirm_old(&mut self, now: u64) -> Result<(), Refusal> {
        let bytes = self.old.confirm(now)?;
        self.to_new.extend_from_slice(&bytes);
        Ok(())
    }
}

fn ticket(n: u8) -> Ticket {
    Ticket::new([n; 11])
}

fn enrol() -> Enrol {
    let device = DeviceKeys::random(&mut ChaCha8Rng::seed_from_u64(2));
    let keys = Enrol::new(Role::Full, "laptop of Ada", &PERSON, &device);
    assert_eq!(keys.candidate().device, device.verifying_key());
    keys
}

fn grant(object_len: usize) -> Grant {
    Grant {
        role: Role::Full,
        person_log: vec![vec![1; 500], vec![2; 300]],
        person_key: Some((3, PersonKey::new([0x5a; 32]))),
        master: Some((1, RendezvousMaster::new([0x5b; 32]))),
        replicas: vec![(Slot::new(2).unwrap(), VerifyingKey([9; 32]))],
        objects: vec![vec![0x77; object_len], Vec::new()],
        custody: None,
    }
}

/// What a blind store gets, under a slot.
fn custody(slot: u32) -> Custody {
    let mut dice = ChaCha8Rng::seed_from_u64(5);
    let owner = DeviceKeys::random(&mut dice);
    let grant = capability::Grant {
        audience: DeviceKeys::random(&mut dice).verifying_key(),
        space_tag: SpaceTag([4; 16]),
        rights: Rights::REPLICATE,
        scope: Scope::Space,
        not_before: NOW,
        expires: NOW + 1,
        depth: 0,
        quota: None,
        terms: Terms::default(),
    };
    Custody {
        slot: Slot::new(slot).unwrap(),
        secret: RendezvousSecret::new([0x5c; 32]),
        quota: 1 << 40,
        keep_days: 30,
        token: Capability::issue(owner.signing(), grant, &mut dice).unwrap(),
    }
}

/// Runs a pairing to its grant; whether the new device takes it.
fn takes(asked: Role, granted: Grant) -> bool {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let (mut new, mut to_old) = NewDevice::start(&ticket(1), asked, "shelf", &mut dice).unwrap();
    let mut old = OldDevice::start(&ticket(1), PERSON, &mut dice).unwrap();
    let keys = DeviceKeys::random(&mut dice);
    let (mut granted, mut to_new, mut are_confirmed) = (Some(granted), Vec::new(), false);
    loop {
        for step in old.receive(&std::mem::take(&mut to_old), NOW).unwrap() {
            match step {
                OldStep::Send(bytes) => to_new.extend(bytes),
                OldStep::Enrol(enrol) => {
                    assert_eq!(enrol.role, asked);
                    to_new.extend(old.grant(granted.take().unwrap()).unwrap());
                }
                OldStep::Begun | OldStep::Compare(..) | OldStep::Done => {}
            }
        }
        let Ok(steps) = new.receive(&std::mem::take(&mut to_new), NOW) else { return false };
        let mut is_shown = false;
        for step in steps {
            match step {
                NewStep::Send(bytes) => to_old.extend(bytes),
                NewStep::Compare(_) => is_shown = true,
                NewStep::Welcome(person) => {
                    let enrol = Enrol::new(asked, "shelf", &person, &keys);
                    to_old.extend(new.enrol(enrol).unwrap());
                }
                NewStep::Granted(_) => return true,
            }
        }
        if are_confirmed {
            continue;
        }
        for step in old.receive(&std::mem::take(&mut to_old), NOW).unwrap() {
            if let OldStep::Send(bytes) = step {
                to_new.extend(bytes);
            }
        }
        if is_shown {
            are_confirmed = true;
            to_new.extend(old.confirm(NOW).unwrap());
            for step in new.confirm(NOW).unwrap() {
                if let NewStep::Send(bytes) = step {
                    to_old.extend(bytes);
                }
            }
        }
    }
}

#[test]
fn a_device_takes_less_than_it_asked_for_and_never_more() {
    let blind = || Grant {
        role: Role::BlindStore,
        person_key: None,
        master: None,
        replicas: Vec::new(),
        custody: Some(custody(0)),
        ..grant(1)
    };
    assert!(takes(Role::Full, grant(1)) && takes(Role::Full, blind()) && takes(Role::BlindStore, blind()));
    assert!(!takes(Role::BlindStore, grant(1)));
}

#[test]
fn a_device_joins_when_both_users_confirmed() {
    for new_first in [true, false] {
        let mut run = Run::start(&ticket(1), &ticket(1));
        run.deliver(NOW).unwrap();
        assert!(run.digits[0].is_some() && run.digits[0] == run.digits[1]);
        assert!(run.old.has_begun());
        for step in 0..2 {
            assert_eq!(run.welcome, None, "nothing before both confirmed");
            if (step == 0) == new_first { run.confirm_new(NOW + 120) } else { run.confirm_old(NOW + 120) }
                .unwrap();
            run.deliver(NOW + 120).unwrap();
        }
        assert_eq!(run.welcome, Some(PERSON));
        // After the gate time does not press.
        let keys = enrol();
        run.to_old = run.new.enrol(keys.clone()).unwrap();
        run.deliver(NOW + 1_000).unwrap();
        assert!(run.enrol.as_deref() == Some(&keys));
        // Larger than one Noise message.
        run.to_new = run.old.grant(grant(200_000)).unwrap();
        run.deliver(NOW + 1_000).unwrap();
        assert!(run.granted.as_deref() == Some(&grant(200_000)));
        let secrets = [[0x5a; 32], [0x5b; 32], [0x77; 32], PERSON.0];
        for secret in secrets {
            assert!(!run.wire.windows(32).any(|window| window == secret), "T41: nothing in clear");
        }
        assert!(!run.wire.windows(6).any(|window| window == b"laptop"));
        let last = run.new.done().unwrap();
        assert!(matches!(run.old.receive(&last, NOW + 1_000).unwrap()[..], [OldStep::Done]));
        assert!(!run.is_done);
    }
}

/// Nothing is sent, and nothing is accepted, out of turn.
#[test]
fn nothing_happens_before_its_turn() {
    let mut run = Run::start(&ticket(1), &ticket(1));
    assert_eq!(run.confirm_new(NOW), Err(Refusal::Canon), "no digits yet");
    assert_eq!(run.confirm_old(NOW), Err(Refusal::Canon));
    assert!(run.old.grant(grant(1)).is_err());
    assert!(run.new.enrol(enrol()).is_err());
    run.deliver(NOW).unwrap();
    assert!(run.old.grant(grant(1)).is_err());
    assert!(run.new.enrol(enrol()).is_err());
    run.confirm_old(NOW).unwrap();
    assert_eq!(run.confirm_old(NOW), Err(Refusal::Canon), "twice");
    run.deliver(NOW).unwrap();
    assert!(run.old.grant(grant(1)).is_err() && run.new.enrol(enrol()).is_err());
    assert_eq!((run.welcome, run.enrol.is_some()), (None, false));

    // Two minutes, on each side.
    let mut late = Run::start(&ticket(1), &ticket(1));
    late.deliver(NOW).unwrap();
    assert_eq!(late.confirm_new(NOW + 121), Err(Refusal::Time));
    assert_eq!(late.confirm_old(NOW + 121), Err(Refusal::Time));
    let mut late = Run::start(&ticket(1), &ticket(1));
    late.deliver(NOW).unwrap();
    late.confirm_new(NOW + 120).unwrap();
    assert_eq!(late.deliver(NOW + 121), Err(Refusal::Time));
    assert!(late.old.confirm(NOW).is_err(), "the run is over");

    // Another name or role than the user saw.
    for change in [|e: &mut Enrol| e.name = "phone".into(), |e: &mut Enrol| e.role = Role::Player] {
        let mut run = Run::start(&ticket(1), &ticket(1));
        run.deliver(NOW).unwrap();
        run.confirm_new(NOW).unwrap();
        run.confirm_old(NOW).unwrap();
        run.deliver(NOW).unwrap();
        let mut keys = enrol();
        change(&mut keys);
        run.to_old = run.new.enrol(keys).unwrap();
        assert_eq!(run.deliver(NOW), Err(Refusal::Audience));
        assert!(run.old.grant(grant(1)).is_err());
    }
    let name = "x".repeat(256);
    assert!(NewDevice::start(&ticket(1), Role::Full, &name, &mut ChaCha8Rng::seed_from_u64(1)).is_err());
    assert!(NewDevice::start(&ticket(1), Role::Full, &name[1..], &mut ChaCha8Rng::seed_from_u64(1)).is_ok());
}

#[test]
fn another_ticket_ends_at_message_1_and_does_not_count() {
    let mut run = Run::start(&ticket(1), &ticket(2));
    assert_eq!(run.deliver(NOW), Err(Refusal::Tag));
    assert!(!run.old.has_begun() && run.to_new.is_empty() && run.digits == [None; 2]);

    let mut runs = Runs::new(NOW);
    assert!(runs.is_open(NOW + 599) && !runs.is_open(NOW + 600));
    assert!(runs.begin(NOW) && runs.begin(NOW) && runs.begin(NOW + 599));
    assert!(!runs.is_open(NOW) && !runs.begin(NOW), "three runs");
    let mut runs = Runs::new(NOW);
    assert!(runs.begin(NOW));
    runs.end();
    assert!(!runs.is_open(NOW) && !runs.begin(NOW), "a device was enrolled");
}

/// Goal: a ticket is over once nothing can come of it any more: neither sooner, while somebody still compares digits,
/// nor never, after a try that failed.
#[test]
fn a_ticket_is_over_when_no_run_can_begin_or_goes_on() {
    let mut runs = Runs::new(NOW);
    assert!(!runs.is_over(NOW + 599) && runs.is_over(NOW + 600) && !runs.has_begun(), "nobody came");
    assert!(runs.begin(NOW + 599));
    assert!(!runs.is_over(NOW + 700), "a run that began in time goes on");
    runs.run_ended();
    assert!(!runs.is_over(NOW + 599), "there may be another try");
    assert!(runs.is_over(NOW + 600) && runs.has_begun());

    let mut runs = Runs::new(NOW);
    assert!((0..3).all(|_| runs.begin(NOW)) && !runs.begin(NOW));
    for left in [2, 1, 0] {
        runs.run_ended();
        assert_eq!(runs.is_over(NOW), left == 0, "{left} go on");
    }
}

/// Two runs of a man in the middle who knows the ticket: each end sees digits of its own.
#[test]
fn a_man_in_the_middle_shows_other_digits() {
    let mut dice = ChaCha8Rng::seed_from_u64(9);
    let mut victim = Run::start(&ticket(1), &ticket(1));
    victim.deliver(NOW).unwrap();
    let mut other = Run::start(&ticket(1), &ticket(1));
    let (new, first) = NewDevice::start(&ticket(1), Role::Full, "laptop of Ada", &mut dice).unwrap();
    (other.new, other.to_old) = (new, first);
    other.deliver(NOW).unwrap();
    assert_ne!(victim.digits[0], other.digits[1]);
}

/// Every bit of the sealed part of a run counts.
#[test]
fn a_changed_wire_ends_the_run() {
    let mut dice = ChaCha8Rng::seed_from_u64(10);
    for _ in 0..300 {
        let mut run = Run::start(&ticket(1), &ticket(1));
        run.deliver(NOW).unwrap();
        run.confirm_new(NOW).unwrap();
        let at = 5 + dice.next_u32() as usize % (run.to_old.len() - 5);
        run.to_old[at] ^= 1 << (dice.next_u32() % 8);
        assert!(run.deliver(NOW).is_err());
        assert!(run.old.confirm(NOW).is_err());
    }
}

#[test]
fn messages_have_one_form() {
    let mut dice = ChaCha8Rng::seed_from_u64(11);
    let name = || Name { role: Role::BlindStore, name: "shelf".into() };
    let few = Grant { person_key: None, master: None, ..grant(3) };
    let blind =
        || Grant { role: Role::BlindStore, replicas: Vec::new(), custody: Some(custody(7)), ..few.clone() };
    let samples = [
        Message::Name(name()).encode(),
        Message::Confirm.encode(),
        Message::Welcome(PERSON).encode(),
        Message::Enrol(Box::new(enrol())).encode(),
        Message::Grant(Box::new(grant(10))).encode(),
        Message::Grant(Box::new(few.clone())).encode(),
        Message::Grant(Box::new(blind())).encode(),
        Message::Done.encode(),
    ];
    let read = |bytes: &[u8]| {
        let mut frames = FrameDecoder::new(FrameLimits::PairingGrant);
        frames.push(bytes);
        frames.next_frame().ok().flatten().and_then(|frame| Message::decode(frame).ok())
    };
    for sample in &samples {
        assert_eq!(read(sample).unwrap().encode(), *sample);
    }
    // Whoever keeps blindly gets a slot of its own and no key; nobody else gets a slot.
    let key = Some((0, PersonKey::new([1; 32])));
    for wrong in [
        Grant { custody: None, ..blind() },
        Grant { custody: Some(custody(16)), ..blind() },
        Grant { person_key: key, ..blind() },
        Grant { master: grant(1).master, ..blind() },
        Grant { role: Role::Full, ..blind() },
    ] {
        assert!(read(&Message::Grant(Box::new(wrong)).encode()).is_none());
    }
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut changed = samples[round % samples.len()].to_vec();
        for _ in 0..1 + dice.next_u32() % 2 {
            let at = dice.next_u32() as usize % changed.len();
            changed[at] = dice.next_u32().to_le_bytes()[0];
        }
        if let Some(message) = read(&changed) {
            let again = message.encode();
            assert_eq!(changed[..again.len()], again[..]);
            accepted += 1;
        }
    }
    assert!(accepted > 1_000);
}
