//! Questions and answers as bytes: those of the standards and of a real router, and hostile ones.

use proptest::prelude::*;

use super::*;

fn question(transport: Transport) -> Question {
    Question {
        transport,
        client: Ipv4Addr::new(192, 168, 1, 11),
        port: 4_001,
        nonce: *b"nnnnnnnnnnnn",
        suggested: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 4_001),
        lifetime_s: 7_200,
    }
}

/// What miniupnpd 2.3.1 said to these very questions.
const PCP_SAID: &str = "0281000000001c20000000010000000000000000000000006e6e6e6e6e6e6e6e6e6e6e6e\
    110000000fa10fa100000000000000000000ffff8042000a";
const PCP_REFUSED: &str = "028100080000001e000000020000000000000000000000006e6e6e6e6e6e6e6e6e6e6e6e\
    110000000fa10fa100000000000000000000ffffc633640a";
const NAT_PMP_ADDRESS: &str = "00800000000000018042000a";
const NAT_PMP_SAID: &str = "00810000000000010fa10fa200001c20";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn questions_are_written_as_the_standards_say() {
    let expected = "0201000000001c2000000000000000000000ffffc0a8010b6e6e6e6e6e6e6e6e6e6e6e6e\
        110000000fa10fa100000000000000000000ffff00000000";
    assert_eq!(pcp_question(&question(Transport::Quic)).to_vec(), bytes(expected));
    assert_eq!(pcp_question(&question(Transport::Tcp))[36], 6);
    assert_eq!(nat_pmp_question(&question(Transport::Quic)).to_vec(), bytes("000100000fa10fa100001c20"));
    assert_eq!(nat_pmp_question(&question(Transport::Tcp))[1], 2);
}

#[test]
fn answers_of_a_router_are_read() {
    let udp = question(Transport::Quic);
    let ip = Some(Ipv4Addr::new(128, 66, 0, 10));
    let grant = Grant { ip, port: 4_001, lifetime_s: 7_200, epoch_s: 1 };
    assert_eq!(pcp_answer(&bytes(PCP_SAID), &udp), Some(Answer::Granted(grant)));
    let refused = Answer::Refused { code: 8, lifetime_s: 30 };
    assert_eq!(pcp_answer(&bytes(PCP_REFUSED), &udp), Some(refused));
    assert_eq!(nat_pmp_address(&bytes(NAT_PMP_ADDRESS)), Some(Ok(Ipv4Addr::new(128, 66, 0, 10))));
    assert_eq!(nat_pmp_address(&bytes("008000030000000200000000")), Some(Err(3)));
    let grant = Grant { ip: None, port: 4_002, lifetime_s: 7_200, epoch_s: 1 };
    assert_eq!(nat_pmp_answer(&bytes(NAT_PMP_SAID), &udp), Some(Answer::Granted(grant)));
    let refused = Answer::Refused { code: 3, lifetime_s: 0 };
    assert_eq!(nat_pmp_answer(&bytes("00810003000000020fa10fa100001c20"), &udp), Some(refused));
    assert_eq!(nat_pmp_answer(&bytes("0081000300000002"), &udp), Some(refused));
    // Options behind what we asked for.
    let with_option = [bytes(PCP_SAID), vec![0; 4]].concat();
    assert!(pcp_answer(&with_option, &udp).is_some());
}

#[test]
fn each_says_when_it_speaks_the_other_language_alone() {
    let udp = question(Transport::Quic);
    assert_eq!(pcp_answer(&bytes("0081000100000005"), &udp), Some(Answer::OtherVersion));
    assert_eq!(pcp_answer(&bytes("01810001"), &udp), Some(Answer::OtherVersion));
    assert_eq!(nat_pmp_answer(&bytes("0281000100000000"), &udp), Some(Answer::OtherVersion));
    assert_eq!(nat_pmp_address(&bytes("0280000100000000")), Some(Err(1)));
}

#[test]
fn what_answers_another_question_is_no_answer() {
    let (udp, said) = (question(Transport::Quic), bytes(PCP_SAID));
    let with = |at: usize, byte: u8| {
        let mut other = said.clone();
        other[at] = byte;
        pcp_answer(&other, &udp)
    };
    // Version; a question; another opcode; nonce; protocol; our port; not IPv4.
    for (at, byte) in [(0, 1), (1, 1), (1, 0x82), (24, b'x'), (35, b'x'), (36, 6), (41, 0), (54, 0)] {
        assert_eq!(with(at, byte), None, "byte {at}");
    }
    assert_eq!(pcp_answer(&said, &question(Transport::Tcp)), None);
    // No port, and no life, though one was asked for.
    let zero = |range: std::ops::Range<usize>| {
        let mut other = said.clone();
        other[range].fill(0);
        pcp_answer(&other, &udp)
    };
    assert_eq!((zero(42..44), zero(4..8)), (None, None));
    // Not in words of four bytes; too long.
    assert_eq!(pcp_answer(&[said.clone(), vec![0]].concat(), &udp), None);
    assert_eq!(pcp_answer(&[said.clone(), vec![0; 1_044]].concat(), &udp), None);
    assert!(pcp_answer(&[said, vec![0; 1_040]].concat(), &udp).is_some());

    let said = bytes(NAT_PMP_SAID);
    for (at, byte) in [(0, 1), (1, 1), (1, 0x80), (1, 0x82), (9, 0)] {
        let mut other = said.clone();
        other[at] = byte;
        assert_eq!(nat_pmp_answer(&other, &udp), None, "byte {at}");
    }
    assert_eq!(nat_pmp_answer(&said, &question(Transport::Tcp)), None);
}

#[test]
fn a_mapping_that_is_given_back_has_no_life() {
    let end = Question { lifetime_s: 0, ..question(Transport::Quic) };
    assert_eq!(pcp_answer(&bytes(PCP_SAID), &end), None);
    let mut said = bytes(PCP_SAID);
    said[4..8].fill(0);
    assert!(matches!(pcp_answer(&said, &end), Some(Answer::Granted(_))));
    assert!(matches!(
        nat_pmp_answer(&bytes("00810000000000010fa1000000000000"), &end),
        Some(Answer::Granted(_))
    ));
}

/// Everything that reads.
fn read_all(bytes: &[u8]) -> bool {
    let both = [Transport::Quic, Transport::Tcp].map(question);
    both.iter().any(|one| pcp_answer(bytes, one).is_some() || nat_pmp_answer(bytes, one).is_some())
        || nat_pmp_address(bytes).is_some()
}

#[test]
fn what_is_cut_short_is_no_grant() {
    let udp = question(Transport::Quic);
    for hex in [PCP_SAID, PCP_REFUSED] {
        let whole = bytes(hex);
        for len in 0..whole.len() {
            assert_eq!(pcp_answer(&whole[..len], &udp), None, "{len} bytes");
        }
    }
    let (said, address) = (bytes(NAT_PMP_SAID), bytes(NAT_PMP_ADDRESS));
    assert!((0..said.len()).all(|len| nat_pmp_answer(&said[..len], &udp).is_none()));
    assert!((0..address.len()).all(|len| nat_pmp_address(&address[..len]).is_none()));
}

#[test]
fn no_length_panics() {
    for len in 0..=1_200 {
        for fill in [0x00, 0x02, 0x80, 0x81, 0xff] {
            assert!(!read_all(&vec![fill; len]), "{len} bytes of {fill}");
        }
        // Behind what all answers begin with, only what is whole is read.
        for head in [&[2, 0x81][..], &[0, 0x81], &[0, 0x80]] {
            let mut bytes = vec![0; len];
            let both = head.len().min(len);
            bytes[..both].copy_from_slice(&head[..both]);
            read_all(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_200)) {
        read_all(&bytes);
    }

    #[test]
    fn no_answer_with_turned_bytes_panics_or_is_another_grant(
        turns in proptest::collection::vec((0_usize..60, any::<u8>()), 1..8),
        len in 0_usize..=60,
    ) {
        let mut said = bytes(PCP_SAID);
        for (at, byte) in turns {
            said[at] = byte;
        }
        said.truncate(len);
        if let Some(Answer::Granted(grant)) = pcp_answer(&said, &question(Transport::Quic)) {
            prop_assert!(len == 60 && &said[24..36] == b"nnnnnnnnnnnn" && said[36] == 17);
            prop_assert!(grant.port != 0 && grant.lifetime_s != 0 && grant.ip.is_some());
        }
        let mut said = bytes(NAT_PMP_SAID);
        said.extend([0; 44]);
        read_all(&said);
    }
}
