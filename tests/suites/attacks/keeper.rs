//! A node of the DHT in the hands of an adversary: it keeps what others publish, notes all that it is asked, tells lies
//! when it is told to, and looks at whoever it is sent to. Made of stock parts, none of them ours.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::kad::{InboundRequest, Mode, QueryResult, Quorum, Record, StoreInserts};
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, identify, kad, noise, tcp, yamux};
use locker_net::NodeAddress;
use locker_tests::wait::wait_for;
use tokio::sync::{mpsc, oneshot};

const KAD: StreamProtocol = StreamProtocol::new("/locker/kad/1");
const LIMIT: Duration = Duration::from_secs(60);

/// How a record is changed before it is given to anybody.
pub(crate) type Lie = fn(Record) -> Record;

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

/// What the node noted.
#[derive(Default)]
pub(crate) struct Notes {
    /// Every record that somebody wanted to be kept, with the key of who sent it.
    pub(crate) puts: Vec<(PeerId, Record)>,
    /// Provider records that somebody wanted to be kept.
    pub(crate) add_provider: usize,
    /// Questions for providers.
    pub(crate) get_providers: usize,
    /// Questions for a record that is kept here, lies included.
    pub(crate) records_given: usize,
    /// Questions for a record that is not.
    pub(crate) records_missed: usize,
    /// Questions for nodes.
    pub(crate) find_node: usize,
    /// What others tell of themselves.
    pub(crate) identified: Vec<(ConnectionId, PeerId, identify::Info)>,
}

enum Order {
    Dial(DialOpts),
    Put(Record, PeerId, oneshot::Sender<bool>),
    Lie(Option<Lie>),
}

/// The node, while it runs.
pub(crate) struct Keeper {
    notes: Arc<Mutex<Notes>>,
    orders: mpsc::UnboundedSender<Order>,
    /// Where it is, with its key, as one writes it down.
    pub(crate) address: String,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Keeper {
    /// Starts one on loopback.
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1")
    }

    /// Starts one at an address.
    pub(crate) fn at(ip: &str) -> Self {
        let runtime = super::stranger::runtime();
        let (orders, orders_heard) = mpsc::unbounded_channel();
        let notes = Arc::<Mutex<Notes>>::default();
        let (swarm, address) = runtime.block_on(listening(ip));
        runtime.spawn(run(swarm, Arc::clone(&notes), orders_heard));
        Self { notes, orders, address, runtime: Some(runtime) }
    }

    /// The address as our nodes take it.
    pub(crate) fn node_address(&self) -> NodeAddress {
        self.address.parse().unwrap()
    }

    /// What was noted so far.
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    /// Waits until the notes say something.
    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut(&Notes) -> Option<T>) -> T {
        wait_for(what, LIMIT, || look(&self.notes()))
    }

    /// Changes the records that are kept, and those to come, in this way; with `None` tells the truth again.
    pub(crate) fn lie(&self, lie: Option<Lie>) {
        self.orders.send(Order::Lie(lie)).unwrap();
    }

    /// Dials a node and waits for what it tells of itself.
    pub(crate) fn look_at(&self, address: &str) -> (PeerId, identify::Info) {
        let options = DialOpts::unknown_peer_id().address(address.parse().unwrap()).build();
        let connection = options.connection_id();
        self.orders.send(Order::Dial(options)).unwrap();
        self.wait("what a node tells of itself", |notes| {
            let told = notes.identified.iter().find(|(over, ..)| *over == connection);
            told.map(|(_, peer, info)| (*peer, info.clone()))
        })
    }

    /// Asks a node to keep a record; whether it did.
    pub(crate) fn put(&self, record: Record, peer: PeerId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Put(record, peer, reply)).unwrap();
        answer.blocking_recv().unwrap()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A swarm that listens for QUIC and TCP.
async fn listening(ip: &str) -> (Swarm<Parts>, String) {
    let mut swarm = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let mut config = kad::Config::new(KAD);
            config.set_record_filtering(StoreInserts::FilterBoth);
            let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
            kad.set_mode(Some(Mode::Server));
            Parts {
                identify: identify::Behaviour::new(identify::Config::new("keeper".into(), key.public())),
                kad,
            }
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(LIMIT))
        .build();
    swarm.listen_on(format!("/ip4/{ip}/udp/0/quic-v1").parse().unwrap()).unwrap();
    swarm.listen_on(format!("/ip4/{ip}/tcp/0").parse().unwrap()).unwrap();
    let id = *swarm.local_peer_id();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await
            && address.iter().any(|part| part == Part::QuicV1)
        {
            return (swarm, format!("{address}/p2p/{id}"));
        }
    }
}

async fn run(mut swarm: Swarm<Parts>, notes: Arc<Mutex<Notes>>, mut orders: mpsc::UnboundedReceiver<Order>) {
    // What was put, as it came; what is in the store may be a lie.
    let mut truth: Vec<Record> = Vec::new();
    let mut lie: Option<Lie> = None;
    let mut putting = std::collections::HashMap::new();
    let told = |record: &Record, lie: Option<Lie>| lie.map_or(record.clone(), |lie| lie(record.clone()));
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Dial(options)) => swarm.dial(options).unwrap(),
                Some(Order::Put(record, peer, reply)) => {
                    let query = swarm.behaviour_mut().kad.put_record_to(record, [peer].into_iter(), Quorum::One);
                    putting.insert(query, reply);
                }
                Some(Order::Lie(new)) => {
                    lie = new;
                    for record in &truth {
                        swarm.behaviour_mut().kad.store_mut().put(told(record, lie)).unwrap();
                    }
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(PartsEvent::Identify(identify::Event::Received {
                    connection_id, peer_id, info,
                })) => {
                    notes.lock().unwrap().identified.push((connection_id, peer_id, info));
                }
                SwarmEvent::Behaviour(PartsEvent::Kad(kad::Event::InboundRequest { request })) => {
                    let mut notes = notes.lock().unwrap();
                    match request {
                        InboundRequest::PutRecord { source, record: Some(record), .. } => {
                            let _ = swarm.behaviour_mut().kad.store_mut().put(told(&record, lie));
                            truth.retain(|known| known.key != record.key);
                            truth.push(record.clone());
                            notes.puts.push((source, record));
                        }
                        InboundRequest::AddProvider { .. } => notes.add_provider += 1,
                        InboundRequest::GetProvider { .. } => notes.get_providers += 1,
                        InboundRequest::GetRecord { present_locally: true, .. } => notes.records_given += 1,
                        InboundRequest::GetRecord { .. } => notes.records_missed += 1,
                        InboundRequest::FindNode { .. } => notes.find_node += 1,
                        InboundRequest::PutRecord { .. } => {}
                    }
                }
                SwarmEvent::Behaviour(PartsEvent::Kad(kad::Event::OutboundQueryProgressed { id, result, .. })) => {
                    if let (QueryResult::PutRecord(result), Some(reply)) = (result, putting.remove(&id)) {
                        let _ = reply.send(result.is_ok());
                    }
                }
                _ => {}
            },
        }
    }
}
