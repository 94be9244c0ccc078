//! What a peer may ask and send, derived once from the handshake and asked **before** any store is looked into
//! (`docs/spec/09-rendezvous.md`, section 3).
//!
//! A scope holds no content and knows of none: it says whether a request may be looked at, never whether there is an
//! answer. Packs are narrowed further by the scope index of the store.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::capability::Rights;
use locker_crypto::id::{LinkTag, PersonId, SpaceTag};
use locker_crypto::identity::person_tag;

use crate::handshake::{Admission, Grant};
use crate::message::v1::{Ask, LogKind};

/// How far a scope reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Reach {
    /// To the spaces that are listed.
    #[default]
    Listed,
    /// To every space that this node holds: an own device.
    Whole,
    /// The same, but nothing is written there: the holder of the phrase, before he has a device.
    Reading,
}

/// What one end of a session may ask of the other, and send to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    reach: Reach,
    spaces: BTreeMap<SpaceTag, Rights>,
    persons: BTreeMap<SpaceTag, PersonId>,
    capsules: BTreeSet<LinkTag>,
}

impl Scope {
    /// The scope in which nothing may be asked.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The scope of an own device: every space that is held, and the logs of these persons.
    pub fn whole(persons: impl IntoIterator<Item = PersonId>) -> Self {
        Self { reach: Reach::Whole, ..Self::default() }.with_persons(persons)
    }

    /// The scope of somebody who holds the phrase of these persons and recovers: every space that is held may be read, and
    /// the logs of these persons may be read and written.
    pub fn reading(persons: impl IntoIterator<Item = PersonId>) -> Self {
        Self { reach: Reach::Reading, ..Self::default() }.with_persons(persons)
    }

    /// The scope of a client that was admitted. `persons` are those whose logs a device or replica may read: own
    /// person, contacts, members of the spaces it shares. Holders of tokens and links read none of them.
    pub fn of(admission: &Admission, persons: impl IntoIterator<Item = PersonId>) -> Self {
        let scope = match admission.is_own_device() {
            true => Self::whole(persons),
            false if admission.device.is_some() => Self::granted(&admission.grants).with_persons(persons),
            false if admission.root.is_some() => Self::reading(admission.root),
            false => Self::granted(&admission.grants),
        };
        Self { capsules: admission.links.iter().copied().collect(), ..scope }
    }

    /// The scope of grants: what OK gave to this node.
    pub fn granted(grants: &[Grant]) -> Self {
        let mut scope = Self::default();
        for grant in grants {
            let rights = scope.spaces.entry(grant.tag).or_default();
            *rights = *rights | grant.rights;
        }
        scope
    }

    /// Adds the logs of persons.
    pub fn with_persons(mut self, persons: impl IntoIterator<Item = PersonId>) -> Self {
        self.persons.extend(persons.into_iter().map(|person| (person_tag(&person), person)));
        self
    }

    /// Adds the log of a person.
    pub fn add_person(&mut self, person: PersonId) {
        self.persons.insert(person_tag(&person), person);
    }

    /// Adds the capsule of a link.
    pub fn with_capsule(mut self, link: LinkTag) -> Self {
        self.capsules.insert(link);
        self
    }

    /// Whether it is the scope of an own device.
    pub fn is_whole(&self) -> bool {
        self.reach == Reach::Whole
    }

    /// Whether every space that is held may be read.
    fn reads_all(&self) -> bool {
        matches!(self.reach, Reach::Whole | Reach::Reading)
    }

    /// Returns whose log bears a tag.
    pub fn person(&self, tag: &SpaceTag) -> Option<PersonId> {
        self.persons.get(tag).copied()
    }

    /// Whether heads and items of a log may be asked for: READ or REPLICATE; a person log if it is listed.
    pub fn may_read(&self, kind: LogKind, tag: &SpaceTag) -> bool {
        match kind {
            LogKind::Person => self.persons.contains_key(tag),
            LogKind::Entries | LogKind::Pins => {
                self.reads_all() || self.has(tag, Rights::READ) || self.has(tag, Rights::REPLICATE)
            }
        }
    }

    /// Whether items of a log may be sent unasked: WRITE, MANAGE or REPLICATE; a person log if it is listed. What they
    /// are worth, the catalog judges.
    pub fn may_write(&self, kind: LogKind, tag: &SpaceTag) -> bool {
        match kind {
            LogKind::Person => self.persons.contains_key(tag),
            LogKind::Entries | LogKind::Pins => {
                self.is_whole()
                    || [Rights::WRITE, Rights::MANAGE, Rights::REPLICATE]
                        .iter()
                        .any(|right| self.has(tag, *right))
            }
        }
    }

    /// Whether something beside the logs may be asked for. An object is then looked for only among those that a log
    /// in scope names.
    pub fn may_ask(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Object(_) => self.is_whole() || !self.spaces.is_empty() || !self.persons.is_empty(),
            Ask::Capsule(link) => self.capsules.contains(link),
            Ask::Boxes(tag, _) => self.may_read(LogKind::Entries, tag),
        }
    }

    /// Whether packs of a space may be wanted and offered: between own devices, towards own replicas, and by who recovers.
    pub fn may_swap_packs(&self, tag: &SpaceTag) -> bool {
        self.reads_all() || self.has(tag, Rights::REPLICATE)
    }

    /// Whether a pack of a space may be asked for, as far as rights go; the scope index is asked next.
    pub fn may_get_pack(&self, tag: &SpaceTag) -> bool {
        self.may_read(LogKind::Entries, tag)
    }

    /// Whether envelopes may be handed in.
    pub fn may_deposit(&self) -> bool {
        self.spaces.values().any(|rights| rights.contains(Rights::DEPOSIT))
    }

    /// Returns the spaces that are listed; none for an own device, which reaches them all.
    pub fn spaces(&self) -> impl Iterator<Item = (&SpaceTag, &Rights)> {
        self.spaces.iter()
    }

    fn has(&self, tag: &SpaceTag, right: Rights) -> bool {
        self.spaces.get(tag).is_some_and(|rights| rights.contains(right))
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::id::ObjectHash;

    use super::*;
    use crate::handshake::Admission;

    /// Goal: who proves to hold the phrase reads everything and writes one thing; with any other proof beside it, nothing is added.
    #[test]
    fn the_holder_of_the_phrase_reads_all_and_writes_the_person_log() {
        let (person, other) = (PersonId([1; 32]), PersonId([2; 32]));
        let admission = Admission { root: Some(person), ..Admission::default() };
        assert!(admission.is_root_alone());
        let (scope, space) = (Scope::of(&admission, []), SpaceTag([7; 16]));
        for kind in [LogKind::Entries, LogKind::Pins] {
            assert!(scope.may_read(kind, &space) && !scope.may_write(kind, &space));
        }
        let own = person_tag(&person);
        assert!(scope.may_read(LogKind::Person, &own) && scope.may_write(LogKind::Person, &own));
        assert!(!scope.may_read(LogKind::Person, &person_tag(&other)));
        assert!(!scope.may_write(LogKind::Person, &person_tag(&other)));
        assert!(scope.may_get_pack(&space) && scope.may_swap_packs(&space) && !scope.may_deposit());
        assert!(scope.may_ask(&Ask::Object(ObjectHash([3; 32]))) && !scope.is_whole());
        assert!(!scope.may_ask(&Ask::Capsule(LinkTag([4; 16]))));
        let with_link = Admission { links: vec![LinkTag([4; 16])], ..admission };
        assert!(!with_link.is_root_alone());
    }
}
