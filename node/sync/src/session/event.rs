//! What a session is told, and what it says is to be done.

use locker_crypto::Refusal;
use locker_crypto::id::{ObjectHash, PackHash, SpaceTag, VerifyingKey};

use crate::frontier::{Log, Warning};
use crate::message::v1::{Ask, Head, Room, SlotSecret, Succeed};
use crate::scope::Scope;

/// What a session begins with.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What the peer may ask here, and send.
    pub peer: Scope,
    /// What this node may ask there.
    pub own: Scope,
    /// What this same device once offered or acknowledged, of every author: as [`Action::Remember`] told.
    pub remembered: Vec<(Log, VerifyingKey, u64)>,
    /// This device, where the peer is one of the same person and may know more of it than it does itself.
    pub device: Option<VerifyingKey>,
    /// When what the peer showed ends, unix milliseconds ([`crate::handshake::Admission::expires_s`]).
    pub ends_ms: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The handshake is done; what this node holds was told by [`Event::Held`].
    Opened,
    /// Bytes of the peer.
    Received(Vec<u8>),
    /// This node holds a log, as far as these heads: at the start, and when a new log comes in.
    Held {
        /// The log.
        log: Log,
        /// The newest item of every author.
        heads: Vec<Head>,
    },
    /// An item is durable here, whoever it came from.
    Stored {
        /// In which log.
        log: Log,
        /// The item.
        head: Head,
        /// Where it came from.
        source: Source,
    },
    /// An author was found forked: items from `seq` on are sent again, branches side by side.
    Forked {
        /// In which log.
        log: Log,
        /// Whose.
        author: VerifyingKey,
        /// The first number that two items share.
        seq: u64,
    },
    /// An author's chain has come to its end here, whatever others hold of it: nothing more of it is pulled or awaited.
    Closed {
        /// In which log.
        log: Log,
        /// Whose.
        author: VerifyingKey,
    },
    /// This device asks the peer to bring it in under a new key.
    Succeed(Box<Succeed>),
    /// Items wait for these, which are not here: the whole list, when the session begins and whenever it changes.
    Missing {
        /// In which log.
        log: Log,
        /// Whose, and which number.
        items: Vec<(VerifyingKey, u64)>,
    },
    /// The store is done with what [`Action::Take`] or [`Action::TakeObject`] gave it.
    Taken {
        /// Of which action.
        ticket: u64,
        /// What became of it.
        fate: Fate,
    },
    /// Answers [`Action::Load`].
    Loaded {
        /// Of which action.
        request: u64,
        /// Items in the order of their numbers, all branches of a number together. Empty if none is held.
        items: Vec<Item>,
    },
    /// Asks the peer for something beside the logs. A device that does not have it says nothing: ask again later, or
    /// somebody else.
    Ask(Ask),
    /// Answers [`Action::LookUp`].
    Found {
        /// What was asked for.
        ask: Ask,
        /// What was found.
        objects: Vec<Vec<u8>>,
    },
    /// Hands an envelope to the peer.
    Deposit(Vec<u8>),
    /// This node wants packs.
    Want {
        /// Of which space.
        tag: SpaceTag,
        /// The packs.
        packs: Vec<PackHash>,
    },
    /// These packs are held durably: answers [`Action::LookUpPacks`], and tells later what was not there then.
    PacksHeld {
        /// Of which space.
        tag: SpaceTag,
        /// The packs.
        packs: Vec<PackHash>,
    },
    /// This node, a blind store, tells how much room it has.
    Room(Room),
    /// The peer, a blind store, is told under which slot it is to be found.
    Slot(Box<SlotSecret>),
    /// Time passes. Due at [`super::Session::due_ms`].
    Tick,
    /// This node ends the session.
    Close {
        /// Why, for the peer.
        reason: u64,
    },
}

/// Where an item came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// It was written here: it is pushed at once.
    Here,
    /// A peer sent it: it is passed on if the peer of this session does not say that it has it.
    Peer,
}

/// What became of something that was to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is durable.
    Durable,
    /// It waits for what it lacks.
    Waiting,
    /// It is not kept. What no honest peer passes on (a wrong form or signature) ends the session.
    Refused(Refusal),
}

/// An item of a log, as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its number.
    pub seq: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What the engine is to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Check and store an item, then [`Event::Taken`]; tell every session what became durable ([`Event::Stored`]).
    Take {
        /// To be named in [`Event::Taken`].
        ticket: u64,
        /// Where it belongs, by its own words.
        log: Log,
        /// Whose it is, by its own words.
        author: VerifyingKey,
        /// Its number.
        seq: u64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Check and store an object whose hash was checked, then [`Event::Taken`].
    TakeObject {
        /// To be named in [`Event::Taken`].
        ticket: u64,
        /// Its name.
        hash: ObjectHash,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Why it came.
        purpose: Purpose,
    },
    /// Load items of one author, then [`Event::Loaded`]: at least one if any is held, then as many as fit.
    Load {
        /// To be named in [`Event::Loaded`].
        request: u64,
        /// From which log.
        log: Log,
        /// Whose.
        author: VerifyingKey,
        /// The first number.
        from: u64,
        /// The last number.
        to: u64,
        /// About how many bytes.
        bytes_max: u64,
    },
    /// Look for what a peer asked, within its scope, then [`Event::Found`].
    LookUp(Ask),
    /// Look which of these packs are held for the space, then [`Event::PacksHeld`].
    LookUpPacks {
        /// The space.
        tag: SpaceTag,
        /// The packs.
        packs: Vec<PackHash>,
    },
    /// The peer holds these packs.
    PacksOffered {
        /// The space.
        tag: SpaceTag,
        /// The packs.
        packs: Vec<PackHash>,
    },
    /// The peer has stored an author's items up to a number durably.
    Acknowledged {
        /// In which log.
        log: Log,
        /// Whose items, and up to which number.
        heads: Vec<(VerifyingKey, u64)>,
    },
    /// Keep, under the peer's device key, how far it was: [`Terms::remembered`] of the next session.
    Remember {
        /// In which log.
        log: Log,
        /// Whose items, and up to which number.
        heads: Vec<(VerifyingKey, u64)>,
    },
    /// How far the peer shows that this device itself is ([`Terms::device`]): it may be further than this device knows, or
    /// differ. Comes before anything is pulled.
    ShowsOwn {
        /// In which log.
        log: Log,
        /// The newest item that the peer holds.
        head: Head,
    },
    /// The peer, a device of the person, asks to be brought in under a new key.
    Succession(Box<Succeed>),
    /// The peer, a blind store, tells how much room it has.
    Room(Room),
    /// This node, a blind store, is told under which slot it is to be found.
    Slot(Box<SlotSecret>),
    /// The peer has stored an envelope of this node durably.
    DepositStored(ObjectHash),
    /// Tell the user, or write it to the log.
    Notice(Notice),
    /// The session is over.
    Ended(End),
}

/// Why an object came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// It was asked for.
    Asked,
    /// It is an envelope for a deposit link.
    Deposit,
}

/// Something that a user or a log wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A frontier gave rise to a warning.
    Warning(Log, Warning),
    /// The peer's clock is ahead of ours by so many milliseconds.
    Clock {
        /// Negative if it is behind.
        ahead_ms: i64,
    },
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Send [`crate::message::REFUSAL`] after [`crate::limits::REFUSAL_DELAY_MS`], then close. The reason is for the
    /// own log only.
    Refuse(Refusal),
    /// The peer refused.
    Refused,
    /// The peer said goodbye.
    Bye(u64),
    /// This node closed it, or its time is over: close after what is to be sent.
    Closed,
}
