//! What entries name beside the logs: packs, and what links are served from.

use std::ops::ControlFlow;

use locker_catalog::operation::{Body, Op, Share as ShareOp};
use locker_catalog::order::EntryOrder;
use locker_catalog::space::Space;
use locker_crypto::entry::Envelope;
use locker_crypto::id::{PackHash, TokenId};
use locker_crypto::pack::PackOp;
use locker_crypto::share::Registered;
use locker_store::index::{self, Loc, Naming, NewPack, PackState};
use locker_store::{Reads, WriteTxn, objects, pins};
use locker_sync::message::v1::Ask;

use super::Taken;
use crate::Error;
use crate::locker::Inner;

impl Inner {
    /// Notes the packs and objects that newly taken entries name.
    pub(super) fn note_taken(
        &self,
        txn: &mut WriteTxn<'_>,
        space: &Space,
        orders: &[EntryOrder],
        taken: &mut Taken,
    ) -> Result<(), Error> {
        let tag = self.space_tag();
        for order in orders {
            let mut found: Vec<Op> = Vec::new();
            space.sealed_from(&txn.rows(tag), &order.author, order.seq, &mut |bytes| {
                if let Ok(envelope) = Envelope::parse(bytes)
                    && envelope.header().seq == order.seq
                {
                    found.extend(self.ops_of(txn, &envelope));
                    return ControlFlow::Continue(());
                }
                ControlFlow::Break(())
            })?;
            for op in found {
                match op {
                    Op::Pack(pack) => {
                        let naming = Naming { hlc: order.hlc, author: order.author };
                        self.want_pack(txn, &pack, &naming, taken)?;
                    }
                    Op::Share(share) => self.want_objects(txn, &share, taken)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Notes the same of entries that are taken in beside the batches of other devices: the running node looks for what it
    /// wants once that is committed.
    pub(in crate::node) fn note_named(
        &self,
        txn: &mut WriteTxn<'_>,
        space: &Space,
        orders: &[EntryOrder],
    ) -> Result<(), Error> {
        let mut taken = Taken::default();
        self.note_taken(txn, space, orders, &mut taken)?;
        if let Some(hub) = self.node() {
            hub.want_soon(taken.wanted);
        }
        Ok(())
    }

    fn ops_of<R: Reads>(&self, reads: &R, envelope: &Envelope<'_>) -> Vec<Op> {
        let opened = self
            .keys()
            .log_key(reads, &envelope.header().epoch)
            .ok()
            .and_then(|key| envelope.open(Some(&key)).ok())
            .and_then(|body| Body::read(body).ok());
        opened.map_or_else(Vec::new, |body| body.ops)
    }

    /// Asks for what it takes to serve a link of this person.
    fn want_objects(&self, txn: &WriteTxn<'_>, share: &ShareOp, taken: &mut Taken) -> Result<(), Error> {
        let root = TokenId(share.token);
        let Ok(registered) = Registered::open(self.keys().person_keys()?, &root, &share.sealed) else {
            return Ok(());
        };
        for hash in [Some(registered.capsule), registered.extent, Some(share.link_box)].into_iter().flatten()
        {
            if !objects::holds(txn, &hash)? {
                taken.asks.push(Ask::Object(hash));
            }
        }
        Ok(())
    }

    fn want_pack(
        &self,
        txn: &mut WriteTxn<'_>,
        pack: &PackOp,
        naming: &Naming,
        taken: &mut Taken,
    ) -> Result<(), Error> {
        let locs: Vec<Loc> =
            pack.locs().iter().map(|loc| Loc { tag: loc.tag, sealed_len: loc.sealed_len }).collect();
        let new = NewPack { len: pack.len(), state: self.ruled().first_state(), locs: &locs };
        index::add_pack(txn, &self.space_tag(), &pack.hash(), &new)?;
        index::note_naming(txn, &self.space_tag(), &pack.hash(), naming)?;
        self.want_if_held(txn, &pack.hash(), taken)
    }

    /// Wants a pack that is not here, if any device says that it holds it. What all have let go is not waited for.
    pub(super) fn want_if_held(
        &self,
        txn: &WriteTxn<'_>,
        hash: &PackHash,
        taken: &mut Taken,
    ) -> Result<(), Error> {
        if let Some(known) = index::pack(txn, hash)?
            && matches!(known.state, PackState::Wanted | PackState::Lost)
            && pins::is_pinned_by_any(txn, &self.space_tag(), hash)?
        {
            taken.wanted.push((*hash, known.len));
        }
        Ok(())
    }
}
