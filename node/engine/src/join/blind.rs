//! What a device is given that is to store and not to read, checked and kept (`docs/spec/07-links.md`, section 7).

use std::path::Path;

use locker_catalog::roster::Roster;
use locker_crypto::Refusal;
use locker_crypto::capability::VerifiedChains;
use locker_crypto::capability::verify::check_chain;
use locker_crypto::id::PersonId;
use locker_crypto::identity::DeviceKeys;
use locker_crypto::person::Entry;
use locker_sync::pairing::{Custody, Grant};

use crate::create::make_run_folder;
use crate::depot::{Beginning, Charge, Terms};
use crate::keys::read_person_log;
use crate::{Env, Error, Vault};

/// What the old device gave.
pub(super) struct Charged<'a> {
    /// Who gave it.
    pub(super) person: PersonId,
    /// The log and its objects.
    pub(super) grant: &'a Grant,
    /// Slot, quota and token.
    pub(super) custody: &'a Custody,
    /// Bytes that whoever has this device lets it keep; 0 for as many as fit.
    pub(super) quota: u64,
}

impl Charged<'_> {
    /// Checks the log from its beginning, and that the token is for this device and by a device of the person; then makes
    /// the home: one durable commit.
    ///
    /// # Errors
    /// [`Error::Refused`] for what an honest device does not give; those of making a home.
    pub(super) fn keep(&self, home: &Path, keys: &DeviceKeys, vault: &Vault, env: &Env) -> Result<(), Error> {
        let (charge, generation) = self.check(keys).map_err(Error::Refused)?;
        let beginning = Beginning {
            charge: &charge,
            keys,
            slot: Some(((generation, self.custody.slot), &self.custody.secret)),
            person_log: &self.grant.person_log,
            objects: &self.grant.objects,
        };
        beginning.keep(home, vault, env)?;
        make_run_folder(home)
    }

    /// The charge, and the generation of slots that the log tells of.
    fn check(&self, keys: &DeviceKeys) -> Result<(Charge, u32), Refusal> {
        let Self { person, grant, custody, .. } = self;
        let first = grant.person_log.first().ok_or(Refusal::Chain)?;
        if Entry::read_genesis(first)?.0 != *person {
            return Err(Refusal::Audience);
        }
        let entries = read_person_log(person, &grant.person_log)?;
        let roster = Roster::read(*person, &entries);
        check_chain(&custody.token, &mut VerifiedChains::new(0))?;
        if !roster.active.contains(&custody.token.issuer()) {
            return Err(Refusal::Rights);
        }
        // The lesser of what the owner wants and what the keeper gives.
        let quota = match (custody.quota, self.quota) {
            (0, own) => own,
            (wanted, 0) => wanted,
            (wanted, own) => wanted.min(own),
        };
        let terms = Terms { quota, keep_days: custody.keep_days, token: Some(custody.token.clone()) };
        let generation = u32::try_from(roster.generation).map_err(|_| Refusal::Limit)?;
        let home = roster.home.ok_or(Refusal::Chain)?;
        Ok((Charge::new(*person, home, terms, &keys.verifying_key())?, generation))
    }
}
