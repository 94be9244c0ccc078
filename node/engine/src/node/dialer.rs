//! Looking for the person's other devices and keeping a session with each (`docs/spec/09-rendezvous.md`, "Order").
//!
//! Nothing is looked at in turns: a search begins when a device goes, is heard of, or its pause is over.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::Publishers;
use locker_crypto::secret::RendezvousSecret;
use locker_net::DialError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::conversation;
use super::hub::Hub;
use super::knock::KnockError;
use super::seek::{self, Met, NotDialed, Place, Source};

/// First pause after a device was not reached; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a greeting that is under way goes on beside a session that came meanwhile: half of the time within which
/// two are taken to have crossed, so that both ends judge alike.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// Who lost a session soon after it had begun looks anew after up to so many milliseconds, drawn by each end: else both
/// would do again at the same moment what they did before.
const APART_MS: u64 = 500;
/// Keys of the person under which every search asks.
const NEWEST_KEYS: usize = 2;
/// Failed tries of one search that are remembered.
const TRIED_MAX: usize = 32;

/// How a search for a device went.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    /// When it began, by the count of searches of this node.
    pub(crate) number: u64,
    /// Where nobody was found who is it, and why.
    pub(crate) tried: Vec<Tried>,
    /// Nothing more is tried.
    pub(crate) is_over: bool,
}

/// A place at which the device was not met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tried {
    /// Who named the place.
    pub(crate) source: Source,
    /// The place.
    pub(crate) at: SocketAddr,
    /// Why it was not met.
    pub(crate) miss: Miss,
}

/// Why a device was not met at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Miss {
    /// Nobody answers there.
    Nobody,
    /// Who answers is somebody else.
    Stranger,
    /// It knows us, and refused.
    Refused,
    /// A limit of this node stands against more connections.
    Limit,
}

/// When each device that is missing is looked for next.
#[derive(Default)]
struct Pauses(HashMap<VerifyingKey, Pause>);

struct Pause {
    length: Duration,
    until: Instant,
}

impl Pauses {
    /// Whether a device may be looked for now; begins the pause before the next time.
    fn take(&mut self, device: VerifyingKey, now: Instant) -> bool {
        let pause = self.0.entry(device).or_insert(Pause { length: PAUSE_MIN, until: now });
        if pause.until > now {
            return false;
        }
        pause.until = now + pause.length;
        pause.length = (pause.length * 2).min(PAUSE_MAX);
        true
    }

    /// Devices that are here, and those that are heard of, are looked for at once the next time.
    fn forget(&mut self, devices: &BTreeSet<VerifyingKey>) {
        self.0.retain(|device, _| !devices.contains(device));
    }

    /// When the first of these devices is due.
    fn next(&self, devices: &BTreeSet<VerifyingKey>) -> Option<Instant> {
        devices.iter().filter_map(|device| self.0.get(device)).map(|pause| pause.until).min()
    }
}

/// Why it is looked anew who is missing.
enum Woken {
    /// A pause is over, or somebody came or went.
    Due,
    /// The addresses of this device have changed.
    Elsewhere,
    /// The network has ended.
    Deaf,
}

/// Looks for every device without a session, one task each, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let running = Arc::new(Mutex::new(BTreeSet::<VerifyingKey>::new()));
    let mut pauses = Pauses::default();
    let mut presence = hub.presence_changes();
    let mut ways = hub.net().listening();
    loop {
        presence.mark_unchanged();
        ways.mark_unchanged();
        let missing = hub.unreached();
        pauses.forget(&hub.presence().0);
        pauses.forget(&hub.take_sought());
        let mut idle = missing;
        idle.retain(|device| !running.lock().unwrap_or_else(PoisonError::into_inner).contains(device));
        let now = Instant::now();
        let due: Vec<VerifyingKey> =
            idle.iter().filter(|device| pauses.take(**device, now)).copied().collect();
        for device in due {
            idle.remove(&device);
            running.lock().unwrap_or_else(PoisonError::into_inner).insert(device);
            let (search, running) = (Arc::clone(&hub), Arc::clone(&running));
            hub.spawn(async move {
                if search.take_soon_lost(&device) {
                    let apart = Duration::from_millis(search.inner().env().dice().next_u64() % APART_MS);
                    let _ = search.until_stop(tokio::time::sleep(apart)).await;
                }
                look_for(&search, device).await;
                running.lock().unwrap_or_else(PoisonError::into_inner).remove(&device);
                search.note_presence();
            });
        }
        let next = pauses.next(&idle);
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let woken = async {
            tokio::select! {
                () = due => Woken::Due,
                _ = presence.changed() => Woken::Due,
                changed = ways.changed() => if changed.is_ok() { Woken::Elsewhere } else { Woken::Deaf },
            }
        };
        match hub.until_stop(woken).await {
            // Without a network nobody is reached.
            None | Some(Woken::Deaf) => return,
            // This device is somewhere else: what was not reached from there may be from here.
            Some(Woken::Elsewhere) => pauses = Pauses::default(),
            Some(Woken::Due) => {}
        }
    }
}

/// Greetings of one search that are under way.
struct Greetings(watch::Sender<usize>);

/// One of them.
struct UnderWay<'a>(&'a Greetings);

impl Greetings {
    fn begin(&self) -> UnderWay<'_> {
        self.0.send_modify(|count| *count += 1);
        UnderWay(self)
    }

    /// Waits until there are none.
    async fn are_over(&self) {
        let mut count = self.0.subscribe();
        // The sender lives as long as this value.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Looks for a device everywhere at once, and holds the session with it to its end. Ends when the device has come by
/// itself.
///
/// The device may have let in a greeting of ours before we know it. One that is under way is therefore not given up
/// because the device has come: which of two sessions is kept is decided where they are let in, by one rule at both ends
/// (`docs/spec/12-sync.md`, "Two sessions with one device").
async fn look_for(hub: &Arc<Hub>, device: VerifyingKey) {
    let number = hub.begin_trail(device);
    let known = hub.blocking(move |inner| inner.places_of(&device)).await.unwrap_or_default();
    let known = known.into_iter().map(|at| Place::at(at, Source::Known)).collect();
    let mut finds = Vec::new();
    let drawn = hub.inner().env().dice().next_u64();
    for secret in sought_under(hub.secrets_of(&device), drawn) {
        let Ok(find) = hub.net().find(&secret, Publishers::One, Some(device)).await else { return };
        finds.push(find);
    }
    let met = Met::default();
    let greetings = Greetings(watch::channel(0).0);
    let attempt = |place: Place| {
        let (met, greetings) = (&met, &greetings);
        // Who has not answered yet is told like who does not answer.
        note_tried(hub, &device, number, &place, Some(Miss::Nobody));
        async move {
            let connection = met.dial(hub.net(), &place).await.map_err(not_dialed)?;
            // Who has come is not greeted as well.
            hub.has_gone(&device).await;
            let _under_way = greetings.begin();
            conversation::greet(hub, connection, device).await.map_err(|why| Some(not_let_in(&why)))
        }
    };
    let note = |place: Place, miss: Option<Miss>| {
        note_tried(hub, &device, number, &place, miss);
        ControlFlow::Continue(())
    };
    let search = async {
        tokio::select! {
            greeted = seek::race(known, finds, attempt, note) => greeted,
            () = has_come(hub, &device, &greetings) => None,
        }
    };
    let greeted = hub.until_stop(search).await.flatten();
    hub.end_trail(&device, number);
    if let Some(greeted) = greeted {
        conversation::hold(hub, greeted).await;
    }
}

/// Waits until a device has come by itself and is here while no greeting of it is under way, or one takes too long.
async fn has_come(hub: &Hub, device: &VerifyingKey, greetings: &Greetings) {
    loop {
        hub.has_come(device).await;
        if hub.has_greeted(device) {
            // Found in another way: it does not cross us.
            return;
        }
        tokio::select! {
            () = greetings.are_over() => return,
            () = tokio::time::sleep(GREETING_TIME) => return,
            // The search goes on.
            () = hub.has_gone(device) => {}
        }
    }
}

/// Under which secrets of a device one search asks, of those that are heard, the newest first: the two newest, and of the
/// older ones one that is drawn. Each costs the DHT look-ups, and a device that lacks several keys is rare.
fn sought_under(mut secrets: Vec<RendezvousSecret>, drawn: u64) -> Vec<RendezvousSecret> {
    let mut older = secrets.split_off(secrets.len().min(NEWEST_KEYS));
    if let Some(at) = drawn.checked_rem(older.len() as u64) {
        secrets.push(older.swap_remove(at as usize));
    }
    secrets
}

fn note_tried(hub: &Hub, device: &VerifyingKey, number: u64, place: &Place, miss: Option<Miss>) {
    if let Some(at) = place.shown() {
        hub.note_tried(device, number, place.source, at, miss);
    }
}

/// Why nobody was met; `None` if the node that answers is tried at another place.
fn not_dialed(why: NotDialed) -> Option<Miss> {
    match why {
        NotDialed::Same => None,
        NotDialed::Nobody(DialError::Limit) => Some(Miss::Limit),
        NotDialed::Nobody(_) => Some(Miss::Nobody),
    }
}

fn not_let_in(why: &KnockError) -> Miss {
    match why {
        KnockError::Refused => Miss::Refused,
        KnockError::Unknown | KnockError::Wrong(_) | KnockError::Broken(_) => Miss::Stranger,
    }
}

/// A beacon of a device was heard: the search for it, which hears of it too, begins at once.
pub(super) fn beacon(hub: &Hub, secret: &RendezvousSecret) {
    let device = hub.unreached().into_iter().find(|vk| hub.secrets_of(vk).contains(secret));
    hub.seek_at_once(device);
}

impl Trail {
    pub(super) fn new(number: u64) -> Self {
        Self { number, tried: Vec::new(), is_over: false }
    }

    /// Notes how it stands with a place; `None` if the node there is tried at another one.
    pub(super) fn note(&mut self, source: Source, at: SocketAddr, miss: Option<Miss>) {
        self.tried.retain(|tried| (tried.source, tried.at) != (source, at));
        if let Some(miss) = miss
            && self.tried.len() < TRIED_MAX
        {
            self.tried.push(Tried { source, at, miss });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t95_every_search_asks_under_the_newest_keys_and_some_under_each_older_one() {
        let secrets = |n: u8| (0..n).map(|k| RendezvousSecret::new([k; 32])).collect::<Vec<_>>();
        let asked = |n: u8, drawn: u64| -> Vec<u8> {
            sought_under(secrets(n), drawn).iter().map(|secret| secret.expose()[0]).collect()
        };
        for n in 0..=2 {
            assert_eq!(asked(n, 7), (0..n).collect::<Vec<_>>());
        }
        let mut drawn = BTreeSet::new();
        for draw in 0..14 {
            let [0, 1, older] = asked(16, draw)[..] else { panic!("{:?}", asked(16, draw)) };
            drawn.insert(older);
        }
        assert_eq!(drawn, (2..16).collect());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_until_the_device_is_heard_of() {
        let (mut pauses, device) = (Pauses::default(), VerifyingKey([1; 32]));
        let all = BTreeSet::from([device]);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        assert!(pauses.take(device, now));
        for _ in 0..10 {
            let next = pauses.next(&all).unwrap();
            assert!(!pauses.take(device, next - Duration::from_millis(1)));
            waits.push((next - now).as_millis());
            now = next;
            assert!(pauses.take(device, now));
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        pauses.forget(&all);
        assert_eq!(pauses.next(&all), None);
        assert!(pauses.take(device, now));
        assert_eq!(pauses.next(&all), Some(now + PAUSE_MIN));
    }
}
