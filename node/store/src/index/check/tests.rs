//! Goal: every kind of row that leads nowhere is named, and sound tables give nothing. Method: packs in two spaces; then
//! each table in turn gets a row that is gone, astray or of another form.

use super::*;
use crate::index::{self, NewPack, PackState};
use crate::test_kit::{Place, SPACE, begin, bytes, hash, put_pack, tag};
use crate::{Store, WriteTxn};

const OTHER: SpaceTag = SpaceTag([8; 16]);

fn flaws(store: &Store) -> Vec<String> {
    let mut found = Vec::new();
    let mut rows = 0;
    check(&store.read().unwrap(), &mut |flaw| {
        rows += 1;
        found.extend(flaw);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(rows > 10, "{rows} rows were looked at");
    found
}

/// Two packs, the first of them in two spaces; a third of which no chunks are known.
fn filled(place: &Place) -> (Store, PackHash, PackHash) {
    let store = begin(&place.home);
    let first = put_pack(&store, 1, 30_000).unwrap();
    let second = put_pack(&store, 2, 40_000).unwrap();
    store
        .write::<_, StoreError>(|txn| {
            let new = NewPack { len: 30_000, state: PackState::Wanted, locs: &[] };
            index::add_pack(txn, &OTHER, &first, &new)?;
            let unknown = NewPack { len: 5_000, state: PackState::Wanted, locs: &[] };
            index::add_pack(txn, &SPACE, &hash(&bytes(3, 5_000)), &unknown)
        })
        .unwrap();
    (store, first, second)
}

#[test]
fn sound_tables_have_no_flaw_and_a_visitor_may_end_the_check() {
    let place = Place::quick();
    let (store, ..) = filled(&place);
    assert_eq!(flaws(&store), Vec::<String>::new());
    let mut rows = 0;
    check(&store.read().unwrap(), &mut |_| {
        rows += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn each_kind_of_broken_row_is_named() {
    type Break = fn(&mut WriteTxn<'_>, &PackHash, &PackHash);
    let cases: [(&str, Break, &str); 14] = [
        ("number gone", |t, _, _| t.delete(PACK_NUMBERS, &0u32.to_be_bytes()), "does not have the number"),
        (
            "number of another",
            |t, _, second| t.put(PACK_NUMBERS, &0u32.to_be_bytes(), second.as_bytes()),
            "a number stands for a pack that does not have it",
        ),
        (
            "number never given",
            |t, first, _| t.put(PACK_NUMBERS, &99u32.to_be_bytes(), first.as_bytes()),
            "a number stands for a pack that does not have it",
        ),
        (
            "scope gone",
            |t, first, _| t.delete(SCOPES, &scope_key(&OTHER, first)),
            "not among those of its space",
        ),
        (
            "scope of a pack of another space",
            |t, _, second| t.put(SCOPES, &scope_key(&OTHER, second), &[]),
            "a space lists a pack that does not belong to it",
        ),
        ("scope of another form", |t, _, _| t.put(SCOPES, &[1; 5], &[]), "of a space has an unknown form"),
        ("place gone", |t, _, _| t.delete(CHUNKS, &chunk_key(&SPACE, &tag(2))), "not found under its tag"),
        (
            "place moved",
            |t, _, _| {
                t.put(CHUNKS, &chunk_key(&SPACE, &tag(2)), &super::super::encode_rows(&[[0, 1, 15_000]]))
            },
            "not found under its tag",
        ),
        (
            "one place too many",
            |t, _, second| {
                let rows = [[0, 0, 15_000], [1, 0, 15_000]];
                let _ = second;
                t.put(CHUNKS, &chunk_key(&SPACE, &tag(2)), &super::super::encode_rows(&rows));
            },
            "where it does not",
        ),
        (
            "a chunk that no pack has",
            |t, _, _| {
                t.put(CHUNKS, &chunk_key(&OTHER, &tag(77)), &super::super::encode_rows(&[[1, 0, 20_000]]))
            },
            "where it does not",
        ),
        (
            "place in no pack",
            |t, _, _| t.put(CHUNKS, &chunk_key(&SPACE, &tag(78)), &super::super::encode_rows(&[[55, 0, 9]])),
            "pack number 55, which there is not",
        ),
        (
            "chunks of no pack",
            |t, _, second| {
                let locs = t.view().get(PACK_LOCS, second.as_bytes()).unwrap().unwrap();
                t.put(PACK_LOCS, &[9; 32], &locs);
            },
            "the chunks of a pack that is not known",
        ),
        (
            "newness of no pack",
            |t, _, _| t.put(PACK_RECENT, &[9; 32], &[]),
            "the newness of a pack that is not known",
        ),
        ("a pack gone", |t, _, second| t.delete(PACKS, second.as_bytes()), "rows of packs are missing"),
    ];
    for (what, damage, expected) in cases {
        let place = Place::quick();
        let (store, first, second) = filled(&place);
        store
            .write::<_, StoreError>(|txn| {
                damage(txn, &first, &second);
                Ok(())
            })
            .unwrap();
        let found = flaws(&store);
        assert!(found.iter().any(|flaw| flaw.contains(expected)), "{what}: {found:?}");
    }
}
