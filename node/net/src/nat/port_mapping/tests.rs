//! The task against routers that lie on loopback, each at an address of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use locker_crypto::rendezvous::Transport;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::*;
use crate::address::both_transports;
use crate::tests::kit::{dice, within};

const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const PORT: u16 = 4_001;
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// A router: what it is asked, and what it says to that.
struct Router {
    at: SocketAddr,
    asked: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Router {
    /// Answers each question by what a function says, and tells of the question.
    async fn start(
        ip: Ipv4Addr,
        port: u16,
        mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind((ip, port)).await.unwrap();
        let at = socket.local_addr().unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 2_000];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                for answer in answers(&buffer[..len]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
                if sender.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { at, asked }
    }

    async fn question(&mut self) -> Vec<u8> {
        within("a question", self.asked.recv()).await.unwrap()
    }
}

/// A router that speaks PCP and grants port `port`, for TCP the next one.
fn grants(question: &[u8], ip: Ipv4Addr, port: u16) -> Vec<u8> {
    assert_eq!((question.len(), question[0], question[1]), (60, 2, 1));
    assert_eq!(question[8..24], OWN.to_ipv6_mapped().octets());
    assert_eq!(question[40..42], PORT.to_be_bytes());
    let mut answer = question.to_vec();
    answer[1] |= 0x80;
    answer[8..12].copy_from_slice(&1_000_u32.to_be_bytes());
    answer[12..24].fill(0);
    if question[4..8] != [0; 4] {
        let port = port + u16::from(question[36] == 6);
        answer[42..44].copy_from_slice(&port.to_be_bytes());
        answer[44..60].copy_from_slice(&ip.to_ipv6_mapped().octets());
    }
    answer
}

/// The same in NAT-PMP; what is in PCP it does not understand.
fn grants_by_nat_pmp(question: &[u8]) -> Vec<u8> {
    let epoch = 1_000_u32.to_be_bytes();
    match question {
        [2, op, ..] => [&[0, 0x80 | op, 0, 1][..], &epoch].concat(),
        [0, 0] => [&[0, 0x80, 0, 0][..], &epoch, &OUTSIDE.octets()].concat(),
        [0, op, _, _, own_a, own_b, _, _, life @ ..] => {
            let port = if life == [0; 4] { [0; 2] } else { 5_001_u16.to_be_bytes() };
            [&[0, 0x80 | op, 0, 0][..], &epoch, &[*own_a, *own_b], &port, life].concat()
        }
        other => panic!("{other:?}"),
    }
}

/// A mapper that believes to be behind a router; the sender changes where.
struct Fixture {
    mapper: PortMapper,
    place: Arc<Mutex<Option<Place>>>,
    listening: watch::Sender<Vec<Address>>,
}

fn start(router: SocketAddr) -> Fixture {
    let SocketAddr::V4(at) = router else { panic!("{router}") };
    let place = Arc::new(Mutex::new(Some(Place { gateway: *at.ip(), own: OWN })));
    let (listening, receiver) = watch::channel(both_transports((OWN, PORT).into()).to_vec());
    let of_task = Arc::clone(&place);
    let surroundings =
        Surroundings { place: move || *of_task.lock().unwrap(), server_port: at.port(), listening: receiver };
    Fixture { mapper: PortMapper::start(surroundings, &mut dice()), place, listening }
}

async fn wait_for(mapper: &mut PortMapper, what: &str, is_it: impl Fn(&PortMapping) -> bool) -> PortMapping {
    within(what, async {
        while !is_it(&mapper.state()) {
            mapper.changed().await;
        }
        mapper.state()
    })
    .await
}

fn is_whole(state: &PortMapping) -> bool {
    matches!(state, PortMapping::Open(ports) if ports.len() == 2)
}

fn ports_of(state: &PortMapping) -> Vec<(Transport, u16)> {
    let PortMapping::Open(ports) = state else { panic!("{state:?}") };
    ports.iter().map(|port| (port.address.transport, port.address.port)).collect()
}

#[tokio::test]
async fn a_port_is_passed_on_and_given_back() {
    let mut router =
        Router::start(Ipv4Addr::new(127, 0, 1, 1), 0, |question| vec![grants(question, OUTSIDE, 5_001)])
            .await;
    let mut own = start(router.at);
    let state = wait_for(&mut own.mapper, "both ports", is_whole).await;
    assert_eq!(ports_of(&state), [(Transport::Quic, 5_001), (Transport::Tcp, 5_002)]);
    let PortMapping::Open(ports) = &state else { panic!() };
    assert_eq!((ports[0].address.ip, ports[0].lifetime), (OUTSIDE.into(), Duration::from_secs(7_200)));
    let asked = [router.question().await, router.question().await];
    // The same port is suggested.
    assert!(asked.iter().all(|question| question[42..44] == PORT.to_be_bytes()));
    assert_ne!(asked[0][24..36], asked[1][24..36]);
    own.mapper.stop().await;
    let back = [router.question().await, router.question().await];
    for (back, asked) in back.iter().zip(&asked) {
        assert_eq!((&back[24..37], &back[4..8], &back[42..44]), (&asked[24..37], &[0; 4][..], &[0; 2][..]));
    }
}

#[tokio::test]
async fn a_router_that_speaks_nat_pmp_alone_is_asked_in_it() {
    let mut router =
        Router::start(Ipv4Addr::new(127, 0, 1, 2), 0, |question| vec![grants_by_nat_pmp(question)]).await;
    let mut own = start(router.at);
    let state = wait_for(&mut own.mapper, "both ports", is_whole).await;
    assert_eq!(ports_of(&state), [(Transport::Quic, 5_001), (Transport::Tcp, 5_001)]);
    let mut asked = Vec::new();
    for _ in 0..5 {
        asked.push(router.question().await[..2].to_vec());
    }
    // For the second port PCP is tried no more.
    assert_eq!(asked, [[2, 1], [0, 0], [0, 1], [0, 0], [0, 2]]);
    own.mapper.stop().await;
    assert_eq!(router.question().await, [0, 1, 0, 0, 0x0f, 0xa1, 0, 0, 0, 0, 0, 0]);
}

/// Goal: only what the router itself says to this very question counts, and what others say does not end the wait for it.
/// Method: before the router answers, it sends rubbish, the answer under another nonce, and to another question; and somebody
/// at another address, and one at another port of the router, sends a good one.
#[tokio::test]
async fn only_the_router_itself_is_heard() {
    let ip = Ipv4Addr::new(127, 0, 1, 3);
    let neighbours = [
        std::net::UdpSocket::bind((Ipv4Addr::new(127, 0, 1, 4), 0)).unwrap(),
        std::net::UdpSocket::bind((ip, 0)).unwrap(),
    ];
    let socket = UdpSocket::bind((ip, 0)).await.unwrap();
    let mut own = start(socket.local_addr().unwrap());
    let mut buffer = [0; 2_000];
    for _ in 0..2 {
        let (len, from) = within("a question", socket.recv_from(&mut buffer)).await.unwrap();
        let question = &buffer[..len];
        let wrong = grants(question, Ipv4Addr::new(203, 0, 113, 66), 666);
        for neighbour in &neighbours {
            neighbour.send_to(&wrong, from).unwrap();
        }
        let with = |at: usize, byte: u8| {
            let mut other = wrong.clone();
            other[at] = byte;
            other
        };
        let rubbish: [Vec<u8>; 8] = [
            Vec::new(),
            vec![0xff; 1_200],
            wrong[..59].to_vec(),
            question.to_vec(),
            with(24, wrong[24] ^ 1),
            with(1, 0x82),
            with(41, 7),
            with(36, 1),
        ];
        for bytes in rubbish {
            socket.send_to(&bytes, from).await.unwrap();
        }
        socket.send_to(&grants(question, OUTSIDE, 5_001), from).await.unwrap();
    }
    let state = wait_for(&mut own.mapper, "both ports", is_whole).await;
    assert_eq!(ports_of(&state), [(Transport::Quic, 5_001), (Transport::Tcp, 5_002)]);
}

#[tokio::test]
async fn a_question_that_was_lost_is_said_again() {
    let mut lost = 0;
    let router = Router::start(Ipv4Addr::new(127, 0, 1, 5), 0, move |question| {
        lost += 1;
        if lost == 1 { Vec::new() } else { vec![grants(question, OUTSIDE, 5_001)] }
    });
    let mut router = router.await;
    let mut own = start(router.at);
    wait_for(&mut own.mapper, "both ports", is_whole).await;
    let first = router.question().await;
    assert_eq!(router.question().await, first);
}

#[tokio::test]
async fn a_router_without_such_a_service_is_called_silent_at_once() {
    let gone = UdpSocket::bind((Ipv4Addr::new(127, 0, 1, 6), 0)).await.unwrap();
    let at = gone.local_addr().unwrap();
    drop(gone);
    let mut own = start(at);
    wait_for(&mut own.mapper, "silence", |state| *state == PortMapping::Silent).await;
    own.mapper.stop().await;
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() {
    let router = Router::start(Ipv4Addr::new(127, 0, 1, 7), 0, |question| {
        let mut answer = grants(question, OUTSIDE, 5_001);
        answer[3] = 2;
        vec![answer]
    });
    let mut own = start(router.await.at);
    wait_for(&mut own.mapper, "a refusal", |state| *state == PortMapping::Refused(2)).await;
}

#[tokio::test]
async fn a_router_behind_a_router_is_of_no_use_and_gets_it_back() {
    let inner = Ipv4Addr::new(100, 64, 0, 9);
    let mut router =
        Router::start(Ipv4Addr::new(127, 0, 1, 8), 0, move |question| vec![grants(question, inner, 5_001)])
            .await;
    let mut own = start(router.at);
    wait_for(&mut own.mapper, "that", |state| *state == PortMapping::NotPublic(inner)).await;
    assert_eq!(router.question().await[4..8], 7_200_u32.to_be_bytes());
    assert_eq!(router.question().await[4..8], [0; 4]);
    own.mapper.stop().await;
}

#[tokio::test]
async fn another_router_is_asked_when_we_are_elsewhere_and_none_when_we_are_nowhere() {
    let answers = |question: &[u8]| vec![grants(question, OUTSIDE, 5_001)];
    let first = Router::start(Ipv4Addr::new(127, 0, 1, 9), 0, answers).await;
    let mut second = Router::start(Ipv4Addr::new(127, 0, 1, 10), first.at.port(), answers).await;
    let mut own = start(first.at);
    wait_for(&mut own.mapper, "both ports", is_whole).await;
    *own.place.lock().unwrap() = None;
    own.listening.send_modify(|_| {});
    wait_for(&mut own.mapper, "no router", |state| *state == PortMapping::NoRouter).await;
    *own.place.lock().unwrap() = Some(Place { gateway: Ipv4Addr::new(127, 0, 1, 10), own: OWN });
    own.listening.send_modify(|_| {});
    wait_for(&mut own.mapper, "both ports", is_whole).await;
    // No address is probed twice by the library, so that another port is suggested now.
    let suggested = u16::from_be_bytes(second.question().await[42..44].try_into().unwrap());
    assert!(suggested >= 49_152 && suggested != PORT, "{suggested}");
    // A node that listens there by one transport alone, or not at all, asks nobody.
    own.listening.send_modify(|all| all.truncate(1));
    wait_for(&mut own.mapper, "no router", |state| *state == PortMapping::NoRouter).await;
}

#[tokio::test]
async fn who_asks_nobody_says_so() {
    let mut mapper = PortMapper::off();
    assert_eq!(mapper.state(), PortMapping::Off);
    mapper.ask_again();
    mapper.stop().await;
}
