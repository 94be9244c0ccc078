//! Goal: a space ends in the state that replay of its counting entries gives, whatever the order of delivery.
//! Method: histories written by simulated devices, delivered shuffled, with duplicates and gaps, to fresh spaces, and
//! compared with a naive reading of all entries at once; and the attack rows that concern whole spaces.

mod again;
mod ahead;
mod attacks;
mod brake;
mod history;
mod naive;
mod stranded;

use history::{History, below, deliver, deliver_deferred, shuffled};
use naive::naive_state;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::tree::{problems, state_hash};

/// Number of random histories: a few hundred, or what the environment says when the whole batch is wanted.
#[expect(clippy::disallowed_methods, reason = "only the size of the batch comes from outside")]
fn histories() -> u64 {
    std::env::var("LOCKER_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// T93: of forked authors too.
#[test]
fn t93_every_order_of_delivery_gives_one_state() {
    let mut forks = 0;
    let mut refused = 0;
    for seed in 0..histories() {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let history = History::random(&mut dice);
        let naive = naive_state(&history);
        for round in 0..3 {
            let order = shuffled(&history, &mut dice);
            let (space, rows) = match round {
                0 | 1 => deliver(&history, &order),
                _ => deliver_deferred(&history, &order, below(&mut dice, order.len() + 1)),
            };
            assert!(space.waiting().is_empty(), "seed {seed} round {round}: {:?}", space.waiting().missing());
            assert_eq!(
                space.access().members(),
                naive.access.members(),
                "seed {seed} round {round}: members"
            );
            assert_eq!(problems(&rows).unwrap(), naive.problems, "seed {seed} round {round}: problems");
            assert_eq!(state_hash(&rows).unwrap(), naive.state_hash, "seed {seed} round {round}: state");
            forks += space.forked().count();
            refused += naive.problems.len();
        }
    }
    assert!(forks > 0 && refused > 0, "{forks} forks, {refused} refused");
}
