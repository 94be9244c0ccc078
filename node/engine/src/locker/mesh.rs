//! What a user can do that needs other devices.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Inner, Locker};
use crate::Error;
use crate::copies::{Rule, Ruled};
use crate::join::JoinAs;
use crate::limits::COPIES_MAX;
use crate::needs::Noted;
use crate::node::{Hub, Node, NodeOptions};
use crate::pin_heads::PinHeads;
use crate::progress::Meter;
use crate::report::{
    Audit, Created, Decided, Device, Diagnosis, Freed, Guide, Held, Observer, Paired, Pinned, RuleSet,
    RuleTold, Secret,
};

impl Locker {
    /// Invites a device and waits until it joined, on the node that runs or, with `options`, on one for the time.
    ///
    /// # Errors
    /// [`Error::Network`] if nobody came; [`Error::Pairing`] if it was broken off; [`Error::Blind`].
    pub fn pair(&self, wanted: JoinAs, options: NodeOptions, guide: &dyn Guide) -> Result<Paired, Error> {
        self.reading()?;
        self.on_node(options, |hub| crate::node::pair(hub, wanted, guide))
    }

    /// Ends a replica, named by its id or the beginning of it. It is given nothing from now on; what it has, sealed, it keeps.
    ///
    /// # Errors
    /// [`Error::NoSuch`]; [`Error::Argument`] if several have such an id; [`Error::Blind`].
    pub fn remove_replica(&self, id: &str) -> Result<Device, Error> {
        crate::replicas::remove(self.reading()?, id)
    }

    /// Draws 24 words that can take the place of those that count, which are shown ([`Locker::change_phrase`]).
    ///
    /// # Errors
    /// [`Error::Phrase`] for what are no words; [`Error::PhraseRefused`] for others; [`Error::Blind`]; and what would stand
    /// in the way of changing them: [`Error::Network`] if this device has not heard of its keys yet;
    /// [`Error::Restored`]; [`Error::Limit`]; [`Error::ReadOnly`].
    pub fn draft_phrase(&self, old: &Secret) -> Result<Created, Error> {
        crate::phrase::draft(self.reading()?, old)
    }

    /// Puts new words ([`Locker::draft_phrase`]) in the place of the old ones, for all devices, and tells the replicas that are
    /// reached, on the node that runs or on one for the time. Returns the names of those that were not: until they are, the
    /// old words find them and the new ones do not.
    ///
    /// # Errors
    /// As [`Locker::draft_phrase`]; else as any change. After an error nothing has changed.
    pub fn change_phrase(
        &self,
        old: &Secret,
        new: &Secret,
        options: NodeOptions,
    ) -> Result<BTreeSet<String>, Error> {
        let inner = self.reading()?;
        crate::phrase::change(inner, old, new)?;
        // It stands: no error may say that it does not. Whom nobody tells now hears of it later.
        let behind = || crate::phrase::behind(inner).unwrap_or_default();
        if !behind().is_empty() {
            let _ = self.on_node(options, crate::phrase::tell);
        }
        Ok(behind())
    }

    /// Waits until every entry and every pack that is known of is here, on the node that runs or on one for the time.
    ///
    /// # Errors
    /// [`Error::Network`] when the time is over; [`Error::Stopped`].
    pub fn wait_synced(
        &self,
        options: NodeOptions,
        timeout: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        self.on_node(options, |hub| crate::node::wait_synced(hub, timeout, observer))
    }

    /// Waits until all content is on so many devices, this one among them, on the node that runs or on one for the time. Counted is
    /// as by [`crate::report::Copies::least`].
    ///
    /// # Errors
    /// [`Error::Network`] when the time is over; [`Error::Blind`] on a replica, which knows of no others; [`Error::Stopped`].
    pub fn wait_copies(
        &self,
        copies: u32,
        options: NodeOptions,
        timeout: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        self.on_node(options, |hub| crate::node::wait_copies(hub, copies, timeout, observer))
    }

    /// Looks at every part of this device, with the node that runs or, with `options`, on one for the time: clock, disk,
    /// store, listening, local network, meeting points (those of `options` too), DHT, relay, router, and each other device. Takes some ten
    /// seconds where somebody is missing.
    ///
    /// # Errors
    /// [`Error::Network`] if no node can be started. What does not work is no error but in the answer.
    pub fn doctor(&self, options: NodeOptions, observer: &dyn Observer) -> Result<Diagnosis, Error> {
        let asked = options.bootstrap.clone();
        self.on_node(options, |hub| crate::doctor::diagnose(hub, &asked, observer))
    }

    /// Lets the content of `path` go on this device, as far as `copies` other devices prove now that they hold it, and
    /// promise to keep it for a day. It stays in the tree, and is read from the others.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Argument`] for a number of copies outside 1 to 8; [`Error::Network`] if no node can be
    /// started. What is not let go is no error but in the answer, with the reason.
    pub fn free(
        &self,
        path: &str,
        copies: u32,
        options: NodeOptions,
        observer: &dyn Observer,
    ) -> Result<Freed, Error> {
        if !(1..=COPIES_MAX).contains(&copies) {
            return Err(Error::Argument(format!("the number of copies must be 1 to {COPIES_MAX}")));
        }
        self.reading()?;
        self.on_node(options, |hub| crate::copies::free(hub, path, copies as usize, observer))
    }

    /// What this device keeps of the content.
    ///
    /// # Errors
    /// What reading gives.
    pub fn rule(&self) -> Result<RuleTold, Error> {
        self.reading()?.rule()
    }

    /// Sets what this device keeps of the content. What it does not ask for any more is let go as far as two other devices
    /// prove now that they hold it; what is not is told, and tried again while the node runs.
    ///
    /// # Errors
    /// [`Error::Network`] if no node can be started.
    pub fn set_rule(
        &self,
        rule: Rule,
        options: NodeOptions,
        observer: &dyn Observer,
    ) -> Result<RuleSet, Error> {
        self.reading()?.set_rule(rule)?;
        let freed = self.on_node(options, |hub| crate::copies::keep_to_rule(hub, observer))?;
        Ok(RuleSet { rule: self.rule()?, freed })
    }

    /// Keeps `path` no longer whatever the rule of this device is. If the rule does not ask for it, it is let go as in
    /// [`Locker::set_rule`].
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Network`] if no node can be started.
    pub fn unpin(&self, path: &str, options: NodeOptions, observer: &dyn Observer) -> Result<RuleSet, Error> {
        self.reading()?.set_pinned(path, false)?;
        let freed = match self.0.ruled.is_choosing() {
            true => self.on_node(options, |hub| crate::copies::keep_to_rule(hub, observer))?,
            false => Freed::default(),
        };
        Ok(RuleSet { rule: self.rule()?, freed })
    }

    /// Gets the content of `path` back that was let go on this device; it comes while a node runs.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn pin(&self, path: &str) -> Result<Pinned, Error> {
        crate::copies::pin(self.reading()?, path)
    }

    /// What one device took away at once and others hold until somebody decides.
    ///
    /// # Errors
    /// What reading gives.
    pub fn held(&self) -> Result<Vec<Held>, Error> {
        crate::held::list(self.reading()?)
    }

    /// Lets what a device took away be so, here and on the others. If only one is held, it need not be named. With the 24
    /// words, that may be this device.
    ///
    /// # Errors
    /// [`Error::NoSuch`] if nothing of it is held; [`Error::Argument`] if several are; [`Error::OwnHold`] for what this
    /// device took away itself, without the words; [`Error::Phrase`] and [`Error::PhraseRefused`] for other words.
    pub fn allow_held(&self, device: Option<&str>, words: Option<&Secret>) -> Result<Decided, Error> {
        crate::held::allow(self.reading()?, device, words)
    }

    /// Brings back what a device took away, here and on the others.
    ///
    /// # Errors
    /// As [`Locker::allow_held`] without words.
    pub fn undo_held(&self, device: Option<&str>) -> Result<Decided, Error> {
        crate::held::undo(self.reading()?, device)
    }

    /// The names of the devices that would hold it if `path` went to the trash now; none if they would not.
    ///
    /// # Errors
    /// As [`Locker::remove`].
    pub fn holders_of_removal(&self, path: &str) -> Result<Vec<String>, Error> {
        crate::held::holders_of(self.reading()?, path)
    }

    /// Asks every device that can be reached to prove that it holds what it says, up to 480 questions each.
    ///
    /// # Errors
    /// [`Error::Network`] if no node can be started.
    pub fn audit(&self, options: NodeOptions, observer: &dyn Observer) -> Result<Vec<Audit>, Error> {
        let meter = Meter::new(observer, &self.reading()?.env, None);
        self.on_node(options, |hub| crate::node::audit(hub, &|done| meter.add(done, 0)))
    }

    /// Works on the node that runs, or on one for the time.
    pub(super) fn on_node<T>(
        &self,
        options: NodeOptions,
        work: impl FnOnce(&Arc<Hub>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(hub) = self.0.node() {
            return work(&hub);
        }
        let node = Node::start(self, options)?;
        let hub = self.0.node().ok_or_else(|| Error::Network("the node has stopped".into()))?;
        let result = work(&hub);
        drop(hub);
        drop(node);
        result
    }
}

impl Inner {
    /// What this device is to keep.
    pub(crate) fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// When it was last noted what no file needs.
    pub(crate) fn noted(&self) -> &Noted {
        &self.noted
    }

    /// The newest pin deltas that were read.
    pub(crate) fn pin_heads(&self) -> &PinHeads {
        &self.pin_heads
    }

    /// Tells of commits.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// The node that runs on this locker, if one does.
    pub(crate) fn node(&self) -> Option<Arc<Hub>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A node begins or has ended.
    pub(crate) fn set_node(&self, hub: Option<Arc<Hub>>) {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = hub;
    }
}
