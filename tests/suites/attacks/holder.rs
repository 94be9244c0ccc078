//! K, who holds a link and wants more: proves it by the book, then speaks for himself.

use locker_crypto::id::SpaceTag;
use locker_crypto::link::Link;
use locker_engine::ShareOptions;
use locker_net::{Connection, Prefer, Protocol, Stream};
use locker_sync::handshake::{Client, ClientStep, Credential, Expected, TransportKeys};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::member::now_s;
use super::stranger::{Stranger, dice, within};
use super::world::Device;

/// Makes a link.
pub(crate) fn share(device: &Device, path: &str) -> (Link, String) {
    let options = ShareOptions { expires_s: 3_600, label: None, passphrase: None };
    let made = device.locker.share(path, &options).unwrap();
    (Link::parse(made.link.expose()).unwrap().0, made.id)
}

/// A holder of a link with a session.
pub(crate) struct Holder {
    pub(crate) x: Stranger,
    pub(crate) connection: Connection,
    pub(crate) stream: Stream,
    /// What the link is called on the wire.
    pub(crate) tag: SpaceTag,
}

impl Holder {
    /// Knocks with the link and proves it; waits until the node has heard of the link. `None` if it refuses.
    pub(crate) async fn visit(device: &Device, link: &Link, prefer: Prefer) -> Option<Self> {
        let keys = link.keys(None).unwrap();
        let x = Stranger::start().await;
        let connection = x.dial(&device.addresses(), prefer).await;
        let mut stream = within("a stream", x.net.open(connection.id, Protocol::Sync)).await.unwrap();
        let transport = TransportKeys { server: connection.peer, client: x.net.transport_key() };
        let mut client = Client::start(transport, vec![link.rendezvous()], &mut dice()).unwrap();
        let mut buffer = vec![0; 4_096];
        loop {
            stream.flush().await.unwrap();
            let len = within("the handshake", stream.read(&mut buffer)).await.unwrap();
            assert!(len > 0, "the other end broke off");
            let frame = match client.receive(&buffer[..len]).unwrap() {
                ClientStep::Wait => continue,
                ClientStep::Knock(frame) => frame,
                ClientStep::Answered(_) => {
                    let proof = Credential::Link { tag: keys.tag(), link: keys.signing() };
                    client.prove(&Expected::Anybody, &[proof], now_s()).unwrap()
                }
                ClientStep::Welcome(welcome) => {
                    let tag = welcome.grants[0].tag;
                    return Some(Self { x, connection, stream, tag });
                }
                ClientStep::Refused => return None,
            };
            stream.write_all(&frame).await.unwrap();
        }
    }

    /// The same, again and again until the node knows of the link.
    pub(crate) async fn arrive(device: &Device, link: &Link, prefer: Prefer) -> Self {
        let arriving = async {
            loop {
                if let Some(holder) = Self::visit(device, link, prefer).await {
                    return holder;
                }
            }
        };
        within("a session of a link", arriving).await
    }

    /// Says something in the session and waits for its end: the last 16 bytes.
    pub(crate) async fn last_words(mut self, question: &[u8]) -> Vec<u8> {
        self.stream.write_all(question).await.unwrap();
        self.stream.flush().await.unwrap();
        let mut all = Vec::new();
        let reading = self.stream.read_to_end(&mut all);
        // How the stream ends says nothing; what was said before counts.
        let _ = within("the end of a session", reading).await;
        all.split_off(all.len().saturating_sub(16))
    }
}
