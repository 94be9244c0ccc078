//! T41, T47: what an observer of the network sees of real processes, in a network of their own.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};

use locker_crypto::identity::Root;
use locker_crypto::link::Link;
use locker_crypto::phrase::Phrase;
use locker_crypto::secret::Ticket;
use locker_net::NodeAddress;
use locker_tests::capture::{Capture, Packet};
use locker_tests::enclosure::{GATEWAY_ADDRESS, LAN_ADDRESS, enclosed};
use locker_tests::files::write;
use locker_tests::search::Search;
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Up, tree};

use super::member::Member;
use super::stranger::runtime;

const PLANTED: usize = 1_000;
const BEACON_PORT: u16 = 24_765;
/// Where a router hears that a port is to be passed on.
const ROUTER_PORT: u16 = 5_351;

/// Everything that must not be seen, in every form, by what it is.
struct Planted {
    search: Search,
}

impl Planted {
    fn new() -> Self {
        Self { search: Search::new() }
    }

    /// A text, and its BLAKE3.
    fn text(&mut self, what: &str, text: &str) {
        self.search.plant(what, text.as_bytes());
        self.bytes(&format!("BLAKE3 of {what}"), blake3::hash(text.as_bytes()).as_bytes());
    }

    /// Bytes: a key or a hash.
    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        self.search.plant(what, bytes);
    }

    fn hex(&mut self, what: &str, text: &str) {
        self.bytes(what, &hex::decode(text).unwrap());
    }

    /// Makes files with marked names and contents below a folder.
    fn files(&mut self, folder: &std::path::Path, count: usize, dice: &mut Dice) {
        for n in 0..count {
            let (name, head, tail) = (format!("{}.txt", dice.word(24)), dice.word(32), dice.word(32));
            let filling = usize::try_from(dice.below(3_000)).unwrap();
            let path = folder.join(format!("{}", n % 10)).join(&name);
            write(&path, [head.as_str(), &dice.word(filling), &tail].concat().as_bytes());
            self.text(&format!("name {n}"), &name);
            self.text(&format!("start of file {n}"), &head);
            self.text(&format!("end of file {n}"), &tail);
            self.bytes(&format!("BLAKE3 of file {n}"), tree::hash(&path).as_bytes());
        }
    }

    /// What names the locker, its devices and its packs.
    fn names(&mut self, home: &Home) {
        let status = home.json(["status"]);
        self.hex("person", status["person_id"].as_str().unwrap());
        self.hex("state", status["state_hash"].as_str().unwrap());
        for device in status["devices"].as_array().unwrap() {
            self.hex("device", device["id"].as_str().unwrap());
        }
        for pack in home.packs() {
            self.hex("pack", pack.file_name().unwrap().to_str().unwrap());
        }
    }
}

fn found_in(search: &Search, packets: &[Packet]) -> BTreeSet<String> {
    packets.iter().flat_map(|packet| search.find_in(&packet.0)).map(str::to_owned).collect()
}

/// Goal: whoever sees all packets of a pairing, of replication both ways and of edits, over QUIC by way of a meeting point
/// and over TCP on a local network, finds no name, no content, no hash, no key and no word of the ticket or the phrase;
/// nor does whoever has the disk of either device. Method: 1,000 planted files, every frame of every interface, every
/// form of every text; and controls: a datagram of ours that the capture must show, and the bytes that must have passed.
#[test]
fn t41_an_observer_finds_no_name_hash_or_key() {
    enclosed(module_path!(), "t41_an_observer_finds_no_name_hash_or_key", || {
        let mut dice = Dice::of("t41");
        let mut planted = Planted::new();
        let (a, b) = (Home::empty(), Home::empty());
        let names = [format!("device-{}", dice.word(20)), format!("device-{}", dice.word(20))];
        names.iter().for_each(|name| planted.text("name of a device", name));
        let made = a.json(["init", "--name", &names[0]]);
        let phrase = made["phrase"].as_str().unwrap();
        let (first, second) = phrase.split_at(phrase.len() / 2);
        planted.text("first half of the phrase", first);
        planted.text("second half of the phrase", second);
        let source = a.beside("source");
        planted.files(&source, PLANTED, &mut dice);
        a.ok(["add".as_ref(), source.as_os_str()]);

        let capture = Capture::start().unwrap();
        let meeting = Meeting::start();
        let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
        a.pair_with(&b, &meeting, &names[1]);
        let up_b = Up::start(&b, &[]);
        b.wait_synced();
        // A third device, whose secrets are known here: what it is given on this wire, and makes, is looked for too.
        let mut pair = a.start(["--json", "pair", "--assume-yes"], "");
        let words = pair.event("ticket")["words"].as_str().unwrap().to_owned();
        let ticket = Ticket::from_words(&words).unwrap();
        let addresses: Vec<_> =
            up_a.listen().iter().map(|text| text.parse::<NodeAddress>().unwrap().address).collect();
        let member = runtime().block_on(async {
            let member = Member::join_at(&addresses, &ticket).await;
            drop(member.session(&addresses).await);
            member
        });
        pair.finish().ok();
        b.wait_synced();
        // Somebody without a locker opens a link.
        let stranger = Home::empty();
        let shared = a.json(["share", "source", "--label", &names[0]]);
        let link = stranger.beside("link.txt");
        write(&link, shared["link"].as_str().unwrap().as_bytes());
        let out = stranger.beside("out");
        let (link, out) = (link.to_str().unwrap(), out.to_str().unwrap());
        let at = meeting.address();
        stranger.ok(["open", "--link-file", link, "--to", out, "--bootstrap", at, "--no-lan"]);
        assert!(tree::Tree::of(&stranger.beside("out").join("source")).files() >= PLANTED);
        up_a.stop().ok();
        up_b.stop().ok();
        let by_quic = capture.with(|packets| volume(packets, Packet::udp));

        // On the local network, without the meeting point.
        drop(meeting);
        let later = b.beside("later");
        planted.files(&later, PLANTED / 10, &mut dice);
        b.ok(["add".as_ref(), later.as_os_str()]);
        for home in [&a, &b] {
            write(&home.path().join("config.toml"), b"");
        }
        let up_a = Up::start_as_is(&a, &[]);
        let up_b = Up::start_as_is(&b, &[]);
        a.wait_synced();
        a.wait_equal(&b);
        a.ok(["mv", "later", &names[1]]);
        b.wait_for_path(&names[1]);
        up_a.stop().ok();
        up_b.stop().ok();

        // The control of the capture.
        let mut control = Search::new();
        control.plant("the control", b"this is said aloud");
        let socket = UdpSocket::bind((LAN_ADDRESS, 0)).unwrap();
        socket.send_to(b"so: this is said aloud.", "192.0.2.1:9").unwrap();
        wait_for("the control in the capture", std::time::Duration::from_secs(10), || {
            capture.with(|packets| (!found_in(&control, packets).is_empty()).then_some(()))
        });
        let packets = capture.finish();

        for (what, secret) in member.secrets() {
            planted.bytes(what, &secret);
        }
        let text = shared["link"].as_str().unwrap();
        let link = Link::parse(text).unwrap().0;
        planted.text("the link", text);
        planted.bytes("the seed of the link", link.seed().expose());
        planted.bytes("meeting secret of the link", link.rendezvous().expose());
        let root = Root::from_entropy(Phrase::parse(phrase).unwrap().entropy());
        planted.bytes("master under the phrase", root.rendezvous_master(0).expose());
        planted.bytes("meeting secret of the ticket", ticket.rendezvous().expose());
        planted.bytes("key of the pairing", ticket.pairing_key().expose());
        planted.search.plant_hash("the second ticket", ticket.expose());
        planted.text("the words of the second ticket", &words);

        // Packs are searched for on the wire only, as on the disk they are the names of the files; and so are public names.
        let on_disk = planted.search.len();
        let (below_a, bytes_a) = planted.search.find_below(a.path());
        let (below_b, bytes_b) = planted.search.find_below(b.path());
        assert_eq!((below_a, below_b), (Vec::new(), Vec::new()));
        let first_words = std::fs::read_to_string(b.beside("words.txt")).unwrap();
        planted.text("the words of the first ticket", first_words.trim());
        planted.names(&a);
        planted.names(&b);
        planted.bytes("public name of the link", link.keys(None).unwrap().tag().as_bytes());
        member.space().iter().for_each(|name| planted.bytes("the space", name));
        assert!(planted.search.len() > on_disk);
        let found = found_in(&planted.search, &packets);
        assert!(found.is_empty(), "{} found on the wire, such as {:?}", found.len(), found.iter().next());
        let by_tcp = volume(&packets, Packet::tcp);
        let stored: u64 = a.packs().iter().map(|pack| pack.metadata().unwrap().len()).sum();
        eprintln!(
            "{} patterns; {} packets, {by_quic} bytes by QUIC, {by_tcp} by TCP; {bytes_a} and {bytes_b} bytes at home",
            planted.search.len(),
            packets.len(),
        );
        // That the files crossed in front of the capture is sure; on a local network TCP is tried first, and which of the
        // two carries what is chance.
        assert!(by_quic + by_tcp > stored / 2, "the replication was not seen");
    });
}

fn volume(
    packets: &[Packet],
    content: impl Fn(&Packet) -> Option<locker_tests::capture::Content<'_>>,
) -> u64 {
    packets.iter().filter_map(content).map(|content| content.bytes.len() as u64).sum()
}

/// Where a locker that was told nothing may send something: to itself, beacons to its group, and to the default gateway the
/// question for a port. The rest is of the kernel: who is in a group, who is a neighbour.
fn is_of_the_fixture(packet: &Packet) -> bool {
    let Some((_, to)) = packet.addresses() else { return true };
    let own: [IpAddr; 3] = [LAN_ADDRESS, "127.0.0.1", "::1"].map(|ip| ip.parse().unwrap());
    if own.contains(&to) {
        return true;
    }
    let groups: [IpAddr; 2] = ["239.255.76.75", "ff02::4c4b"].map(|ip| ip.parse().unwrap());
    match (packet.udp(), packet.tcp()) {
        (Some(_), _) if is_question_to_router(packet) => true,
        (Some(datagram), _) => groups.contains(&to) && datagram.to_port == BEACON_PORT,
        (None, Some(_)) => false,
        (None, None) => to.is_multicast() || is_link_local(to),
    }
}

/// Whether a packet asks the default gateway, by PCP or NAT-PMP, to pass a port on. It goes no further than one link.
fn is_question_to_router(packet: &Packet) -> bool {
    let gateway: IpAddr = GATEWAY_ADDRESS.parse().unwrap();
    let is_question =
        |bytes: &[u8]| matches!((bytes.len(), bytes.first()), (60, Some(2)) | (2 | 12, Some(0)));
    // Of IPv4: the time to live is the 9th byte of the header, behind that of Ethernet.
    let is_for_one_link = packet.0.get(14 + 8) == Some(&1);
    packet.addresses().is_some_and(|(_, to)| to == gateway && is_for_one_link)
        && packet.udp().is_some_and(|said| said.to_port == ROUTER_PORT && is_question(said.bytes))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Goal: a locker in its default configuration sends nothing, not even a question for a name, to any host outside: only
/// to its peers on the local network, beacons, and to the default gateway, which is a host of the local network too, the
/// question to pass a port on; with `--no-port-mapping` not even that. Method: all commands of a first day, pairing and replication over the
/// local network included, in a network that has a way out; every packet is looked at. The control is a question of the
/// test's own to a host outside.
#[test]
fn t47_a_default_configuration_speaks_to_nobody_outside() {
    enclosed(module_path!(), "t47_a_default_configuration_speaks_to_nobody_outside", || {
        let capture = Capture::start().unwrap();
        let (a, b) = (Home::new(), Home::empty());
        let file = a.beside("file.bin");
        write(&file, &Dice::of("t47").bytes(300_000));
        a.ok(["add".as_ref(), file.as_os_str()]);
        for arguments in
            [vec!["status"], vec!["ls", "-R"], vec!["verify"], vec!["device", "ls"], vec!["mkdir", "x"]]
        {
            a.ok(arguments);
        }
        let up_a = Up::start_as_is(&a, &[]);
        let port_of_a = up_a.listen()[0].parse::<NodeAddress>().unwrap().address.port;
        a.pair_by(&b, "second", &[]);
        let up_b = Up::start_as_is(&b, &["--no-port-mapping"]);
        b.wait_synced();
        a.wait_equal(&b);
        b.ok(["mv", "file.bin", "x"]);
        a.wait_for_path("x/file.bin");
        up_b.stop().ok();
        // A peer that is gone is looked for.
        a.ok(["mkdir", "y"]);
        up_a.stop().ok();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"who is example.org", "192.0.2.1:53").unwrap();
        let outside = |packets: &[Packet]| -> Vec<Packet> {
            packets.iter().filter(|packet| !is_of_the_fixture(packet)).cloned().collect()
        };
        wait_for("the control in the capture", std::time::Duration::from_secs(10), || {
            capture.with(|packets| (!outside(packets).is_empty()).then_some(()))
        });
        let packets = capture.finish();
        // Of the two nodes the one asks that may.
        let questions = packets.iter().filter(|packet| is_question_to_router(packet)).filter_map(Packet::udp);
        let of_pcp = questions.filter(|question| question.bytes.len() == 60);
        let of_ports: BTreeSet<u16> =
            of_pcp.map(|question| u16::from_be_bytes([question.bytes[40], question.bytes[41]])).collect();
        assert_eq!(of_ports, BTreeSet::from([port_of_a]));
        let beacons = packets.iter().filter_map(Packet::udp).filter(|d| d.to_port == BEACON_PORT).count();
        assert!(beacons >= 2 && packets.len() > 50, "{beacons} beacons among {} packets", packets.len());
        // Of the control there are one or two: at both ends of the cable.
        for packet in outside(&packets) {
            let said = packet.udp().map(|datagram| datagram.bytes.to_vec());
            assert_eq!(said.as_deref(), Some(&b"who is example.org"[..]), "{packet:?}");
        }
    });
}
