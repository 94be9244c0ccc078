//! Random stores against a naive model: packs are lists of chunks, and what must hold is said chunk by chunk.

use locker_crypto::id::VerifyingKey;
use proptest::prelude::*;

use super::*;

/// A pack as the model sees it.
#[derive(Clone, Debug)]
struct Pack {
    chunks: BTreeSet<u8>,
    /// Bytes of each chunk.
    each: u32,
    state: PackState,
    named: u64,
    is_mine: bool,
    is_pinned: bool,
    others: u32,
    is_linked: bool,
    is_in_transfer: bool,
}

fn present() -> PackState {
    PackState::Present { verified_at: 0 }
}

fn packs(most: usize) -> impl Strategy<Value = Vec<Pack>> {
    let state = prop_oneof![
        6 => Just(present()),
        1 => Just(PackState::Wanted),
        1 => Just(PackState::Lost),
        1 => Just(PackState::Released),
        1 => Just(PackState::Deleting),
    ];
    let each = prop_oneof![Just(1_000_u32), Just(300_000)];
    let flags =
        (any::<bool>(), prop::bool::weighted(0.9), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let pack = (prop::collection::btree_set(0_u8..24, 1..6), each, state, 0_u64..5, 0_u32..3, flags);
    let pack = pack.prop_map(|(chunks, each, state, named, others, flags)| {
        let (is_mine, is_pinned, is_linked, is_in_transfer) = flags;
        Pack { chunks, each, state, named, is_mine, is_pinned, others, is_linked, is_in_transfer }
    });
    prop::collection::vec(pack, 1..most)
}

fn needs() -> impl Strategy<Value = Vec<Need>> {
    let need = prop_oneof![Just(Need::Live), Just(Need::Over), (0_u32..30).prop_map(Need::Kept)];
    prop::collection::vec(need, 24)
}

fn facts(packs: &[Pack], needs: &[Need]) -> BTreeMap<u32, Facts> {
    let mut found: BTreeMap<u32, Facts> = packs
        .iter()
        .enumerate()
        .map(|(n, pack)| {
            let number = u32::try_from(n).unwrap();
            let author = VerifyingKey([1; 32]);
            let is_pinned = pack.is_pinned && pack.state == present();
            let facts = Facts {
                number,
                hash: PackHash([u8::try_from(n).unwrap(); 32]),
                len: (pack.each * u32::try_from(pack.chunks.len()).unwrap()).max(4_096),
                state: pack.state,
                naming: Some(Naming { hlc: pack.named, author }),
                is_mine: pack.is_mine,
                is_pinned,
                pins: pack.others + u32::from(is_pinned),
                is_linked: pack.is_linked,
                is_in_transfer: pack.is_in_transfer,
                holds: Holds::default(),
            };
            (number, facts)
        })
        .collect();
    let mut tally = Tally::default();
    for (chunk, need) in (0_u8..).zip(needs) {
        let holders: Vec<&Facts> =
            found.values().filter(|facts| packs[facts.number as usize].chunks.contains(&chunk)).collect();
        let need = if holders.iter().any(|facts| facts.is_linked) { Need::Live } else { *need };
        let home = home(holders.iter().copied());
        let places: Vec<(u32, u64)> =
            holders.iter().map(|f| (f.number, packs[f.number as usize].each.into())).collect();
        tally.add(places, home, need);
    }
    tally.hand_out(&mut found);
    found
}

/// The chunks that can be read here.
fn readable<'p>(packs: impl IntoIterator<Item = &'p Pack>) -> BTreeSet<u8> {
    let here = packs.into_iter().filter(|pack| pack.state == present());
    here.flat_map(|pack| pack.chunks.iter().copied()).collect()
}

fn needed(packs: &[Pack], needs: &[Need]) -> BTreeSet<u8> {
    let linked: BTreeSet<u8> =
        packs.iter().filter(|pack| pack.is_linked).flat_map(|pack| pack.chunks.iter().copied()).collect();
    (0_u8..24).filter(|n| needs[usize::from(*n)] != Need::Over || linked.contains(n)).collect()
}

/// Carries decisions out: what goes goes, and of what is made anew the needed chunks come into a pack that is named last.
fn carry_out(packs: &[Pack], needs: &[Need], fates: &BTreeMap<u32, (Fate, Why)>) -> Vec<Pack> {
    let needed = needed(packs, needs);
    let found = facts(packs, needs);
    let home_of =
        |chunk: &u8| home(found.values().filter(|f| packs[f.number as usize].chunks.contains(chunk)));
    let is_made_anew = |number: u32| fates[&number].0 == Fate::Repacked;
    let mut after = Vec::new();
    let mut copied = BTreeSet::new();
    for (n, pack) in packs.iter().enumerate() {
        match fates[&u32::try_from(n).unwrap()].0 {
            Fate::Released => {}
            Fate::Wanted => after.push(Pack { state: PackState::Wanted, ..pack.clone() }),
            Fate::Kept => after.push(pack.clone()),
            Fate::Repacked => {
                let to_copy = |chunk: &&u8| home_of(chunk).is_some_and(is_made_anew);
                copied.extend(pack.chunks.intersection(&needed).filter(to_copy).copied());
                after.push(pack.clone());
            }
        }
    }
    if !copied.is_empty() {
        let named = packs.iter().map(|pack| pack.named).max().unwrap() + 1;
        let (is_mine, is_pinned) = (true, true);
        let (is_linked, is_in_transfer) = (false, false);
        let state = present();
        after.push(Pack {
            chunks: copied,
            each: 1_000,
            state,
            named,
            is_mine,
            is_pinned,
            others: 0,
            is_linked,
            is_in_transfer,
        });
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Goal: nothing that is needed and can be read here ceases to be, whatever is linked, sent or only partly here; and
    /// what nothing holds on to goes.
    #[test]
    fn what_is_needed_stays_and_what_is_not_goes(packs in packs(8), needs in needs(), is_blind: bool) {
        let terms = Terms { copies_wanted: 2, is_blind };
        let found = facts(&packs, &needs);
        let fates = decide(&found, &terms);
        let needed = needed(&packs, &needs);
        let before: BTreeSet<u8> = readable(&packs).intersection(&needed).copied().collect();
        let after = readable(&carry_out(&packs, &needs, &fates));
        prop_assert!(before.is_subset(&after), "{before:?} {after:?} {fates:?}");
        for (number, (fate, why)) in &fates {
            let pack = &packs[*number as usize];
            let is_useless = pack.chunks.is_disjoint(&needed);
            let is_free = !is_blind && !pack.is_linked && !pack.is_in_transfer;
            let is_settled = matches!(pack.state, PackState::Deleting | PackState::Released);
            match fate {
                Fate::Released if pack.state == PackState::Released => {
                    prop_assert!(pack.others == 0);
                }
                Fate::Released => prop_assert!(is_free || is_settled, "{why:?}"),
                Fate::Repacked => {
                    prop_assert!(is_free && pack.is_mine && pack.state == present());
                    let needed = pack.chunks.intersection(&needed).count();
                    prop_assert!(*why == Why::Small || needed * 2 < pack.chunks.len() || packs.len() > 1);
                }
                Fate::Wanted => prop_assert!(pack.state == PackState::Released && !is_useless),
                Fate::Kept => prop_assert!(!is_free || !is_useless || pack.state == PackState::Released),
            }
        }
    }

    /// Goal: one device alone comes to rest, and then hardly anything lies there that is not needed. Method: decisions are
    /// carried out until nothing changes.
    #[test]
    fn decisions_come_to_rest(mut packs in packs(90), needs in needs()) {
        for pack in &mut packs {
            pack.state = present();
            (pack.is_mine, pack.is_pinned, pack.is_linked, pack.is_in_transfer) = (true, true, false, false);
            pack.others = 0;
        }
        let terms = Terms { copies_wanted: 2, is_blind: false };
        for round in 0.. {
            prop_assert!(round < 8, "no rest: {packs:?}");
            let fates = decide(&facts(&packs, &needs), &terms);
            if fates.values().all(|(fate, _)| *fate == Fate::Kept) {
                break;
            }
            packs = carry_out(&packs, &needs, &fates);
        }
        let found = facts(&packs, &needs);
        prop_assert!(found.values().filter(|f| f.len < SMALL_PACK_BYTES).count() <= SMALL_PACKS_MAX);
        for facts in found.values() {
            prop_assert!(!is_mostly_unneeded(facts), "{facts:?}");
        }
        prop_assert!(readable(&packs).is_superset(&needed(&packs, &needs).intersection(&readable(&packs)).copied().collect()));
    }
}

fn one_pack() -> Pack {
    Pack {
        chunks: BTreeSet::from([0, 1]),
        each: 1_000,
        state: present(),
        named: 1,
        is_mine: true,
        is_pinned: true,
        others: 0,
        is_linked: false,
        is_in_transfer: false,
    }
}

/// Goal: of two packs with the same chunks the earlier one goes only when the later one is here and on as many devices.
#[test]
fn a_copy_is_let_go_only_for_one_that_is_as_safe() {
    let needs = [Need::Live; 24];
    let terms = Terms { copies_wanted: 2, is_blind: false };
    let fate = |early: Pack, late: Pack| {
        let fates = decide(&facts(&[early, late], &needs), &terms);
        (fates[&0], fates[&1].0)
    };
    let early = one_pack();
    let late = Pack { named: 2, ..one_pack() };
    assert_eq!(fate(early.clone(), late.clone()), ((Fate::Released, Why::StoredTwice), Fate::Kept));
    let early_on_two = Pack { others: 1, ..early.clone() };
    assert_eq!(fate(early_on_two.clone(), late.clone()).0, (Fate::Kept, Why::AwaitsCopies));
    let late_on_two = Pack { others: 1, ..late.clone() };
    assert_eq!(fate(early_on_two, late_on_two.clone()).0, (Fate::Released, Why::StoredTwice));
    let late_to_come = Pack { state: PackState::Wanted, ..late_on_two };
    assert_eq!(fate(early, late_to_come).0, (Fate::Kept, Why::AwaitsCopies));
}

/// Goal: only many small packs are put together, and only by who may.
#[test]
fn many_small_packs_are_put_together() {
    let needs = [Need::Live; 24];
    let terms = Terms { copies_wanted: 2, is_blind: false };
    let small = |count: usize, is_mine| {
        let pack = |n: usize| Pack {
            chunks: BTreeSet::from([u8::try_from(n % 24).unwrap()]),
            is_mine,
            ..one_pack()
        };
        let packs: Vec<Pack> = (0..count).map(pack).collect();
        // Each chunk lies in its own pack only: give each its own bytes instead of twins.
        let mut found = facts(&packs, &needs);
        for facts in found.values_mut() {
            facts.holds = Holds { live: 1_000, ..Holds::default() };
        }
        let fates = decide(&found, &terms);
        fates.values().filter(|(fate, _)| *fate == Fate::Repacked).count()
    };
    assert_eq!(small(SMALL_PACKS_MAX, true), 0);
    assert_eq!(small(SMALL_PACKS_MAX + 1, true), SMALL_PACKS_MAX + 1);
    assert_eq!(small(SMALL_PACKS_MAX + 1, false), 0);
}
