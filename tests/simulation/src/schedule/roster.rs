//! The person ends a device that was stolen, or takes new words.

use std::collections::{BTreeMap, BTreeSet};

use locker_engine::{Error, Locker, NodeOptions, Secret};

use super::Schedule;
use crate::hooks;
use crate::model::What;
use crate::trace::note;

/// So many that read are left.
const LEFT_MIN: usize = 2;

/// Words that were shown.
pub(super) struct Words {
    phrase: Secret,
    /// The device on which they were taken.
    by: usize,
    /// In the place of which; nothing for those that the locker began with.
    before: Option<usize>,
    /// Whether those before may count still, though these were taken.
    is_doubtful: bool,
}

impl Words {
    /// Those that the locker began with.
    pub(super) fn first(phrase: Secret) -> Self {
        Self { phrase, by: 0, before: None, is_doubtful: false }
    }
}

impl Schedule {
    /// One device, once in a schedule, is ended by another one, if nothing is lost with it: from now on it is off. What it
    /// did counts as far as the one that ended it knew.
    pub(super) fn revoke(&mut self, by: usize, locker: &Locker) -> Result<(), Error> {
        let here: Vec<usize> = (0..self.devices.len()).filter(|n| !self.devices[*n].is_revoked).collect();
        let is_first = here.len() == self.devices.len();
        let who = self.dice.pick(&here);
        let readers_left = here.iter().filter(|n| **n != who && self.devices[**n].is_reader()).count();
        if !is_first || who == by || self.doomed.is_some() || readers_left < LEFT_MIN {
            return Ok(());
        }
        let id = match self.id_to_end(who, locker) {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.faults.push(format!("device {by} cannot be asked whether {who} may be ended: {error}"));
                return Ok(());
            }
        };
        let done = match self.devices[who].is_blind {
            true => locker.remove_replica(&id),
            false => locker.revoke_device(&id),
        };
        note(format_args!("{who} is ended by {by}: {:?}", done.as_ref().err().map(ToString::to_string)));
        done?;
        if let Err(error) = self.forget(who, locker) {
            self.faults.push(format!("the devices beside {who} cannot be looked at: {error}"));
        }
        self.doubt_words(who, 0);
        self.walker.lose(&self.devices[who]);
        self.devices[who].stop();
        self.devices[who].is_revoked = true;
        // Nothing may make this undone.
        self.backups.remove(&who);
        self.backups.remove(&by);
        Ok(())
    }

    /// The id by which another device knows one that may be ended.
    fn id_to_end(&self, who: usize, locker: &Locker) -> Result<Option<String>, Error> {
        if self.walker.would_lose(&self.world, &self.disk, &self.devices, who, None)? {
            note(format_args!("{who} has the only copy of something"));
            return Ok(None);
        }
        if !self.is_known_without(who)? {
            note(format_args!("{who} may be the only one who knows another one"));
            return Ok(None);
        }
        let name = self.devices[who].name();
        let mut known = locker.devices()?.into_iter();
        let device = known.find(|one| one.name == name && one.replaced_by.is_empty());
        Ok(device.map(|one| one.id))
    }

    /// Whether all that read and stay know one another under the keys that they have now. Who was brought in by a device that is
    /// ended before it told the others of that is a stranger to them.
    fn is_known_without(&self, who: usize) -> Result<bool, Error> {
        let stay = || self.devices.iter().enumerate().filter(|(at, device)| *at != who && device.is_reader());
        let mut keys = BTreeSet::new();
        for (_, device) in stay() {
            keys.insert(device.ask(&self.world, &self.disk, |locker| Ok(locker.device_id()))?);
        }
        for (_, device) in stay() {
            let listed = device.ask(&self.world, &self.disk, Locker::devices)?;
            let known: BTreeSet<String> = listed.into_iter().map(|one| one.id).collect();
            if !keys.is_subset(&known) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a device did that is ended counts as far as the one that ended it knew. What it alone knew of others is lost.
    fn forget(&mut self, who: usize, by: &Locker) -> Result<(), Error> {
        let contents = locker_engine::simulation::contents(by)?;
        let known: BTreeSet<[u8; 32]> = contents.iter().map(|one| one.b3).collect();
        let kept = self.kept_without(who, None)?;
        for deed in &mut self.model.deeds {
            let is_own = usize::from(deed.device) == who;
            deed.is_acknowledged &= match &deed.what {
                What::Wrote(_, b3) if is_own => known.contains(b3),
                What::Wrote(_, b3) => kept.contains(b3),
                _ => !is_own,
            };
        }
        Ok(())
    }

    /// The words are replaced by new ones, with those that count on a device. Not while one may be gone at any step: it
    /// would be gone with words that nobody saw.
    pub(super) fn change_words(&mut self, who: usize, locker: &Locker) -> Result<(), Error> {
        if self.doomed.is_some() {
            return Ok(());
        }
        for (before, words) in self.words.iter().enumerate().rev() {
            let phrase = match locker.draft_phrase(&words.phrase) {
                Ok(drafted) => drafted.phrase.clone(),
                Err(Error::PhraseRefused(_)) if self.words.len() > 1 => continue,
                Err(error) => return Err(error),
            };
            let done = locker.change_phrase(&words.phrase, &phrase, NodeOptions::default());
            note(format_args!(
                "new words on {who} for {before}: {:?}",
                done.as_ref().map(|behind| behind.len()).map_err(ToString::to_string)
            ));
            done?;
            let is_doubtful = words.is_doubtful || self.devices[who].is_set_back;
            self.words.push(Words { phrase, by: who, before: Some(before), is_doubtful });
            return Ok(());
        }
        note(format_args!("none of the words are those of {who}"));
        Ok(())
    }

    /// What a device took in the place of words, after so many had been shown, may not count, nor what rests on it.
    pub(super) fn doubt_words(&mut self, who: usize, from: usize) {
        for n in from..self.words.len() {
            let words = &self.words[n];
            let rests = words.before.is_some_and(|before| self.words[before].is_doubtful);
            let is_doubtful = words.before.is_some() && (words.by == who || rests);
            self.words[n].is_doubtful |= is_doubtful;
        }
    }

    /// What is wrong with the words: of those that were shown all devices must take the same ones and no others, and none
    /// in whose place others were taken.
    pub(super) fn wrong_words(&self) -> Vec<String> {
        let (mut wrong, mut taken) = (Vec::new(), BTreeMap::new());
        for device in &self.devices {
            let Some(locker) = device.reader() else { continue };
            hooks::next_deed();
            let mut own = Vec::new();
            for (n, words) in self.words.iter().enumerate() {
                match locker.draft_phrase(&words.phrase) {
                    Ok(_) => own.push(n),
                    Err(Error::PhraseRefused(_)) => {}
                    Err(error) => {
                        wrong.push(format!("device {} cannot be shown words {n}: {error}", device.number));
                    }
                }
            }
            taken.entry(own).or_insert_with(Vec::new).push(device.number);
        }
        if taken.len() != 1 || taken.keys().any(|own| own.len() != 1) {
            wrong.push(format!("of {} words that were shown devices take {taken:?}", self.words.len()));
        }
        let sure = self.words.iter().filter(|words| !words.is_doubtful);
        let gone: BTreeSet<usize> = sure.filter_map(|words| words.before).collect();
        for old in taken.keys().flatten().filter(|n| gone.contains(*n)) {
            wrong.push(format!("others took the place of words {old}, which still count"));
        }
        wrong
    }
}
