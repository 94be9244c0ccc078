//! Answers that are right, but to another question.

use super::*;

/// T55, T86: who answers out of another pack of the same length, or with another range of the pack, gives wrong bytes
/// (`E_HASH`): not one group of it is taken. So it is no proof, and nothing is let go on its strength.
#[tokio::test(flavor = "multi_thread")]
async fn t55_t86_an_answer_out_of_another_pack_or_range_is_wrong() {
    let pack = Pack::random(100_000);
    let other = Pack::of(pack.bytes.iter().map(|byte| byte ^ 1).collect());
    let some = |from, to| GroupRanges::some(vec![from..to]).unwrap();
    let answers = [
        (&other, GroupRanges::whole(), GroupRanges::whole()),
        (&other, some(3, 5), some(3, 5)),
        (&pack, some(3, 5), some(0, 2)),
    ];
    for (from, asked, given) in answers {
        let (mut ours, mut theirs) = duplex(1 << 20);
        answer(&mut theirs, &from.hash, from.clone(), &given, &Pace::new(None)).await.unwrap();
        theirs.shutdown().await.unwrap();
        let (mut held, mut part) = (GroupSet::none(100_000), Part::of(&pack));
        let outcome = fetch(&mut ours, &pack.request(asked), &mut held, &mut part).await;
        assert!(matches!(outcome, Err(FetchError::Hash)), "{given:?}: {outcome:?}");
        assert_eq!((part.groups, held.contains(0)), (0, false), "{given:?}");
    }
}
