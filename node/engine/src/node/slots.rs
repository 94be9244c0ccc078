//! Looking for replicas that this device has not heard of: it joined and nobody else is on, so that it does not know what
//! stands in the home space. It knows the secrets of all slots, and looks under each (`docs/spec/09-rendezvous.md`,
//! section 1).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use locker_crypto::identity::Slot;
use locker_crypto::rendezvous::Publishers;
use locker_crypto::secret::{RendezvousMaster, RendezvousSecret};
use locker_store::keyring;

use super::conversation;
use super::hub::Hub;
use super::seek::{self, Met, Place};
use crate::Error;
use crate::locker::Inner;

/// First pause between two looks; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Generations of slots that are looked under.
const GENERATIONS: usize = 2;

/// Looks while nobody is here and something of the home space is known to be missing, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut pause = PAUSE_MIN;
    let mut presence = hub.presence_changes();
    loop {
        presence.mark_unchanged();
        if hub.knows_home() {
            return;
        }
        if hub.presence().0.is_empty() {
            look(&hub).await;
        } else {
            pause = PAUSE_MIN;
        }
        let woken = async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = presence.changed() => {}
            }
        };
        if hub.until_stop(woken).await.is_none() {
            return;
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Looks under every slot at once, and holds the session with the first replica that is met, to its end.
async fn look(hub: &Arc<Hub>) {
    let secrets = hub.blocking(|inner| inner.slot_secrets()).await.unwrap_or_default();
    let mut searches: FuturesUnordered<_> =
        secrets.into_iter().map(|secret| Box::pin(look_under(hub, secret))).collect();
    let first = async {
        while let Some(met) = searches.next().await {
            if met.is_some() {
                return met;
            }
        }
        None
    };
    let somebody = async {
        let mut presence = hub.presence_changes();
        while hub.presence().0.is_empty() {
            // The sender lives in this hub.
            let _ = presence.changed().await;
        }
    };
    let search = async {
        tokio::select! {
            met = first => met,
            () = somebody => None,
        }
    };
    let met = hub.until_stop(search).await.flatten();
    drop(searches);
    if let Some((greeted, secret)) = met {
        hub.note_stray(greeted.device(), secret);
        conversation::hold(hub, greeted).await;
    }
}

async fn look_under(
    hub: &Arc<Hub>,
    secret: RendezvousSecret,
) -> Option<(conversation::Greeted, RendezvousSecret)> {
    let find = hub.net().find(&secret, Publishers::One, None).await.ok()?;
    let met = Met::default();
    let attempt = |place: Place| {
        let (met, secret) = (&met, secret.clone());
        async move {
            let connection = met.dial(hub.net(), &place).await.map_err(|_| ())?;
            conversation::greet_stray(hub, connection, secret).await.map_err(|_| ())
        }
    };
    let greeted = seek::race(Vec::new(), vec![find], attempt, |_, ()| ControlFlow::Continue(())).await?;
    Some((greeted, secret))
}

impl Inner {
    /// The secrets of all slots of replicas, of the newest generations: a replica stays under the one it was added in.
    fn slot_secrets(&self) -> Result<Vec<RendezvousSecret>, Error> {
        let masters = keyring::all::<RendezvousMaster, _>(&self.store()?.read()?)?;
        let slots: Vec<Slot> = (0..Slot::FIRST_DEVICE).filter_map(|index| Slot::new(index).ok()).collect();
        let newest = masters.iter().rev().take(GENERATIONS);
        Ok(newest.flat_map(|(_, master)| slots.iter().map(|slot| slot.secret(master))).collect())
    }
}
