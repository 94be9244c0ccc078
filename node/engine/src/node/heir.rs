//! The holder of the phrase, who has no device yet: at a device of the person, and on the way to one
//! (`docs/spec/09-rendezvous.md`, section 3.1).
//!
//! He reads what the person's devices read, writes nothing but the person log, and is told of nothing that is wanted here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{SelectAll, unfold};
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::Publishers;
use locker_net::{Connection, Find, Stream};
use locker_sync::handshake::{Credential, Expected, Welcome};
use locker_sync::limits::RECOVERY_KNOCKS_MAX;
use locker_sync::scope::Scope;
use locker_sync::session::Terms;
use tokio::time::Instant;

use super::conversation::Talk;
use super::hub::{Hub, Place as Seat};
use super::knock::{Break, KnockError, knock};
use super::ledger::Asker;
use super::seek::{Knocked, Met, Place, Source};

/// Pause between two searches for devices that have what is missing.
const SEARCH_PAUSE: Duration = Duration::from_secs(2);

/// Holds the session of a phrase holder to its end.
pub(super) async fn serve(hub: Arc<Hub>, connection: Connection, stream: Stream, seat: Seat, rest: Vec<u8>) {
    let person = hub.inner().keys().person;
    let terms = Terms {
        peer: Scope::reading([person]),
        own: Scope::nothing().with_persons([person]),
        ..Terms::default()
    };
    let mut talk = Talk::new(Arc::clone(&hub), connection.clone(), connection.peer, terms, Asker::Heir);
    talk.run(stream, rest, seat).await;
    hub.leave_heir(&connection).await;
}

/// Looks for every device that is found under the slots of the phrase, and holds a session with each, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let Some(heir) = hub.inner().heir() else { return };
    let knocked = Arc::new(Knocked::default());
    loop {
        let met = Arc::new(Met::default());
        let mut places: BTreeSet<String> = BTreeSet::new();
        let each =
            |find| unfold(find, |mut find: Find| async { find.next().await.map(|found| (found, find)) });
        let mut finds = SelectAll::new();
        for secret in heir.knocks().into_iter().flatten() {
            if let Ok(find) = hub.net().find(&secret, Publishers::One, None).await {
                finds.push(each(find).boxed());
            }
        }
        for at in heir.places() {
            let (met, knocked) = (Arc::clone(&met), Arc::clone(&knocked));
            hub.spawn(visit(Arc::clone(&hub), met, knocked, Place::at(at, Source::Hint)));
        }
        let search = async {
            while let Some(found) = finds.next().await {
                let place = Place::from(found);
                if places.insert(format!("{:?}", place.way)) {
                    let (met, knocked) = (Arc::clone(&met), Arc::clone(&knocked));
                    hub.spawn(visit(Arc::clone(&hub), met, knocked, place));
                }
            }
        };
        if hub.until_stop(search).await.is_none() {
            return;
        }
        hub.note_searched();
        if hub.until_stop(tokio::time::sleep(SEARCH_PAUSE)).await.is_none() {
            return;
        }
    }
}

/// Tries one place, and holds the session with the device that is there, unless there is one already.
async fn visit(hub: Arc<Hub>, met: Arc<Met>, knocked: Arc<Knocked>, place: Place) {
    let greeted = hub.until_stop(greet(&hub, &met, &knocked, &place)).await;
    let Some(Some((connection, stream, welcome))) = greeted else { return };
    let Welcome { device, rest, .. } = welcome;
    if hub.inner().heir().is_none_or(|heir| !heir.may_ask(&device)) {
        let _ = hub.net().close(connection.id).await;
        return;
    }
    let person = hub.inner().keys().person;
    let Some(seat) = hub.admit(device, &connection, Scope::nothing(), true).await else {
        let _ = hub.net().close(connection.id).await;
        return;
    };
    let terms = Terms {
        peer: Scope::nothing().with_persons([person]),
        own: Scope::reading([person]),
        ..Terms::default()
    };
    let mut talk = Talk::new(Arc::clone(&hub), connection.clone(), device, terms, Asker::Source);
    talk.run(stream, rest, seat).await;
    hub.leave(&device, &connection).await;
}

async fn greet(
    hub: &Hub,
    met: &Met,
    knocked: &Knocked,
    place: &Place,
) -> Option<(Connection, Stream, Welcome)> {
    let heir = hub.inner().heir()?;
    let connection = met.dial(hub.net(), place).await.ok()?;
    let node: VerifyingKey = connection.get().peer;
    if hub.has_session_of(&node) {
        return None;
    }
    let (net, env) = (hub.net(), hub.inner().env());
    for secrets in heir.knocks() {
        if knocked.count(&node, Instant::now()) >= RECOVERY_KNOCKS_MAX {
            return None;
        }
        let credential = Credential::Root { root: heir.root().signing() };
        match knock(net, env, connection.get(), secrets, &Expected::Anybody, credential).await {
            Ok((stream, welcome)) => {
                knocked.forget(&node);
                return Some((connection.keep(), stream, welcome));
            }
            Err(KnockError::Unknown) => knocked.note(node, Instant::now()),
            // It knows the secret, and has no place now, or broke off.
            Err(KnockError::Refused | KnockError::Broken(Break { was_known: true, .. })) => {
                knocked.forget(&node);
                return None;
            }
            Err(_) => return None,
        }
    }
    None
}
