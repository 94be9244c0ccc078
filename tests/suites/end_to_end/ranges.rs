//! `cat --offset --length` at many places.

use locker_tests::files::write_big;
use locker_tests::{Dice, Home};

/// Goal: any range of a file is what the source has there. Method: 1,000 random ranges of three files, short and long, at
/// edges of chunks, segments and groups, over the end; compared with the source. Two threads ask at once, so that some
/// commands open the locker and others reach the one that did.
#[test]
fn a_thousand_random_ranges_equal_the_source() {
    let mut dice = Dice::of("ranges");
    let home = Home::new();
    let source = home.beside("source");
    let lens = [40_000_000_u64, 700_001, 65_536];
    let contents: Vec<Vec<u8>> = lens
        .iter()
        .map(|len| {
            let path = source.join(len.to_string());
            write_big(&path, *len, &mut dice);
            std::fs::read(path).unwrap()
        })
        .collect();
    home.ok(["add".as_ref(), source.as_os_str()]);

    let cases: Vec<(usize, u64, u64)> = (0..1_000)
        .map(|n| {
            let file = usize::try_from(dice.below(8)).unwrap().saturating_sub(5);
            let len = lens[file];
            let offset = match n % 4 {
                0 => dice.below(len + 10),
                // Beside the edge of a segment or group.
                1 => (dice.below(len / 65_536 + 1) * 65_536).saturating_add(dice.below(3)).saturating_sub(1),
                2 => (dice.below(len / 16_384 + 1) * 16_384).saturating_add(dice.below(3)).saturating_sub(1),
                _ => len.saturating_sub(dice.below(100)),
            };
            let length = match dice.below(4) {
                0 => dice.below(3),
                1 => dice.below(70_000),
                2 => dice.below(2_000_000),
                _ => dice.below(1_000),
            };
            (file, offset, length)
        })
        .collect();
    let check = |(file, offset, length): &(usize, u64, u64)| {
        let path = format!("source/{}", lens[*file]);
        let read =
            home.ok(["cat", &path, "--offset", &offset.to_string(), "--length", &length.to_string()]).out;
        let content = &contents[*file];
        let start = usize::try_from(*offset).unwrap().min(content.len());
        let end = start.saturating_add(usize::try_from(*length).unwrap()).min(content.len());
        assert!(read == content[start..end], "{path} from {offset}, {length} bytes: {} came", read.len());
    };
    let (first, second) = cases.split_at(cases.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| first.iter().for_each(check));
        second.iter().for_each(check);
    });

    // Without a length: to the end. Without both: everything.
    let tail = home.ok(["cat", "source/700001", "--offset", "700000"]).out;
    assert_eq!(tail, contents[1][700_000..]);
    assert!(home.ok(["cat", "source/65536"]).out == contents[2]);
}
