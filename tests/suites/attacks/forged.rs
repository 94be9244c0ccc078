//! T14, T19, T21, T22 at a real node: a device with a session sends entries that are not what they say. Named refusals stand
//! in the crates (`crypto::entry`, `catalog::space`); here nothing may change, whatever came.

use locker_crypto::id::VerifyingKey;
use locker_crypto::secret::SigningSeed;
use locker_crypto::sign::{Domain, SIGNATURE_LEN, Signing};
use locker_engine::VerifyOptions;
use locker_sync::message::v1::{Head, LogKind, Message, Pull};
use locker_tests::Dice;

use super::member::{Member, Session};
use super::stranger::runtime;
use super::world::{Device, options};

/// Places in the header of an entry (`docs/spec/04-spaces.md`).
const SPACE: std::ops::Range<usize> = 4..20;
const AUTHOR: std::ops::Range<usize> = 20..52;
const SEQ: std::ops::Range<usize> = 52..60;
const PREV: std::ops::Range<usize> = 60..92;
const EPOCH: std::ops::Range<usize> = 92..124;
const FLIPS: usize = 100;

fn with(bytes: &[u8], place: std::ops::Range<usize>, field: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[place].copy_from_slice(field);
    changed
}

/// Signs changed bytes anew, under the name of whoever signs.
fn signed(bytes: &[u8], author: &Signing) -> Vec<u8> {
    let mut changed = with(bytes, AUTHOR, author.verifying_key().as_bytes());
    changed.truncate(bytes.len() - SIGNATURE_LEN);
    let id = *blake3::hash(&changed).as_bytes();
    changed.extend_from_slice(&author.sign(Domain::Entry, &id));
    changed
}

/// All entries of one author.
async fn pull(session: &mut Session, head: &Head) -> Option<Vec<Vec<u8>>> {
    let (tag, author) = (session.tag, head.author);
    session.say(&Message::Pull(Pull { kind: LogKind::Entries, tag, author, from: 0, to: head.seq })).await;
    let mut entries = Vec::new();
    while entries.len() as u64 <= head.seq {
        if let Message::Entry(bytes) = session.hear().await? {
            entries.push(bytes);
        }
    }
    Some(entries)
}

/// Goal: spliced, forwarded, injected and damaged entries, sent by a device that may write, leave tree, log and packs as
/// they were. Method: each in a session of its own, followed by honest questions that show that it was dealt with.
#[test]
fn t14_t19_t21_t22_forged_entries_change_nothing() {
    let mut dice = Dice::of("forged");
    let mut device = Device::new();
    for n in 0..5 {
        device.add(&format!("file {n}"), &dice.bytes(5_000));
    }
    device.start(options(Vec::new()));
    runtime().block_on(async {
        let member = Member::join(&device).await;
        let addresses = device.addresses();
        let (mut session, before) = member.session(&addresses).await;
        let head = *before.heads.first().unwrap();
        assert_eq!(before.heads.len(), 1);
        let entries = pull(&mut session, &head).await.unwrap();
        let last = entries.last().unwrap();
        assert_eq!(&last[AUTHOR], head.author.as_bytes());
        let (state, packs) = (device.state(), device.packs());
        let checked =
            device.locker.verify(VerifyOptions::default(), &locker_engine::report::Silent).unwrap().checked;

        let own = member.keys.signing();
        let nobody = Signing::from_seed(&SigningSeed::new([0x77; 32]));
        let zero = 0_u64.to_le_bytes();
        let first_of =
            |author: &Signing, bytes: &[u8]| signed(&with(&with(bytes, SEQ, &zero), PREV, &[0; 32]), author);
        let mut forged: Vec<(String, Vec<u8>)> = vec![
            ("T14: forwarded as one's own".into(), first_of(own, last)),
            ("T14: forwarded at its place".into(), signed(last, own)),
            ("T14: another author alone".into(), with(last, AUTHOR, own.verifying_key().as_bytes())),
            ("T19: another space".into(), first_of(own, &with(last, SPACE, &[1; 16]))),
            ("T19: another epoch".into(), first_of(own, &with(last, EPOCH, &[1; 32]))),
            ("T19: a predecessor that is not".into(), signed(&with(last, PREV, &[1; 32]), own)),
            ("T19: a later place".into(), signed(&with(last, SEQ, &99_u64.to_le_bytes()), own)),
            ("T21: by a random key".into(), first_of(&nobody, last)),
            ("T21: by a random key, at its place".into(), signed(last, &nobody)),
            ("T22: nothing but zeros".into(), vec![0; last.len()]),
        ];
        for n in 0..FLIPS {
            let mut bytes = entries[n % entries.len()].clone();
            let bit = usize::try_from(dice.below(bytes.len() as u64 * 8)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            forged.push((format!("T22: bit {bit} of an entry"), bytes));
        }
        let mut ended = 0;
        for (what, bytes) in &forged {
            drop(session);
            let told;
            (session, told) = member.session(&addresses).await;
            assert_eq!(told.heads, before.heads, "before {what}");
            session.say(&Message::Entry(bytes.clone())).await;
            // What came with a question is dealt with before the next question is read.
            let asks = async {
                for _ in 0..2 {
                    pull(&mut session, &head).await?;
                }
                Some(())
            };
            ended += usize::from(asks.await.is_none());
            assert_eq!(device.state(), state, "{what}");
        }
        // A signature that is wrong ends a session; one that fits, over what does not open, need not.
        assert!(ended > FLIPS / 2, "{ended} sessions ended");
        drop(session);
        let (mut session, told) = member.session(&addresses).await;
        assert_eq!(told.heads, before.heads);
        assert_eq!(pull(&mut session, &head).await.unwrap(), entries);
        let verified =
            device.locker.verify(VerifyOptions::default(), &locker_engine::report::Silent).unwrap();
        assert_eq!((verified.bad, verified.checked), (0, checked));
        assert_eq!(device.packs(), packs);
        assert_ne!(head.author, VerifyingKey(*own.verifying_key().as_bytes()));
    });
}
