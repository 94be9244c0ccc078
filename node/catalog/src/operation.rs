//! Operations of a space log and the body that carries them: types, limits and their one encoding
//! (`docs/spec/05-tree.md`, "Operations"; `docs/spec/04-spaces.md`, "Log entry").
//!
//! Here an operation is only read and written. Who may do it is decided in [`crate::access`], what it does to the
//! tree in [`crate::tree`].

mod body;
mod codec;
#[cfg(test)]
mod tests;

use std::fmt;

pub use body::Body;
use locker_crypto::Refusal;
use locker_crypto::encode::Writer;
pub use locker_crypto::entry::Dep as EntryRef;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EpochId, NodeId, ObjectHash, SpaceId, VerifyingKey, VersionId};
use locker_crypto::pack::PackOp;
use locker_crypto::sign::Signature;

use crate::order::OpOrder;

/// Longest name of a node and longest key of a meta item, in bytes of UTF-8.
pub const NAME_LEN_MAX: usize = 255;
/// Longest value of a meta item, in bytes.
pub const META_VALUE_LEN_MAX: usize = 4_096;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// 1: creates, moves, renames or restores a node.
    Move(Move),
    /// 2: writes a version of a file.
    Content(Content),
    /// 3: puts a node into the trash.
    Trash(Trash),
    /// 4: adds a member.
    Member(Grant),
    /// 5: changes the role of a member, or removes it.
    Role(Grant),
    /// 6: begins an epoch.
    Epoch(Epoch),
    /// 7: lists a link in the share register.
    Share(Share),
    /// 8: revokes a token, or all of a key.
    Revoke(Revoke),
    /// 9, reserved: would cut off entries outside a frontier. Read, without effect in this version.
    Cut(Vec<EntryRef>),
    /// 10: ends an author.
    RemoveAuthor(EntryRef),
    /// 16, reserved: would publish a state. Read, without effect in this version.
    Snapshot(Snapshot),
    /// 17: says what its author knows, daily.
    Heartbeat(Vec<EntryRef>),
    /// 18: ends a hold of the brake.
    Confirm(Confirm),
    /// 19: how many copies, for how long, what on which device.
    Policy(Policy),
    /// 20: says which chunks lie where in a pack.
    Pack(PackOp),
    /// 21: sets or clears a meta item of a node.
    Meta(Meta),
    /// 22: keeps a content of a file that is past.
    Keep(Keep),
    /// A code that this version does not know: kept and relayed, without effect; the space is read-only until the
    /// program is updated.
    Unknown(RawOp),
    /// A known code with fields that are not in the one allowed form: kept and relayed, without effect, for the
    /// named reason. With [`Refusal::Version`] it was made by a newer program and counts as unknown.
    Malformed(RawOp, Refusal),
}

/// An operation as it stands in the body, for those that are only carried.
#[derive(Clone, PartialEq, Eq)]
pub struct RawOp {
    /// The operation code.
    pub code: u64,
    /// The whole item: canonical, an array that starts with the code.
    pub item: Vec<u8>,
}

/// What kind of thing a node is. A node never changes its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// Has versions.
    File,
    /// Has children.
    Folder,
    /// Shows another space, named by its meta item `space`.
    Mount,
}

impl NodeKind {
    /// The number that stands for it.
    pub const fn code(self) -> u64 {
        match self {
            NodeKind::File => 0,
            NodeKind::Folder => 1,
            NodeKind::Mount => 2,
        }
    }

    /// Reads the number.
    ///
    /// # Errors
    /// [`Refusal::Canon`] above 2.
    pub const fn from_code(code: u64) -> Result<Self, Refusal> {
        match code {
            0 => Ok(NodeKind::File),
            1 => Ok(NodeKind::Folder),
            2 => Ok(NodeKind::Mount),
            _ => Err(Refusal::Canon),
        }
    }
}

/// Operation 1. The first one of a node creates it.
///
/// Name and kind are carried as they were written; replay judges them (`E_NAME`, then `E_CANON`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// What moves.
    pub node: NodeId,
    /// Where to.
    pub parent: NodeId,
    /// Its name there.
    pub name: String,
    /// [`NodeKind::code`] of the node.
    pub kind: u64,
}

/// Operation 2.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The file.
    pub node: NodeId,
    /// The versions that this one replaces, ascending.
    pub bases: Vec<VersionId>,
    /// What it consists of.
    pub file: FileRef,
    /// Time of last change that the file carries, in unix milliseconds.
    pub mtime_ms: i64,
    /// Whether the file may be run as a program.
    pub exec: bool,
}

/// Operation 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trash {
    /// What goes into the trash.
    pub node: NodeId,
}

/// Fields of operations 4 and 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// A person, a link key or a guest device.
    pub member: MemberKey,
    /// The role from then on.
    pub role: Role,
    /// Last entries of the devices concerned that still count under the role before, by author; empty for a first
    /// grant.
    pub valid_from: Vec<EntryRef>,
}

/// A member of a space: a `PersonId`, the signing key of a link, or the key of a guest device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey(pub [u8; 32]);

/// What a member may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// 0: removed, or never added.
    #[default]
    None,
    /// 1: is served and gets keys.
    Read,
    /// 2: reads and changes the tree.
    Write,
    /// 3: hands in, and sees nothing.
    Deposit,
    /// 4: writes, and decides about members, epochs and revocation.
    Manage,
}

impl Role {
    /// The number that stands for it.
    pub const fn code(self) -> u64 {
        match self {
            Role::None => 0,
            Role::Read => 1,
            Role::Write => 2,
            Role::Deposit => 3,
            Role::Manage => 4,
        }
    }

    /// Reads the number.
    ///
    /// # Errors
    /// [`Refusal::Canon`] above 4.
    pub const fn from_code(code: u64) -> Result<Self, Refusal> {
        match code {
            0 => Ok(Role::None),
            1 => Ok(Role::Read),
            2 => Ok(Role::Write),
            3 => Ok(Role::Deposit),
            4 => Ok(Role::Manage),
            _ => Err(Refusal::Canon),
        }
    }
}

/// Operation 6 (`docs/spec/04-spaces.md`, "Epochs").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The epoch, a commitment to its secret.
    pub id: EpochId,
    /// The epochs it follows; none in the genesis entry.
    pub parents: Vec<EpochId>,
    /// Hash of the member set it was made for.
    pub member_set_hash: [u8; 32],
    /// For each parent its sealed secret, or `None` where history is withheld.
    pub backs: Vec<Option<[u8; 48]>>,
}

/// Operation 7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// First block id of the token.
    pub token: [u8; 32],
    /// The link's short name, zeros if it has none.
    pub link_tag: [u8; 16],
    /// The key the link signs with.
    pub link_sign: VerifyingKey,
    /// Hash of the key that boxes for the link are sealed to.
    pub link_box: ObjectHash,
    /// When it ends, in unix seconds.
    pub expires: u64,
    /// What only the issuing person reads: nonce and ciphertext.
    pub sealed: Vec<u8>,
}

/// Operation 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// A block id, or a key whose tokens all end.
    pub target: [u8; 32],
}

/// Operation 16, reserved.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The entries the state comes from.
    pub frontier: Vec<EntryRef>,
    /// Hash of the state.
    pub state_hash: [u8; 32],
    /// The state as a file.
    pub file: FileRef,
}

/// Operation 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// Whose entries are held.
    pub author: VerifyingKey,
    /// The first of them.
    pub first_seq: u64,
    /// The last of them.
    pub last_seq: u64,
    /// What is to happen.
    pub decision: Decision,
    /// The root key of its person over the rest ([`Confirm::signed_bytes`]), with which the author decides itself. It can
    /// allow only.
    pub root_sig: Option<Signature>,
}

impl Confirm {
    /// What the root key signs, under [`Domain::Confirm`](locker_crypto::sign::Domain::Confirm): the space, and the operation
    /// with an empty signature.
    pub fn signed_bytes(&self, space: &SpaceId) -> Vec<u8> {
        let mut w = Writer::new();
        codec::encode_confirm(self, Some(&[]), &mut w);
        [space.as_ref(), &w.finish()].concat()
    }
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 0: the held operations take effect on this device's plain folders.
    Allow,
    /// 1: the state before is written again.
    Restore,
}

/// Operation 19. The last one of a node in total order counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The folder it is for; ROOT for the whole space.
    pub node: NodeId,
    /// Wanted copies on distinct devices, 1 to 8.
    pub copies: u64,
    /// How long trash and old versions are kept, in days, 7 to 365.
    pub keep_days: u64,
    /// What a device holds, by device; others hold all.
    pub rules: Vec<(VerifyingKey, ContentRule)>,
}

/// Which content a device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentRule {
    /// 0: everything.
    All,
    /// 1: what lies below these nodes, ascending.
    Pinned(Vec<NodeId>),
    /// 2: the newest content, up to so many bytes.
    Newest(u64),
    /// 3: names only.
    None,
}

/// Operation 21. The last one in total order wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The node; ROOT for the space itself.
    pub node: NodeId,
    /// The key.
    pub key: String,
    /// The value; empty clears the item.
    pub value: Vec<u8>,
}

/// Operation 22: a content that a file had and that was replaced joins its history; a file that is not there and was
/// deleted is made in the trash with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Keep {
    /// The file.
    pub node: NodeId,
    /// The folder that it was in, for a file that is not there.
    pub parent: NodeId,
    /// Its name, for a file that is not there.
    pub name: String,
    /// The version that it is.
    pub vid: VersionId,
    /// What it consisted of.
    pub file: FileRef,
    /// Time of last change that the file carried, in unix milliseconds.
    pub mtime_ms: i64,
    /// Whether the file could be run as a program.
    pub exec: bool,
}

impl Op {
    /// The operation code.
    pub fn code(&self) -> u64 {
        match self {
            Op::Move(_) => 1,
            Op::Content(_) => 2,
            Op::Trash(_) => 3,
            Op::Member(_) => 4,
            Op::Role(_) => 5,
            Op::Epoch(_) => 6,
            Op::Share(_) => 7,
            Op::Revoke(_) => 8,
            Op::Cut(_) => 9,
            Op::RemoveAuthor(_) => 10,
            Op::Snapshot(_) => 16,
            Op::Heartbeat(_) => 17,
            Op::Confirm(_) => 18,
            Op::Policy(_) => 19,
            Op::Pack(_) => 20,
            Op::Meta(_) => 21,
            Op::Keep(_) => 22,
            Op::Unknown(raw) | Op::Malformed(raw, _) => raw.code,
        }
    }

    /// Whether a newer program made it, so that the space must be shown read-only.
    pub fn is_newer(&self) -> bool {
        matches!(self, Op::Unknown(_) | Op::Malformed(_, Refusal::Version))
    }

    /// Whether the tree of the space replays it: move, content, trash, meta and keep.
    pub fn is_tree(&self) -> bool {
        matches!(self, Op::Move(_) | Op::Content(_) | Op::Trash(_) | Op::Meta(_) | Op::Keep(_))
    }
}

/// Names the version that a content operation writes: `b3(author || LE64 seq || LE16 op index)[..16]`.
pub fn version_id(op: &OpOrder) -> VersionId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(op.entry.author.as_bytes());
    hasher.update(&op.entry.seq.to_le_bytes());
    hasher.update(&op.index.to_le_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    VersionId(short)
}

// A FileRef and unread fields hold keys of chunks; what is printed for people leaves them out.

impl fmt::Debug for RawOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawOp").field("code", &self.code).field("len", &self.item.len()).finish()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("node", &self.node)
            .field("bases", &self.bases)
            .field("size", &self.file.size())
            .field("mtime_ms", &self.mtime_ms)
            .field("exec", &self.exec)
            .finish()
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep")
            .field("node", &self.node)
            .field("parent", &self.parent)
            .field("name", &self.name)
            .field("size", &self.file.size())
            .field("mtime_ms", &self.mtime_ms)
            .field("exec", &self.exec)
            .finish()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("frontier", &self.frontier).field("size", &self.file.size()).finish()
    }
}
