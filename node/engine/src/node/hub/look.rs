//! How this device stands, read from the store: roster, heads, links, and whether it goes on under its key
//! (`docs/spec/08-at-rest.md`, "A restored or copied home").

use std::sync::Arc;
use std::time::Duration;

use locker_sync::message::v1::Succeed;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Hub;
use crate::Error;
use crate::locker::Inner;
use crate::rebirth::Rebirth;

/// How often roster and heads are looked at without a commit.
const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);
/// Pause after a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often certificates and publications are made anew.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(86_400);
/// How long one device is given to bring in a new key before another one is asked.
const ASK_AGAIN: Duration = Duration::from_secs(10);

impl Hub {
    /// Reads roster and heads from the store, and tells the sessions if anything is new.
    pub(in crate::node) async fn look(&self) -> Result<(), Error> {
        let _turn = self.looking.lock().await;
        let mut standing = self.blocking(Inner::standing).await?;
        let own = (self.inner.entry_log(), self.inner.keys().device_id());
        if standing.forked.contains_key(&own) && self.blocking(Inner::note_own_fork).await? {
            standing = self.blocking(Inner::standing).await?;
        }
        let mut is_reborn = false;
        if standing.rebirth == Rebirth::Granted {
            is_reborn = self.blocking(Inner::be_reborn).await?;
            standing = self.blocking(Inner::standing).await?;
        }
        let asked = match standing.rebirth {
            Rebirth::Wanted => self.blocking(Inner::ask_to_succeed).await?,
            Rebirth::None | Rebirth::Granted => None,
        };
        let mut state = self.state();
        let asked_at = state.succession.take().and_then(|(_, at)| at);
        state.succession = asked.map(|asked| (asked, asked_at));
        let is_other_roster = state.roster != standing.active;
        state.root = Some(standing.root);
        // Before the first holder of the phrase comes.
        state.served_root.get_or_insert(standing.root);
        state.roster = standing.active;
        state.admitted = standing.admitted;
        if is_reborn {
            // They belong to the device that this one was.
            state.sessions.values().for_each(|session| _ = session.end.send_replace(true));
        }
        state.missing = standing.missing;
        state.forked = standing.forked;
        state.register = Arc::new(standing.register);
        let has_other_replicas = !state.replicas.keys().eq(standing.replicas.keys());
        state.replicas = standing.replicas;
        let strays = state.strays.clone();
        state.replicas.extend(strays);
        state.grounds = Arc::new(standing.grounds);
        for (log, heads) in standing.heads {
            state.heads.insert(log, heads.into_iter().map(|head| (head.author, head)).collect());
        }
        drop(state);
        if is_other_roster || has_other_replicas {
            self.note_presence();
        }
        self.bump();
        Ok(())
    }

    /// Follows the commits of this process, and looks anew now and then. `commits` must be older than the last look.
    pub(super) async fn watch_commits(self: Arc<Self>, mut commits: watch::Receiver<u64>) {
        let mut stopping = self.stopping();
        let known = || (self.roster(), self.others(), self.doors());
        let mut told = known();
        self.tend_older_keys().await;
        let (mut announced, mut wanted) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                changed = commits.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            if self.look().await.is_err() {
                // The store is in trouble, which the next commit says to whoever asked for it. Sessions that have to end
                // must not wait for that.
                if self.until_stop(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
                    return;
                }
                commits.mark_changed();
                continue;
            }
            self.turn_out();
            self.want_named();
            if wanted.elapsed() >= LOOK_INTERVAL && self.inner.heir().is_none() {
                wanted = Instant::now();
                // Whatever was missed of what came and went: what cannot be read now is read the next time.
                let _ = self.want_all().await;
                self.tend_older_keys().await;
            }
            let now = known();
            if now != told || announced.elapsed() >= ANNOUNCE_INTERVAL {
                told = now;
                announced = Instant::now();
                self.announce().await;
            }
        }
    }

    /// Looks which older keys of the person are still to be heard. What cannot be noted now is the next time.
    async fn tend_older_keys(&self) {
        let _ = self.blocking(Inner::tend_older_keys).await;
    }

    /// The clock of the system jumped: what was heard of the clocks of others was held against the one before.
    pub(in crate::node) fn forget_clocks(&self) {
        self.state().sessions.values_mut().for_each(|session| session.ahead_ms = None);
    }

    /// Looks whether this device wrote ahead of its clock and of those of others, if another device is here that could
    /// bring in a new key. The clock must not have jumped since they told theirs.
    pub(in crate::node) async fn look_for_ahead(&self) {
        let others_ahead_ms = {
            let state = self.state();
            let has_device = state.sessions.keys().any(|device| state.roster.contains(device));
            let known = state.sessions.values().filter_map(|session| session.ahead_ms);
            if has_device { known.collect::<Vec<_>>() } else { Vec::new() }
        };
        // What cannot be read now is looked at the next time.
        let _ = self.blocking(move |inner| inner.look_for_ahead(&others_ahead_ms)).await;
    }

    /// What a session is to ask its peer for, if this device needs a new key and nobody else was asked just now.
    pub(in crate::node) fn succession(&self) -> Option<Succeed> {
        let mut state = self.state();
        let (asked, last) = state.succession.as_mut()?;
        if last.is_some_and(|last| last.elapsed() < ASK_AGAIN) {
            return None;
        }
        *last = Some(Instant::now());
        Some(asked.clone())
    }
}
