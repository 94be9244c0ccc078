//! Where this device tells that it is, and the secrets under which it is heard and others are found
//! (`docs/spec/09-rendezvous.md`, section 4).

use std::ops::Range;

use locker_crypto::certificate::Certificate;
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Publishers};
use locker_crypto::secret::RendezvousSecret;
use locker_net::Publication;

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
        let mut doors = self.own_doors();
        doors.extend(self.register().secrets(self.now_s()));
        doors
    }

    /// The secrets under which this device is found: of the newest person key and the one before.
    fn own_doors(&self) -> Vec<RendezvousSecret> {
        let keys = self.inner.keys();
        let own = keys.device_id();
        keys.person_keys.newest_first().take(2).map(|key| key.device_rendezvous(&own)).collect()
    }

    /// The secret under which this device is found first.
    pub(crate) fn own_door(&self) -> RendezvousSecret {
        self.inner.keys().person_keys.newest().device_rendezvous(&self.inner.keys().device_id())
    }

    /// The secrets under which another own device is found.
    pub(in crate::node) fn secrets_of(&self, device: &VerifyingKey) -> Vec<RendezvousSecret> {
        self.inner
            .keys()
            .person_keys
            .newest_first()
            .take(2)
            .map(|key| key.device_rendezvous(device))
            .collect()
    }

    /// Where this node tells others that it is. For threads that may block.
    pub(crate) fn own_addresses(&self) -> Vec<Address> {
        self.runtime.block_on(self.net.own_addresses()).unwrap_or_default()
    }

    /// Tells the DHT and the local network where this device is.
    pub(in crate::node) async fn announce(&self) {
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
            self.roster().iter().filter(|vk| **vk != own).flat_map(|vk| self.secrets_of(vk)).collect();
        let _ = self.net.lan_watch(others).await;
    }
}
