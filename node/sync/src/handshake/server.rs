//! The side that accepted the connection.

use std::collections::BTreeMap;

use locker_crypto::Refusal;
use locker_crypto::capability::Capability;
use locker_crypto::certificate::Certificate;
use locker_crypto::encode::Writer;
use locker_crypto::secret::RendezvousSecret;

use super::judge::Admission;
use super::proof::Proofs;
use super::{
    KNOCK_LEN, MAC_LEN, Nonce, Padding, SessionKeys, Transcript, TransportKeys, encode_ok, open_body,
    seal_body,
};
use crate::limits::{DOORS_MAX, NONCE_LIFE_S};
use crate::message::{FrameDecoder, FrameLimits, encode_frame, kind};

/// What a server shows to whoever knocked with a secret it knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Showing {
    /// For the transport key of this connection.
    pub certificate: Certificate,
    /// On a replica: the REPLICATE token of the owner.
    pub token: Option<Capability>,
}

impl Showing {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(2).bytes(&self.certificate.encode());
        out.bytes(&self.token.as_ref().map_or_else(Vec::new, Capability::encode));
        out.finish()
    }
}

/// What a server does next.
#[derive(Debug)]
pub enum ServerStep {
    /// More bytes are needed.
    Wait,
    /// The knock was heard: send the frame.
    Answer {
        /// ANSWER.
        frame: Vec<u8>,
        /// Which of the secrets opened.
        door: usize,
    },
    /// Judge the proofs ([`Proofs::judge`]), then [`Server::admit`] or refuse.
    Judge(Proofs),
}

enum State {
    AwaitKnock,
    AwaitProof(Transcript, SessionKeys),
    AwaitVerdict(Transcript, SessionKeys),
    Over,
}

/// The handshake of one connection, on the side that accepted it.
pub struct Server {
    keys: TransportKeys,
    nonce: Nonce,
    started_s: u64,
    frames: FrameDecoder,
    state: State,
}

impl Server {
    /// Starts, with a fresh nonce, and returns the frame NONCE. `now_s` counts seconds by any clock that does not jump.
    pub fn start(keys: TransportKeys, nonce: Nonce, now_s: u64) -> (Self, Vec<u8>) {
        let frames = FrameDecoder::new(FrameLimits::Early);
        let server = Self { keys, nonce, started_s: now_s, frames, state: State::AwaitKnock };
        (server, encode_frame(kind::NONCE, &nonce.0))
    }

    /// Takes bytes of the client.
    ///
    /// `doors` are the secrets under which this node is found; of more than 4,096 the first count. Cost of a knock:
    /// one short hash for each, whichever matches.
    ///
    /// # Errors
    /// Any refusal ends the handshake: [`Refusal::Canon`] and [`Refusal::Limit`] for frames, [`Refusal::Time`] for a
    /// nonce that is too old, [`Refusal::Key`] for a knock with no known secret, [`Refusal::Tag`] and
    /// [`Refusal::Pad`] for a PROOF that does not open.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        doors: &[RendezvousSecret],
        showing: &Showing,
        now_s: u64,
    ) -> Result<ServerStep, Refusal> {
        self.frames.push(bytes);
        let step = self.advance(doors, showing, now_s);
        if step.is_err() {
            self.state = State::Over;
        }
        step
    }

    /// Ends the handshake well. Returns the frame OK and the bytes that came after PROOF.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if no proofs wait for a verdict.
    pub fn admit(self, admission: &Admission) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let State::AwaitVerdict(transcript, keys) = self.state else { return Err(Refusal::Canon) };
        let content = encode_ok(&admission.grants, admission.root);
        let body = seal_body(keys.server(), 1, &transcript, &content, Padding::Step)?;
        Ok((encode_frame(kind::OK, &body), self.frames.into_rest()))
    }

    fn advance(
        &mut self,
        doors: &[RendezvousSecret],
        showing: &Showing,
        now_s: u64,
    ) -> Result<ServerStep, Refusal> {
        if matches!(self.state, State::Over) {
            return Err(Refusal::Canon);
        }
        let Some(frame) = self.frames.next_frame()? else { return Ok(ServerStep::Wait) };
        match std::mem::replace(&mut self.state, State::Over) {
            State::AwaitKnock if frame.kind == kind::KNOCK => {
                if now_s.saturating_sub(self.started_s) > NONCE_LIFE_S {
                    return Err(Refusal::Time);
                }
                let (nonce, macs) = read_knock(&frame.body)?;
                let transcript = Transcript::new(&self.keys, &self.nonce, &nonce);
                let doors = &doors[..doors.len().min(DOORS_MAX)];
                let door = find_door(macs, doors, &transcript).ok_or(Refusal::Key)?;
                let keys = SessionKeys::new(&doors[door], &transcript);
                let body = seal_body(keys.server(), 0, &transcript, &showing.encode(), Padding::Answer)?;
                self.state = State::AwaitProof(transcript, keys);
                Ok(ServerStep::Answer { frame: encode_frame(kind::ANSWER, &body), door })
            }
            State::AwaitProof(transcript, keys) if frame.kind == kind::PROOF => {
                let content = open_body(keys.client(), 0, &transcript, &frame.body, Padding::Step)?;
                let proofs = Proofs::decode(&content, transcript)?;
                self.state = State::AwaitVerdict(transcript, keys);
                Ok(ServerStep::Judge(proofs))
            }
            _ => Err(Refusal::Canon),
        }
    }
}

fn read_knock(body: &[u8]) -> Result<(Nonce, &[[u8; MAC_LEN]]), Refusal> {
    if body.len() != KNOCK_LEN {
        return Err(Refusal::Canon);
    }
    let (nonce, macs) = body.split_first_chunk().ok_or(Refusal::Canon)?;
    Ok((Nonce(*nonce), macs.as_chunks().0))
}

/// Finds the first MAC, in the client's order, whose secret is known. Every secret is hashed in any case, so that the
/// time does not tell which one it was.
fn find_door(macs: &[[u8; MAC_LEN]], doors: &[RendezvousSecret], transcript: &Transcript) -> Option<usize> {
    let mut known = BTreeMap::new();
    for (door, secret) in doors.iter().enumerate() {
        known.entry(transcript.mac(secret)).or_insert(door);
    }
    macs.iter().find_map(|mac| known.get(mac)).copied()
}
