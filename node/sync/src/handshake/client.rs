//! The side that made the connection.

use std::collections::BTreeSet;

use locker_crypto::Refusal;
use locker_crypto::capability::verify::{check_chain, check_standing};
use locker_crypto::capability::{Capability, Facts, Rights, VerifiedChains};
use locker_crypto::certificate::{CERTIFICATE_LEN, Certificate};
use locker_crypto::encode::Reader;
use locker_crypto::id::{PersonId, VerifyingKey};
use locker_crypto::secret::RendezvousSecret;
use rand_core::CryptoRng;

use super::proof::{Credential, Proofs};
use super::{
    Grant, KNOCK_LEN, Nonce, Padding, SessionKeys, Transcript, TransportKeys, decode_ok, open_body, seal_body,
};
use crate::limits::KNOCK_MACS;
use crate::message::{FrameDecoder, FrameLimits, encode_frame, kind};

/// Whom a client expects to answer.
#[derive(Clone, Copy)]
pub enum Expected<'a> {
    /// This device.
    Device(VerifyingKey),
    /// One of these: the active devices of a person.
    OneOf(&'a BTreeSet<VerifyingKey>),
    /// A device that the owner made a replica, by a REPLICATE token that stands under these facts.
    Replica(&'a Facts<'a>),
    /// Whoever knows R: the opener of a link and the holder of a phrase, who have no roster yet and verify what they
    /// are given.
    Anybody,
}

/// What a server showed, and for which of the client's secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Index of the secret among those that were offered.
    pub offer: usize,
    /// The server's certificate.
    pub certificate: Certificate,
    /// The server's REPLICATE token, if it showed one.
    pub token: Option<Capability>,
}

/// The end of a handshake, for the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The device that answered.
    pub device: VerifyingKey,
    /// What this node may ask there.
    pub grants: Vec<Grant>,
    /// Whose phrase this node proved to hold, as the server says.
    pub person: Option<PersonId>,
    /// Bytes that came after OK.
    pub rest: Vec<u8>,
}

/// What a client does next.
#[derive(Debug)]
pub enum ClientStep {
    /// More bytes are needed.
    Wait,
    /// Send the frame.
    Knock(Vec<u8>),
    /// Somebody who knows one of the secrets answered; go on with [`Client::prove`].
    Answered(Answered),
    /// The session stands.
    Welcome(Welcome),
    /// The server refused. It never says why.
    Refused,
}

enum State {
    AwaitNonce,
    AwaitAnswer(Transcript),
    Answered(Transcript, SessionKeys, Answered),
    AwaitOk(Transcript, SessionKeys, VerifyingKey),
    Over,
}

/// The handshake of one connection, on the side that made it.
pub struct Client {
    keys: TransportKeys,
    offers: Vec<RendezvousSecret>,
    nonce: Nonce,
    fillers: Vec<[u8; 32]>,
    frames: FrameDecoder,
    state: State,
}

impl Client {
    /// Starts a handshake that offers `secrets` in this order.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for more than 32 secrets.
    pub fn start<R: CryptoRng + ?Sized>(
        keys: TransportKeys,
        secrets: Vec<RendezvousSecret>,
        dice: &mut R,
    ) -> Result<Self, Refusal> {
        let free = KNOCK_MACS.checked_sub(secrets.len()).ok_or(Refusal::Limit)?;
        let nonce = Nonce::random(dice);
        let fillers = (0..free).map(|_| Nonce::random(dice).0).collect();
        let frames = FrameDecoder::new(FrameLimits::Early);
        Ok(Self { keys, offers: secrets, nonce, fillers, frames, state: State::AwaitNonce })
    }

    /// Takes bytes of the server.
    ///
    /// # Errors
    /// Any refusal ends the handshake; close and try the next address. [`Refusal::Tag`] if no secret opens the
    /// answer; [`Refusal::Canon`], [`Refusal::Limit`], [`Refusal::Pad`] for other forms.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<ClientStep, Refusal> {
        self.frames.push(bytes);
        let step = self.advance();
        if step.is_err() {
            self.state = State::Over;
        }
        step
    }

    /// Checks who answered and returns the frame PROOF. Nothing is shown to an unexpected server.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if there is no answer; [`Refusal::Audience`] for another transport key or device than
    /// expected; those of [`Certificate::verify`], of the token on a replica; [`Refusal::Limit`] for too many proofs.
    pub fn prove(
        &mut self,
        expected: &Expected<'_>,
        credentials: &[Credential<'_>],
        now: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let State::Answered(transcript, keys, answered) = std::mem::replace(&mut self.state, State::Over)
        else {
            return Err(Refusal::Canon);
        };
        check_server(&answered, &self.keys.server, expected, now)?;
        let proofs: Vec<_> = credentials.iter().map(|credential| credential.prove(&transcript)).collect();
        let content = Proofs::encode(&proofs);
        Proofs::decode(&content, transcript)?;
        let body = seal_body(keys.client(), 0, &transcript, &content, Padding::Step)?;
        self.frames.set_limits(FrameLimits::Session);
        self.state = State::AwaitOk(transcript, keys, answered.certificate.device());
        Ok(encode_frame(kind::PROOF, &body))
    }

    fn advance(&mut self) -> Result<ClientStep, Refusal> {
        if matches!(self.state, State::Over | State::Answered(..)) {
            return Err(Refusal::Canon);
        }
        let Some(frame) = self.frames.next_frame()? else { return Ok(ClientStep::Wait) };
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, frame.kind) {
            (_, kind::REFUSED) => Ok(ClientStep::Refused),
            (State::AwaitNonce, kind::NONCE) => {
                let nonce = Nonce(frame.body.try_into().map_err(|_| Refusal::Canon)?);
                let transcript = Transcript::new(&self.keys, &nonce, &self.nonce);
                let knock = self.knock(&transcript);
                self.state = State::AwaitAnswer(transcript);
                Ok(ClientStep::Knock(encode_frame(kind::KNOCK, &knock)))
            }
            (State::AwaitAnswer(transcript), kind::ANSWER) => {
                let (keys, answered) = self.open_answer(&transcript, &frame.body)?;
                self.state = State::Answered(transcript, keys, answered.clone());
                Ok(ClientStep::Answered(answered))
            }
            (State::AwaitOk(transcript, keys, device), kind::OK) => {
                let content = open_body(keys.server(), 1, &transcript, &frame.body, Padding::Step)?;
                let (grants, person) = decode_ok(&content)?;
                let frames = std::mem::replace(&mut self.frames, FrameDecoder::new(FrameLimits::Early));
                Ok(ClientStep::Welcome(Welcome { device, grants, person, rest: frames.into_rest() }))
            }
            _ => Err(Refusal::Canon),
        }
    }

    fn knock(&self, transcript: &Transcript) -> Vec<u8> {
        let mut body = Vec::with_capacity(KNOCK_LEN);
        body.extend_from_slice(&self.nonce.0);
        self.offers.iter().for_each(|secret| body.extend_from_slice(&transcript.mac(secret)));
        self.fillers.iter().for_each(|filler| body.extend_from_slice(filler));
        body
    }

    fn open_answer(&self, transcript: &Transcript, body: &[u8]) -> Result<(SessionKeys, Answered), Refusal> {
        for (offer, secret) in self.offers.iter().enumerate() {
            let keys = SessionKeys::new(secret, transcript);
            let content = match open_body(keys.server(), 0, transcript, body, Padding::Answer) {
                Err(Refusal::Tag) => continue,
                other => other?,
            };
            let (certificate, token) = decode_showing(&content)?;
            return Ok((keys, Answered { offer, certificate, token }));
        }
        Err(Refusal::Tag)
    }
}

fn decode_showing(content: &[u8]) -> Result<(Certificate, Option<Capability>), Refusal> {
    let mut from = Reader::new(content);
    from.array_of(2)?;
    let certificate = Certificate::decode(&from.fixed::<CERTIFICATE_LEN>()?)?;
    let token = match from.bytes()? {
        [] => None,
        bytes => Some(Capability::decode(bytes)?),
    };
    from.finish()?;
    Ok((certificate, token))
}

fn check_server(
    answered: &Answered,
    transport: &VerifyingKey,
    expected: &Expected<'_>,
    now: u64,
) -> Result<(), Refusal> {
    let Answered { certificate, token, .. } = answered;
    let device = certificate.device();
    if certificate.transport() != *transport {
        return Err(Refusal::Audience);
    }
    match expected {
        Expected::Device(key) if *key != device => return Err(Refusal::Audience),
        Expected::OneOf(keys) if !keys.contains(&device) => return Err(Refusal::Audience),
        Expected::Replica(facts) => {
            let token = token.as_ref().ok_or(Refusal::Rights)?;
            if token.audience() != device {
                return Err(Refusal::Audience);
            }
            check_chain(token, &mut VerifiedChains::new(0))?;
            check_standing(token, facts)?;
            if !token.rights().contains(Rights::REPLICATE) {
                return Err(Refusal::Rights);
            }
        }
        Expected::Device(_) | Expected::OneOf(_) | Expected::Anybody => {}
    }
    certificate.verify(&device, now)
}
