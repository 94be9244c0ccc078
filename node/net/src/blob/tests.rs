//! Requests, answers and fetching, over a pipe in memory and between nodes.

#![expect(clippy::single_range_in_vec_init, reason = "one range of groups is meant, not its members")]

mod another;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bao_tree::BlockSize;
use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::CreateOutboard;
use locker_crypto::Refusal;
use locker_crypto::encode::Writer;
use locker_crypto::id::{PackHash, SpaceTag};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};

use super::*;
use crate::tests::kit::{address_of, config, inbound, start, within};
use crate::{Limits, Pace, Prefer, Protocol, REFUSAL, read_frame, write_frame};

const SPACE: SpaceTag = SpaceTag([7; 16]);
const PATIENCE: Duration = Duration::from_secs(30);

/// A pack in memory.
#[derive(Clone)]
struct Pack {
    hash: PackHash,
    bytes: Arc<Vec<u8>>,
    outboard: Arc<Vec<u8>>,
}

impl Pack {
    fn random(len: usize) -> Self {
        let mut bytes = vec![0; len];
        ChaCha20Rng::seed_from_u64(len as u64).fill_bytes(&mut bytes);
        Self::of(bytes)
    }

    fn of(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        let outboard: PreOrderOutboard<Vec<u8>> =
            PreOrderOutboard::create_sized(&bytes[..], len as u64, BlockSize::from_chunk_log(4)).unwrap();
        assert_eq!(outboard.data.len(), 64 * (len.div_ceil(16_384) - 1));
        Self {
            hash: PackHash(*outboard.root.as_bytes()),
            bytes: Arc::new(bytes),
            outboard: Arc::new(outboard.data),
        }
    }

    fn request(&self, ranges: GroupRanges) -> GetPack {
        GetPack { space: SPACE, pack: self.hash, ranges }
    }
}

fn fill(from: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let start = usize::try_from(offset).unwrap();
    let part = from.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    buffer.copy_from_slice(part);
    Ok(())
}

impl PackSource for Pack {
    fn byte_len(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        fill(&self.bytes, offset, buffer)
    }

    fn read_outboard_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        fill(&self.outboard, offset, buffer)
    }
}

/// A file in the making.
struct Part {
    bytes: Vec<u8>,
    outboard: Vec<u8>,
    groups: usize,
    fail_after: usize,
}

impl Part {
    fn of(pack: &Pack) -> Self {
        let (bytes, outboard) = (vec![0; pack.bytes.len()], vec![0; pack.outboard.len()]);
        Self { bytes, outboard, groups: 0, fail_after: usize::MAX }
    }
}

impl GroupSink for Part {
    fn write_node(&mut self, offset: u32, pair: &[u8; 64]) -> io::Result<()> {
        self.outboard[offset as usize..][..64].copy_from_slice(pair);
        Ok(())
    }

    fn write_group(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        if self.groups == self.fail_after {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.groups += 1;
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// Answers somebody who takes it in time.
async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    pack: &PackHash,
    source: Pack,
    ranges: &GroupRanges,
    pace: &Pace,
) -> Result<u64, AnswerError> {
    super::answer(stream, pack, source, ranges, pace, PATIENCE).await
}

/// Serves requests on a stream until it ends.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, pack: Pack) -> Result<(), AnswerError> {
    let limits = Limits::default();
    while let Ok((kind, body)) = read_frame(&mut stream, limits.frame_bytes).await {
        assert_eq!(kind, GET);
        let get = GetPack::decode(&body, &limits).unwrap();
        assert_eq!((get.space, get.pack), (SPACE, pack.hash));
        answer(&mut stream, &get.pack, pack.clone(), &get.ranges, &Pace::new(None)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_packs_and_ranges_arrive_verified_one_after_another_on_one_stream() {
    for len in [1, 1_000, 16_384, 16_385, 65_536, 999_999, 3 * 1_048_576 + 5] {
        let pack = Pack::random(len);
        let (mut ours, theirs) = duplex(65_536);
        let serving = tokio::spawn(serve(theirs, pack.clone()));
        let groups = u32::try_from(len.div_ceil(16_384)).unwrap();
        let mut wanted = vec![GroupRanges::whole(), GroupRanges::some(vec![0..groups]).unwrap()];
        wanted.push(GroupRanges::some(vec![groups - 1..groups]).unwrap());
        if groups > 5 {
            wanted.push(GroupRanges::some(vec![0..1, 2..4, groups - 1..groups]).unwrap());
            wanted.push(GroupRanges::covering(20_000..50_000).unwrap());
        }
        for ranges in wanted {
            let request = pack.request(ranges.clone());
            let (mut held, mut part) = (GroupSet::none(pack.byte_len()), Part::of(&pack));
            let got = fetch(&mut ours, &request, &mut held, &mut part).await.unwrap();
            assert_eq!(got, ranges.byte_count(pack.byte_len()));
            for group in 0..groups {
                let at = group as usize * 16_384..((group as usize + 1) * 16_384).min(len);
                let wanted = match &ranges {
                    ranges if *ranges == GroupRanges::whole() => true,
                    ranges => ranges.to_chunks().contains(&bao_tree::ChunkNum(u64::from(group) * 16)),
                };
                assert_eq!(held.contains(group), wanted, "{len} {ranges:?} {group}");
                assert!(!wanted || part.bytes[at.clone()] == pack.bytes[at]);
            }
        }
        drop(ours);
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_was_killed_goes_on_where_it_was() {
    let pack = Pack::random(16 * 1_048_576);
    let mut held = GroupSet::none(pack.byte_len());
    let mut part = Part::of(&pack);
    let (mut received, mut runs) = (0, 0);
    while let Some(missing) = held.missing(256, 1_024) {
        runs += 1;
        let (mut ours, theirs) = duplex(65_536);
        let serving = tokio::spawn(serve(theirs, pack.clone()));
        if runs < 20 {
            // The sink stops in the middle, as a kill would; what it took is on the disk.
            part.fail_after = part.groups + 31;
        } else {
            part.fail_after = usize::MAX;
        }
        match fetch(&mut ours, &pack.request(missing), &mut held, &mut part).await {
            Ok(got) => received += got,
            Err(FetchError::Sink(_)) => {}
            Err(error) => panic!("{error}"),
        }
        drop(ours);
        let _ = serving.await.unwrap();
    }
    assert_eq!(runs, 20);
    assert!(held.is_full() && part.bytes == *pack.bytes && part.outboard == *pack.outboard);
    // Not one group twice.
    assert_eq!(part.groups, 1_024);
    assert_eq!(received, pack.bytes.len() as u64 - 19 * 31 * 16_384);
}

/// Goal: a break costs no more than one request, and what was there is not asked for again. Method: the stream is cut in
/// the middle of answers; the bytes that the other end handed to the wire are counted.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_break_only_the_missing_groups_are_asked_for_in_bounded_requests() {
    let pack = Pack::random(8 * 1_048_576 + 100);
    let groups_max = Limits::default().get_bytes / 16_384;
    let (mut held, mut part) = (GroupSet::none(pack.byte_len()), Part::of(&pack));
    let (mut asked, mut breaks) = (0, 0);
    while !held.is_full() {
        // A small pipe: the other end is at most 4 KiB ahead of us.
        let (mut ours, theirs) = duplex(4_096);
        let serving = tokio::spawn(serve(theirs, pack.clone()));
        // Break in the middle of the third answer, five times.
        part.fail_after = if breaks < 5 { part.groups + 2 * groups_max as usize + 7 } else { usize::MAX };
        while let Some(missing) = held.missing(256, groups_max as usize) {
            let bytes = missing.byte_count(pack.byte_len());
            assert!(bytes <= u64::from(Limits::default().get_bytes));
            asked += bytes;
            match fetch(&mut ours, &pack.request(missing), &mut held, &mut part).await {
                Ok(got) => assert_eq!(got, bytes),
                Err(FetchError::Sink(_)) => {
                    breaks += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        drop(ours);
        let _ = serving.await.unwrap();
    }
    assert!(part.bytes == *pack.bytes && part.outboard == *pack.outboard);
    assert_eq!((breaks, part.groups), (5, 513), "not one group twice");
    // Of each broken request seven groups had come; the others were asked for a second time.
    assert_eq!(asked, pack.bytes.len() as u64 + 5 * u64::from((groups_max - 7) * 16_384));
}

#[test]
fn what_is_missing_is_told_in_bounded_parts() {
    let mut held = GroupSet::none(10 * 16_384 + 1);
    assert_eq!(held.missing(256, 11), Some(GroupRanges::whole()));
    assert_eq!(held.missing(256, 4), Some(GroupRanges::some(vec![0..4]).unwrap()));
    assert_eq!(held.missing(256, 0), Some(GroupRanges::some(vec![0..1]).unwrap()));
    [0, 2, 5].into_iter().for_each(|group| held.insert(group));
    assert_eq!(held.missing(256, 4), Some(GroupRanges::some(vec![1..2, 3..5, 6..7]).unwrap()));
    assert_eq!(held.missing(2, 4), Some(GroupRanges::some(vec![1..2, 3..5]).unwrap()));
    (0..10).for_each(|group| held.insert(group));
    assert_eq!(held.missing(256, 4), Some(GroupRanges::some(vec![10..11]).unwrap()));
    held.insert(10);
    assert_eq!(held.missing(256, 4), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_holes_are_asked_for_in_several_requests() {
    let pack = Pack::random(1_000 * 16_384);
    let mut held = GroupSet::none(pack.byte_len());
    (0..1_000).step_by(2).for_each(|group| held.insert(group));
    let mut part = Part::of(&pack);
    let (mut ours, theirs) = duplex(65_536);
    let serving = tokio::spawn(serve(theirs, pack.clone()));
    let mut requests = 0;
    while let Some(missing) = held.missing(256, 1_024) {
        assert!(missing.count() <= 256);
        fetch(&mut ours, &pack.request(missing), &mut held, &mut part).await.unwrap();
        requests += 1;
    }
    assert_eq!((requests, part.groups), (2, 500));
    drop(ours);
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_told_apart() {
    let pack = Pack::random(100_000);
    let request = pack.request(GroupRanges::whole());
    let run = async |wire: Vec<u8>| {
        let (mut ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&wire).await.unwrap();
        theirs.shutdown().await.unwrap();
        let (mut held, mut part) = (GroupSet::none(100_000), Part::of(&pack));
        let outcome = fetch(&mut ours, &request, &mut held, &mut part).await;
        (outcome, part.groups)
    };
    let mut good = Vec::new();
    answer(&mut good, &pack.hash, pack.clone(), &GroupRanges::whole(), &Pace::new(None)).await.unwrap();
    assert!(matches!(run(good.clone()).await, (Ok(100_000), 7)));
    assert!(matches!(run(REFUSAL.to_vec()).await, (Err(FetchError::Denied), 0)));
    assert!(matches!(run(good[..50_000].to_vec()).await, (Err(FetchError::Stream(_)), 2 | 3)));
    let mut other = good.clone();
    other[0] ^= 1;
    assert!(matches!(run(other).await, (Err(FetchError::Size), 0)));
    for at in [8, 100, 60_000, good.len() - 1] {
        let mut wrong = good.clone();
        wrong[at] ^= 1;
        assert!(matches!(run(wrong).await, (Err(FetchError::Hash), _)), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_sends_no_wrong_byte() {
    let pack = Pack::random(10 * 1_048_576);
    let damaged = |at: usize| {
        let mut bytes = (*pack.bytes).clone();
        bytes[at] ^= 1;
        Pack { bytes: Arc::new(bytes), ..pack.clone() }
    };
    let mut wire = Vec::new();
    let outcome = answer(&mut wire, &pack.hash, damaged(5), &GroupRanges::whole(), &Pace::new(None)).await;
    assert!(matches!(outcome, Err(AnswerError::Source(_))));
    assert!(wire.is_empty(), "a refusal may still be sent");
    let outcome =
        answer(&mut wire, &pack.hash, damaged(9 << 20), &GroupRanges::whole(), &Pace::new(None)).await;
    assert!(matches!(outcome, Err(AnswerError::Broken(_))));
    assert!(wire.len() < 10 << 20);
    // Groups that the pack does not have.
    let beyond = GroupRanges::some(vec![639..641]).unwrap();
    let outcome = answer(&mut Vec::new(), &pack.hash, pack.clone(), &beyond, &Pace::new(None)).await;
    assert!(matches!(outcome, Err(AnswerError::Source(_))));
}

#[test]
fn requests_have_one_form() {
    use iroh_blobs::protocol::{
        ChunkRanges, ChunkRangesSeq, GetManyRequest, GetRequest, ObserveRequest, PushRequest, Request,
    };
    let limits = Limits::default();
    let pack = Pack::random(100);
    let some = |ranges| pack.request(GroupRanges::some(ranges).unwrap());
    let samples = [
        pack.request(GroupRanges::whole()),
        some(vec![0..1]),
        some(vec![0..1_024]),
        some(vec![3..5, 9..10]),
        some((0..256).map(|n| 4 * n..4 * n + 2).collect()),
    ];
    for sample in &samples {
        let body = sample.encode();
        assert_eq!(GetPack::decode(&body, &limits).as_ref(), Ok(sample));
        assert_eq!(GetPack::decode(&body[..body.len() - 1], &limits), Err(Refusal::Canon));
        assert_eq!(GetPack::decode(&[&body[..], &[0]].concat(), &limits), Err(Refusal::Canon));
    }

    let hash = iroh_blobs::Hash::from(pack.hash.0);
    let with = |request: &Request, left_over: &[u8]| {
        let mut bytes = postcard::to_stdvec(request).unwrap();
        bytes.extend_from_slice(left_over);
        let mut writer = Writer::new();
        writer.array(2).bytes(SPACE.as_bytes()).bytes(&bytes);
        GetPack::decode(&writer.finish(), &limits)
    };
    let get = |ranges| Request::Get(GetRequest::new(hash, ranges));
    let root = |chunks: ChunkRanges| get(ChunkRangesSeq::from_ranges([chunks]));
    let chunk = bao_tree::ChunkNum;
    assert!(with(&get(ChunkRangesSeq::from_ranges([ChunkRanges::all()])), &[]).is_ok());
    for (name, request) in [
        ("a list of hashes", get(ChunkRangesSeq::all())),
        ("the list alone, then children", get(ChunkRangesSeq::from_ranges_infinite([ChunkRanges::all()]))),
        ("a child", get(ChunkRangesSeq::from_ranges([ChunkRanges::empty(), ChunkRanges::all()]))),
        ("root and child", get(ChunkRangesSeq::from_ranges([ChunkRanges::all(), ChunkRanges::all()]))),
        ("nothing", get(ChunkRangesSeq::from_ranges([ChunkRanges::empty()]))),
        ("nothing at all", get(ChunkRangesSeq::empty())),
        ("sizes of children", get(ChunkRangesSeq::verified_child_sizes())),
        ("verified size", get(ChunkRangesSeq::verified_size())),
        ("part of a group", root(ChunkRanges::from(chunk(0)..chunk(8)))),
        ("begins within a group", root(ChunkRanges::from(chunk(8)..chunk(16)))),
        ("open end", root(ChunkRanges::from(chunk(16)..))),
        ("many", Request::GetMany(GetManyRequest::new(vec![hash], ChunkRangesSeq::all()))),
        ("observe", Request::Observe(ObserveRequest::new(hash))),
        ("push", Request::Push(PushRequest::new(hash, ChunkRangesSeq::root()))),
        ("slot", Request::Slot2),
    ] {
        assert_eq!(with(&request, &[]), Err(Refusal::Canon), "{name}");
    }
    assert_eq!(with(&root(ChunkRanges::all()), &[0]), Err(Refusal::Canon));
    let mut many = ChunkRanges::empty();
    for n in 0..257 {
        many |= ChunkRanges::from(chunk(n * 48)..chunk(n * 48 + 16));
    }
    assert_eq!(with(&root(many), &[]), Err(Refusal::Limit));
    assert_eq!(with(&root(ChunkRanges::from(chunk(0)..chunk(16 * 1_025))), &[]), Err(Refusal::Limit));
    assert_eq!(with(&root(ChunkRanges::all()), &[0; 16_384]), Err(Refusal::Limit));
}

#[test]
fn mutated_requests_never_panic_and_have_one_form() {
    let limits = Limits::default();
    let pack = Pack::random(100);
    let samples = [
        pack.request(GroupRanges::whole()).encode(),
        pack.request(GroupRanges::some(vec![3..5, 9..10, 100..1_000]).unwrap()).encode(),
    ];
    let mut dice = ChaCha20Rng::seed_from_u64(9);
    let mut decoded = 0;
    for _ in 0..20_000 {
        let mut bytes = samples[(dice.next_u32() % 2) as usize].clone();
        for _ in 0..=dice.next_u32() % 3 {
            let at = dice.next_u32() as usize % bytes.len();
            match dice.next_u32() % 4 {
                0 => bytes[at] ^= 1 << (dice.next_u32() % 8),
                1 => bytes[at] = dice.next_u32() as u8,
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, dice.next_u32() as u8),
            }
        }
        if let Ok(request) = GetPack::decode(&bytes, &limits) {
            assert_eq!(request.encode(), bytes);
            decoded += 1;
        }
    }
    assert!(decoded > 0);
}

#[test]
fn ranges_have_one_form() {
    let some = GroupRanges::some;
    for (ranges, refusal) in [
        (vec![], Refusal::Canon),
        (vec![1..1], Refusal::Canon),
        (vec![0..1, 1..2], Refusal::Canon),
        (vec![0..2, 1..3], Refusal::Canon),
        (vec![3..4, 0..1], Refusal::Canon),
        (vec![0..1_025], Refusal::Limit),
    ] {
        assert_eq!(some(ranges), Err(refusal));
    }
    let last = some(vec![6..7]).unwrap();
    assert!(last.fit(100_000) && !last.fit(6 * 16_384));
    assert_eq!(last.byte_count(100_000), 100_000 - 6 * 16_384);
    assert!(!GroupRanges::whole().fit(0));
}

#[tokio::test]
async fn a_refusal_in_place_of_an_answer_ends_there() {
    let (mut ours, mut theirs) = duplex(1 << 16);
    write_frame(&mut ours, GET, &[1, 2, 3]).await.unwrap();
    let (_, body) = read_frame(&mut theirs, 4_096).await.unwrap();
    assert_eq!(GetPack::decode(&body, &Limits::default()), Err(Refusal::Canon));
    theirs.write_all(&REFUSAL).await.unwrap();
    drop(theirs);
    let mut got = Vec::new();
    ours.read_to_end(&mut got).await.unwrap();
    assert!(crate::is_refusal(&got));
}

/// Stops the serving node in the middle of an answer.
struct Stopping {
    part: Part,
    at: usize,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl GroupSink for Stopping {
    fn write_node(&mut self, offset: u32, pair: &[u8; 64]) -> io::Result<()> {
        self.part.write_node(offset, pair)
    }

    fn write_group(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        if self.part.groups == self.at
            && let Some(stop) = self.stop.take()
        {
            let _ = stop.send(());
        }
        self.part.write_group(offset, bytes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_survives_the_end_of_its_server_over_both_transports() {
    use locker_crypto::rendezvous::Transport;
    let pack = Pack::random(16 * 1_048_576);
    for (transport, prefer) in [(Transport::Quic, Prefer::Quic), (Transport::Tcp, Prefer::Tcp)] {
        let (getter, _getter_events) = start(config()).await;
        let mut held = GroupSet::none(pack.byte_len());
        let mut sink = Stopping { part: Part::of(&pack), at: 100, stop: None };
        let mut runs = 0;
        while let Some(missing) = held.missing(256, 1_024) {
            runs += 1;
            let (server, mut server_events) = start(config()).await;
            let (stop, stopped) = tokio::sync::oneshot::channel();
            // The first server goes while most of the pack is still to come.
            sink.stop = (runs == 1).then_some(stop);
            let serving = {
                let (server, pack) = (server.clone(), pack.clone());
                tokio::spawn(async move {
                    let (protocol, _, stream) = inbound(&mut server_events).await;
                    assert_eq!(protocol, Protocol::Blob);
                    tokio::select! {
                        _ = serve(stream, pack) => {}
                        Ok(()) = stopped => server.shutdown().await,
                    }
                })
            };
            let dialed =
                within("the dial", getter.dial(&[address_of(&server, transport)], prefer)).await.unwrap();
            let mut stream = within("the stream", getter.open(dialed.id, Protocol::Blob)).await.unwrap();
            let request = pack.request(missing);
            let before = getter.figures().pack_bytes_received;
            let outcome = within("the end of the fetch", fetch(&mut stream, &request, &mut held, &mut sink));
            match (outcome.await, runs) {
                (Err(FetchError::Stream(_)), 1) => {}
                (Ok(got), _) => {
                    // Size, groups, and at most a node for each of them.
                    let wire = getter.figures().pack_bytes_received - before;
                    assert!(wire > got + 8 && wire <= got + 8 + 64 * 1_024, "{wire} for {got}");
                    assert!(server.figures().pack_bytes_sent >= wire);
                }
                (outcome, _) => panic!("{outcome:?}"),
            }
            drop(stream);
            within("the end of the server", serving).await.unwrap();
        }
        assert!(held.is_full() && sink.part.bytes == *pack.bytes && sink.part.outboard == *pack.outboard);
        assert_eq!(sink.part.groups, 1_024, "not one group twice");
        assert_eq!(runs, 2, "{transport:?}");
    }
}

/// Goal: who knows nothing but the hash of a pack learns its length, and never another one; the stream goes on. Method:
/// lengths at the edges of groups and trees; one who says other lengths, also such whose trees begin in the same form; one who
/// refuses.
#[tokio::test]
async fn the_length_of_a_pack_is_learned_with_its_first_and_last_group() {
    for len in [1, 4_096, 16_384, 16_385, 65_536, 262_145, 1_000_000] {
        let pack = Pack::random(len);
        let (mut here, there) = duplex(1 << 20);
        let serving = tokio::spawn(serve(there, pack.clone()));
        for _ in 0..2 {
            let learned = fetch_length(&mut here, SPACE, pack.hash).await.unwrap();
            assert_eq!(learned as usize, len);
        }
        drop(here);
        serving.await.unwrap().unwrap();
    }
    let pack = Pack::random(262_145);
    // With how many answers a lie comes through before what follows would have to fit.
    let other_lengths = [
        (0, 1),
        (1, 1),
        (262_144, 1),
        (262_146, 2),
        (278_528, 2),
        (278_529, 2),
        (300_000, 2),
        (524_288, 2),
        (700_000, 1),
        (16_777_216, 1),
        (16_777_217, 1),
        (1 << 40, 1),
    ];
    for (said, answers) in other_lengths {
        let (mut here, mut there) = duplex(1 << 20);
        let lie = async {
            for _ in 0..answers {
                let (_, body) = read_frame(&mut there, 65_536).await.unwrap();
                let get = GetPack::decode(&body, &Limits::default()).unwrap();
                let mut whole = Vec::new();
                if answer(&mut whole, &get.pack, pack.clone(), &get.ranges, &Pace::new(None)).await.is_err() {
                    // There is nothing at that place: the true end is the best that can be said.
                    let end = GroupRanges::covering(262_144..262_145).unwrap();
                    answer(&mut whole, &get.pack, pack.clone(), &end, &Pace::new(None)).await.unwrap();
                }
                whole[..8].copy_from_slice(&u64::to_le_bytes(said));
                there.write_all(&whole).await.unwrap();
            }
            drop(there);
        };
        let is_length = (1..=16_777_216).contains(&said);
        let learn = fetch_length(&mut here, SPACE, pack.hash);
        match within("the answer", async { tokio::join!(learn, lie) }).await.0 {
            Err(FetchError::Size) => assert!(!is_length, "{said}"),
            // The tree has another form, so that what comes fits nowhere.
            Err(FetchError::Hash | FetchError::Stream(_)) => assert!(is_length, "{said}"),
            other => panic!("{said}: {other:?}"),
        }
    }
    let (mut here, mut there) = duplex(1 << 20);
    there.write_all(&REFUSAL).await.unwrap();
    assert!(matches!(fetch_length(&mut here, SPACE, pack.hash).await, Err(FetchError::Denied)));
}
