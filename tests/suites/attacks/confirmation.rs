//! T37: is this hash here? Whoever has no session gets one answer for everything: the same bytes, after the same time, and
//! the store is not looked into.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use locker_crypto::encode::Writer;
use locker_crypto::id::{EpochId, LinkTag, PackHash, SpaceTag, VerifyingKey};
use locker_crypto::rendezvous::{Address, Transport};
use locker_crypto::secret::Ticket;
use locker_engine::NodeOptions;
use locker_net::blob::{GET, GetPack, GroupRanges};
use locker_net::{ConnectionId, Handle, Limits, Prefer, Protocol, REFUSAL};
use locker_sync::handshake::KNOCK_LEN;
use locker_sync::message::v1::{Ask, LogKind, Message, Pull};
use locker_sync::message::{encode_frame, kind};
use locker_sync::pairing::{NewDevice, Role};
use locker_tests::Dice;
use tokio::io::AsyncReadExt;

use super::holder::{Holder, share};
use super::member::Member;
use super::statistics::{ks_p, median};
use super::stranger::{Answer, Stranger, ask, dice, runtime, within};
use super::world::{Device, limits, options};

/// How far apart the medians of two classes may be.
const MEDIANS_APART_MAX: Duration = Duration::from_millis(1);
/// Below this likelihood two classes do not look like one source; shared by all comparisons of a run.
const P_MIN: f64 = 0.01;
/// A disturbed machine is given more tries, not more room: a difference that is there stays.
const ROUNDS_MAX: usize = 5;
/// Connections on which is asked at a time.
const CONNECTIONS: usize = 32;

/// How often a node looks into its store by itself in a time that begins soon after its start: once in half a minute; and
/// after half a minute it begins to look at its packs and rows, of which it has few here.
fn own_looks(time: Duration) -> u64 {
    let halves = time.as_secs() / 30;
    halves + 1 + if halves > 0 { 16 } else { 0 }
}

/// Tries of every class in one round: `LOCKER_TRIES`, else 200.
fn tries() -> usize {
    std::env::var("LOCKER_TRIES").map_or(200, |text| text.parse().expect("LOCKER_TRIES is a number"))
}

/// Makes one question of a kind.
type Question = Box<dyn Fn(&mut Dice) -> Vec<u8> + Send + Sync>;

/// A kind of question. Within a group all questions have one length, so that their times may be compared as a whole.
struct Class {
    name: &'static str,
    group: usize,
    protocol: Protocol,
    question: Question,
    times: Vec<Duration>,
}

impl Class {
    fn new(
        name: &'static str,
        group: usize,
        protocol: Protocol,
        question: impl Fn(&mut Dice) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self { name, group, protocol, question: Box::new(question), times: Vec::new() }
    }
}

/// What there is to be found out.
#[derive(Clone, Copy)]
struct Held {
    space: SpaceTag,
    pack: PackHash,
    author: VerifyingKey,
    person: SpaceTag,
}

fn get(space: SpaceTag, pack: PackHash) -> Vec<u8> {
    encode_frame(GET, &GetPack { space, pack, ranges: GroupRanges::whole() }.encode())
}

fn array<const N: usize>(dice: &mut Dice) -> [u8; N] {
    dice.bytes(N).try_into().unwrap()
}

fn blob_classes(held: Held) -> Vec<Class> {
    let class = |name, question: fn(Held, &mut Dice) -> Vec<u8>| {
        Class::new(name, 0, Protocol::Blob, move |dice| question(held, dice))
    };
    vec![
        class("get, held pack in its space", |held, _| get(held.space, held.pack)),
        class("get, absent pack in a held space", |held, dice| get(held.space, PackHash(array(dice)))),
        class("get, held pack in an unknown space", |held, dice| get(SpaceTag(array(dice)), held.pack)),
        class("get, nothing of it known", |_, dice| get(SpaceTag(array(dice)), PackHash(array(dice)))),
        class("get, malformed", |held, dice| {
            let len = get(held.space, held.pack).len() - 5;
            encode_frame(GET, &dice.bytes(len))
        }),
        class("get, under another type", |held, _| {
            let mut frame = get(held.space, held.pack);
            frame[4] = 9;
            frame
        }),
        Class::new("blob, length 0", 1, Protocol::Blob, |_| vec![0; 5]),
        Class::new("blob, longest length", 1, Protocol::Blob, |_| vec![0xff; 5]),
    ]
}

fn sync_classes(held: Held) -> Vec<Class> {
    let say = |name, group, message: fn(Held, &mut Dice) -> Message| {
        Class::new(name, group, Protocol::Sync, move |dice| message(held, dice).encode())
    };
    vec![
        Class::new("knock under unknown secrets", 2, Protocol::Sync, |dice| {
            encode_frame(kind::KNOCK, &dice.bytes(KNOCK_LEN))
        }),
        Class::new("knock, malformed", 2, Protocol::Sync, |dice| encode_frame(99, &dice.bytes(KNOCK_LEN))),
        say("pull, held space", 3, |held, _| pull_of(LogKind::Entries, held.space, held.author)),
        say("pull, unknown space", 3, |_, dice| {
            pull_of(LogKind::Entries, SpaceTag(array(dice)), VerifyingKey(array(dice)))
        }),
        say("pull, held person log", 3, |held, _| pull_of(LogKind::Person, held.person, held.author)),
        say("want, held pack", 4, |held, _| Message::Want(held.space, vec![held.pack])),
        say("want, absent pack", 4, |held, dice| Message::Want(held.space, vec![PackHash(array(dice))])),
        say("want, unknown space", 4, |held, dice| Message::Want(SpaceTag(array(dice)), vec![held.pack])),
        say("ask, boxes of a held space", 5, |held, dice| {
            Message::Ask(Ask::Boxes(held.space, EpochId(array(dice))))
        }),
        say("ask, boxes of an unknown space", 5, |_, dice| {
            Message::Ask(Ask::Boxes(SpaceTag(array(dice)), EpochId(array(dice))))
        }),
        say("ask, capsule of an unknown link", 6, |_, dice| Message::Ask(Ask::Capsule(LinkTag(array(dice))))),
        Class::new("sync, length 0", 7, Protocol::Sync, |_| vec![0; 5]),
        Class::new("sync, longest length", 7, Protocol::Sync, |_| vec![0xff; 5]),
    ]
}

fn pull_of(kind: LogKind, tag: SpaceTag, author: VerifyingKey) -> Message {
    Message::Pull(Pull { kind, tag, author, from: 0, to: 0 })
}

fn pair_classes() -> Vec<Class> {
    vec![
        Class::new("pair, message 1 under no ticket", 8, Protocol::Pair, |dice| {
            encode_frame(1, &dice.bytes(48))
        }),
        Class::new("pair, message 1 of zeros", 8, Protocol::Pair, |_| encode_frame(1, &[0; 48])),
        Class::new("pair, malformed", 8, Protocol::Pair, |dice| encode_frame(7, &dice.bytes(48))),
        Class::new("pair, longest length", 9, Protocol::Pair, |_| vec![0xff; 5]),
    ]
}

/// One round: every class `tries` times, in turns, on several connections at once. Every answer must be the refusal.
async fn round(on: &[(Handle, ConnectionId)], classes: &mut [Class], tries: usize, seed: u64) {
    let questions: Vec<_> =
        classes.iter().map(|class| (class.protocol, &class.question, class.name)).collect();
    let each = tries.div_ceil(on.len());
    let running = on.iter().enumerate().map(|(number, (net, connection))| {
        let questions = &questions;
        async move {
            let mut dice = Dice::new("classes", seed * 1_000 + number as u64);
            let mut times = vec![Vec::new(); questions.len()];
            for turn in 0..each {
                for step in 0..questions.len() {
                    // Not always in one order: what one question leaves behind meets each of the others.
                    let class = (step + turn + number) % questions.len();
                    let (protocol, question, name) = &questions[class];
                    let Answer { bytes, took } = ask(net, *connection, *protocol, &question(&mut dice)).await;
                    assert_eq!(bytes, REFUSAL, "{name}");
                    times[class].push(took);
                }
            }
            times
        }
    });
    let found = futures::future::join_all(running).await;
    for times in found {
        classes.iter_mut().zip(times).for_each(|(class, more)| class.times.extend(more));
    }
}

/// What stands against the classes being alike, if anything does.
fn difference(classes: &[Class]) -> Option<String> {
    let medians: Vec<_> = classes.iter().map(|class| (median(&class.times), class.name)).collect();
    let (least, most) = (medians.iter().min()?, medians.iter().max()?);
    if most.0 - least.0 >= MEDIANS_APART_MAX {
        return Some(format!("{least:?} and {most:?} are too far apart"));
    }
    let pairs: Vec<_> = classes
        .iter()
        .enumerate()
        .flat_map(|(at, one)| classes[at + 1..].iter().map(move |other| (one, other)))
        .filter(|(one, other)| one.group == other.group)
        .collect();
    let worst = pairs.iter().map(|(one, other)| (ks_p(&one.times, &other.times), one.name, other.name));
    let worst = worst.min_by(|a, b| a.0.total_cmp(&b.0))?;
    (worst.0 * pairs.len() as f64 <= P_MIN).then(|| format!("{worst:?} of {} pairs", pairs.len()))
}

/// Asks until the classes are alike, or there is no more doubt that they are not.
async fn assert_alike(what: &str, on: &[(Handle, ConnectionId)], mut classes: Vec<Class>, tries: usize) {
    let mut found = None;
    for number in 0..ROUNDS_MAX {
        round(on, &mut classes, tries, number as u64).await;
        found = difference(&classes);
        if found.is_none() {
            break;
        }
    }
    eprintln!("{what}:");
    for class in &classes {
        eprintln!("  {:<40} {:>6} tries, median {:?}", class.name, class.times.len(), median(&class.times));
    }
    assert_eq!(found, None, "{what}");
}

async fn strangers(device: &Device, count: usize) -> (Vec<Stranger>, Vec<(Handle, ConnectionId)>) {
    let (mut kept, mut on) = (Vec::new(), Vec::new());
    for n in 0..count {
        let x = Stranger::start().await;
        let prefer = if n % 2 == 0 { Prefer::Quic } else { Prefer::Tcp };
        let connection = x.dial(&device.addresses(), prefer).await;
        on.push((x.net.clone(), connection.id));
        kept.push(x);
    }
    (kept, on)
}

/// Goal: X, who knows the tag of the space and the hash of a pack, cannot have them confirmed on any protocol, by bytes,
/// by time or by what the node does. Method: 25 classes of questions in turns over QUIC and TCP, without and with a
/// ticket that runs; then a member asks for the same pack and gets it, so that it was there.
#[test]
fn t37_strangers_get_one_answer_for_everything() {
    let tries = tries();
    let mut device = Device::new();
    let content = Dice::of("t37").bytes(300_000);
    device.add("private.bin", &content);
    device.start(options(Vec::new()));
    runtime().block_on(async {
        let member = Member::join(&device).await;
        let (session, _) = member.session(&device.addresses()).await;
        let pack = device.packs()[0];
        let person = locker_crypto::identity::person_tag(&member.person);
        let author = VerifyingKey::from_slice(&hex::decode(device.locker.device_id()).unwrap()).unwrap();
        let held = Held { space: session.tag, pack, author, person };
        let on_session = session.connection.id;
        // X has no part in this session: his connections and his key are others.
        let (_kept, on) = strangers(&device, CONNECTIONS).await;
        let begun = Instant::now();
        let looks = device.locker.store_looks();
        let classes = || {
            let all = [blob_classes(held), sync_classes(held), pair_classes()];
            all.into_iter().flatten().collect::<Vec<_>>()
        };
        assert_eq!(classes().len(), 25);
        assert_alike("no ticket runs", &on, classes(), tries).await;
        let seen = device.locker.store_looks() - looks;
        assert!(seen <= own_looks(begun.elapsed()), "the store was looked into {seen} times");

        // Whether a ticket runs is not to be seen either. (Making one looks into the store.)
        let inviting = device.invite();
        let looks = device.locker.store_looks();
        let begun = Instant::now();
        assert_alike("a ticket runs", &on, pair_classes(), tries).await;
        let seen = device.locker.store_looks() - looks;
        assert!(seen <= own_looks(begun.elapsed()), "the store was looked into {seen} times");
        tokio::task::spawn_blocking(move || drop(inviting)).await.unwrap();

        // The control: whoever may have it gets it, and the counter counts.
        let looks = device.locker.store_looks();
        let mut stream = member.x.net.open(on_session, Protocol::Blob).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &get(held.space, held.pack)).await.unwrap();
        tokio::io::AsyncWriteExt::flush(&mut stream).await.unwrap();
        let mut size = [0; 8];
        within("the size of the pack", stream.read_exact(&mut size)).await.unwrap();
        assert!(u64::from_le_bytes(size) >= 300_000);
        assert!(device.locker.store_looks() > looks);
        drop(session);
    });
}

/// Goal: whoever does not know the ticket is heard five times a minute, and then not even with the right one; no other
/// source waits for it. Method: five wrong first messages and the right one from one address, and it from another.
#[test]
fn t37_who_guesses_at_a_ticket_is_heard_five_times() {
    let mut device = Device::new();
    let pairing_failures_per_minute = Limits::default().pairing_failures_per_minute;
    let limits = Limits { pairing_failures_per_minute, ..limits() };
    device.start(NodeOptions { limits: Some(limits), ..options(Vec::new()) });
    runtime().block_on(async {
        let inviting = device.invite();
        let first = |ticket: &Ticket| NewDevice::start(ticket, Role::Full, "guest", &mut dice()).unwrap().1;
        // Over QUIC a node comes from the very address on which it listens.
        let is_quic = |address: &Address| address.transport == Transport::Quic;
        let quic: Vec<_> = device.addresses().into_iter().filter(is_quic).collect();
        let guesser = Stranger::start().await;
        let on = guesser.dial(&quic, Prefer::Quic).await.id;
        for n in 0..5_u8 {
            let wrong = first(&Ticket::new([n; Ticket::LEN]));
            assert_eq!(ask(&guesser.net, on, Protocol::Pair, &wrong).await.bytes, REFUSAL, "{n}");
        }
        let right = first(&inviting.ticket);
        assert_eq!(ask(&guesser.net, on, Protocol::Pair, &right).await.bytes, REFUSAL);
        let other = Stranger::at("127.0.0.2:0".parse().unwrap()).await;
        let on = other.dial(&quic, Prefer::Quic).await.id;
        let right = first(&inviting.ticket);
        assert_ne!(ask(&other.net, on, Protocol::Pair, &right).await.bytes, REFUSAL);
        tokio::task::spawn_blocking(move || drop(inviting)).await.unwrap();
    });
}

/// Goal: what a session may not have is refused after the same time whether the store was asked for it or not. Method: a
/// member asks for the capsule of a link that is not there, which is looked up, and says what no session may say, which
/// is not; each refusal ends a session.
#[test]
fn t37_a_session_is_refused_after_one_time() {
    let tries = tries() / 4;
    let mut device = Device::new();
    device.add("private.bin", &[7; 10_000]);
    device.start(options(Vec::new()));
    runtime().block_on(async {
        let member = Member::join(&device).await;
        let mut dice = Dice::of("t37 in a session");
        let mut answers = BTreeSet::new();
        let mut classes = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS_MAX {
            for turn in 0..tries * classes.len() {
                let class = turn % classes.len();
                let question = match class {
                    0 => Message::Ask(Ask::Capsule(LinkTag(array(&mut dice)))).encode(),
                    1 => encode_frame(99, &dice.bytes(18)),
                    _ => {
                        let mut writer = Writer::new();
                        writer.array(2).u64(1).bytes(&dice.bytes(16));
                        encode_frame(26, &writer.finish())
                    }
                };
                let (session, _) = member.session(&device.addresses()).await;
                let (answer, took) = session.last_words(&question).await;
                answers.insert(answer);
                classes[class].push(took);
            }
            let medians = classes.each_ref().map(|times| median(times));
            let apart = *medians.iter().max().unwrap() - *medians.iter().min().unwrap();
            eprintln!("in a session, {} tries: {medians:?}", classes[0].len());
            if apart < MEDIANS_APART_MAX {
                assert_eq!(answers, BTreeSet::from([REFUSAL.to_vec()]));
                return;
            }
        }
        panic!("refusals in a session differ in time");
    });
}

/// Questions of the holder of a link, all of one length.
fn holder_classes(own: SpaceTag, home: SpaceTag, given: PackHash, private: PackHash) -> Vec<Class> {
    let class = |name, question: Question| Class {
        name,
        group: 0,
        protocol: Protocol::Blob,
        question,
        times: Vec::new(),
    };
    let always = |space, pack| -> Question { Box::new(move |_: &mut Dice| get(space, pack)) };
    vec![
        class("get, a private pack under the link", always(own, private)),
        class("get, a private pack in its space", always(home, private)),
        class("get, the pack of the link in its space", always(home, given)),
        class("get, absent pack under the link", Box::new(move |dice| get(own, PackHash(array(dice))))),
        class("get, the pack of the link elsewhere", Box::new(move |dice| get(SpaceTag(array(dice)), given))),
        class(
            "get, malformed",
            Box::new(move |dice| {
                let len = get(own, given).len() - 5;
                encode_frame(GET, &dice.bytes(len))
            }),
        ),
    ]
}

/// Goal: K, who holds a link, gets what it gives, and for everything else the answer that strangers get: packs of the same
/// space that the link does not name, packs that are not there, other spaces, other messages. Once it is revoked nothing
/// more comes, over connections that stand too.
#[test]
fn t37_t38_holders_of_links_get_what_the_link_gives() {
    let tries = tries();
    let mut device = Device::new();
    // Files of 4 MiB and more fill packs of their own.
    device.add("private.bin", &Dice::of("private").bytes(5_000_000));
    let private = device.packs();
    device.add("given.bin", &Dice::of("given").bytes(5_000_000));
    let given: Vec<PackHash> = device.packs().into_iter().filter(|pack| !private.contains(pack)).collect();
    device.start(options(Vec::new()));
    let (link, id) = share(&device, "given.bin");
    runtime().block_on(async {
        let home = Member::join(&device).await.space()[1].clone();
        let home = SpaceTag::from_slice(&home).unwrap();
        let mut holders = Vec::new();
        for n in 0..8 {
            let prefer = if n % 2 == 0 { Prefer::Quic } else { Prefer::Tcp };
            holders.push(Holder::arrive(&device, &link, prefer).await);
        }
        let on: Vec<_> = holders.iter().map(|k| (k.x.net.clone(), k.connection.id)).collect();
        let own = holders[0].tag;
        let classes = holder_classes(own, home, given[0], private[0]);
        assert_alike("a holder asks for more", &on, classes, tries).await;

        // The control: what the link gives comes.
        let size = async |k: &Holder| {
            let mut stream = k.x.net.open(k.connection.id, Protocol::Blob).await.ok()?;
            let question = get(own, given[0]);
            tokio::io::AsyncWriteExt::write_all(&mut stream, &question).await.ok()?;
            tokio::io::AsyncWriteExt::flush(&mut stream).await.ok()?;
            let mut size = [0; 8];
            stream.read_exact(&mut size).await.ok()?;
            Some(u64::from_le_bytes(size)).filter(|size| *size > 1_000_000)
        };
        assert!(within("the pack of the link", size(&holders[1])).await.is_some());

        // Neither logs nor objects nor the capsules of other links.
        let author = VerifyingKey::from_slice(&hex::decode(device.locker.device_id()).unwrap()).unwrap();
        let questions = [
            Message::Ask(Ask::Capsule(LinkTag([7; 16]))),
            Message::Ask(Ask::Object(locker_crypto::id::ObjectHash([7; 32]))),
            Message::Ask(Ask::Boxes(home, EpochId([7; 32]))),
            pull_of(LogKind::Entries, home, author),
            Message::Want(home, vec![private[0]]),
            Message::Want(own, vec![given[0]]),
        ];
        for question in questions {
            let k = Holder::arrive(&device, &link, Prefer::Tcp).await;
            assert_eq!(k.last_words(&question.encode()).await, REFUSAL, "{question:?}");
        }

        // Revoked: at once, on connections that stand and on new ones.
        let locker = device.locker.clone();
        tokio::task::spawn_blocking(move || locker.revoke_share(&id).unwrap()).await.unwrap();
        let ended = async {
            while size(&holders[2]).await.is_some() {
                tokio::task::yield_now().await;
            }
        };
        within("the end of a session of a revoked link", ended).await;
        assert!(Holder::visit(&device, &link, Prefer::Quic).await.is_none(), "a revoked link was let in");
    });
}
