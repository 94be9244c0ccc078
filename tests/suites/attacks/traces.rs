//! T82: a crawler follows a device from day to day by anything that a stranger can see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::PeerId;
use locker_crypto::rendezvous::{Address, Transport};
use locker_engine::report::StateHash;
use locker_engine::{Clock, Env, NodeOptions};
use locker_tests::capture::Capture;
use locker_tests::enclosure::enclosed;
use locker_tests::wait::wait_for;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::keeper::Keeper;
use super::stranger::{dice, runtime};
use super::world::{Device, limits};

const RESTARTS: usize = 30;
const DAY_MS: u64 = 86_400_000;
const BEACON_PORT: u16 = 24_765;

/// A clock that the test sets forward. It starts at eleven in the evening of UTC: tomorrow is near.
struct Shifted {
    ahead_ms: Arc<AtomicU64>,
    late_ms: u64,
    start: Instant,
}

impl Clock for Shifted {
    fn now_ms(&self) -> u64 {
        unix_ms() + self.late_ms + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What somebody who dials sees of the TCP side: the long-term key of Noise, and the PeerId in its payload. A bare
/// handshake over a bare socket, as anybody could write it.
fn look_by_tcp(address: SocketAddr) -> (Vec<u8>, PeerId) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let line = |text: &str| [&[u8::try_from(text.len() + 1).unwrap()], text.as_bytes(), b"\n"].concat();
    let hello = [line("/multistream/1.0.0"), line("/noise")].concat();
    stream.write_all(&hello).unwrap();
    let mut echo = vec![0; hello.len()];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, hello);
    let builder = snow::Builder::new("Noise_XX_25519_ChaChaPoly_SHA256".parse().unwrap());
    let keys = builder.generate_keypair().unwrap();
    let mut noise = builder.local_private_key(&keys.private).unwrap().build_initiator().unwrap();
    let mut buffer = vec![0; 65_535];
    let len = noise.write_message(&[], &mut buffer).unwrap();
    stream.write_all(&u16::try_from(len).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&buffer[..len]).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).unwrap();
    let len = noise.read_message(&message, &mut buffer).unwrap();
    // The payload begins with field 1, the identity key.
    let payload = &buffer[..len];
    assert_eq!(payload[0], 0x0a);
    let key = &payload[2..2 + usize::from(payload[1])];
    let key = libp2p::identity::PublicKey::try_decode_protobuf(key).unwrap();
    (noise.get_remote_static().unwrap().to_vec(), key.to_peer_id())
}

/// Believes everybody, and keeps what it was shown.
#[derive(Debug)]
struct Curious(Mutex<Option<Vec<u8>>>, Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Curious {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(shown.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

/// What somebody who dials sees of the QUIC side: the certificate of TLS.
async fn look_by_quic(address: SocketAddr) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let curious = Arc::new(Curious(Mutex::new(None), Arc::clone(&provider)));
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&curious) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"libp2p".to_vec()];
    let quic = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("0.0.0.0:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(quinn::ClientConfig::new(Arc::new(quic)), address, "l").unwrap();
    // Without a certificate of its own it is turned away in the end; by then it has seen what there is.
    let _ = tokio::time::timeout(Duration::from_secs(30), connecting).await;
    let shown = curious.0.lock().unwrap().take();
    shown.expect("a certificate was shown")
}

/// Which days show a value, by the name of the field and the value.
struct Seen {
    days: BTreeMap<(&'static str, Vec<u8>), BTreeSet<usize>>,
    /// What names the device and its person, and must stand in no field.
    own: [Vec<u8>; 2],
    day: usize,
}

impl Seen {
    fn note(&mut self, field: &'static str, value: &[u8]) {
        for key in &self.own {
            assert!(!value.windows(32).any(|part| part == &key[..]), "{field} shows a key of the device");
        }
        self.days.entry((field, value.to_vec())).or_default().insert(self.day);
    }

    /// Waits for the three records of a publication after the first `known`, and notes them.
    fn note_records(&mut self, keeper: &Keeper, known: usize) {
        let records = keeper.wait("three records", |notes| {
            let new = &notes.puts[known..];
            (new.len() >= 3).then(|| new.to_vec())
        });
        for (peer, record) in &records {
            self.note("PeerId", &peer.to_bytes());
            self.note("key of a record", &record.key.to_vec());
            self.note("signing key of a record", &record.value[..32]);
            self.note("nonce of a record", &record.value[40..64]);
            self.note("ciphertext of a record", &record.value[64..]);
        }
    }

    fn values(&self, wanted: &str) -> usize {
        self.days.keys().filter(|(field, _)| *field == wanted).count()
    }
}

/// A beacon among the packets after the first `known`.
fn beacon(capture: &Capture, known: usize) -> Vec<u8> {
    wait_for("a beacon", Duration::from_secs(60), || {
        capture.with(|packets| {
            let mut datagrams = packets[known..].iter().filter_map(|packet| packet.udp());
            let beacon = datagrams.find(|d| d.to_port == BEACON_PORT && d.bytes.len() == 130);
            beacon.map(|d| d.bytes.to_vec())
        })
    })
}

/// Goal: nothing that a stranger sees of a node today was seen of it on another day, but its address. Method: one device,
/// 30 restarts a day apart, on some days with a change of address; everybody who can looks at it: a node of the DHT at
/// what it publishes and tells, somebody who dials TCP and QUIC at its keys and certificates, somebody on the local network
/// at its beacons. Every field is noted with the day, and none may stand for two.
#[test]
fn t82_no_field_that_a_stranger_sees_repeats() {
    enclosed(module_path!(), "t82_no_field_that_a_stranger_sees_repeats", || {
        let (capture, keeper, runtime) = (Capture::start().unwrap(), Keeper::start(), runtime());
        let (ahead_ms, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let late_ms = DAY_MS - unix_ms() % DAY_MS + DAY_MS / 24 * 23;
        let mut device = Device::with_env(|| {
            let clock = Shifted { ahead_ms: Arc::clone(&ahead_ms), late_ms, start };
            Env::new(Box::new(clock), Box::new(dice()))
        });
        let own = [device.locker.device_id(), device.locker.status(StateHash::IfQuick).unwrap().person_id];
        let own = own.map(|text| hex::decode(text).unwrap());
        let mut seen = Seen { days: BTreeMap::new(), own, day: 0 };
        let mut constants = BTreeSet::new();
        for day in 0..RESTARTS {
            seen.day = day;
            ahead_ms.store(day as u64 * DAY_MS, Ordering::Relaxed);
            let (records, packets) = (keeper.notes().puts.len(), capture.with(<[_]>::len));
            device.start(NodeOptions {
                bootstrap: vec![keeper.node_address()],
                lan: true,
                limits: Some(limits()),
                ..NodeOptions::default()
            });
            // 1. The DHT.
            seen.note_records(&keeper, records);
            // 2. Identify.
            let at = |wanted| {
                let is_wanted = |a: &Address| a.transport == wanted && a.ip.is_ipv4();
                let found = device.addresses().into_iter().find(is_wanted).unwrap();
                SocketAddr::new(found.ip, found.port)
            };
            let (quic, tcp) = (at(Transport::Quic), at(Transport::Tcp));
            let (peer, told) = keeper.look_at(&format!("/ip4/{}/udp/{}/quic-v1", quic.ip(), quic.port()));
            seen.note("PeerId", &peer.to_bytes());
            assert_eq!((&told.listen_addrs, told.signed_peer_record.is_none()), (&Vec::new(), true));
            let mut protocols: Vec<_> = told.protocols.iter().map(ToString::to_string).collect();
            // The library draws their order anew each time.
            protocols.sort();
            constants.insert((told.agent_version, told.protocol_version, protocols));
            // 3. Whoever dials.
            let (noise, by_tcp) = look_by_tcp(tcp);
            assert_eq!(by_tcp, peer);
            seen.note("Noise key", &noise);
            seen.note("TLS certificate", &runtime.block_on(look_by_quic(quic)));
            // 4. The local network.
            beacon(&capture, packets)[..128].chunks(16).for_each(|id| seen.note("beacon id", id));
            // 5. Another address, while it runs: it publishes anew, under the keys of the day.
            if day % 6 == 0 {
                let records = keeper.notes().puts.len();
                let address = format!("10.77.0.{}/24", 10 + day);
                let mut add = Command::new("ip");
                assert!(add.args(["addr", "add", &address, "dev", "lan0"]).status().unwrap().success());
                seen.note_records(&keeper, records);
            }
            if day == 0 {
                // On the same day, for the sight of a new key alone: the clock stands.
                device.start_anew();
                let tcp =
                    device.addresses().into_iter().find(|a| a.transport == Transport::Tcp && a.ip.is_ipv4());
                let tcp = tcp.map(|found| SocketAddr::new(found.ip, found.port)).unwrap();
                let (noise_anew, by_tcp_anew) = look_by_tcp(tcp);
                assert!(by_tcp_anew != peer && noise_anew != noise, "the key is the one of before");
            }
            device.stop();
        }
        let repeated = seen.days.iter().filter(|(_, days)| days.len() > 1);
        let repeated: Vec<_> = repeated.map(|((field, _), days)| (*field, days)).collect();
        assert_eq!(repeated, Vec::new());
        for field in ["PeerId", "Noise key", "TLS certificate"] {
            assert_eq!(seen.values(field), RESTARTS, "{field}");
        }
        assert!(seen.values("beacon id") >= 8 * RESTARTS && seen.values("key of a record") >= 3 * RESTARTS);
        // What identify says beside is the same for every node there is.
        assert_eq!(constants.len(), 1, "{constants:?}");
        assert_eq!(constants.first().unwrap().0, "locker/1");
    });
}
