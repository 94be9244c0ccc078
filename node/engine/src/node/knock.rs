//! The side that made a connection shows who it is (`docs/spec/09-rendezvous.md`, section 2).

use std::time::Duration;

use locker_crypto::Refusal;
use locker_crypto::secret::RendezvousSecret;
use locker_net::{Connection, Handle, Protocol, Stream};
use locker_sync::handshake::{Client, ClientStep, Credential, Expected, TransportKeys, Welcome};
use locker_sync::limits::{EARLY_FRAME_TIME_MS, KNOCK_MACS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Env;

/// A frame of the handshake must come within this time.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_millis(EARLY_FRAME_TIME_MS);

/// Why there is no session.
pub(crate) enum KnockError {
    /// The other end knows the secret, heard who this is, and refused.
    Refused,
    /// The other end knows none of the secrets.
    Unknown,
    /// It is not who was expected, or speaks another way.
    Wrong(Refusal),
    /// It broke off or took too long.
    Broken(Break),
}

/// Where it broke off.
pub(crate) struct Break {
    what: String,
    /// The other end had shown that it knows one of the secrets.
    pub(super) was_known: bool,
}

impl From<KnockError> for crate::Error {
    fn from(error: KnockError) -> Self {
        match error {
            KnockError::Refused => Self::Network("the other end refused".into()),
            KnockError::Unknown => Self::Network("the other end does not know the secret".into()),
            KnockError::Wrong(why) => Self::Refused(why),
            KnockError::Broken(Break { what, .. }) => Self::Network(what),
        }
    }
}

/// Knocks with any of `secrets` and proves `credential` to whoever is `expected`. Of more secrets than a knock holds the
/// first count. Dropping the future is safe: close the connection then.
pub(crate) async fn knock(
    net: &Handle,
    env: &Env,
    connection: &Connection,
    secrets: Vec<RendezvousSecret>,
    expected: &Expected<'_>,
    credential: Credential<'_>,
) -> Result<(Stream, Welcome), KnockError> {
    let broken = |what: &dyn std::fmt::Display, was_known| {
        KnockError::Broken(Break { what: what.to_string(), was_known })
    };
    let mut stream = net.open(connection.id, Protocol::Sync).await.map_err(|e| broken(&e, false))?;
    let keys = TransportKeys { server: connection.peer, client: net.transport_key() };
    let secrets = secrets.into_iter().take(KNOCK_MACS).collect();
    let mut client = Client::start(keys, secrets, &mut **env.dice()).map_err(KnockError::Wrong)?;
    let mut credential = Some(credential);
    let mut buffer = vec![0; 4 * 1024];
    let mut is_answered = false;
    loop {
        let len = tokio::time::timeout(HANDSHAKE_TIME, stream.read(&mut buffer))
            .await
            .map_err(|_| broken(&"no answer in time", is_answered))?
            .map_err(|e| broken(&e, is_answered))?;
        if len == 0 {
            return Err(broken(&"the other end broke off", is_answered));
        }
        let frame = match client.receive(&buffer[..len]).map_err(KnockError::Wrong)? {
            ClientStep::Wait => continue,
            ClientStep::Knock(frame) => frame,
            ClientStep::Answered(_) => {
                is_answered = true;
                let credentials: Vec<Credential<'_>> = credential.take().into_iter().collect();
                client.prove(expected, &credentials, env.now_ms() / 1_000).map_err(KnockError::Wrong)?
            }
            ClientStep::Welcome(welcome) => return Ok((stream, welcome)),
            // Who does not know the secret says nothing by refusing, whoever it is.
            ClientStep::Refused if !is_answered => return Err(KnockError::Unknown),
            ClientStep::Refused => return Err(KnockError::Refused),
        };
        stream.write_all(&frame).await.map_err(|e| broken(&e, is_answered))?;
        stream.flush().await.map_err(|e| broken(&e, is_answered))?;
    }
}
