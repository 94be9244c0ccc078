//! The logs: every entry as it came, against its signature, its chain and its key.

use locker_catalog::operation::Body;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::entry::{AuthorHead, EntryHeader, Envelope};
use locker_store::{Reads, Snapshot};

use super::Check;
use crate::Error;
use crate::keys::Keys;

impl Check<'_> {
    /// Every entry of the person log and of the space log.
    pub(super) fn logs(&mut self) -> Result<(), Error> {
        let store = self.inner.store()?;
        let snapshot = &store.read()?;
        let keys = self.inner.keys();
        self.verified.checked += 1;
        if let Err(error) = crate::keys::devices(snapshot, &keys.person, &keys.person_keys) {
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

/// Everything that can be said of one entry: layout, key, signature, space, chain, seal, body.
fn check_entry(keys: &Keys, snapshot: &Snapshot, bytes: &[u8], known: &Known) -> Result<AuthorHead, Refusal> {
    let envelope = Envelope::parse(bytes)?;
    envelope.verify()?;
    envelope.check_space(&keys.space)?;
    let header = envelope.header();
    envelope.check_chain(known.followed_by(header), None)?;
    let key = keys.log_key(snapshot, &header.epoch).map_err(|_| Refusal::Epoch)?;
    Body::read(envelope.open(Some(&key))?)?;
    Ok(AuthorHead { seq: header.seq, id: envelope.id() })
}
