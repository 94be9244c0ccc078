//! Goal: every pack is looked at within 30 days, oldest first, at a bounded pace, whatever the clock does. Method: the
//! decisions are played on a store in memory, for months.

use super::*;

const MIB: u64 = 1 << 20;

fn hash(n: u64) -> PackHash {
    PackHash(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn look(now_s: u64, packs: &[(PackHash, u32, u64)]) -> (Vec<Due>, Pace) {
    let mut look = Look::new(now_s);
    packs.iter().for_each(|(hash, len, at)| look.add(*hash, *len, *at));
    look.choose()
}

/// A device that runs for some hours of a day; gives the greatest age that any pack came to, in days, and the bytes read.
fn play(packs: u64, days: u64, hours_a_day: u64, spent: Duration) -> (u64, u64) {
    let mut rows: Vec<(PackHash, u32, u64)> = (0..packs).map(|n| (hash(n), 16 << 20, 0)).collect();
    let (mut now, mut eldest, mut read) = (0u64, 0, 0);
    while now < days * DAY_S {
        let (due, pace) = look(now, &rows);
        let begun = now;
        for due in due {
            if now - begun >= 3_600 {
                break;
            }
            let row = rows.iter_mut().find(|row| row.0 == due.hash).unwrap();
            eldest = eldest.max((now - row.2) / DAY_S);
            row.2 = now;
            read += u64::from(due.len);
            let mut pause = pace.pause(due.len, spent).max(spent).as_secs().max(1);
            // The pause goes on the next day; a start looks at once.
            while pause > 0 {
                let left = (hours_a_day * 3_600).saturating_sub(now % DAY_S);
                if pause < left {
                    now += pause;
                    pause = 0;
                } else {
                    now += left + (DAY_S - hours_a_day * 3_600);
                    pause = 0;
                }
            }
        }
    }
    (eldest, read)
}

#[test]
fn everything_is_looked_at_within_thirty_days() {
    // 64 GiB: by day and night, some hours a day, on a slow disk.
    for (hours, spent_ms) in [(24, 20), (8, 20), (3, 20), (24, 400)] {
        let (eldest, read) = play(4_096, 90, hours, Duration::from_millis(spent_ms));
        assert!(eldest < 30, "{hours} hours a day: {eldest} days");
        let passes = read / (4_096 * 16 * MIB);
        assert!((3..=12).contains(&passes), "{hours} hours a day: {passes} passes in 90 days");
    }
}

#[test]
fn the_pace_is_bounded_by_bytes_and_by_time() {
    let fast = Pace { bytes_an_hour: u64::MAX };
    assert_eq!(fast.pause(8 << 20, Duration::ZERO), Duration::from_secs(1));
    assert_eq!(fast.pause(4_096, Duration::from_secs(2)), Duration::from_secs(38));
    let slow = Pace { bytes_an_hour: 3_600 };
    assert_eq!(slow.pause(60, Duration::ZERO), Duration::from_secs(60));
    assert_eq!(slow.pause(16 << 20, Duration::ZERO), PAUSE_MAX);
    let nothing = Pace { bytes_an_hour: 0 };
    assert_eq!(nothing.pause(16 << 20, Duration::ZERO), PAUSE_MAX);
    assert_eq!(nothing.pause(0, Duration::MAX), PAUSE_MAX);
}

#[test]
fn the_oldest_come_first_and_only_so_many() {
    let packs: Vec<_> = (0..1_000).map(|n| (hash(n), 4_096, 5_000 + (n * 7_919) % 1_000)).collect();
    let (due, _) = look(1_000_000, &packs);
    assert_eq!(due.len(), CHOSEN_MAX);
    let ages: Vec<u64> = due.iter().map(|due| due.verified_at).collect();
    assert_eq!(ages, (5_000..5_000 + CHOSEN_MAX as u64).collect::<Vec<_>>());
    assert_eq!(look(0, &[]), (Vec::new(), Pace { bytes_an_hour: 0 }));
}

#[test]
fn a_clock_that_jumps_makes_no_haste_and_forgets_nobody() {
    let now = 1_800_000_000;
    let packs: Vec<_> = (0..100).map(|n| (hash(n), 16 << 20, now)).collect();
    let (_, calm) = look(now, &packs);
    assert_eq!(calm.bytes_an_hour, (100 * 16 * MIB).div_ceil(25 * 24));
    // Back by ten years: all of them were looked at in a time that has not come.
    let (_, back) = look(now - 10 * 365 * DAY_S, &packs);
    assert_eq!(back, calm);
    // Back after one was looked at ahead: that one comes first.
    let mut mixed = packs.clone();
    mixed[40].2 = now + 10 * 365 * DAY_S;
    let (due, pace) = look(now + 5 * DAY_S, &mixed);
    assert_eq!((due[0].hash, due.len()), (mixed[40].0, 100));
    assert!(pace.bytes_an_hour <= calm.bytes_an_hour * 5 / 4 + 1);
    // Ahead by ten years: everything is over its time, and still no faster than the bounds.
    let (_, ahead) = look(now + 10 * 365 * DAY_S, &packs);
    assert!(ahead.bytes_an_hour > calm.bytes_an_hour);
    assert!(ahead.pause(16 << 20, Duration::from_millis(20)) >= Duration::from_secs(2));
    let (_, ages) = look(u64::MAX, &[(hash(1), u32::MAX, 0), (hash(2), u32::MAX, u64::MAX)]);
    assert!(ages.bytes_an_hour > 0);
}

#[test]
fn others_come_first_for_a_while() {
    assert!(!gives_way(false, Duration::ZERO));
    assert!(gives_way(true, Duration::from_secs(599)));
    assert!(!gives_way(true, Duration::from_secs(600)));
}
