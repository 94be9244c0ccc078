//! T83: somebody else answers where a device used to be.

use std::net::SocketAddr;
use std::time::Duration;

use locker_net::{NodeAddress, Prefer, Protocol, REFUSAL, write_frame};
use locker_sync::handshake::KNOCK_LEN;
use locker_sync::message::kind;
use locker_tests::search::Search;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};
use rand_core::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stranger::{Stranger, dice, frame, runtime, within};

/// The socket of the first address that a node listens on.
fn socket(up: &Up) -> SocketAddr {
    let address = up.listen()[0].parse::<NodeAddress>().unwrap().address;
    SocketAddr::new(address.ip, address.port)
}

/// What the impostor must not find in a knock: every public key and name that the two devices tell their owner.
fn secrets(homes: [&Home; 2]) -> Search {
    let mut search = Search::new();
    for home in homes {
        let status = home.json(["status"]);
        search.plant_hash("person", &hex::decode(status["person_id"].as_str().unwrap()).unwrap());
        for device in status["devices"].as_array().unwrap() {
            search.plant_hash("device", &hex::decode(device["id"].as_str().unwrap()).unwrap());
            search.plant("name of a device", device["name"].as_str().unwrap().as_bytes());
        }
        for pack in home.packs() {
            search.plant_hash("pack", &hex::decode(pack.file_name().unwrap().to_str().unwrap()).unwrap());
        }
    }
    search
}

/// Goal: the impostor at an old address learns that somebody called, and nothing else: he sees one knock, which names
/// nobody, cannot answer it, and the device itself refuses it when he passes it on. Whoever called closes, tries the
/// next address and meets the right one. Method: real processes; X listens where the first device listened before.
#[test]
fn t83_an_impostor_at_an_old_address_gets_one_knock() {
    let (meeting, apart) = (Meeting::start(), Meeting::start());
    let (a, b) = (Home::empty(), Home::empty());
    a.json(["init", "--name", "a laptop of Ada's"]);
    let file = a.beside("file.bin");
    locker_tests::files::write(&file, &[5; 100_000]);
    a.ok(["add".as_ref(), file.as_os_str()]);
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "a telephone of Ada's");
    let search = secrets([&a, &b]);
    let old = socket(&up_a);
    up_a.stop().ok();

    runtime().block_on(async {
        let mut x = Stranger::at(old).await;
        let up_b = Up::start(&b, &[]);
        // 1. He cannot answer. What comes is one knock; to an answer that he makes up there is no reply.
        let (protocol, _, mut stream) = x.inbound().await;
        assert_eq!(protocol, Protocol::Sync);
        let mut nonce = [0; 32];
        dice().fill_bytes(&mut nonce);
        write_frame(&mut stream, kind::NONCE, &nonce).await.unwrap();
        let (named, knock) = frame(&mut stream).await;
        assert_eq!((named, knock.len()), (kind::KNOCK, KNOCK_LEN));
        let mut made_up = vec![0; 1_024 + 16];
        dice().fill_bytes(&mut made_up);
        write_frame(&mut stream, kind::ANSWER, &made_up).await.unwrap();
        let mut rest = Vec::new();
        let _ = within("the caller's end", stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "the caller went on: {} bytes", rest.len());

        // 2. He passes the next knock on to the device itself, which meanwhile is elsewhere, with its own nonce.
        let up_a = Up::start(&a, &["--bootstrap", apart.address()]);
        let target = locker_net::both_transports(socket(&up_a));
        let relayed = loop {
            let (protocol, _, mut caller) = x.inbound().await;
            assert_eq!(protocol, Protocol::Sync);
            let connection = x.dial(&target, Prefer::Quic).await;
            let mut real = x.net.open(connection.id, Protocol::Sync).await.unwrap();
            real.flush().await.unwrap();
            let (named, nonce) = frame(&mut real).await;
            assert_eq!(named, kind::NONCE);
            // The caller may have given up waiting; he calls again.
            if write_frame(&mut caller, kind::NONCE, &nonce).await.is_err() {
                continue;
            }
            let Ok((named, knock)) = locker_net::read_frame(&mut caller, 4_096).await else { continue };
            assert_eq!(named, kind::KNOCK);
            write_frame(&mut real, kind::KNOCK, &knock).await.unwrap();
            let mut answer = Vec::new();
            within("the device's answer", real.read_to_end(&mut answer)).await.unwrap();
            assert_eq!(answer, REFUSAL, "the device answered a knock that was meant for another key");
            caller.write_all(&answer).await.unwrap();
            let _ = caller.shutdown().await;
            let mut rest = Vec::new();
            let _ = within("the caller's end", caller.read_to_end(&mut rest)).await;
            assert!(rest.is_empty());
            break knock;
        };

        // Two knocks of one caller have nothing in common, and nobody's key or name is in either.
        let blocks =
            |knock: &[u8]| knock.chunks(32).map(<[u8]>::to_vec).collect::<std::collections::BTreeSet<_>>();
        assert!(blocks(&knock).is_disjoint(&blocks(&relayed)));
        assert_eq!(blocks(&knock).len(), KNOCK_LEN / 32);
        for one in [&knock, &relayed] {
            assert_eq!(search.find_in(one), Vec::<&str>::new());
        }
        let online = |home: &Home| {
            let status = home.json(["status"]);
            status["devices"].as_array().unwrap().iter().filter(|d| d["online"] == true).count()
        };
        assert_eq!((online(&a), online(&b)), (1, 1));

        // 3. The device tells the common meeting point where it is; the impostor stays where he is.
        up_a.stop().ok();
        let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
        b.wait_synced();
        a.wait_equal(&b);
        wait_for("both devices on line", Duration::from_secs(20), || (online(&b) == 2).then_some(()));
        drop(x);
        up_a.stop().ok();
        up_b.stop().ok();
    });
}
