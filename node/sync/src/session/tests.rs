//! Goal: however the wire behaves, sessions bring nodes to one state, within credit, and a peer learns nothing outside
//! its scope. Method: nodes with real catalogs in memory, joined by wires that deliver any number of bytes at a time
//! and are cut at any byte.

mod order;
mod rebirth;
mod scope;
mod world;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use world::{World, below};

/// Random histories on two or three nodes: entries, pins, cuts, and now and then a node that comes back from a backup
/// and forks.
#[test]
fn nodes_converge_whatever_the_wire_does() {
    let mut forks = 0;
    let mut cuts = 0;
    for seed in 0..60 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let nodes = 2 + below(&mut dice, 2);
        let mut world = World::new(nodes, &mut dice);
        let may_restore = seed % 4 == 0;
        for _ in 0..250 {
            match below(&mut dice, 20) {
                0..3 => {
                    let node = below(&mut dice, nodes);
                    world.write(node, 1, &mut dice);
                }
                3 => {
                    let node = below(&mut dice, nodes);
                    world.pin(node, &mut dice);
                }
                4 => {
                    world.cut_one(&mut dice);
                    cuts += 1;
                }
                5..7 => world.connect_one(&mut dice),
                7 => world.pass_ms(25),
                8 if may_restore && below(&mut dice, 10) == 0 => {
                    let node = below(&mut dice, nodes);
                    world.restore(node);
                }
                9 if may_restore => {
                    let node = below(&mut dice, nodes);
                    world.back_up(node);
                }
                _ => world.deliver_some(&mut dice),
            }
        }
        world.settle();
        world.assert_equal(&format!("seed {seed}"));
        forks += world.forked();
    }
    assert!(forks > 0 && cuts > 100, "{forks} forks, {cuts} cuts");
}

/// Entries far beyond one window: the sender stops at the credit and goes on with more.
#[test]
fn a_sender_keeps_within_the_credit() {
    let mut dice = ChaCha8Rng::seed_from_u64(7);
    let mut world = World::new(2, &mut dice);
    for _ in 0..40 {
        world.write(0, 60, &mut dice);
    }
    world.connect(0, 1);
    // The receiver's store stands still: exactly what fits the window comes.
    world.stall(1);
    for _ in 0..2_000 {
        world.deliver_some(&mut dice);
        world.pass_ms(20);
    }
    let outstanding = world.outstanding(0, 1);
    assert!(outstanding <= crate::limits::CREDIT_BYTES, "{outstanding}");
    assert!(outstanding > crate::limits::CREDIT_BYTES - 300_000, "{outstanding}");
    world.release(1);
    world.settle();
    world.assert_equal("after the stall");
}

/// What A writes reaches C through B, and C gets it once.
#[test]
fn entries_are_passed_on_once() {
    let mut dice = ChaCha8Rng::seed_from_u64(8);
    let mut world = World::new(3, &mut dice);
    world.connect(0, 1);
    world.connect(1, 2);
    world.settle_connected();
    for _ in 0..20 {
        world.write(0, 1, &mut dice);
    }
    world.settle_connected();
    world.assert_equal("a line");
    let through_the_line = world.entries_sent(1, 2);
    // A triangle: everybody could send to everybody, and nobody sends what the other says he has.
    world.connect(0, 2);
    world.settle_connected();
    let before: u64 = world.all_entries_sent();
    for _ in 0..20 {
        world.write(0, 1, &mut dice);
        world.settle_connected();
    }
    world.assert_equal("a triangle");
    assert_eq!(world.all_entries_sent() - before, 40, "each of two got each of 20 once");
    assert!(through_the_line >= 20);
}

/// T17 on the wire: a peer that shows less than it did itself is named; one that is only behind others is not.
#[test]
fn t17_less_than_before_is_a_rollback() {
    let mut dice = ChaCha8Rng::seed_from_u64(17);
    let mut world = World::new(3, &mut dice);
    world.write(0, 1, &mut dice);
    world.back_up(1);
    world.connect(0, 1);
    world.settle_connected();
    world.write(0, 1, &mut dice);
    world.settle_connected();
    assert_eq!(world.rollbacks(), 0);
    world.cut(0, 1);
    world.restore(1);
    // Behind what 0 told 2, but never ahead of itself towards 2: no warning there.
    world.connect(1, 2);
    world.settle_connected();
    assert_eq!(world.rollbacks(), 0);
    world.cut(1, 2);
    world.restore(1);
    world.connect(0, 1);
    world.settle_connected();
    assert!(world.rollbacks() > 0, "0 warns of 1");
    assert_eq!(world.rollbacks_at(0), world.rollbacks());
    world.settle();
    world.assert_equal("brought up to date");
}

/// T17 on the wire: a device that is new takes from one peer what that one has of the logs, and the rest from another
/// one that has not heard of all either: it ends with everything, and nobody is warned of.
#[test]
fn t17_a_new_device_unites_what_its_peers_hold() {
    let mut dice = ChaCha8Rng::seed_from_u64(19);
    let mut world = World::new(4, &mut dice);
    let meet = |world: &mut World, one: usize, other: usize| {
        world.connect(one, other);
        world.settle_connected();
        world.cut(one, other);
    };
    world.write(0, 1, &mut dice);
    world.write(0, 1, &mut dice);
    meet(&mut world, 0, 1);
    world.write(0, 1, &mut dice);
    world.pin(0, &mut dice);
    meet(&mut world, 0, 2);
    // What 2 does not know.
    world.write(1, 1, &mut dice);
    meet(&mut world, 3, 1);
    meet(&mut world, 3, 2);
    assert_eq!(world.rollbacks(), 0);
    // Nothing is left that anybody could give it.
    let before: u64 = (0..3).map(|from| world.entries_sent(from, 3)).sum();
    world.settle();
    world.assert_equal("united");
    assert_eq!((0..3).map(|from| world.entries_sent(from, 3)).sum::<u64>(), before);
    assert!(before >= 4 && world.rollbacks() == 0, "{before} entries came");
}

/// T17 on the wire: what a peer stored just before it left in order counts as had, though its acknowledgement was not due.
#[test]
fn t17_what_was_stored_at_the_end_is_acknowledged() {
    let mut dice = ChaCha8Rng::seed_from_u64(18);
    let mut world = World::new(2, &mut dice);
    world.write(0, 1, &mut dice);
    world.connect(0, 1);
    world.settle_connected();
    world.back_up(1);
    world.write(0, 1, &mut dice);
    world.pass_ms(crate::limits::PUSH_INTERVAL_MS);
    world.deliver(0, 1, usize::MAX);
    world.close(1, 0);
    world.restore(1);
    world.connect(0, 1);
    world.settle_connected();
    assert!(world.rollbacks_at(0) > 0, "0 warns of 1");
}

/// A peer that comes back shows its heads in a frontier; nothing is pulled that is held already.
#[test]
fn nothing_is_sent_twice_after_a_quiet_reconnection() {
    let mut dice = ChaCha8Rng::seed_from_u64(9);
    let mut world = World::new(2, &mut dice);
    for _ in 0..30 {
        world.write(0, 1, &mut dice);
    }
    world.settle();
    let sent = world.all_entries_sent();
    for _ in 0..5 {
        world.cut(0, 1);
        world.connect(0, 1);
        world.settle_connected();
    }
    // Ten minutes later frontiers are exchanged again.
    world.pass_ms(crate::limits::FRONTIER_INTERVAL_MS);
    world.settle_connected();
    assert_eq!(world.all_entries_sent(), sent);
}
