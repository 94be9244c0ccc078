//! Goal: whoever takes much away and then forks his key neither gets what is held through nor takes away what he had
//! put there.

use super::*;

/// T93, T84: 501 of 1,000 files are trashed and held; then a second entry comes of the same author, beside the first
/// of these, or at its first number but one, which trashes more. What nobody else knew counts for nothing: everything
/// is there, shown and replayed, whatever came first, and after the space is opened again.
#[test]
fn t93_a_fork_while_something_is_held_takes_nothing_away() {
    for at_beginning in [false, true] {
        let mut world = World::new(1_000, |n| format!("text {n}"));
        let known = world.head;
        // Here it is known what the author had put there.
        world.write_own(vec![Op::Move(Move {
            node: node(5_000),
            parent: NodeId::ROOT,
            name: "own".into(),
            kind: 1,
        })]);
        world.trash(0..501);
        assert_eq!((world.space.is_apart(), world.shown(), world.replayed()), (true, 1_000, 499));
        let prev = if at_beginning { world.history.entries[0].id } else { known };
        let ops = (501..600).map(|n| Op::Trash(Trash { node: node(n) })).collect();
        let twin = world.history.write(P, Some(prev), &[], ops);
        world.deliver();
        assert_eq!(world.space.forked().map(|(author, _)| author).collect::<Vec<_>>(), [device(P)]);
        assert!(world.space.holds(&world.rows, &world.history.name(&twin)).unwrap());
        let naive = naive_state(&world.history);
        let look = |space: &Space, rows: &MemoryRows| {
            let shown = tree::counts(&Shown::new(rows).unwrap()).unwrap().files;
            assert_eq!((shown, tree::counts(rows).unwrap().files), (1_000, 1_000), "{at_beginning}");
            assert_eq!(state_hash(rows).unwrap(), naive.state_hash);
            check_shown(0, &world.history, space, rows);
        };
        look(&world.space, &world.rows);
        let opened = Space::open(&world.rows, world.history.id(), device(L)).unwrap();
        look(&opened, &world.rows);
        // The other way round: the twin was here before what it stands beside.
        let (mut space, mut rows) = empty_space(&world.history, device(L));
        let (last, others) = world.history.entries.split_last().unwrap();
        for entry in [last].into_iter().chain(others) {
            space.accept(&mut rows, entry.clone(), world.now_ms).unwrap();
        }
        look(&space, &rows);
    }
}
