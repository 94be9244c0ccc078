//! New keys for devices that cannot use theirs any more: one side asks, the other one brings the key in
//! (`docs/spec/12-sync.md`, rule 15).

use locker_sync::message::v1::Succeed;
use locker_sync::session::Event;

use super::Talk;
use crate::Error;
use crate::node::ledger::Asker;

/// What was asked in one session.
pub(super) struct Successions {
    /// Whether the peer is not to be asked, or was asked already.
    is_asked: bool,
    /// What the peer asks for, until it is done or refused.
    wanted: Option<Box<Succeed>>,
}

impl Successions {
    /// Only a device can bring in a key.
    pub(super) fn with(peer: Asker) -> Self {
        Self { is_asked: peer != Asker::Device, wanted: None }
    }

    /// The peer asks for a key.
    pub(super) fn ask(&mut self, succeed: Box<Succeed>) {
        self.wanted = Some(succeed);
    }
}

impl Talk {
    /// Asks the peer, if this device needs a new key and nobody else was asked just now.
    pub(super) fn ask_to_succeed(&mut self) {
        if !self.successions.is_asked
            && let Some(succeed) = self.hub.succession()
        {
            self.successions.is_asked = true;
            self.queue.push_back(Event::Succeed(Box::new(succeed)));
        }
    }

    /// Brings in the key for which the peer asked. While the key of the person in use is still to come that waits. Whoever asks
    /// hears of it by the log of the person; refused, it asks somebody else.
    pub(super) async fn bring_in(&mut self) {
        let Some(succeed) = self.successions.wanted.take() else { return };
        let (device, asked) = (self.device, succeed.clone());
        let done = self.hub.blocking(move |inner| inner.succeed(&device, &asked)).await;
        if matches!(done, Err(Error::Network(_))) {
            self.successions.wanted = Some(succeed);
        }
    }
}
