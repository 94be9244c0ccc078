//! The background check of all packs, while the node runs (`docs/spec/08-at-rest.md`, "Scrub"): one pack, a pause, the
//! next. Which and how fast is said by `crate::scrub`; packs in which a read met damage come at once.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_store::index::{self, PackState};
use locker_store::packs::Cache;
use tokio::time::Instant;

use super::hub::Hub;
use crate::Error;
use crate::care::Found;
use crate::locker::Inner;
use crate::scrub::{Due, Look, Pace, gives_way};

/// A node that has just started has other things to do.
const START_PAUSE: Duration = Duration::from_secs(30);
/// How long a choice of packs stands.
const CHOICE_LIFE: Duration = Duration::from_secs(3_600);
/// Pause when no pack is here, or the store is in trouble.
const IDLE_PAUSE: Duration = Duration::from_secs(3_600);
/// How often every row of the database is opened.
const ROWS_EVERY: Duration = Duration::from_secs(86_400);
/// How often it is looked whether others are still busy.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Looks that are noted in one commit at most.
const NOTED_MAX: usize = 16;
/// How long a look may wait to be noted.
const NOTE_DELAY: Duration = Duration::from_secs(600);

/// Looks at one pack after the other, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let now = Instant::now();
    let mut scrub = Scrub { hub: Arc::clone(&hub), chosen: None, looked: Vec::new(), noted: now, rows: None };
    if hub.until_stop(tokio::time::sleep(START_PAUSE)).await.is_none() {
        return;
    }
    // What is lost, is known and wanted; here only what needs nobody else is found.
    let _ = hub.blocking(Inner::suspect_lost).await;
    loop {
        let step = hub.until_stop(scrub.step()).await;
        let pause = match step {
            Some(Ok(pause)) => pause,
            Some(Err(_)) => IDLE_PAUSE,
            None => break,
        };
        if hub.until_stop(scrub.pause(pause)).await.is_none() {
            break;
        }
    }
    scrub.note().await;
}

/// The packs that come next.
struct Choice {
    due: VecDeque<Due>,
    pace: Pace,
    since: Instant,
}

struct Scrub {
    hub: Arc<Hub>,
    chosen: Option<Choice>,
    /// What was looked at and is not noted yet.
    looked: Vec<(PackHash, Found)>,
    noted: Instant,
    /// When the rows of the database were looked at.
    rows: Option<Instant>,
}

impl Scrub {
    /// Looks at one pack; gives the pause after it.
    async fn step(&mut self) -> Result<Duration, Error> {
        let is_stale = |choice: &Choice| choice.due.is_empty() || choice.since.elapsed() >= CHOICE_LIFE;
        if self.chosen.as_ref().is_none_or(is_stale) {
            // What is looked at and not noted would be chosen again.
            self.note().await;
            if self.rows.is_none_or(|at| at.elapsed() >= ROWS_EVERY) {
                self.rows = Some(Instant::now());
                self.hub
                    .blocking(|inner| {
                        inner.look_at_rows();
                        Ok(())
                    })
                    .await?;
                self.hub.note_swept();
            }
            let (due, pace) = self.hub.blocking(Inner::choose_packs).await?;
            self.chosen = Some(Choice { due: due.into(), pace, since: Instant::now() });
        }
        let Some(choice) = &mut self.chosen else { return Ok(IDLE_PAUSE) };
        let Some(due) = choice.due.pop_front() else { return Ok(IDLE_PAUSE) };
        let pace = choice.pace;
        let mut given_way = Duration::ZERO;
        while gives_way(self.hub.is_busy(), given_way) {
            tokio::time::sleep(BUSY_PAUSE).await;
            given_way += BUSY_PAUSE;
        }
        let (found, spent) = self
            .hub
            .blocking(move |inner| {
                let start = inner.env().elapsed();
                let found = inner.examine(&due.hash, Cache::Dropped)?;
                let spent = inner.env().elapsed().saturating_sub(start);
                let found = match found {
                    Found::Damaged(_) => inner.heal_here(&due.hash)?,
                    other => other,
                };
                Ok((found, spent))
            })
            .await?;
        let pause = pace.pause(due.len, spent);
        let is_news = matches!(found, Found::Damaged(_) | Found::Healed);
        self.looked.push((due.hash, found));
        if is_news || self.looked.len() >= NOTED_MAX || self.noted.elapsed() + pause >= NOTE_DELAY {
            self.note().await;
        }
        Ok(pause)
    }

    /// Makes durable what was looked at.
    async fn note(&mut self) {
        let looked = std::mem::take(&mut self.looked);
        self.noted = Instant::now();
        if !looked.is_empty() {
            // What cannot be noted is looked at again.
            let _ = self.hub.blocking(move |inner| inner.note_found(&looked, |_| {})).await;
        }
    }

    /// Waits; what a read finds damaged meanwhile is looked at at once.
    async fn pause(&self, pause: Duration) {
        let end = tokio::time::sleep(pause);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                () = self.hub.inner().suspects().wait() => {
                    let judged = self.hub.blocking(|inner| { inner.judge_suspects(); Ok(()) });
                    let _ = judged.await;
                }
            }
        }
    }
}

impl Hub {
    /// Whether others need the disk.
    pub(super) fn is_busy(&self) -> bool {
        self.is_fetching() || self.inner().try_import_turn().is_none()
    }
}

impl Inner {
    /// Chooses the packs that were looked at longest ago.
    fn choose_packs(&self) -> Result<(Vec<Due>, Pace), Error> {
        let mut look = Look::new(self.env().now_ms() / 1_000);
        index::scan_packs(&self.store()?.read()?, &mut |hash, pack| {
            if let PackState::Present { verified_at } = pack.state {
                look.add(hash, pack.len, verified_at);
            }
            ControlFlow::Continue(())
        })?;
        Ok(look.choose())
    }
}
