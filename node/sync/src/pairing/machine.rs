//! The two ends of a pairing, and the gate between them: nothing secret before both users confirmed.

use locker_crypto::Refusal;
use locker_crypto::id::PersonId;
use locker_crypto::pairing::Digits;
use locker_crypto::person::DEVICE_NAME_LEN_MAX;
use locker_crypto::secret::Ticket;
use rand_core::CryptoRng;

use super::channel::{Channel, End, RunKeys};
use super::message::{Enrol, Grant, Message, Name, Role};
use crate::limits::CONFIRM_TIME_S;
use crate::message::{FrameDecoder, FrameLimits};

/// What the new device does next.
pub enum NewStep {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Show the digits; on the user's word call [`NewDevice::confirm`].
    Compare(Digits),
    /// Both confirmed, and this is the person: make the keys and the signature, then [`NewDevice::enrol`].
    Welcome(PersonId),
    /// What it was given: verify the log, keep it, then [`NewDevice::done`].
    Granted(Box<Grant>),
}

/// What the old device does next.
pub enum OldStep {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Message 1 is under the ticket: count the run ([`super::Runs::begin`]); give it up if it may not begin.
    Begun,
    /// Show digits and name; on the user's word call [`OldDevice::confirm`].
    Compare(Digits, Name),
    /// Both confirmed, and these are the keys: check `pop`, write `add_device`, then [`OldDevice::grant`].
    Enrol(Box<Enrol>),
    /// The new device keeps what it was given. The ticket is to be destroyed, if that was not done yet.
    Done,
}

/// The gate that both users open.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    shown_s: Option<u64>,
    here: bool,
    there: bool,
}

impl Gate {
    fn is_open(self) -> bool {
        self.here && self.there
    }

    /// Opens this side, if the digits are shown and the time is not over.
    fn confirm(&mut self, now_s: u64) -> Result<(), Refusal> {
        self.check_time(now_s)?;
        if self.here {
            return Err(Refusal::Canon);
        }
        self.here = true;
        Ok(())
    }

    /// Until both confirmed, two minutes from the digits on.
    fn check_time(self, now_s: u64) -> Result<(), Refusal> {
        let shown_s = self.shown_s.ok_or(Refusal::Canon)?;
        let late = !self.is_open() && now_s.saturating_sub(shown_s) > CONFIRM_TIME_S;
        if late { Err(Refusal::Time) } else { Ok(()) }
    }
}

/// The part that both ends share.
struct Run {
    channel: Channel,
    inner: FrameDecoder,
    gate: Gate,
}

impl Run {
    fn new<R: CryptoRng + ?Sized>(end: End, ticket: &Ticket, dice: &mut R) -> Result<Self, Refusal> {
        let channel = Channel::new(end, ticket, &RunKeys::random(dice))?;
        Ok(Self { channel, inner: FrameDecoder::new(FrameLimits::PairingShort), gate: Gate::default() })
    }

    /// Takes the next message off the channel. The inner `None` stands for one of the handshake.
    fn next(&mut self) -> Result<Option<Option<Message>>, Refusal> {
        loop {
            if let Some(frame) = self.inner.next_frame()? {
                return Message::decode(frame).map(|message| Some(Some(message)));
            }
            let was_open = self.channel.digits().is_some();
            match self.channel.read()? {
                None => return Ok(None),
                Some(_) if !was_open => return Ok(Some(None)),
                Some(plain) => self.inner.push(&plain),
            }
        }
    }

    fn send(&mut self, message: &Message) -> Result<Vec<u8>, Refusal> {
        self.channel.seal(&message.encode())
    }

    fn confirm(&mut self, now_s: u64) -> Result<Vec<u8>, Refusal> {
        self.gate.confirm(now_s)?;
        self.send(&Message::Confirm)
    }

    fn hear_confirm(&mut self, now_s: u64) -> Result<(), Refusal> {
        self.gate.check_time(now_s)?;
        if std::mem::replace(&mut self.gate.there, true) { Err(Refusal::Canon) } else { Ok(()) }
    }
}

/// The device that joins.
pub struct NewDevice {
    run: Run,
    name: Name,
    person: Option<PersonId>,
    stage: NewStage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NewStage {
    Comparing,
    Enrolling,
    AwaitingGrant,
    Granted,
    Over,
}

impl NewDevice {
    /// Starts a run and returns its first frame.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for a name of more than 255 bytes.
    pub fn start<R: CryptoRng + ?Sized>(
        ticket: &Ticket,
        role: Role,
        name: &str,
        dice: &mut R,
    ) -> Result<(Self, Vec<u8>), Refusal> {
        if name.len() > DEVICE_NAME_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let mut run = Run::new(End::New, ticket, dice)?;
        let first = run.channel.write_handshake()?.ok_or(Refusal::Canon)?;
        let name = Name { role, name: name.to_owned() };
        Ok((Self { run, name, person: None, stage: NewStage::Comparing }, first))
    }

    /// Takes bytes of the old device.
    ///
    /// # Errors
    /// Any refusal ends the run: [`Refusal::Tag`] and [`Refusal::Key`] for the handshake, [`Refusal::Canon`] for
    /// what comes out of turn, [`Refusal::Time`] when it took too long to confirm.
    pub fn receive(&mut self, bytes: &[u8], now_s: u64) -> Result<Vec<NewStep>, Refusal> {
        self.run.channel.push(bytes);
        let steps = self.advance(now_s);
        if steps.is_err() {
            self.close();
        }
        steps
    }

    /// The user confirmed the digits here. Returns what to send, and what follows if the other end was first.
    ///
    /// # Errors
    /// [`Refusal::Canon`] before the digits are shown or twice; [`Refusal::Time`] after two minutes.
    pub fn confirm(&mut self, now_s: u64) -> Result<Vec<NewStep>, Refusal> {
        let mut steps = vec![NewStep::Send(self.run.confirm(now_s)?)];
        steps.extend(self.welcome());
        Ok(steps)
    }

    /// Sends the keys of this device.
    ///
    /// # Errors
    /// [`Refusal::Canon`] before [`NewStep::Welcome`].
    pub fn enrol(&mut self, enrol: Enrol) -> Result<Vec<u8>, Refusal> {
        if self.stage != NewStage::Enrolling {
            return Err(Refusal::Canon);
        }
        self.stage = NewStage::AwaitingGrant;
        self.run.inner.set_limits(FrameLimits::PairingGrant);
        self.run.send(&Message::Enrol(Box::new(enrol)))
    }

    /// Says that what was given is kept.
    ///
    /// # Errors
    /// [`Refusal::Canon`] before [`NewStep::Granted`].
    pub fn done(mut self) -> Result<Vec<u8>, Refusal> {
        if self.stage != NewStage::Granted {
            return Err(Refusal::Canon);
        }
        self.run.send(&Message::Done)
    }

    fn advance(&mut self, now_s: u64) -> Result<Vec<NewStep>, Refusal> {
        let mut steps = Vec::new();
        while let Some(message) = self.run.next()? {
            match message {
                None => {
                    let mut out = self.run.channel.write_handshake()?.ok_or(Refusal::Canon)?;
                    out.extend_from_slice(&self.run.send(&Message::Name(self.name.clone()))?);
                    let digits = self.run.channel.digits().ok_or(Refusal::Canon)?;
                    self.run.gate.shown_s = Some(now_s);
                    steps.extend([NewStep::Send(out), NewStep::Compare(digits)]);
                }
                Some(Message::Confirm) => self.run.hear_confirm(now_s)?,
                // The old device sends it once both confirmed; its word comes first on the wire.
                Some(Message::Welcome(person)) if self.run.gate.is_open() && self.person.is_none() => {
                    self.person = Some(person);
                    steps.extend(self.welcome());
                }
                Some(Message::Grant(grant)) if self.stage == NewStage::AwaitingGrant => {
                    // A device may be given less than it asked for, never more.
                    let is_less = (self.name.role, grant.role) == (Role::Full, Role::BlindStore);
                    if grant.role != self.name.role && !is_less {
                        return Err(Refusal::Rights);
                    }
                    self.stage = NewStage::Granted;
                    steps.push(NewStep::Granted(grant));
                }
                Some(_) => return Err(Refusal::Canon),
            }
        }
        Ok(steps)
    }

    fn welcome(&mut self) -> Option<NewStep> {
        let person = self.person.filter(|_| self.run.gate.is_open() && self.stage == NewStage::Comparing)?;
        self.stage = NewStage::Enrolling;
        Some(NewStep::Welcome(person))
    }

    fn close(&mut self) {
        self.stage = NewStage::Over;
        self.run.channel.close();
    }
}

/// The device that holds the ticket.
pub struct OldDevice {
    run: Run,
    person: PersonId,
    name: Option<Name>,
    has_begun: bool,
    stage: OldStage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OldStage {
    Comparing,
    AwaitingKeys,
    Granting,
    Granted,
    Over,
}

impl OldDevice {
    /// Waits for a new device under a ticket.
    ///
    /// # Errors
    /// None in practice.
    pub fn start<R: CryptoRng + ?Sized>(
        ticket: &Ticket,
        person: PersonId,
        dice: &mut R,
    ) -> Result<Self, Refusal> {
        let run = Run::new(End::Old, ticket, dice)?;
        Ok(Self { run, person, name: None, has_begun: false, stage: OldStage::Comparing })
    }

    /// Takes bytes of the new device.
    ///
    /// # Errors
    /// As [`NewDevice::receive`]. Answer as any refusal; whether the run counts, [`OldDevice::has_begun`] says.
    pub fn receive(&mut self, bytes: &[u8], now_s: u64) -> Result<Vec<OldStep>, Refusal> {
        self.run.channel.push(bytes);
        let steps = self.advance(now_s);
        if steps.is_err() {
            self.close();
        }
        steps
    }

    /// Whether message 1 passed.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The user confirmed the digits here. Returns what to send.
    ///
    /// # Errors
    /// As [`NewDevice::confirm`].
    pub fn confirm(&mut self, now_s: u64) -> Result<Vec<u8>, Refusal> {
        if self.name.is_none() {
            return Err(Refusal::Canon);
        }
        let mut out = self.run.confirm(now_s)?;
        out.extend_from_slice(&self.welcome()?);
        Ok(out)
    }

    /// Sends what the new device gets. From here on the ticket is spent.
    ///
    /// # Errors
    /// [`Refusal::Canon`] before [`OldStep::Enrol`]; [`Refusal::Limit`] if it is longer than 16 MiB.
    pub fn grant(&mut self, grant: Grant) -> Result<Vec<u8>, Refusal> {
        if self.stage != OldStage::Granting {
            return Err(Refusal::Canon);
        }
        let message = Message::Grant(Box::new(grant)).encode();
        if message.len() > crate::limits::PAIRING_MESSAGE_LEN_MAX {
            return Err(Refusal::Limit);
        }
        self.stage = OldStage::Granted;
        self.run.channel.seal(&message)
    }

    fn advance(&mut self, now_s: u64) -> Result<Vec<OldStep>, Refusal> {
        let mut steps = Vec::new();
        while let Some(message) = self.run.next()? {
            match message {
                None => {
                    // Message 1 is answered; after message 3 there is nothing to write.
                    if let Some(out) = self.run.channel.write_handshake()? {
                        self.has_begun = true;
                        steps.extend([OldStep::Begun, OldStep::Send(out)]);
                    }
                }
                Some(Message::Name(name)) if self.name.is_none() => {
                    let digits = self.run.channel.digits().ok_or(Refusal::Canon)?;
                    self.run.gate.shown_s = Some(now_s);
                    self.name = Some(name.clone());
                    steps.push(OldStep::Compare(digits, name));
                }
                Some(Message::Confirm) => {
                    self.run.hear_confirm(now_s)?;
                    let out = self.welcome()?;
                    if !out.is_empty() {
                        steps.push(OldStep::Send(out));
                    }
                }
                Some(Message::Enrol(enrol)) if self.stage == OldStage::AwaitingKeys => {
                    // What the user saw is what is enrolled.
                    let shown = self.name.as_ref().ok_or(Refusal::Canon)?;
                    if enrol.role != shown.role || enrol.name != shown.name {
                        return Err(Refusal::Audience);
                    }
                    self.stage = OldStage::Granting;
                    steps.push(OldStep::Enrol(enrol));
                }
                Some(Message::Done) if self.stage == OldStage::Granted => {
                    self.close();
                    steps.push(OldStep::Done);
                }
                Some(_) => return Err(Refusal::Canon),
            }
        }
        Ok(steps)
    }

    /// Tells the person, once both confirmed.
    fn welcome(&mut self) -> Result<Vec<u8>, Refusal> {
        if !self.run.gate.is_open() || self.stage != OldStage::Comparing {
            return Ok(Vec::new());
        }
        self.stage = OldStage::AwaitingKeys;
        self.run.send(&Message::Welcome(self.person))
    }

    fn close(&mut self) {
        self.stage = OldStage::Over;
        self.run.channel.close();
    }
}
