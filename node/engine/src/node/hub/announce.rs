//! Where this device tells that it is, and the secrets under which it is heard and others are found
//! (`docs/spec/09-rendezvous.md`, section 4).

use std::ops::Range;

use locker_crypto::certificate::Certificate;
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Publishers};
use locker_crypto::secret::RendezvousSecret;
use locker_net::Publication;
use locker_sync::message::v1::SlotSecret;

use super::Hub;

/// How long a certificate of a transport key lasts; a node that runs longer makes a new one at its next look.
const CERTIFICATE_LIFE_S: u64 = 10 * 86_400;

impl Hub {
    /// A certificate of this device for the transport key of this node.
    pub(in crate::node) fn certificate(&self) -> Certificate {
        let keys = self.inner.keys();
        Certificate::issue(keys.device.signing(), self.net.transport_key(), self.now_s() + CERTIFICATE_LIFE_S)
    }

    /// The secrets under which this device hears knocks: its own, and those of the links that it serves.
    pub(in crate::node) fn doors(&self) -> Vec<RendezvousSecret> {
        if self.inner.heir().is_some() {
            return Vec::new();
        }
        let mut doors = self.own_doors();
        doors.extend(self.register().secrets(self.now_s()));
        doors
    }

    /// The secrets under which this device is found by the person's others, and under which the holder of the phrase finds it.
    fn own_doors(&self) -> Vec<RendezvousSecret> {
        self.inner.keys().doors(self.now_s()).into_iter().chain(self.slot_doors()).collect()
    }

    /// The secret under which this device is found first; a drive is found under none.
    pub(crate) fn own_door(&self) -> Option<RendezvousSecret> {
        self.own_doors().into_iter().next()
    }

    /// The secrets under which another own device, or a replica, is found.
    pub(in crate::node) fn secrets_of(&self, device: &VerifyingKey) -> Vec<RendezvousSecret> {
        let of_replica = self.state().replicas.get(device).map(|replica| replica.secrets.clone());
        of_replica.unwrap_or_else(|| self.inner.keys().doors_of(device))
    }

    /// The slot of the newest generation under which a replica is to be found.
    pub(in crate::node) fn newest_slot(&self, device: &VerifyingKey) -> Option<SlotSecret> {
        let keys = self.inner.keys();
        let slot = self.state().replicas.get(device)?.slot?;
        let (generation, master) = keys.master.as_ref()?;
        Some(SlotSecret { tag: keys.tag, generation: *generation, slot, secret: slot.secret(master) })
    }

    /// Where this node tells others that it is. For threads that may block.
    pub(crate) fn own_addresses(&self) -> Vec<Address> {
        self.runtime.block_on(self.net.own_addresses()).unwrap_or_default()
    }

    /// Tells the DHT and the local network where this device is.
    pub(in crate::node) async fn announce(&self) {
        if self.inner.heir().is_some() {
            return;
        }
        let own = self.inner.keys().device_id();
        let mut doors = self.own_doors();
        doors.extend(self.invitation().map(|invitation| invitation.rendezvous()));
        let links = self.register().secrets(self.now_s());
        // Several devices publish under the secret of a link, each at its own place.
        let index = self.roster().iter().position(|vk| *vk == own).unwrap_or(0);
        let certificate = self.certificate();
        let publication = |secret: &RendezvousSecret, r: Range<u8>| Publication {
            secret: secret.clone(),
            r,
            certificate: certificate.clone(),
        };
        let publications = doors.iter().map(|secret| publication(secret, Publishers::One.write(0)));
        let of_links = links.iter().map(|secret| publication(secret, Publishers::Several.write(index)));
        let _ = self.net.publish(publications.chain(of_links).collect()).await;
        doors.extend(links);
        let _ = self.net.set_beacons(doors).await;
        let others: Vec<RendezvousSecret> =
            self.others().iter().flat_map(|device| self.secrets_of(device)).collect();
        let _ = self.net.lan_watch(others).await;
    }
}
