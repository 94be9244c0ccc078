//! What others begin: streams of ours, and records for the DHT.

use libp2p::kad;

use super::Driver;
use crate::connection::ConnectionId;
use crate::event::Event;
use crate::metrics;
use crate::stream::{Inbound, Stream};

impl Driver {
    /// Hands an inbound stream to the engine, or drops it, which resets it.
    pub(super) fn on_inbound(&mut self, inbound: Inbound) {
        let Inbound { connection: id, protocol, stream } = inbound;
        let id = ConnectionId(id);
        let room = self.outbox.len() < self.config.limits.inbound_queue;
        let admitted =
            if room { self.swarm.behaviour_mut().gate.admission.admit_stream(id).ok() } else { None };
        match (self.links.get_mut(&id), admitted) {
            (Some(link), Some(knock)) => {
                link.told = true;
                metrics::count(&self.metrics.streams_in);
                let connection = link.connection.clone();
                let stream = Stream::accepted(stream, &connection, knock).counted(protocol, &self.metrics);
                self.outbox.push_back(Event::Inbound { protocol, connection, stream });
            }
            _ => metrics::count(&self.metrics.streams_refused),
        }
    }

    /// Takes or refuses what a node of the DHT wants to be kept.
    pub(super) fn on_dht_request(&mut self, request: kad::InboundRequest) {
        match request {
            kad::InboundRequest::PutRecord { connection, record: Some(record), .. } => {
                let Some(link) = self.links.get(&ConnectionId(connection)) else { return };
                let from = link.connection.remote.ip();
                let shelf = self.swarm.behaviour_mut().kad.store_mut();
                if shelf.take(record, from).is_err() {
                    metrics::count(&self.metrics.records_refused);
                }
                metrics::set(&self.metrics.records_kept, shelf.len());
            }
            kad::InboundRequest::AddProvider { .. } => metrics::count(&self.metrics.providers_refused),
            _ => {}
        }
    }
}
