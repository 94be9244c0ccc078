//! The bytes of PCP (RFC 6887) and of NAT-PMP (RFC 6886), as far as a port of ours is to be passed on: questions out,
//! answers in. Never here: sockets, time, dice, and what follows from an answer.
//!
//! An answer is read only as far as it must be, and counts only if it answers this very question; everything else is
//! [`None`], as if it had not come. No bytes make this panic.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use locker_crypto::rendezvous::Transport;

/// The longest message of PCP; longer ones are none.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_100;
/// What makes a mapping ours at the router (RFC 6887, section 11.2).
pub(super) const NONCE_BYTES: usize = 12;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
/// The opcode MAP.
const MAP: u8 = 1;
/// Set in the opcode of an answer.
const IS_ANSWER: u8 = 0x80;
/// Result in both protocols: the version of the question is not spoken.
const UNSUPPORTED_VERSION: u16 = 1;
const PCP_HEADER_BYTES: usize = 24;
const PCP_MAP_BYTES: usize = 60;

/// That a port is to be passed on, or, with a life of 0, no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub(super) transport: Transport,
    /// Our own address, from which the question is sent.
    pub(super) client: Ipv4Addr,
    /// Our own port.
    pub(super) port: u16,
    pub(super) nonce: [u8; NONCE_BYTES],
    /// What it may be outside; port 0 leaves it to the router.
    pub(super) suggested: SocketAddrV4,
    pub(super) lifetime_s: u32,
}

/// What the router says to a [`Question`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Granted(Grant),
    Refused {
        /// As the protocol numbers them.
        code: u16,
        /// How long that is going to be so; 0 if it is not said.
        lifetime_s: u32,
    },
    /// It does not speak this protocol.
    OtherVersion,
}

/// A port is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    /// The router's address outside; NAT-PMP tells it apart ([`nat_pmp_address`]).
    pub(super) ip: Option<Ipv4Addr>,
    /// The port outside; never 0, unless it was asked to end.
    pub(super) port: u16,
    /// Never 0, unless it was asked to end.
    pub(super) lifetime_s: u32,
    /// Seconds since the router forgot everything.
    pub(super) epoch_s: u32,
}

/// Writes a question in PCP.
pub(super) fn pcp_question(question: &Question) -> [u8; PCP_MAP_BYTES] {
    let mut bytes = [0; PCP_MAP_BYTES];
    let [version, opcode, _, _, rest @ ..] = &mut bytes;
    (*version, *opcode) = (PCP, MAP);
    let protocol = [protocol_of(question.transport), 0, 0, 0];
    let parts: [&[u8]; 7] = [
        &question.lifetime_s.to_be_bytes(),
        &question.client.to_ipv6_mapped().octets(),
        &question.nonce,
        &protocol,
        &question.port.to_be_bytes(),
        &question.suggested.port().to_be_bytes(),
        &question.suggested.ip().to_ipv6_mapped().octets(),
    ];
    for (to, from) in rest.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    bytes
}

/// Reads the answer to a question in PCP (RFC 6887, sections 8.3 and 11.4).
pub(super) fn pcp_answer(bytes: &[u8], question: &Question) -> Option<Answer> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut read = Reader(bytes);
    let (version, opcode) = (read.u8()?, read.u8()?);
    if opcode != IS_ANSWER | MAP {
        return None;
    }
    if version == NAT_PMP {
        // Who speaks NAT-PMP alone says so in its own form.
        return (read.u16()? == UNSUPPORTED_VERSION).then_some(Answer::OtherVersion);
    }
    let (_, code) = (read.u8()?, u16::from(read.u8()?));
    if code == UNSUPPORTED_VERSION {
        return Some(Answer::OtherVersion);
    }
    let (lifetime_s, epoch_s) = (read.u32()?, read.u32()?);
    if version != PCP || !bytes.len().is_multiple_of(4) {
        return None;
    }
    let mut read = Reader(bytes.get(PCP_HEADER_BYTES..)?);
    let is_ours = read.array() == Some(question.nonce)
        && read.array() == Some([protocol_of(question.transport)])
        && read.array::<3>().is_some()
        && read.u16() == Some(question.port);
    let (port, ip) = (read.u16()?, read.array()?);
    if !is_ours {
        return None;
    }
    if code != 0 {
        return Some(Answer::Refused { code, lifetime_s });
    }
    let ip = Ipv6Addr::from_octets(ip).to_ipv4_mapped();
    granted(question, Grant { ip, port, lifetime_s, epoch_s }, ip.is_some())
}

/// Writes a question in NAT-PMP.
pub(super) fn nat_pmp_question(question: &Question) -> [u8; 12] {
    let (port, suggested) = (question.port.to_be_bytes(), question.suggested.port().to_be_bytes());
    let lifetime = question.lifetime_s.to_be_bytes();
    let opcode = nat_pmp_opcode(question.transport);
    let mut bytes = [0; 12];
    let parts: [&[u8]; 4] = [&[NAT_PMP, opcode, 0, 0], &port, &suggested, &lifetime];
    for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    bytes
}

/// Reads the answer to a question in NAT-PMP (RFC 6886, sections 3.3 and 3.5).
pub(super) fn nat_pmp_answer(bytes: &[u8], question: &Question) -> Option<Answer> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut read = Reader(bytes);
    let (version, opcode) = (read.u8()?, read.u8()?);
    if opcode != IS_ANSWER | nat_pmp_opcode(question.transport) {
        return None;
    }
    if version != NAT_PMP {
        let (_, code) = (read.u8()?, u16::from(read.u8()?));
        return (code == UNSUPPORTED_VERSION).then_some(Answer::OtherVersion);
    }
    let (code, epoch_s) = (read.u16()?, read.u32()?);
    let of_port = read.u16();
    if of_port.is_some_and(|port| port != question.port) {
        return None;
    }
    if code != 0 {
        return Some(Answer::Refused { code, lifetime_s: 0 });
    }
    of_port?;
    let (port, lifetime_s) = (read.u16()?, read.u32()?);
    granted(question, Grant { ip: None, port, lifetime_s, epoch_s }, true)
}

/// The question of NAT-PMP under which address the router is seen outside.
pub(super) const NAT_PMP_ADDRESS_QUESTION: [u8; 2] = [NAT_PMP, 0];

/// Reads the answer to [`NAT_PMP_ADDRESS_QUESTION`]: the address, or the code of a refusal.
pub(super) fn nat_pmp_address(bytes: &[u8]) -> Option<Result<Ipv4Addr, u16>> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut read = Reader(bytes);
    let (version, opcode) = (read.u8()?, read.u8()?);
    if opcode != IS_ANSWER {
        return None;
    }
    if version != NAT_PMP {
        let (_, code) = (read.u8()?, u16::from(read.u8()?));
        return (code == UNSUPPORTED_VERSION).then_some(Err(code));
    }
    let code = read.u16()?;
    if code != 0 {
        return Some(Err(code));
    }
    read.u32()?;
    Some(Ok(Ipv4Addr::from_octets(read.array()?)))
}

/// A mapping that stands has a port and a life; one that was asked to end has none.
fn granted(question: &Question, grant: Grant, has_address: bool) -> Option<Answer> {
    let is_whole = match question.lifetime_s {
        0 => grant.lifetime_s == 0,
        _ => has_address && grant.port != 0 && grant.lifetime_s != 0,
    };
    is_whole.then_some(Answer::Granted(grant))
}

/// As IP numbers them.
fn protocol_of(transport: Transport) -> u8 {
    match transport {
        Transport::Quic => 17,
        Transport::Tcp => 6,
    }
}

fn nat_pmp_opcode(transport: Transport) -> u8 {
    match transport {
        Transport::Quic => 1,
        Transport::Tcp => 2,
    }
}

/// What is left of an answer.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
