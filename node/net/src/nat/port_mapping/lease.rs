//! What the router has granted, and when it is asked next. Plain state: time, chance and answers come as arguments.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use locker_crypto::rendezvous::{Address, Transport};
use tokio::time::Instant;

use super::codec::{NONCE_BYTES, Question};
use super::place::is_public;
use super::{MappedPort, PortMapping};

/// The life that is asked for (RFC 6886, section 3.3), and the longest that is believed.
pub(super) const LIFETIME_S: u32 = 7_200;
/// A router that is silent, or whose address is of no use, is asked again after this.
pub(super) const LONG_WAIT: Duration = Duration::from_secs(4 * 3_600);
/// One that refuses is asked again when it says, within these bounds.
const REFUSED_WAIT_MIN: Duration = Duration::from_secs(300);
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// How long a port of ours is not asked about again, whatever happens. While one stands and the router does not grant it anew,
/// it doubles: a router that restarts is silent for a while.
const PAUSE: Duration = Duration::from_secs(30);
/// The first mapping that stands is asked for again so soon, and up to a quarter later: a router that restarted, or was given
/// another address, says so to nobody, and connections by QUIC outlive both.
const WATCH: Duration = Duration::from_secs(60);
/// Where the address outside was public once, one that is not is looked at so often again before the long wait.
const LINE_TRIES: u32 = 12;
/// Times that it doubles.
const DOUBLINGS_MAX: u32 = 8;

/// Why a port is not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    Silent,
    Refused {
        code: u16,
        lifetime_s: u32,
    },
    /// What it calls its address outside.
    NotPublic(Ipv4Addr),
}

/// A port is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Granted {
    pub(super) external: SocketAddrV4,
    pub(super) lifetime_s: u32,
    pub(super) epoch_s: u32,
}

/// The mapping of one transport.
struct Lease {
    transport: Transport,
    nonce: [u8; NONCE_BYTES],
    standing: Option<Standing>,
    /// When it is asked for next.
    due: Instant,
    asked: Option<Instant>,
    /// How often it was asked for in vain, since it was granted last.
    failures: u32,
}

#[derive(Clone, Copy)]
struct Standing {
    external: SocketAddrV4,
    lifetime: Duration,
    until: Instant,
}

/// Both mappings at one router.
pub(super) struct Leases {
    own: SocketAddrV4,
    leases: [Lease; 2],
    /// What port is suggested while none stands.
    first_port: u16,
    /// The router's count of seconds, and when it was told.
    epoch: Option<(Instant, u32)>,
    failure: Option<Failure>,
}

impl Leases {
    /// Nothing is granted, and all is due. `first_port` is suggested at first.
    pub(super) fn new(
        own: SocketAddrV4,
        first_port: u16,
        nonces: [[u8; NONCE_BYTES]; 2],
        now: Instant,
    ) -> Self {
        let [quic, tcp] = nonces;
        let leases = [(Transport::Quic, quic), (Transport::Tcp, tcp)].map(|(transport, nonce)| Lease {
            transport,
            nonce,
            standing: None,
            due: now,
            asked: None,
            failures: 0,
        });
        Self { own, leases, first_port, epoch: None, failure: None }
    }

    /// Our own port.
    pub(super) fn port(&self) -> u16 {
        self.own.port()
    }

    /// Another port is suggested from now on, while none stands.
    pub(super) fn suggest(&mut self, port: u16) {
        self.first_port = port;
    }

    /// Which mapping is asked for next, and when.
    pub(super) fn next(&self) -> (Transport, Instant) {
        let [quic, tcp] = &self.leases;
        if quic.due <= tcp.due { (quic.transport, quic.due) } else { (tcp.transport, tcp.due) }
    }

    /// What is asked now.
    pub(super) fn question(&mut self, transport: Transport, now: Instant) -> Question {
        let (own, first_port) = (self.own, self.first_port);
        let lease = self.of(transport);
        lease.asked = Some(now);
        let nothing = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, first_port);
        Question {
            transport,
            client: *own.ip(),
            port: own.port(),
            nonce: lease.nonce,
            suggested: lease.standing.map_or(nothing, |standing| standing.external),
            lifetime_s: LIFETIME_S,
        }
    }

    /// What is said to the router at the end, of what stands.
    pub(super) fn farewells(&self) -> Vec<Question> {
        let asked = self.leases.iter().filter(|lease| lease.standing.is_some());
        asked.map(|lease| self.farewell(lease.transport, lease.nonce)).collect()
    }

    fn farewell(&self, transport: Transport, nonce: [u8; NONCE_BYTES]) -> Question {
        let suggested = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let (client, port) = (*self.own.ip(), self.own.port());
        Question { transport, client, port, nonce, suggested, lifetime_s: 0 }
    }

    /// The router has granted a mapping. `chance` says where in its span the renewal lies. Gives what is to be taken back
    /// there, since it is of no use.
    pub(super) fn granted(
        &mut self,
        transport: Transport,
        granted: Granted,
        chance: u8,
        now: Instant,
    ) -> Option<Question> {
        let ip = *granted.external.ip();
        if !is_public(ip) {
            let nonce = self.of(transport).nonce;
            self.failed(transport, Failure::NotPublic(ip), now);
            return Some(self.farewell(transport, nonce));
        }
        let lifetime = Duration::from_secs(granted.lifetime_s.min(LIFETIME_S).into());
        // Between a half and five eighths (RFC 6887, section 11.2.1).
        let later = |span: Duration| span + span / 4 * u32::from(chance) / 255;
        let lease = self.of(transport);
        lease.standing = Some(Standing { external: granted.external, lifetime, until: now + lifetime });
        let first = self.leases.iter().find(|lease| lease.standing.is_some());
        let is_first = first.is_some_and(|first| first.transport == transport);
        let renew = later(if is_first { WATCH.min(lifetime / 2) } else { lifetime / 2 }).max(PAUSE);
        let lease = self.of(transport);
        (lease.due, lease.failures) = (now + renew, 0);
        let has_restarted = self.has_restarted(granted.epoch_s, now);
        let is_elsewhere =
            |lease: &Lease| lease.standing.is_some_and(|standing| *standing.external.ip() != ip);
        for lease in self.leases.iter_mut().filter(|lease| lease.transport != transport) {
            if has_restarted || is_elsewhere(lease) {
                lease.hasten(now);
            }
        }
        None
    }

    /// The router has not granted it. What stands stays until its time is over.
    pub(super) fn failed(&mut self, transport: Transport, failure: Failure, now: Instant) {
        self.failure = Some(failure);
        let wait = match failure {
            Failure::Refused { lifetime_s, .. } => {
                Duration::from_secs(lifetime_s.into()).clamp(REFUSED_WAIT_MIN, REFUSED_WAIT_MAX)
            }
            // It had a public one before: the line is down, and comes back.
            Failure::NotPublic(_) if self.epoch.is_some() && self.of(transport).failures < LINE_TRIES => {
                REFUSED_WAIT_MIN
            }
            Failure::Silent | Failure::NotPublic(_) => LONG_WAIT,
        };
        if let Failure::NotPublic(_) = failure {
            self.leases.iter_mut().for_each(|lease| lease.standing = None);
        }
        let lease = self.of(transport);
        let pause = PAUSE * 2_u32.pow(lease.failures.min(DOUBLINGS_MAX));
        lease.failures = lease.failures.saturating_add(1);
        lease.due = match lease.standing {
            // It is tried until the end, and then once more as if nothing had been.
            Some(standing) if now < standing.until => {
                let rest = standing.until - now;
                now + pause.min(rest / 2).max(PAUSE).min(rest)
            }
            _ => now + wait,
        };
        // Who says nothing of the one says nothing of the other.
        let due = lease.due;
        let others = self.leases.iter_mut().filter(|lease| lease.transport != transport);
        others.filter(|lease| lease.standing.is_none()).for_each(|lease| lease.due = lease.due.max(due));
    }

    /// Forgets what has run out. Whether something has.
    pub(super) fn lapse(&mut self, now: Instant) -> bool {
        let mut has_lapsed = false;
        for lease in &mut self.leases {
            if lease.standing.is_some_and(|standing| standing.until <= now) {
                lease.standing = None;
                has_lapsed = true;
            }
        }
        has_lapsed
    }

    /// Something has happened that a restart of the router may explain: it is asked soon, if it has granted anything.
    pub(super) fn hasten(&mut self, now: Instant) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.standing.is_some()) {
            lease.hasten(now);
        }
    }

    /// How it stands.
    pub(super) fn state(&self) -> PortMapping {
        let standing = self.leases.iter().filter_map(|lease| Some((lease.transport, lease.standing?)));
        let ports: Vec<MappedPort> = standing
            .map(|(transport, Standing { external, lifetime, .. })| MappedPort {
                address: Address { transport, ip: (*external.ip()).into(), port: external.port() },
                lifetime,
            })
            .collect();
        match (ports.is_empty(), self.failure) {
            (false, _) => PortMapping::Open(ports),
            (true, None) => PortMapping::Asking,
            (true, Some(Failure::Silent)) => PortMapping::Silent,
            (true, Some(Failure::Refused { code, .. })) => PortMapping::Refused(code),
            (true, Some(Failure::NotPublic(ip))) => PortMapping::NotPublic(ip),
        }
    }

    /// Whether the router's count does not go on from where it was (RFC 6887, section 8.5): it has forgotten what it granted
    /// before.
    fn has_restarted(&mut self, epoch_s: u32, now: Instant) -> bool {
        let before = self.epoch.replace((now, epoch_s));
        before.is_some_and(|(at, then_s)| {
            let ours = now.duration_since(at).as_secs();
            let theirs = u64::from(epoch_s.saturating_sub(then_s));
            epoch_s.saturating_add(1) < then_s
                || ours + 2 < theirs - theirs / 16
                || theirs + 2 < ours - ours / 16
        })
    }

    fn of(&mut self, transport: Transport) -> &mut Lease {
        let [quic, tcp] = &mut self.leases;
        match transport {
            Transport::Quic => quic,
            Transport::Tcp => tcp,
        }
    }
}

impl Lease {
    /// Asks soon, but not sooner than a pause after the last time.
    fn hasten(&mut self, now: Instant) {
        let soon = self.asked.map_or(now, |asked| now.max(asked + PAUSE));
        self.due = self.due.min(soon);
    }
}

#[cfg(test)]
mod tests;
