//! T38: no way to a pack that was not asked for by name in a space, even for somebody with a session.

use locker_crypto::encode::Writer;
use locker_crypto::id::{PackHash, SpaceTag};
use locker_engine::VerifyOptions;
use locker_net::blob::{GET, GetPack, GroupRanges};
use locker_net::{Protocol, REFUSAL};
use locker_sync::message::encode_frame;
use locker_tests::Dice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::member::{Member, Session};
use super::stranger::{ask, runtime, within};
use super::world::{Device, options};

/// Kinds of a request in the blob library, by their number in postcard: 0 is get; then observe, six places that are kept
/// free, push and get-many. Numbers beyond are of no kind.
const KINDS: std::ops::RangeInclusive<u8> = 1..=14;

/// A frame of type GET around a request of the library.
fn framed(space: &SpaceTag, request: &[u8]) -> Vec<u8> {
    let mut body = Writer::new();
    body.array(2).bytes(space.as_bytes()).bytes(request);
    encode_frame(GET, &body.finish())
}

/// The library's own bytes for a whole get.
fn request(pack: PackHash) -> Vec<u8> {
    let body = GetPack { space: SpaceTag([0; 16]), pack, ranges: GroupRanges::whole() }.encode();
    let mut from = locker_crypto::encode::Reader::new(&body);
    from.array_of(2).unwrap();
    from.bytes().unwrap();
    from.bytes().unwrap().to_vec()
}

async fn open(member: &Member, session: &Session, question: &[u8]) -> locker_net::Stream {
    let mut stream = member.x.net.open(session.connection.id, Protocol::Blob).await.unwrap();
    stream.write_all(question).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Goal: push, observe, get-many and lists of hashes, as the blob library would say them, are refused on a connection
/// whose owner may have the very pack. Nothing is taken, told or lost. The control is the plain request between them.
#[test]
fn t38_other_requests_of_the_blob_library_are_refused() {
    let mut device = Device::new();
    device.add("private.bin", &Dice::of("t38").bytes(200_000));
    device.start(options(Vec::new()));
    runtime().block_on(async {
        let member = Member::join(&device).await;
        let (session, _) = member.session(&device.addresses()).await;
        let pack = device.packs()[0];
        let (before, packs) = (device.state(), device.packs());
        let get = request(pack);
        // Ours is the library's form: kind, hash, ranges.
        assert_eq!((get[0], &get[1..33]), (0, &pack.0[..]));
        let ranges = &get[33..];
        let foreign = *blake3::hash(b"pushed").as_bytes();

        let mut shapes: Vec<(String, Vec<u8>)> = Vec::new();
        for kind in KINDS {
            let with = |rest: &[&[u8]]| [&[kind], &rest.concat()[..]].concat();
            shapes.push((format!("kind {kind}, hash and ranges"), with(&[&pack.0, ranges])));
            shapes.push((format!("kind {kind}, hash alone"), with(&[&pack.0])));
            shapes.push((format!("kind {kind}, list of one hash"), with(&[&[1], &pack.0, ranges])));
            shapes.push((format!("kind {kind}, a new blob"), with(&[&foreign, ranges, b"pushed"])));
        }
        // A get of what a pack would name if it were a list: ranges at the second place and beyond.
        let list = |ranges: &[u8]| [&[0], &pack.0[..], ranges].concat();
        shapes.push(("a list of hashes".into(), list(&[1, 1, 0])));
        shapes.push(("children only".into(), list(&[2, 0, 0, 1, 1, 0])));
        shapes.push(("root and children".into(), list(&[2, 0, 1, 0, 1, 1, 0])));
        shapes.push(("more after the request".into(), [&get[..], &get].concat()));
        shapes.push(("nothing".into(), Vec::new()));
        for (name, shape) in &shapes {
            let frame = framed(&session.tag, shape);
            let answer = ask(&member.x.net, session.connection.id, Protocol::Blob, &frame).await;
            assert_eq!(answer.bytes, REFUSAL, "{name}");
        }
        // The bytes of the library without our frame, and other types of frame.
        for question in [get.clone(), encode_frame(2, &get), encode_frame(3, &get), encode_frame(8, &get)] {
            let mut stream = open(&member, &session, &question).await;
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            within("the end", stream.read_to_end(&mut answer)).await.unwrap();
            assert_eq!(answer, REFUSAL);
        }
        // The control.
        let mut stream = open(&member, &session, &framed(&session.tag, &get)).await;
        let mut size = [0; 8];
        within("the size", stream.read_exact(&mut size)).await.unwrap();
        assert!(u64::from_le_bytes(size) >= 200_000);

        assert_eq!((device.state(), device.packs()), (before, packs));
        let verified =
            device.locker.verify(VerifyOptions::default(), &locker_engine::report::Silent).unwrap();
        assert_eq!(verified.bad, 0);
    });
}
