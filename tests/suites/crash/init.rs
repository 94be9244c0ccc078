//! Kills while a locker is made.

use locker_tests::Home;

/// Goal: a locker is there or not; what a killed `init` left behind does not stop the next one. Method: a kill at each
/// step of making, at each of its hits; afterwards `init` either makes a locker or says that one is there, and it works.
#[test]
fn killed_while_a_locker_is_made() {
    let mut kills = 0;
    for point in
        ["file-written", "file-renamed", "db-created", "db-before-commit", "db-written", "db-after-commit"]
    {
        for skipped in 0..4 {
            let home = Home::empty();
            let outcome = home.start(["init"], &format!("{point}={skipped}*off->return(kill)")).finish();
            if !outcome.was_killed() {
                assert_eq!(outcome.code(), Some(0), "{point}: {outcome:?}");
                break;
            }
            kills += 1;
            let what = format!("{point}, hit {}", skipped + 1);
            // The phrase was not shown. A locker whose phrase nobody knows must not be taken for a good one.
            assert!(outcome.out.is_empty(), "{what}: {outcome:?}");
            let again = home.run_json(["init"]);
            assert_eq!(again.code(), Some(0), "{what}: {again:?}");
            assert_eq!(again.json()["phrase"].as_str().unwrap().split(' ').count(), 24);
            home.ok(["mkdir", "works"]);
            assert_eq!(home.json(["verify"])["bad"], 0, "{what}");
        }
    }
    // Once the words are told the locker stays, whatever comes.
    let home = Home::empty();
    let outcome = home.start(["--json", "init"], "db-told=return(kill)").finish();
    assert!(outcome.was_killed() && outcome.json()["phrase"].is_string(), "{outcome:?}");
    home.ok(["mkdir", "works"]);
    home.run_json(["init"]).refused(1, "E_EXISTS");
    assert_eq!(home.paths(), ["works"]);
    eprintln!("{kills} kills");
    assert!(kills >= 6, "only {kills} kills: is this binary built with failpoints? (`cargo lab`)");
}
