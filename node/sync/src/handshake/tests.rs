//! Vectors of the handshake, and the attack rows that concern it: T37, T79 (one face), T83.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::capability::{Capability, Facts, Registration, VerifiedChains};
use locker_crypto::certificate::Certificate;
use locker_crypto::id::{LinkTag, PersonId, TokenId};
use locker_crypto::secret::SigningSeed;
use locker_crypto::sign::Signing;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::limits::{KNOCK_MACS, NONCE_LIFE_S};
use crate::message::{HEAD_LEN, REFUSAL, encode_frame, kind};

const NOW: u64 = 1_800_000_000;

fn file() -> Value {
    serde_json::from_str(include_str!("../../../../docs/spec/vectors/handshake.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn signing(value: &Value) -> Signing {
    Signing::from_seed(&SigningSeed::new(array(value)))
}

/// Everything that the vector file fixes, in our types.
struct Fixture {
    file: Value,
    secret: RendezvousSecret,
    keys: TransportKeys,
    server_nonce: Nonce,
    client_nonce: Nonce,
    transcript: Transcript,
    showing: Showing,
    device: Signing,
    person: PersonId,
    token: Capability,
    audience: Signing,
    link: Signing,
    link_tag: LinkTag,
}

impl Fixture {
    fn new() -> Self {
        let file = file();
        let keys = TransportKeys {
            server: signing(&file["server_transport_seed"]).verifying_key(),
            client: signing(&file["client_transport_seed"]).verifying_key(),
        };
        let (server_nonce, client_nonce) = (Nonce(array(&file["nonce_s"])), Nonce(array(&file["nonce_c"])));
        let proofs = &file["proofs"];
        let link_secret: [u8; 32] = array(&proofs["link"]["S"]);
        let link_seed = kdf(Purpose::LinkSign, &[&link_secret]);
        Self {
            secret: RendezvousSecret::new(array(&file["R"])),
            transcript: Transcript::new(&keys, &server_nonce, &client_nonce),
            keys,
            server_nonce,
            client_nonce,
            showing: Showing {
                certificate: Certificate::decode(&bytes(&file["certificate"])).unwrap(),
                token: None,
            },
            device: signing(&proofs["device"]["device_seed"]),
            person: PersonId(array(&proofs["device"]["person_id"])),
            token: Capability::decode(&bytes(&proofs["cap"]["cap"])).unwrap(),
            audience: signing(&proofs["cap"]["audience_seed"]),
            link: Signing::from_seed(&SigningSeed::new(link_seed)),
            link_tag: LinkTag(array(&proofs["link"]["link_tag"])),
            file,
        }
    }

    fn credentials(&self) -> [Credential<'_>; 3] {
        [
            Credential::Device { person: self.person, device: &self.device },
            Credential::Token { token: &self.token, audience: &self.audience },
            Credential::Link { tag: self.link_tag, link: &self.link },
        ]
    }

    /// The knock of the vectors: fillers, with the MAC at place 3.
    fn knock(&self) -> Vec<u8> {
        let mut body = self.client_nonce.0.to_vec();
        let tail = u8::try_from(self.file["filler_tail"].as_u64().unwrap()).unwrap();
        for place in 0..KNOCK_MACS {
            match place {
                3 => body.extend_from_slice(&self.transcript.mac(&self.secret)),
                _ => {
                    let seed = [u8::try_from(place).unwrap(), tail];
                    body.extend_from_slice(blake3::hash(&seed).as_bytes());
                }
            }
        }
        body
    }

    fn server(&self) -> Server {
        let (server, frame) = Server::start(self.keys, self.server_nonce, NOW);
        assert_eq!(frame, encode_frame(kind::NONCE, &self.server_nonce.0));
        server
    }

    fn persons(&self) -> BTreeMap<PersonId, Person> {
        let person = Person {
            standing: Standing::Own,
            active: BTreeSet::from([self.device.verifying_key()]),
            root: VerifyingKey(self.person.0),
            grants: Vec::new(),
        };
        BTreeMap::from([(self.person, person)])
    }
}

/// Facts under which a token of the vectors stands.
struct Ground {
    issuers: BTreeSet<VerifyingKey>,
    removed: BTreeMap<VerifyingKey, BTreeSet<TokenId>>,
    revoked: BTreeSet<[u8; 32]>,
    used: BTreeMap<TokenId, u64>,
    now: u64,
}

impl Ground {
    fn of(token: &Capability, now: u64) -> Self {
        Self {
            issuers: BTreeSet::from([token.issuer()]),
            removed: BTreeMap::new(),
            revoked: BTreeSet::new(),
            used: BTreeMap::new(),
            now,
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            now: self.now,
            issuers: &self.issuers,
            removed: &self.removed,
            revoked: &self.revoked,
            heartbeat_age_s: Some(0),
            registration: Registration::Unknown,
            used_bytes: &self.used,
        }
    }
}

#[test]
fn every_value_of_the_vectors_is_reproduced() {
    let v = Fixture::new();
    let file = &v.file;
    assert_eq!(v.transcript.as_bytes(), &array(&file["th"]));
    assert_eq!(v.transcript.mac(&v.secret), array(&file["mac"]));
    let keys = SessionKeys::new(&v.secret, &v.transcript);
    assert_eq!(keys.server().expose(), &array(&file["k_server"]));
    assert_eq!(keys.client().expose(), &array(&file["k_client"]));
    assert_eq!(REFUSAL, array(&file["denied_frame"]));

    let knock = v.knock();
    assert_eq!(knock.len() as u64, file["knock_len"].as_u64().unwrap());
    assert_eq!(knock.len(), KNOCK_LEN);
    assert_eq!(blake3::hash(&knock).to_hex().as_str(), file["knock_b3"].as_str().unwrap());

    // The server's side of the run: KNOCK in, ANSWER out; PROOF in, OK out.
    let mut server = v.server();
    let doors = [RendezvousSecret::new([9; 32]), v.secret.clone()];
    let step = server.receive(&encode_frame(kind::KNOCK, &knock), &doors, &v.showing, NOW).unwrap();
    let ServerStep::Answer { frame, door } = step else { panic!("{step:?}") };
    assert_eq!((door, &frame), (1, &encode_frame(kind::ANSWER, &bytes(&file["answer"]))));

    let proofs: Vec<_> = v.credentials().iter().map(|credential| credential.prove(&v.transcript)).collect();
    for (proof, name) in proofs.iter().zip(["device", "cap", "link"]) {
        let (Proof::Device { pop, .. } | Proof::Token { pop, .. } | Proof::Link { pop, .. }) = proof else {
            panic!("{proof:?}")
        };
        assert_eq!(pop, &array(&file["proofs"][name]["sig"]), "{name}");
    }
    let sealed = seal_body(keys.client(), 0, &v.transcript, &Proofs::encode(&proofs), Padding::Step).unwrap();
    assert_eq!(sealed, bytes(&file["proof"]));

    let step = server.receive(&encode_frame(kind::PROOF, &sealed), &doors, &v.showing, NOW).unwrap();
    let ServerStep::Judge(read) = step else { panic!("{step:?}") };
    assert_eq!(read.list(), &proofs[..]);
    let ok = open_body(keys.server(), 1, &v.transcript, &bytes(&file["ok"]), Padding::Step).unwrap();
    let (grants, person) = decode_ok(&ok).unwrap();
    assert_eq!((grants.len(), person), (1, None));
    let admission = Admission { grants, ..Admission::default() };
    let (frame, rest) = server.admit(&admission).unwrap();
    assert_eq!((frame, rest), (encode_frame(kind::OK, &bytes(&file["ok"])), Vec::new()));

    // Over HTTPS.
    let http =
        Transcript::of_origin(file["http"]["origin"].as_str().unwrap(), &v.server_nonce, &v.client_nonce);
    assert_eq!(http.as_bytes(), &array(&file["http"]["th"]));
    let Proof::Link { pop, .. } = v.credentials()[2].prove(&http) else { panic!() };
    assert_eq!(pop, array(&file["http"]["link_pop"]));

    // The link proof under another nonce, another server key, and over HTTPS.
    assert_eq!(file["replay"]["expect"], "E_POP");
    let key = v.link.verifying_key();
    assert_eq!(proofs[2].check(&key, &v.transcript), Ok(()));
    let other_nonce = Transcript::new(&v.keys, &Nonce([7; 32]), &v.client_nonce);
    let other_server = TransportKeys { server: v.keys.client, ..v.keys };
    let other_server = Transcript::new(&other_server, &v.server_nonce, &v.client_nonce);
    for transcript in [other_nonce, other_server, http] {
        assert_eq!(proofs[2].check(&key, &transcript).unwrap_err().code(), "E_POP");
    }
}

/// A whole run between both machines, byte by byte, with the client's secret among others.
#[test]
fn both_ends_meet_however_the_bytes_arrive() {
    let v = Fixture::new();
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let issued = v.token.blocks()[0].grant().not_before;
    let server_device = signing(&serde_json::json!("31".repeat(32)));
    let now = issued + 1_000;
    let showing =
        Showing { certificate: Certificate::issue(&server_device, v.keys.server, now + 86_400), token: None };
    let mut secrets: Vec<_> = (0..32).map(|_| RendezvousSecret::random(&mut dice)).collect();
    secrets[17] = v.secret.clone();
    let (server, first) = Server::start(v.keys, Nonce::random(&mut dice), now);
    let mut server = Some(server);
    let mut client = Client::start(v.keys, secrets, &mut dice).unwrap();
    let doors = [v.secret.clone()];

    let mut to_client = first;
    let ground = Ground::of(&v.token, now);
    let persons = v.persons();
    let link = LinkEntry { key: v.audience.verifying_key(), token: v.token.clone() };
    let links = BTreeMap::from([(v.link_tag, link)]);
    let facts = |_: &SpaceTag| Some(ground.facts());
    let directory = Directory { persons: &persons, links: &links, facts: &facts };
    let credentials = [
        Credential::Device { person: v.person, device: &v.device },
        Credential::Token { token: &v.token, audience: &v.audience },
        Credential::Link { tag: v.link_tag, link: &v.audience },
    ];
    let mut admission = None;
    loop {
        let mut to_server = Vec::new();
        let mut welcome = None;
        for byte in std::mem::take(&mut to_client) {
            match client.receive(&[byte]).unwrap() {
                ClientStep::Wait => {}
                ClientStep::Knock(frame) => to_server = frame,
                ClientStep::Answered(answered) => {
                    assert_eq!(answered.offer, 17);
                    let expected = Expected::Device(server_device.verifying_key());
                    to_server = client.prove(&expected, &credentials, now).unwrap();
                }
                ClientStep::Welcome(end) => welcome = Some(end),
                ClientStep::Refused => panic!("refused"),
            }
        }
        if let Some(welcome) = welcome {
            let admission: Admission = admission.unwrap();
            assert_eq!(welcome.device, server_device.verifying_key());
            assert_eq!(welcome.grants, admission.grants);
            assert!(admission.is_own_device());
            assert_eq!((admission.tokens.len(), admission.links.len()), (1, 1));
            return;
        }
        assert!(!to_server.is_empty());
        for byte in to_server {
            let running = server.as_mut().unwrap();
            match running.receive(&[byte], &doors, &showing, now).unwrap() {
                ServerStep::Wait => {}
                ServerStep::Answer { frame, .. } => to_client = frame,
                ServerStep::Judge(proofs) => {
                    let judged = proofs.judge(&directory, &mut VerifiedChains::new(8)).unwrap();
                    to_client = server.take().unwrap().admit(&judged).unwrap().0;
                    admission = Some(judged);
                    break;
                }
            }
        }
    }
}

/// Every way to fail on the server's side. All of them are one refusal to the client; the reason stays here.
#[test]
fn t37_every_failure_of_a_handshake_has_one_face() {
    let v = Fixture::new();
    let doors = [v.secret.clone()];
    let knock = encode_frame(kind::KNOCK, &v.knock());
    let early = |frame: &[u8]| v.server().receive(frame, &doors, &v.showing, NOW).unwrap_err();
    let mut wrong = knock.clone();
    wrong[HEAD_LEN + 32 + 3 * 32] ^= 1;
    assert_eq!(early(&wrong), Refusal::Key);
    let mut moved = knock.clone();
    moved[HEAD_LEN] ^= 1;
    assert_eq!(early(&moved), Refusal::Key);
    assert_eq!(early(&encode_frame(kind::KNOCK, &v.knock()[1..])), Refusal::Canon);
    assert_eq!(early(&encode_frame(kind::PROOF, &v.knock())), Refusal::Canon);
    assert_eq!(early(&[0, 0, 0, 0, 0]), Refusal::Canon);
    assert_eq!(early(&[0xff, 0xff, 0xff, 0xff, 2]), Refusal::Limit);
    assert_eq!(early(&encode_frame(kind::KNOCK, &[0; 4_092])), Refusal::Limit);
    let late = v.server().receive(&knock, &doors, &v.showing, NOW + NONCE_LIFE_S + 1).unwrap_err();
    assert_eq!(late, Refusal::Time);
    assert!(v.server().receive(&knock, &doors, &v.showing, NOW + NONCE_LIFE_S).is_ok());
    assert_eq!(v.server().receive(&knock, &[], &v.showing, NOW).unwrap_err(), Refusal::Key);

    // After the knock: proofs that do not open, and a second knock on one nonce.
    let answered = || {
        let mut server = v.server();
        server.receive(&knock, &doors, &v.showing, NOW).unwrap();
        server
    };
    let proof = bytes(&v.file["proof"]);
    let mut changed = proof.clone();
    changed[100] ^= 1;
    let after = |frame: &[u8]| answered().receive(frame, &doors, &v.showing, NOW).unwrap_err();
    assert_eq!(after(&encode_frame(kind::PROOF, &changed)), Refusal::Tag);
    assert_eq!(after(&knock), Refusal::Canon);
    let mut server = answered();
    server.receive(&encode_frame(kind::PROOF, &changed), &doors, &v.showing, NOW).unwrap_err();
    assert!(
        server.receive(&encode_frame(kind::PROOF, &proof), &doors, &v.showing, NOW).is_err(),
        "over is over"
    );

    // Sealed well, but of another form.
    let keys = SessionKeys::new(&v.secret, &v.transcript);
    let sealed = |content: &[u8]| {
        let body = seal_body(keys.client(), 0, &v.transcript, content, Padding::Step).unwrap();
        after(&encode_frame(kind::PROOF, &body))
    };
    assert_eq!(sealed(&[0x80]), Refusal::Canon);
    assert_eq!(sealed(&[0x81, 0x81, 0x04]), Refusal::Canon);
    assert_eq!(sealed(&[0x8a]), Refusal::Limit);
    let device = v.credentials()[0].prove(&v.transcript);
    assert_eq!(sealed(&Proofs::encode(&[device.clone(), device])), Refusal::Canon);
    let link = v.credentials()[2].prove(&v.transcript);
    assert_eq!(sealed(&Proofs::encode(&vec![link.clone(); 9])), Refusal::Limit);
    assert_eq!(sealed(&Proofs::encode(&vec![link; 7])), Refusal::Limit, "35 signatures");

    // Whatever the reason, there is one constant to send, and it does not depend on it.
    assert_eq!(REFUSAL, array(&v.file["denied_frame"]));
}

/// Proofs that open, by somebody who has no standing here.
#[test]
fn t37_proofs_without_standing_are_refused() {
    let v = Fixture::new();
    let now = v.token.blocks()[0].grant().not_before + 1_000;
    let ground = Ground::of(&v.token, now);
    let links = BTreeMap::new();
    let good = |_: &SpaceTag| Some(ground.facts());
    let judge = |credential: &Credential<'_>, persons: &BTreeMap<PersonId, Person>, known: bool| {
        let list = vec![credential.prove(&v.transcript)];
        let facts = |tag: &SpaceTag| if known { good(tag) } else { None };
        let directory = Directory { persons, links: &links, facts: &facts };
        Proofs { transcript: v.transcript, list }.judge(&directory, &mut VerifiedChains::new(0))
    };
    let [device, token, link] = v.credentials();
    assert!(judge(&device, &v.persons(), true).unwrap().is_own_device());
    assert_eq!(judge(&device, &BTreeMap::new(), true), Err(Refusal::Rights));
    // A removed device: DENIED after ANSWER (T95).
    let mut removed = v.persons();
    removed.get_mut(&v.person).unwrap().active.clear();
    assert_eq!(judge(&device, &removed, true), Err(Refusal::Rights));
    assert_eq!(judge(&link, &v.persons(), true), Err(Refusal::Audience));
    assert!(judge(&token, &BTreeMap::new(), true).is_ok());
    assert_eq!(judge(&token, &BTreeMap::new(), false), Err(Refusal::Rights));
    let thief = Credential::Token { token: &v.token, audience: &v.device };
    assert_eq!(judge(&thief, &BTreeMap::new(), true), Err(Refusal::Pop));
    // A root key that is nobody's; the right one with the signature of another.
    let impostor = Credential::Root { root: &v.device };
    assert_eq!(judge(&impostor, &v.persons(), true), Err(Refusal::Rights));
    let Proof::Root { pop, .. } = impostor.prove(&v.transcript) else { panic!() };
    let list = vec![Proof::Root { root: VerifyingKey(v.person.0), pop }];
    let directory = Directory { persons: &v.persons(), links: &links, facts: &good };
    let proofs = Proofs { transcript: v.transcript, list };
    assert_eq!(proofs.judge(&directory, &mut VerifiedChains::new(0)), Err(Refusal::Pop));
    // T27: after a change of the phrase the new root proves whose it is; the old one is nobody's.
    let (old, new) = (Credential::Root { root: &v.audience }, Credential::Root { root: &v.link });
    let with_root = |root: &Signing| {
        let mut persons = v.persons();
        persons.get_mut(&v.person).unwrap().root = root.verifying_key();
        persons
    };
    assert_eq!(judge(&old, &with_root(&v.audience), true).unwrap().root, Some(v.person));
    assert_eq!(judge(&new, &with_root(&v.link), true).unwrap().root, Some(v.person));
    assert_eq!(judge(&old, &with_root(&v.link), true), Err(Refusal::Rights));
    // T29: expired, by one second.
    let expires = v.token.expires();
    for (now, answer) in [(expires - 1, Ok(1)), (expires, Err(Refusal::Time))] {
        let ground = Ground::of(&v.token, now);
        let facts = |_: &SpaceTag| Some(ground.facts());
        let directory = Directory { persons: &BTreeMap::new(), links: &links, facts: &facts };
        let proofs = Proofs { transcript: v.transcript, list: vec![token.prove(&v.transcript)] };
        let judged = proofs.judge(&directory, &mut VerifiedChains::new(0));
        assert_eq!(judged.map(|admission| admission.grants.len()), answer);
    }
}

/// An impostor at a cached address has other transport keys. He passes the knock on to the real server: there th is
/// another one, and no secret matches. He himself cannot answer.
#[test]
fn t83_a_relayed_knock_opens_nothing() {
    let v = Fixture::new();
    let mut dice = ChaCha8Rng::seed_from_u64(83);
    let impostor = signing(&serde_json::json!("99".repeat(32))).verifying_key();
    let (mut real, nonce) =
        Server::start(TransportKeys { client: impostor, ..v.keys }, Nonce::random(&mut dice), NOW);
    let mut client =
        Client::start(TransportKeys { server: impostor, ..v.keys }, vec![v.secret.clone()], &mut dice)
            .unwrap();
    // The impostor passes on the real nonce, so that only the transport keys differ.
    let ClientStep::Knock(knock) = client.receive(&nonce).unwrap() else { panic!() };
    assert_eq!(
        real.receive(&knock, std::slice::from_ref(&v.secret), &v.showing, NOW).unwrap_err(),
        Refusal::Key
    );
    // Nothing in the knock but random-looking bytes: no key, name or tag.
    for secret in [v.secret.expose().as_slice(), v.person.as_bytes(), v.device.verifying_key().as_bytes()] {
        assert!(!knock.windows(32).any(|window| window == secret));
    }
    // His own answer opens under no secret.
    let mut forged = vec![0; ANSWER_PAD + TAG_LEN];
    dice.fill_bytes(&mut forged);
    assert_eq!(client.receive(&encode_frame(kind::ANSWER, &forged)).unwrap_err(), Refusal::Tag);
    assert!(client.receive(&REFUSAL).is_err(), "the client has closed");
}

/// The client shows nothing to a server that knows R but is not who it should be.
#[test]
fn t83_an_unexpected_server_gets_no_proof() {
    let v = Fixture::new();
    let mut dice = ChaCha8Rng::seed_from_u64(84);
    let other = signing(&serde_json::json!("55".repeat(32)));
    let foreign = Certificate::issue(&other, v.keys.client, NOW + 60);
    let mine = Certificate::issue(&other, v.keys.server, NOW + 60);
    let expired = Certificate::issue(&other, v.keys.server, NOW);
    let device = other.verifying_key();
    let known = BTreeSet::from([device]);
    let cases = [
        (&mine, Expected::Device(device), Ok(())),
        (&mine, Expected::OneOf(&known), Ok(())),
        (&mine, Expected::Anybody, Ok(())),
        (&mine, Expected::Device(v.device.verifying_key()), Err(Refusal::Audience)),
        (&mine, Expected::OneOf(&BTreeSet::new()), Err(Refusal::Audience)),
        (&foreign, Expected::Anybody, Err(Refusal::Audience)),
        (&expired, Expected::Anybody, Err(Refusal::Time)),
    ];
    for (number, (certificate, expected, answer)) in cases.into_iter().enumerate() {
        let (mut server, nonce) = Server::start(v.keys, Nonce::random(&mut dice), NOW);
        let mut client = Client::start(v.keys, vec![v.secret.clone()], &mut dice).unwrap();
        let ClientStep::Knock(knock) = client.receive(&nonce).unwrap() else { panic!() };
        let showing = Showing { certificate: certificate.clone(), token: None };
        let step = server.receive(&knock, std::slice::from_ref(&v.secret), &showing, NOW).unwrap();
        let ServerStep::Answer { frame, .. } = step else { panic!() };
        let ClientStep::Answered(_) = client.receive(&frame).unwrap() else { panic!() };
        let proof = client.prove(&expected, &v.credentials()[..1], NOW);
        assert_eq!(proof.map(|_| ()), answer, "case {number}");
    }
}

#[test]
fn the_first_4096_secrets_count_and_32_may_be_offered() {
    let v = Fixture::new();
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    let knock = encode_frame(kind::KNOCK, &v.knock());
    let mut doors: Vec<_> = (0..4_097).map(|_| RendezvousSecret::random(&mut dice)).collect();
    doors[4_096] = v.secret.clone();
    assert_eq!(v.server().receive(&knock, &doors, &v.showing, NOW).unwrap_err(), Refusal::Key);
    doors[4_095] = v.secret.clone();
    let step = v.server().receive(&knock, &doors, &v.showing, NOW).unwrap();
    assert!(matches!(step, ServerStep::Answer { door: 4_095, .. }), "{step:?}");
    assert!(Client::start(v.keys, doors[..32].to_vec(), &mut dice).is_ok());
    assert!(Client::start(v.keys, doors[..33].to_vec(), &mut dice).is_err());
}

/// Whatever a stranger sends, the machines neither panic nor answer.
#[test]
fn mutated_frames_never_panic() {
    let v = Fixture::new();
    let mut dice = ChaCha8Rng::seed_from_u64(3);
    let doors = [v.secret.clone()];
    let knock = encode_frame(kind::KNOCK, &v.knock());
    let proof = encode_frame(kind::PROOF, &bytes(&v.file["proof"]));
    for _ in 0..20_000 {
        let mut server = v.server();
        let stage = dice.next_u32() % 2;
        let mut frame = if stage == 0 { knock.clone() } else { proof.clone() };
        if stage == 1 {
            server.receive(&knock, &doors, &v.showing, NOW).unwrap();
        }
        for _ in 0..1 + dice.next_u32() % 3 {
            let at = dice.next_u32() as usize % frame.len();
            frame[at] ^= 1 << (dice.next_u32() % 8);
        }
        match server.receive(&frame, &doors, &v.showing, NOW) {
            // A change in a filler leaves the knock good; nothing else does.
            Ok(ServerStep::Answer { .. }) => assert_eq!(stage, 0),
            Ok(ServerStep::Wait) | Err(_) => {}
            Ok(ServerStep::Judge(_)) => assert_eq!(frame, proof),
        }
    }
    // Contents that were sealed well.
    let content = Proofs::encode(&v.credentials().map(|credential| credential.prove(&v.transcript)));
    for _ in 0..20_000 {
        let mut changed = content.clone();
        let at = dice.next_u32() as usize % changed.len();
        changed[at] = dice.next_u32().to_le_bytes()[0];
        if let Ok(read) = Proofs::decode(&changed, v.transcript) {
            assert_eq!(Proofs::encode(&read.list), changed);
        }
    }
    let grants = [
        Grant { tag: SpaceTag([1; 16]), rights: Rights::READ, folder: None },
        Grant { tag: SpaceTag([2; 16]), rights: Rights::WRITE, folder: Some(NodeId([3; 16])) },
    ];
    for ok in [encode_ok(&grants, None), encode_ok(&[], Some(PersonId([4; 32])))] {
        for _ in 0..20_000 {
            let mut changed = ok.clone();
            let at = dice.next_u32() as usize % changed.len();
            changed[at] = dice.next_u32().to_le_bytes()[0];
            if let Ok((read, person)) = decode_ok(&changed) {
                assert_eq!(encode_ok(&read, person), changed);
            }
        }
    }
}
