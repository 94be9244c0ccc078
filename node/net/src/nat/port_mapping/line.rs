//! The socket to one router: questions are said, and said again, and only answers to them are heard.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::codec::{self, Answer, MESSAGE_BYTES_MAX, Question};
use super::lease::{Failure, Granted};
use super::place::{Place, is_public};

/// A question in PCP is said so often in all; the first wait, which doubles (RFC 6887, section 8.1.1).
const PCP_TRIES: u32 = 4;
const PCP_WAIT: Duration = Duration::from_secs(3);
/// The same in NAT-PMP (RFC 6886, section 3.1, which allows more).
const NAT_PMP_TRIES: u32 = 6;
const NAT_PMP_WAIT: Duration = Duration::from_millis(250);
/// Datagrams that are looked at during one wait; whoever sends more is not heard until the next.
const HEARD_MAX: usize = 16;
/// At the end the router is told so often, and given so long to answer each time; it forgets by itself too.
const FAREWELL_TRIES: u32 = 2;
const FAREWELL_WAIT: Duration = Duration::from_millis(250);
/// How long the end may take.
pub(super) const FAREWELL_TIME: Duration = Duration::from_millis(250 * FAREWELL_TRIES as u64);

/// The socket to one router. The system hands on only what comes from its address and port, and what is sent goes no
/// further than one link.
pub(super) struct Line {
    socket: UdpSocket,
    speaks: Language,
}

/// What a router is believed to speak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Unknown,
    Pcp,
    NatPmp,
}

/// What became of a question.
enum Heard<T> {
    Answer(T),
    Silence,
    /// The router's system says that nobody listens.
    Nobody,
}

impl Line {
    pub(super) async fn open(place: Place, server_port: u16) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((place.own, 0)).await?;
        socket.set_ttl(1)?;
        socket.connect((place.gateway, server_port)).await?;
        Ok(Self { socket, speaks: Language::Unknown })
    }

    /// Asks for a mapping in what the router speaks.
    pub(super) async fn ask(
        &mut self,
        question: &Question,
        dice: &mut ChaCha20Rng,
    ) -> Result<Granted, Failure> {
        if self.speaks != Language::NatPmp {
            let bytes = codec::pcp_question(question);
            let waits = pcp_waits(dice);
            match self.exchange(&bytes, waits, |bytes| codec::pcp_answer(bytes, question)).await {
                Heard::Answer(Answer::Granted(grant)) => {
                    self.speaks = Language::Pcp;
                    return granted(grant, grant.ip);
                }
                Heard::Answer(Answer::Refused { code, lifetime_s }) => {
                    self.speaks = Language::Pcp;
                    return Err(Failure::Refused { code, lifetime_s });
                }
                Heard::Nobody => return Err(Failure::Silent),
                Heard::Silence if self.speaks == Language::Pcp => {
                    self.speaks = Language::Unknown;
                    return Err(Failure::Silent);
                }
                // Some of those who do not know the version say nothing.
                Heard::Answer(Answer::OtherVersion) | Heard::Silence => {}
            }
        }
        let outcome = self.ask_by_nat_pmp(question).await;
        self.speaks = if outcome.is_ok() { Language::NatPmp } else { Language::Unknown };
        outcome
    }

    async fn ask_by_nat_pmp(&self, question: &Question) -> Result<Granted, Failure> {
        let refused = |code| Failure::Refused { code, lifetime_s: 0 };
        let address = &codec::NAT_PMP_ADDRESS_QUESTION;
        let ip = match self.exchange(address, nat_pmp_waits(), codec::nat_pmp_address).await {
            Heard::Answer(Ok(ip)) => ip,
            Heard::Answer(Err(code)) => return Err(refused(code)),
            Heard::Silence | Heard::Nobody => return Err(Failure::Silent),
        };
        if !is_public(ip) {
            return Err(Failure::NotPublic(ip));
        }
        let bytes = codec::nat_pmp_question(question);
        let read = |bytes: &[u8]| codec::nat_pmp_answer(bytes, question);
        match self.exchange(&bytes, nat_pmp_waits(), read).await {
            Heard::Answer(Answer::Granted(grant)) => granted(grant, Some(ip)),
            Heard::Answer(Answer::Refused { code, .. }) => Err(refused(code)),
            // It has just answered in this version.
            Heard::Answer(Answer::OtherVersion) | Heard::Silence | Heard::Nobody => Err(Failure::Silent),
        }
    }

    /// Says the same again until it is answered or the waits are over.
    async fn exchange<T>(
        &self,
        question: &[u8],
        waits: impl Iterator<Item = Duration>,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Heard<T> {
        // What came too late for an earlier question is looked at no more.
        let mut buffer = [0; MESSAGE_BYTES_MAX + 1];
        for wait in waits {
            let until = Instant::now() + wait;
            // What cannot be sent now may be later.
            let _ = self.socket.send(question).await;
            for _ in 0..HEARD_MAX {
                match timeout_at(until, self.socket.recv(&mut buffer)).await {
                    Ok(Ok(len)) => {
                        if let Some(answer) = buffer.get(..len).and_then(&read) {
                            return Heard::Answer(answer);
                        }
                    }
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                        return Heard::Nobody;
                    }
                    Ok(Err(_)) => {}
                    Err(_) => break,
                }
            }
            sleep_until(until).await;
        }
        Heard::Silence
    }

    /// Says something in what the router speaks, without waiting for an answer.
    pub(super) async fn say(&self, questions: &[Question]) {
        for question in questions {
            // It forgets by itself too.
            let _ = match self.speaks {
                Language::NatPmp => self.socket.send(&codec::nat_pmp_question(question)).await,
                Language::Pcp | Language::Unknown => self.socket.send(&codec::pcp_question(question)).await,
            };
        }
    }

    /// Gives mappings back, and waits a moment for the router to say that it has heard.
    pub(super) async fn say_farewell(&self, questions: &[Question]) {
        let mut open = questions.to_vec();
        let mut buffer = [0; MESSAGE_BYTES_MAX + 1];
        for _ in 0..FAREWELL_TRIES {
            if open.is_empty() {
                return;
            }
            self.say(&open).await;
            let until = Instant::now() + FAREWELL_WAIT;
            for _ in 0..HEARD_MAX {
                let Ok(Ok(len)) = timeout_at(until, self.socket.recv(&mut buffer)).await else { break };
                let heard = buffer.get(..len).unwrap_or(&[]);
                open.retain(|question| match self.speaks {
                    Language::NatPmp => codec::nat_pmp_answer(heard, question).is_none(),
                    Language::Pcp | Language::Unknown => codec::pcp_answer(heard, question).is_none(),
                });
                if open.is_empty() {
                    return;
                }
            }
        }
    }
}

fn granted(grant: codec::Grant, ip: Option<Ipv4Addr>) -> Result<Granted, Failure> {
    let ip = ip.ok_or(Failure::Silent)?;
    let external = SocketAddrV4::new(ip, grant.port);
    Ok(Granted { external, lifetime_s: grant.lifetime_s, epoch_s: grant.epoch_s })
}

/// 3 s, doubling, each up to a tenth more or less (RFC 6887, section 8.1.1).
fn pcp_waits(dice: &mut ChaCha20Rng) -> impl Iterator<Item = Duration> + use<> {
    let chances = [(); PCP_TRIES as usize].map(|()| {
        let mut byte = [0];
        dice.fill_bytes(&mut byte);
        u32::from(byte[0])
    });
    let base = (0..PCP_TRIES).map(|n| PCP_WAIT * 2_u32.pow(n));
    base.zip(chances).map(|(wait, chance)| wait - wait / 10 + wait / 5 * chance / 255)
}

/// A quarter of a second, doubling (RFC 6886, section 3.1).
fn nat_pmp_waits() -> impl Iterator<Item = Duration> {
    (0..NAT_PMP_TRIES).map(|n| NAT_PMP_WAIT * 2_u32.pow(n))
}
