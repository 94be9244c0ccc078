//! The logs: every entry as it came, against its signature, its chain and its key.

use locker_catalog::operation::Body;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::entry::{AuthorHead, EntryHeader, Envelope};
use locker_crypto::id::SpaceId;
use locker_store::opaque::{self, Chain};
use locker_store::{Reads, Snapshot};

use super::Check;
use crate::Error;
use crate::depot::Depot;
use crate::keys::Keys;

impl Check<'_> {
    /// Every entry of the person log and of the space log.
    pub(super) fn logs(&mut self) -> Result<(), Error> {
        let store = self.inner.store()?;
        let snapshot = &store.read()?;
        if let Some(depot) = self.inner.depot() {
            return self.sealed_logs(depot, snapshot);
        }
        let keys = self.inner.keys();
        self.verified.checked += 1;
        if let Err(error) = crate::keys::devices(snapshot, &keys.person, keys.person_keys()?, keys.tag) {
            match error {
                Error::Integrity { why, .. } => self.add(why, "the person log is damaged".into()),
                other => return Err(other),
            }
        }
        let rows = snapshot.rows(keys.tag);
        let space = Space::open(&rows, keys.space, keys.device_id())?;
        for head in space.heads(&rows)? {
            let mut known = Known::default();
            space.sealed_from(&rows, &head.author, 0, &mut |bytes| {
                let flow = self.checked(bytes.len() as u64);
                match check_entry(&keys, snapshot, bytes, &known) {
                    Ok(head) => known.add(head),
                    Err(why) => self.add(why, format!("a log entry of device {} is damaged", head.author)),
                }
                flow
            })?;
            if self.is_over.get() {
                break;
            }
            if !known.last.iter().any(|last| last.seq == head.seq && last.id == head.id) {
                self.add(Refusal::Chain, format!("log entries of device {} are missing", head.author));
            }
        }
        Ok(())
    }
}

impl Check<'_> {
    /// The same on a device that cannot open them: form, key, signature, space and chain of every entry.
    fn sealed_logs(&mut self, depot: &Depot, snapshot: &Snapshot) -> Result<(), Error> {
        self.verified.checked += 1;
        let (space, tag) = (depot.charge().space, depot.charge().tag);
        depot.roster(snapshot)?;
        for author in opaque::authors(snapshot, &tag)? {
            let mut known = Known::default();
            opaque::scan(snapshot, &Chain { space: tag, author }, 0, &mut |_, _, bytes| {
                let flow = self.checked(bytes.len() as u64);
                match check_envelope(&space, bytes, &known) {
                    Ok(envelope) => {
                        known.add(AuthorHead { seq: envelope.header().seq, id: envelope.id() });
                    }
                    Err(why) => self.add(why, format!("a log entry of device {author} is damaged")),
                }
                flow
            })?;
            if self.is_over.get() {
                break;
            }
        }
        Ok(())
    }
}

/// The entries of an author that the next ones may follow: one, or of a forked author one for each branch.
#[derive(Default)]
struct Known {
    /// With the greatest number so far.
    last: Vec<AuthorHead>,
    /// With the number before that.
    before: Vec<AuthorHead>,
}

impl Known {
    /// What an entry follows; if it follows nothing here, what it should follow.
    fn followed_by(&self, header: &EntryHeader) -> Option<&AuthorHead> {
        let is_beside = self.last.first().is_some_and(|last| last.seq == header.seq);
        let candidates = if is_beside { &self.before } else { &self.last };
        candidates.iter().find(|head| head.id == header.prev).or(candidates.first())
    }

    fn add(&mut self, head: AuthorHead) {
        if self.last.first().is_none_or(|last| last.seq < head.seq) {
            self.before = std::mem::take(&mut self.last);
        }
        self.last.push(head);
    }
}

/// What can be said of an entry without a key: layout, key, signature, space, chain.
fn check_envelope<'b>(space: &SpaceId, bytes: &'b [u8], known: &Known) -> Result<Envelope<'b>, Refusal> {
    let envelope = Envelope::parse(bytes)?;
    envelope.verify()?;
    envelope.check_space(space)?;
    envelope.check_chain(known.followed_by(envelope.header()), None)?;
    Ok(envelope)
}

/// Everything that can be said of one entry: layout, key, signature, space, chain, seal, body.
fn check_entry(keys: &Keys, snapshot: &Snapshot, bytes: &[u8], known: &Known) -> Result<AuthorHead, Refusal> {
    let envelope = check_envelope(&keys.space, bytes, known)?;
    let header = envelope.header();
    let key = keys.log_key(snapshot, &header.epoch).map_err(|_| Refusal::Epoch)?;
    Body::read(envelope.open(Some(&key))?)?;
    Ok(AuthorHead { seq: header.seq, id: envelope.id() })
}
