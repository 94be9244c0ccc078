//! What a replica and the devices for which it stores tell each other beside the logs: how much room it has, and under which
//! slot it is to be found (`docs/spec/12-sync.md`, rules 19 and 21).

use locker_store::replicas::Heard;
use locker_sync::message::v1::{Room, SlotSecret};
use locker_sync::session::Event;

use super::Talk;
use crate::node::ledger::Asker;

/// What was said of it in one session.
#[derive(Default)]
pub(super) struct Custody {
    /// What this node, which stores, told of its room.
    room: Option<Room>,
    /// The generation of the slot of the peer, which stores.
    generation: Option<u32>,
    /// The generation of the slot that it was told.
    told: Option<u32>,
}

impl Custody {
    /// What was told did not come to anything, or the peer knows more now: it may be told again.
    pub(super) fn again(&mut self) {
        self.told = None;
    }
}

impl Talk {
    /// Tells the device at the other end how much room there is here, and the replica there under which slot it is to be found.
    pub(super) fn tell_custody(&mut self) {
        if self.asker == Asker::Device
            && let Some(room) = self.hub.inner().room().filter(|room| self.custody.room != Some(*room))
        {
            self.custody.room = Some(room);
            self.queue.push_back(Event::Room(room));
        }
        if self.asker == Asker::Replica
            && let Some(there) = self.custody.generation
            && let Some(slot) = self.hub.newest_slot(&self.device)
            && there < slot.generation
            && self.custody.told != Some(slot.generation)
        {
            self.custody.told = Some(slot.generation);
            self.queue.push_back(Event::Slot(Box::new(slot)));
        }
    }

    /// The replica at the other end says how much room it has, and of which generation its slot is.
    pub(super) async fn hear_room(&mut self, room: Room) {
        if self.asker != Asker::Replica {
            return;
        }
        let Room { used, quota, refused, generation, .. } = room;
        self.custody.generation = Some(generation);
        let (device, at_s) = (self.device, self.hub.now_s());
        let heard = Heard { at_s, used, quota, refused, generation };
        let _ = self.hub.blocking(move |inner| inner.note_room(&device, &heard)).await;
        self.tell_custody();
    }

    /// A device says under which slot this replica is to be found.
    pub(super) async fn hear_slot(&mut self, slot: SlotSecret) {
        // One that the person log does not know of yet is told again once it does.
        if self.asker == Asker::Device && self.hub.blocking(move |inner| inner.take_slot(&slot)).await.is_ok()
        {
            self.hub.announce().await;
            // Every session tells its device.
            self.hub.bump();
        }
    }
}
