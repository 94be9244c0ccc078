//! Who the other end of a session is among the person's devices, and what is said only to a replica, or by one.

use locker_crypto::capability::Rights;
use locker_crypto::id::{PackHash, VerifyingKey};
use locker_sync::handshake::Grant;
use locker_sync::scope::Scope;
use locker_sync::session::Event;

use super::Talk;
use crate::node::hub::Hub;
use crate::node::ledger::Asker;

/// Who the other end of a session is, and what either end may ask.
pub(super) struct With {
    /// What the other end may ask here.
    pub(super) peer: Scope,
    /// What this one may ask there.
    pub(super) own: Scope,
    /// Who the other end is.
    pub(super) asker: Asker,
}

impl With {
    /// Of two devices that read, each asks for everything; towards a replica, and from it, it is what a replica holds.
    pub(super) fn new(hub: &Hub, device: &VerifyingKey) -> Self {
        let keys = hub.inner().keys();
        let whole = || Scope::whole([keys.person]);
        let grant = Grant { tag: keys.tag, rights: Rights::REPLICATE, folder: None };
        let replicated = || Scope::granted(&[grant]).with_persons([keys.person]);
        match (hub.reads(), hub.is_replica(device)) {
            (true, false) => Self { peer: whole(), own: whole(), asker: Asker::Device },
            (true, true) => Self { peer: replicated(), own: replicated(), asker: Asker::Replica },
            (false, _) => Self { peer: whole(), own: replicated(), asker: Asker::Device },
        }
    }
}

impl Talk {
    /// Asks a replica which of the packs that are here it has, once for each: it answers when it has it.
    pub(super) async fn question(&mut self) {
        let commits = *self.hub.inner().commits().borrow();
        if self.asker != Asker::Replica || self.questioned_at == Some(commits) {
            return;
        }
        // What cannot be looked up now is asked after the next commit.
        if let Ok(here) = self.hub.blocking(|inner| inner.packs_here()).await {
            self.questioned_at = Some(commits);
            let new: Vec<PackHash> = here.into_iter().filter(|pack| self.questioned.insert(*pack)).collect();
            if !new.is_empty() {
                self.queue.push_back(Event::Want { tag: self.hub.inner().space_tag(), packs: new });
            }
        }
    }
}
