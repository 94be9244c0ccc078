//! Rows of the threat table that the person log answers.

use super::*;
use crate::sign::Domain;

/// T27: the root changes by both roots only, and the old one is none afterwards.
#[test]
fn t27_a_root_change_needs_the_old_root_and_ends_it() {
    let mut alice = Alice::new();
    let new = Root::from_entropy(&Entropy::new([2; 32]));
    let thief = Root::from_entropy(&Entropy::new([3; 32]));
    let set = |old: &Root, new: &Root, generation| {
        alice.author().set_root(old, new, generation, &alice.keys, &mut dice(1))
    };
    let roster = read(&alice.log).unwrap();
    assert_eq!(roster.clone().append(&set(&new, &new, 1).entry), Err(Refusal::Sig), "by the new root only");
    assert_eq!(roster.clone().append(&set(&thief, &new, 1).entry), Err(Refusal::Sig));
    assert_eq!(roster.clone().append(&set(&alice.root, &new, 2).entry), Err(Refusal::Chain));
    let mut unsigned = Entry::read(&alice.person(), &set(&alice.root, &new, 1).entry).unwrap();
    if let Op::SetRoot { new_sig, .. } = &mut unsigned.body.ops[0] {
        new_sig[0] ^= 1;
    }
    assert_eq!(alice.next(unsigned.body.ops[0].clone()), Err(Refusal::Sig), "by the old root only");

    let made = set(&alice.root, &new, 1);
    let objects = alice.push(made);
    let sealed = &objects.last().unwrap().1;
    let author = alice.laptop.verifying_key();
    assert!(
        open_key_box(new.box_keys(), &alice.person(), 0, &author, sealed).unwrap() == *alice.keys.newest()
    );
    let roster = read(&alice.log).unwrap();
    assert_eq!(*roster.root(), new.verifying_key());
    assert_eq!(*roster.person(), alice.person(), "the person keeps its name");
    assert_eq!(roster.generation(), 1);

    let again = alice.author().set_root(&alice.root, &thief, 2, &alice.keys, &mut dice(1));
    assert_eq!(roster.clone().append(&again.entry), Err(Refusal::Rights), "the old root afterwards");
    let third = alice.author().set_root(&new, &thief, 2, &alice.keys, &mut dice(1));
    assert_eq!(roster.clone().append(&third.entry), Ok(()));
}

/// T27: a change of words is for one person. Whoever keeps the log of another, as a replica does, cannot put it into his own, sign
/// it as his, and be believed by the holder of the new words, who knows no name of a person.
#[test]
fn t27_new_words_cannot_be_led_to_another_person() {
    let (alice, mallory) = (Alice::new(), Alice::of(9));
    let new = Root::from_entropy(&Entropy::new([2; 32]));
    let made = alice.author().set_root(&alice.root, &new, 1, &alice.keys, &mut dice(1));
    let mut op = Entry::read(&alice.person(), &made.entry).unwrap().body.ops[0].clone();
    let author = mallory.laptop.verifying_key();
    let by_mallory = mallory.root.sign(&op.change_bytes(&mallory.person(), &author));
    if let Op::SetRoot { old_sig, .. } = &mut op {
        *old_sig = by_mallory;
    }
    assert_eq!(mallory.next(op), Err(Refusal::Sig));
}

/// T27: a change of words is one device's. Another one, as one that a recovery has ended and that knows of neither, cannot write the
/// same as its own, and so end the recovery.
#[test]
fn t27_a_change_of_words_cannot_be_written_again_by_another_device() {
    let mut alice = Alice::new();
    let phone = DeviceKeys::random(&mut dice(20));
    alice.add(&phone);
    let new = Root::from_entropy(&Entropy::new([2; 32]));
    let made = alice.author().set_root(&alice.root, &new, 1, &alice.keys, &mut dice(1));
    let op = Entry::read(&alice.person(), &made.entry).unwrap().body.ops[0].clone();
    let person = alice.person();
    let own = alice.laptop.verifying_key();
    assert_eq!(
        op.check(&person, &own, 2).and(op.check_root(&alice.root.verifying_key(), &person, &own)),
        Ok(())
    );
    let other = phone.verifying_key();
    assert_eq!(op.check(&person, &other, 1), Err(Refusal::Sig));
    assert_eq!(op.check_root(&alice.root.verifying_key(), &person, &other), Err(Refusal::Sig));
}

/// T28: no device comes in without having signed for this person itself.
#[test]
fn t28_a_ghost_device_is_refused() {
    let alice = Alice::new();
    let ghost = DeviceKeys::random(&mut dice(20));
    let other = DeviceKeys::random(&mut dice(21));
    let good = Candidate::new(&alice.person(), &ghost);
    let candidates = [
        Candidate { pop_sig: [0; 64], ..good.clone() },
        Candidate { pop_sig: Candidate::new(&alice.person(), &other).pop_sig, ..good.clone() },
        Candidate { pop_sig: Candidate::new(&PersonId([9; 32]), &ghost).pop_sig, ..good.clone() },
        Candidate { box_key: other.box_keys().public().clone(), ..good.clone() },
        Candidate { device: other.verifying_key(), ..good.clone() },
    ];
    let mut enrolment = match &Entry::read_genesis(&alice.log[0]).unwrap().1.body.ops[0] {
        Op::Genesis { device, .. } => device.clone(),
        _ => panic!(),
    };
    for candidate in &candidates {
        let made = alice.author().add_device(candidate, "ghost", &alice.keys, &mut dice(22));
        assert_eq!(made.err(), Some(Refusal::Pop), "an honest device does not add it");
        enrolment.device = candidate.device;
        enrolment.box_key = candidate.box_key.hash();
        enrolment.pop_sig = candidate.pop_sig;
        let op = Op::AddDevice { device: enrolment.clone(), boxes: Vec::new() };
        assert_eq!(alice.next(op), Err(Refusal::Pop), "and nobody believes one that does");
    }
    let weak = Candidate { device: VerifyingKey([0; 32]), ..good };
    let made = alice.author().add_device(&weak, "ghost", &alice.keys, &mut dice(22));
    assert_eq!(made.err(), Some(Refusal::Key));
}

/// T20: a server cannot slip another person key into a log it passes on.
#[test]
fn t20_a_foreign_person_key_is_refused() {
    let alice = Alice::new();
    let mallory = PersonKey::new([66; 32]);
    let roster = read(&alice.log).unwrap();
    let public = mallory.box_keys().public().clone();
    assert_eq!(roster.person_box(public.as_bytes()).err(), Some(Refusal::Hash), "another object");

    let mut genesis = Entry::read(&alice.person(), &alice.log[0]).unwrap();
    if let Op::Genesis { person_box, .. } = &mut genesis.body.ops[0] {
        *person_box = public.hash();
    }
    assert_eq!(
        read(&[genesis.to_bytes(&alice.person())]).err(),
        Some(Refusal::Sig),
        "another name in the entry"
    );
    let resigned = alice.forge(alice.laptop.signing(), 0, EntryId::ZERO, genesis.body.ops);
    assert_eq!(read(&[resigned]).err(), Some(Refusal::Sig), "even by a device, without the root");

    // A key change by a device that nobody brought in, or a whole log of somebody else.
    let op = Op::RemoveDevice {
        removal: Removal {
            device: alice.laptop.verifying_key(),
            frontier: Frontier { seq: 0, entry: alice.last },
        },
        person_box: public.hash(),
        boxes: Vec::new(),
        back: [0; PUK_BACK_LEN],
    };
    let stranger = Signing::from_seed(&SigningSeed::new([5; 32]));
    let entry = alice.forge(&stranger, 0, EntryId::ZERO, vec![op]);
    assert_eq!(roster.clone().append(&entry), Err(Refusal::Chain));
    let root = Root::from_entropy(&Entropy::new([77; 32]));
    let made = Author::genesis(&root, &alice.laptop, &mallory, "x", 1, &mut dice(1)).unwrap();
    assert_ne!(Roster::begin(&made.entry).unwrap().person(), roster.person());
    assert_eq!(Entry::read(&alice.person(), &made.entry).err(), Some(Refusal::Scope));
    assert_eq!(roster.clone().append(&made.entry), Err(Refusal::Scope));
}

/// T12: every bit of a wrapped key counts.
#[test]
fn t12_every_flipped_bit_of_puk_back_and_puk_box_is_refused() {
    let (newer, older) = (PersonKey::new([1; 32]), PersonKey::new([2; 32]));
    let mut back = seal_back(&newer, &older);
    for at in 0..back.len() * 8 {
        back[at / 8] ^= 1 << (at % 8);
        assert_eq!(open_back(&newer, &back).err(), Some(Refusal::Tag));
        back[at / 8] ^= 1 << (at % 8);
    }
    assert!(open_back(&newer, &back).unwrap() == older);
    let keys = BoxKeys::from_seed(&BoxSeed::new([3; 32]));
    let (person, author) = (PersonId([4; 32]), VerifyingKey([5; 32]));
    let mut sealed = seal_key_box(&person, 0, &author, &newer, keys.public(), &mut dice(1));
    for at in (0..sealed.len() * 8).step_by(3) {
        sealed[at / 8] ^= 1 << (at % 8);
        let answer = open_key_box(&keys, &person, 0, &author, &sealed).err();
        assert!(matches!(answer, Some(Refusal::Tag | Refusal::Key)), "{at}");
        sealed[at / 8] ^= 1 << (at % 8);
    }
}

/// T70: low-order keys of device, root and person are refused even if the log names them.
#[test]
fn t70_low_order_box_keys_named_by_a_log_are_refused() {
    let mut low = *BoxKeys::from_seed(&BoxSeed::new([1; 32])).public().as_bytes();
    low[1_184..].fill(0);
    let name = ObjectHash(*blake3::hash(&low).as_bytes());
    let alice = Alice::new();
    let mut genesis = Entry::read(&alice.person(), &alice.log[0]).unwrap().body.ops.remove(0);
    if let Op::Genesis { root_box, person_box, device, .. } = &mut genesis {
        (*root_box, *person_box, device.box_key) = (name, name, name);
        let message = [alice.person().0, device.device.0, name.0].concat();
        device.pop_sig = alice.laptop.signing().sign(Domain::Device, &message);
    }
    let signature = alice.root.sign(&genesis.signed_bytes());
    if let Op::Genesis { root_sig, .. } = &mut genesis {
        *root_sig = signature;
    }
    let entry = alice.forge(alice.laptop.signing(), 0, EntryId::ZERO, vec![genesis]);
    let roster = Roster::begin(&entry).unwrap();
    assert_eq!(roster.root_box(&low).err(), Some(Refusal::Key));
    assert_eq!(roster.person_box(&low).err(), Some(Refusal::Key));
    assert_eq!(roster.device_box(&alice.laptop.verifying_key(), &low).err(), Some(Refusal::Key));
}
