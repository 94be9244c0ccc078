//! The side that dialed shows who it is, and holds who answers against whom it looks for.

use locker_crypto::Refusal;
use locker_crypto::id::VerifyingKey;
use locker_crypto::secret::RendezvousSecret;
use locker_net::{Connection, Stream};
use locker_sync::handshake::{Credential, Expected, Welcome};

use crate::node::hub::Hub;
use crate::node::knock::{KnockError, knock};
use crate::node::seek::Tentative;

/// A device that answered and let us in.
pub(in crate::node) struct Greeted {
    pub(super) connection: Connection,
    pub(super) stream: Stream,
    pub(super) device: VerifyingKey,
    pub(super) rest: Vec<u8>,
}

/// Proves over a connection that we dialed to be a device of the person, to the one that is `expected`: another device, or a
/// replica, which then shows by a token that it is one.
pub(in crate::node) async fn greet(
    hub: &Hub,
    connection: Tentative,
    expected: VerifyingKey,
) -> Result<Greeted, KnockError> {
    greet_once(hub, connection.get(), expected).await.map(|greeting| greeting.over(connection))
}

/// What came of a greeting, on the connection on which it was.
pub(in crate::node) struct Greeting {
    stream: Stream,
    device: VerifyingKey,
    rest: Vec<u8>,
}

impl Greeting {
    /// Keeps the connection.
    pub(in crate::node) fn over(self, connection: Tentative) -> Greeted {
        let Self { stream, device, rest } = self;
        Greeted { connection: connection.keep(), stream, device, rest }
    }
}

/// The same over a connection that may be tried again.
pub(in crate::node) async fn greet_once(
    hub: &Hub,
    connection: &Connection,
    expected: VerifyingKey,
) -> Result<Greeting, KnockError> {
    let own = hub.inner().keys();
    let credential = Credential::Device { person: own.person, device: own.device.signing() };
    let (net, env, secrets) = (hub.net(), hub.inner().env(), hub.secrets_of(&expected));
    let (grounds, now_s) = (hub.grounds(), hub.now_s());
    let facts = grounds.facts(now_s);
    let whom = match hub.is_replica(&expected) {
        true => Expected::Replica(&facts),
        false => Expected::Device(expected),
    };
    let (stream, Welcome { device, rest, .. }) =
        knock(net, env, connection, secrets, &whom, credential).await?;
    if device != expected {
        // Another replica of this person: it is found under its own slot.
        return Err(KnockError::Wrong(Refusal::Audience));
    }
    Ok(Greeting { stream, device, rest })
}

/// The same to a replica of which nothing is known but the secret of its slot: any that a device of the person made one.
pub(in crate::node) async fn greet_stray(
    hub: &Hub,
    connection: Tentative,
    secret: RendezvousSecret,
) -> Result<Greeted, KnockError> {
    let own = hub.inner().keys();
    let credential = Credential::Device { person: own.person, device: own.device.signing() };
    let (grounds, now_s) = (hub.grounds(), hub.now_s());
    let (facts, net, env) = (grounds.facts(now_s), hub.net(), hub.inner().env());
    let whom = Expected::Replica(&facts);
    let (stream, Welcome { device, rest, .. }) =
        knock(net, env, connection.get(), vec![secret], &whom, credential).await?;
    Ok(Greeting { stream, device, rest }.over(connection))
}

impl Greeted {
    /// Who let us in.
    pub(in crate::node) fn device(&self) -> VerifyingKey {
        self.device
    }
}
