//! What stays known of a pack that was deleted here.

use locker_crypto::id::VerifyingKey;

use super::*;
use crate::unneeded;

/// Goal: a pack that another device pins is not forgotten when it is deleted here: its chunks stay located, nothing asks
/// for it, and it can be wanted again. One that nobody pins goes with all that stands about it.
#[test]
fn what_others_pin_stays_known() {
    let place = Place::new();
    let store = begin(&place.home);
    let (theirs, nobodys) = (put_pack(&store, 1, 30_000).unwrap(), put_pack(&store, 2, 30_000).unwrap());
    let other = PinScope { space: SPACE, author: VerifyingKey([7; 32]) };
    let naming = index::Naming { hlc: 5, author: VerifyingKey([7; 32]) };
    let chunks = |name: &PackHash| index::locs(&store.read().unwrap(), name).unwrap();
    let (kept, gone) = (chunks(&theirs)[0].tag, chunks(&nobodys)[0].tag);
    store
        .write::<_, StoreError>(|txn| {
            let delta = PinDelta { seq: 0, bytes: b"delta", adds: &[theirs], drops: &[] };
            pins::apply(txn, &other, &delta);
            for name in [theirs, nobodys] {
                index::note_naming(txn, &SPACE, &name, &naming)?;
                index::note_naming(txn, &SPACE, &name, &index::Naming { hlc: 4, ..naming })?;
            }
            [kept, gone].iter().for_each(|tag| unneeded::note(txn, &SPACE, tag, 3));
            Ok(())
        })
        .unwrap();
    // Half done when the process ends: the start comes to the same.
    store.write(|txn| [theirs, nobodys].iter().try_for_each(|name| index::mark_deleting(txn, name))).unwrap();
    drop(store);
    let mut store = reopen(&place.home).unwrap();
    assert_eq!(store.recover().unwrap().deletions_finished, 2);
    let state = |name: &PackHash| {
        let read = store.read().unwrap();
        (
            index::pack(&read, name).unwrap().map(|pack| pack.state),
            index::naming(&read, &SPACE, name).unwrap(),
        )
    };
    assert_eq!(state(&theirs), (Some(PackState::Released), Some(naming)));
    assert_eq!(state(&nobodys), (None, None));
    let read = store.read().unwrap();
    assert_eq!(index::places(&read, &SPACE, &kept).unwrap()[0].pack, theirs);
    assert!(
        !index::is_here(&read, &SPACE, &kept).unwrap() && !index::has_chunk(&read, &SPACE, &gone).unwrap()
    );
    assert_eq!(unneeded::since(&read, &SPACE, &kept).unwrap(), Some(3));
    assert_eq!(unneeded::since(&read, &SPACE, &gone).unwrap(), None);
    assert_eq!(index::pack_count(&read).unwrap(), 1);
    drop(read);
    // Named again, by whoever made it once more, it is wanted.
    let again = NewPack { len: 30_000, state: PackState::Wanted, locs: &[] };
    store.write(|txn| index::add_pack(txn, &SPACE, &theirs, &again)).unwrap();
    assert_eq!(state(&theirs).0, Some(PackState::Wanted));
}
