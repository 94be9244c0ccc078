//! The logs: every entry as it came, against its signature, its chain and its key.

use locker_catalog::operation::Body;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::entry::{AuthorHead, Envelope};
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
            let mut known: Option<AuthorHead> = None;
            space.sealed_from(&rows, &head.author, 0, &mut |bytes| {
                let flow = self.checked(bytes.len() as u64);
                match check_entry(keys, snapshot, bytes, known.as_ref()) {
                    Ok(head) => known = Some(head),
                    Err(why) => self.add(why, format!("a log entry of device {} is damaged", head.author)),
                }
                flow
            })?;
            if self.is_over.get() {
                break;
            }
            if known.is_none_or(|last| last.seq != head.seq || last.id != head.id) {
                self.add(Refusal::Chain, format!("log entries of device {} are missing", head.author));
            }
        }
        Ok(())
    }
}

/// Everything that can be said of one entry: layout, key, signature, space, chain, seal, body.
fn check_entry(
    keys: &Keys,
    snapshot: &Snapshot,
    bytes: &[u8],
    known: Option<&AuthorHead>,
) -> Result<AuthorHead, Refusal> {
    let envelope = Envelope::parse(bytes)?;
    envelope.verify()?;
    envelope.check_space(&keys.space)?;
    envelope.check_chain(known, None)?;
    let header = envelope.header();
    let key = keys.log_key(snapshot, &header.epoch).map_err(|_| Refusal::Epoch)?;
    Body::read(envelope.open(Some(&key))?)?;
    Ok(AuthorHead { seq: header.seq, id: envelope.id() })
}
