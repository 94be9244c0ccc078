//! Links: a private key in a text, acting as a member (`docs/spec/07-links.md`, sections 1 and 2).
//!
//! Here: the payload and its text forms ([`Link`], [`TextForm`]), hints of addresses ([`Hint`]) and the keys of a
//! link ([`LinkKeys`]). Never here: the capsule that the link opens, and where links come from. A link's text is a
//! secret: it is wiped when dropped, and [`Link`] has no `Debug`.

mod hint;
mod keys;
mod text;

pub use hint::{HINTS_MAX, Hint};
pub use keys::LinkKeys;
pub use text::{TextForm, WebHost};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::derive::{Purpose, kdf};
use crate::id::OwnerFp;
use crate::secret::{LinkSeed, RendezvousSecret};

/// Length of the shortest payload in bytes: one without hints.
pub const PAYLOAD_LEN_MIN: usize = HINTS_AT + CHECK_LEN;
/// Length of the longest payload in bytes: one with three IPv6 hints.
pub const PAYLOAD_LEN_MAX: usize = HINTS_AT + 1 + HINTS_MAX * hint::HINT_LEN_MAX + CHECK_LEN;

const VERSION: u8 = 1;
const FLAG_PASSPHRASE: u8 = 0x80;
const FLAG_HINTS: u8 = 0x40;
const HINTS_AT: usize = 2 + LinkSeed::LEN + OwnerFp::LEN;
const CHECK_LEN: usize = 4;

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// To read a space or folder as it goes on.
    LiveRead,
    /// To read and write it.
    LiveWrite,
    /// To hand something in.
    Deposit,
    /// To read a state of files that does not change.
    Snapshot,
}

impl Kind {
    pub(crate) const fn code(self) -> u64 {
        match self {
            Kind::LiveRead => 1,
            Kind::LiveWrite => 2,
            Kind::Deposit => 3,
            Kind::Snapshot => 4,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Kind::LiveRead),
            2 => Ok(Kind::LiveWrite),
            3 => Ok(Kind::Deposit),
            4 => Ok(Kind::Snapshot),
            _ => Err(Refusal::Canon),
        }
    }
}

/// What else than the text it takes to use a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Nothing: whoever has the text can use it.
    TextOnly,
    /// A passphrase, told by another way.
    Passphrase,
}

/// A link as its text says it.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    kind: Kind,
    protection: Protection,
    seed: LinkSeed,
    owner: OwnerFp,
    hints: Vec<Hint>,
}

impl Link {
    /// Draws a new link of the person with fingerprint `owner`.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for more than [`HINTS_MAX`] hints.
    pub fn random<R: CryptoRng + ?Sized>(
        kind: Kind,
        protection: Protection,
        owner: OwnerFp,
        hints: Vec<Hint>,
        dice: &mut R,
    ) -> Result<Self, Refusal> {
        if hints.len() > HINTS_MAX {
            return Err(Refusal::Limit);
        }
        Ok(Self { kind, protection, seed: LinkSeed::random(dice), owner, hints })
    }

    /// Returns what the link is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what else it takes.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Returns the fingerprint of the person who issued it. The capsule must come from that person.
    pub fn owner(&self) -> OwnerFp {
        self.owner
    }

    /// Returns addresses to try; ask [`Hint::may_be_dialed`] first.
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }

    /// Returns the seed, for keeping the link in the share list.
    pub fn seed(&self) -> &LinkSeed {
        &self.seed
    }

    /// Returns R, under which the serving nodes are found. It needs no passphrase.
    pub fn rendezvous(&self) -> RendezvousSecret {
        RendezvousSecret::new(kdf(Purpose::LinkRdv, &[self.seed.expose()]))
    }

    /// Writes the payload, 38 bytes and the hints.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(PAYLOAD_LEN_MAX));
        let passphrase = if self.protection == Protection::Passphrase { FLAG_PASSPHRASE } else { 0 };
        let hints = if self.hints.is_empty() { 0 } else { FLAG_HINTS };
        let kind = u8::try_from(self.kind.code()).expect("there are four kinds");
        out.extend_from_slice(&[VERSION, kind | passphrase | hints]);
        out.extend_from_slice(self.seed.expose());
        out.extend_from_slice(self.owner.as_bytes());
        if !self.hints.is_empty() {
            hint::encode(&self.hints, &mut out);
        }
        let check = check_of(&out);
        out.extend_from_slice(&check);
        out
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// In this order: [`Refusal::Version`] for another version; [`Refusal::Canon`] for length or check; then for the
    /// kind; then for the hints, of which more than three give [`Refusal::Limit`].
    pub fn decode(payload: &[u8]) -> Result<Self, Refusal> {
        match payload.first() {
            None => return Err(Refusal::Canon),
            Some(&VERSION) => {}
            Some(_) => return Err(Refusal::Version),
        }
        if !(PAYLOAD_LEN_MIN..=PAYLOAD_LEN_MAX).contains(&payload.len()) {
            return Err(Refusal::Canon);
        }
        let (body, check) = payload.split_last_chunk::<CHECK_LEN>().ok_or(Refusal::Canon)?;
        if check_of(body) != *check {
            return Err(Refusal::Canon);
        }
        let flags = body[1] & (FLAG_PASSPHRASE | FLAG_HINTS);
        let kind = Kind::from_code(body[1] & !flags)?;
        let (fixed, rest) = body.split_at_checked(HINTS_AT).ok_or(Refusal::Canon)?;
        let (seed, owner) = fixed[2..].split_at(LinkSeed::LEN);
        let hints = match (flags & FLAG_HINTS != 0, rest.is_empty()) {
            (true, false) => hint::decode(rest)?,
            (false, true) => Vec::new(),
            _ => return Err(Refusal::Canon),
        };
        let protection =
            if flags & FLAG_PASSPHRASE == 0 { Protection::TextOnly } else { Protection::Passphrase };
        Ok(Self {
            kind,
            protection,
            seed: LinkSeed::from_slice(seed)?,
            owner: OwnerFp::from_slice(owner)?,
            hints,
        })
    }
}

/// Guards against typing errors, and against nothing else.
fn check_of(body: &[u8]) -> [u8; CHECK_LEN] {
    let [a, b, c, d, ..] = kdf(Purpose::LinkCheck, &[body]);
    [a, b, c, d]
}

#[cfg(test)]
mod tests;
