//! Reads and writes one operation: a canonical array that starts with the code.

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, EpochId, NodeId, ObjectHash, VerifyingKey, VersionId};
use locker_crypto::pack::PackOp;
use locker_crypto::sign::Signature;

use super::{
    Confirm, Content, ContentRule, Decision, EntryRef, Epoch, Grant, Keep, META_VALUE_LEN_MAX, MemberKey,
    Meta, Move, NAME_LEN_MAX, Op, Policy, RawOp, Revoke, Role, Share, Snapshot, Trash,
};

impl Op {
    /// Writes the operation in its one form.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Op::Move(op) => {
                w.array(5)
                    .u64(1)
                    .bytes(op.node.as_ref())
                    .bytes(op.parent.as_ref())
                    .text(&op.name)
                    .u64(op.kind);
            }
            Op::Content(op) => encode_content(op, w),
            Op::Trash(op) => {
                w.array(2).u64(3).bytes(op.node.as_ref());
            }
            Op::Member(grant) => encode_grant(4, grant, w),
            Op::Role(grant) => encode_grant(5, grant, w),
            Op::Epoch(op) => encode_epoch(op, w),
            Op::Share(op) => encode_share(op, w),
            Op::Revoke(op) => {
                w.array(2).u64(8).bytes(&op.target);
            }
            Op::Cut(frontier) => {
                w.array(2).u64(9);
                encode_frontier(frontier, w);
            }
            Op::RemoveAuthor(last) => {
                w.array(4).u64(10).bytes(last.author.as_ref()).u64(last.seq).bytes(last.id.as_ref());
            }
            Op::Snapshot(op) => {
                w.array(4).u64(16);
                encode_frontier(&op.frontier, w);
                w.bytes(&op.state_hash);
                op.file.write(w);
            }
            Op::Heartbeat(heads) => {
                w.array(2).u64(17);
                encode_frontier(heads, w);
            }
            Op::Confirm(op) => encode_confirm(op, op.root_sig.as_ref().map(Signature::as_slice), w),
            Op::Policy(op) => encode_policy(op, w),
            Op::Meta(op) => {
                w.array(4).u64(21).bytes(op.node.as_ref()).text(&op.key).bytes(&op.value);
            }
            Op::Keep(op) => encode_keep(op, w),
            Op::Pack(op) => op.write(w),
            Op::Unknown(raw) | Op::Malformed(raw, _) => {
                w.raw(&raw.item);
            }
        }
    }

    /// Reads one operation. A known code whose fields do not fit becomes [`Op::Malformed`], an unknown one
    /// [`Op::Unknown`]: both are kept as they are.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the item is not canonical or not an array that starts with an unsigned code;
    /// [`Refusal::Limit`] if it nests too deep or an array is too long.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Refusal> {
        let item = r.item()?;
        let mut fields = Reader::new(item);
        let len = fields.array()?;
        if len == 0 {
            return Err(Refusal::Canon);
        }
        let code = fields.u64()?;
        let raw = || RawOp { code, item: item.to_vec() };
        let read = match code {
            PackOp::CODE => PackOp::decode(item).map(|op| Some(Op::Pack(op))),
            _ => decode_fields(code, len, &mut fields).and_then(|op| fields.finish().map(|()| op)),
        };
        Ok(match read {
            Ok(Some(op)) => op,
            Ok(None) => Op::Unknown(raw()),
            Err(why) => Op::Malformed(raw(), why),
        })
    }
}

/// Reads what follows the code; `None` for a code that this version does not know (the fields are then skipped).
fn decode_fields(code: u64, len: usize, r: &mut Reader<'_>) -> Result<Option<Op>, Refusal> {
    let want = match code {
        2 => 6,
        18 if len == 6 => 6,
        1 | 6 | 18 | 19 => 5,
        3 | 8 | 9 | 17 => 2,
        4 | 5 | 10 | 16 | 21 => 4,
        7 => 7,
        22 => 8,
        _ => {
            (1..len).try_for_each(|_| r.item().map(|_| ()))?;
            return Ok(None);
        }
    };
    if len != want {
        return Err(Refusal::Canon);
    }
    Ok(Some(match code {
        1 => Op::Move(Move { node: node(r)?, parent: node(r)?, name: r.text()?.to_owned(), kind: r.u64()? }),
        2 => Op::Content(decode_content(r)?),
        3 => Op::Trash(Trash { node: node(r)? }),
        4 => Op::Member(decode_grant(r)?),
        5 => Op::Role(decode_grant(r)?),
        6 => Op::Epoch(decode_epoch(r)?),
        7 => Op::Share(Share {
            token: r.fixed()?,
            link_tag: r.fixed()?,
            link_sign: VerifyingKey(r.fixed()?),
            link_box: ObjectHash(r.fixed()?),
            expires: r.u64()?,
            sealed: r.bytes()?.to_vec(),
        }),
        8 => Op::Revoke(Revoke { target: r.fixed()? }),
        9 => Op::Cut(decode_frontier(r)?),
        10 => Op::RemoveAuthor(entry_ref(r)?),
        16 => Op::Snapshot(Snapshot {
            frontier: decode_frontier(r)?,
            state_hash: r.fixed()?,
            file: FileRef::read(r)?,
        }),
        17 => Op::Heartbeat(decode_frontier(r)?),
        18 => Op::Confirm(decode_confirm(r, len == 6)?),
        19 => Op::Policy(decode_policy(r)?),
        22 => Op::Keep(decode_keep(r)?),
        _ => Op::Meta(decode_meta(r)?),
    }))
}

fn encode_content(op: &Content, w: &mut Writer) {
    w.array(6).u64(2).bytes(op.node.as_ref()).array(op.bases.len());
    for base in &op.bases {
        w.bytes(base.as_ref());
    }
    op.file.write(w);
    w.i64(op.mtime_ms).bool(op.exec);
}

fn decode_content(r: &mut Reader<'_>) -> Result<Content, Refusal> {
    let node = node(r)?;
    let bases = (0..r.array()?).map(|_| r.fixed().map(VersionId)).collect::<Result<Vec<_>, _>>()?;
    ascending(&bases)?;
    Ok(Content { node, bases, file: FileRef::read(r)?, mtime_ms: r.i64()?, exec: r.bool()? })
}

fn encode_keep(op: &Keep, w: &mut Writer) {
    w.array(8).u64(22).bytes(op.node.as_ref()).bytes(op.parent.as_ref()).text(&op.name);
    w.bytes(op.vid.as_ref());
    op.file.write(w);
    w.i64(op.mtime_ms).bool(op.exec);
}

fn decode_keep(r: &mut Reader<'_>) -> Result<Keep, Refusal> {
    let (node, parent, name) = (node(r)?, node(r)?, r.text()?.to_owned());
    let vid = r.fixed().map(VersionId)?;
    Ok(Keep { node, parent, name, vid, file: FileRef::read(r)?, mtime_ms: r.i64()?, exec: r.bool()? })
}

fn encode_grant(code: u64, grant: &Grant, w: &mut Writer) {
    w.array(4).u64(code).bytes(&grant.member.0).u64(grant.role.code());
    encode_frontier(&grant.valid_from, w);
}

fn decode_grant(r: &mut Reader<'_>) -> Result<Grant, Refusal> {
    Ok(Grant {
        member: MemberKey(r.fixed()?),
        role: Role::from_code(r.u64()?)?,
        valid_from: decode_frontier(r)?,
    })
}

fn encode_epoch(op: &Epoch, w: &mut Writer) {
    w.array(5).u64(6).bytes(op.id.as_ref()).array(op.parents.len());
    for parent in &op.parents {
        w.bytes(parent.as_ref());
    }
    w.bytes(&op.member_set_hash).array(op.backs.len());
    for back in &op.backs {
        w.bytes(back.as_ref().map_or(&[], |sealed| sealed.as_slice()));
    }
}

fn decode_epoch(r: &mut Reader<'_>) -> Result<Epoch, Refusal> {
    let id = EpochId(r.fixed()?);
    let parents = (0..r.array()?).map(|_| r.fixed().map(EpochId)).collect::<Result<Vec<_>, _>>()?;
    ascending(&parents)?;
    let member_set_hash = r.fixed()?;
    if r.array()? != parents.len() {
        return Err(Refusal::Canon);
    }
    let back = |r: &mut Reader<'_>| match r.bytes()? {
        [] => Ok(None),
        sealed => sealed.try_into().map(Some).map_err(|_| Refusal::Canon),
    };
    let backs = parents.iter().map(|_| back(r)).collect::<Result<Vec<_>, _>>()?;
    Ok(Epoch { id, parents, member_set_hash, backs })
}

fn encode_share(op: &Share, w: &mut Writer) {
    w.array(7).u64(7).bytes(&op.token).bytes(&op.link_tag).bytes(op.link_sign.as_ref());
    w.bytes(op.link_box.as_ref()).u64(op.expires).bytes(&op.sealed);
}

/// Writes operation 18, with this in the place of the signature of the root.
pub(super) fn encode_confirm(op: &Confirm, root_sig: Option<&[u8]>, w: &mut Writer) {
    let decision = match op.decision {
        Decision::Allow => 0,
        Decision::Restore => 1,
    };
    let w = w.array(if root_sig.is_some() { 6 } else { 5 }).u64(18).bytes(op.author.as_ref());
    let w = w.u64(op.first_seq).u64(op.last_seq).u64(decision);
    if let Some(root_sig) = root_sig {
        w.bytes(root_sig);
    }
}

fn decode_confirm(r: &mut Reader<'_>, has_root_sig: bool) -> Result<Confirm, Refusal> {
    let (author, first_seq, last_seq) = (VerifyingKey(r.fixed()?), r.u64()?, r.u64()?);
    let decision = match r.u64()? {
        0 => Decision::Allow,
        1 => Decision::Restore,
        _ => return Err(Refusal::Canon),
    };
    let root_sig = if has_root_sig { Some(r.fixed()?) } else { None };
    if first_seq > last_seq || (root_sig.is_some() && decision != Decision::Allow) {
        return Err(Refusal::Canon);
    }
    Ok(Confirm { author, first_seq, last_seq, decision, root_sig })
}

fn encode_policy(op: &Policy, w: &mut Writer) {
    w.array(5).u64(19).bytes(op.node.as_ref()).u64(op.copies).u64(op.keep_days).array(op.rules.len());
    for (device, rule) in &op.rules {
        w.array(2).bytes(device.as_ref());
        match rule {
            ContentRule::All => w.array(1).u64(0),
            ContentRule::Pinned(nodes) => {
                w.array(2).u64(1).array(nodes.len());
                nodes.iter().fold(&mut *w, |w, node| w.bytes(node.as_ref()))
            }
            ContentRule::Newest(bytes) => w.array(2).u64(2).u64(*bytes),
            ContentRule::None => w.array(1).u64(3),
        };
    }
}

fn decode_policy(r: &mut Reader<'_>) -> Result<Policy, Refusal> {
    let (node, copies, keep_days) = (node(r)?, r.u64()?, r.u64()?);
    if !(1..=8).contains(&copies) || !(7..=365).contains(&keep_days) {
        return Err(Refusal::Limit);
    }
    let rules = (0..r.array()?).map(|_| decode_rule(r)).collect::<Result<Vec<_>, _>>()?;
    ascending(&rules.iter().map(|(device, _)| *device).collect::<Vec<_>>())?;
    Ok(Policy { node, copies, keep_days, rules })
}

fn decode_rule(r: &mut Reader<'_>) -> Result<(VerifyingKey, ContentRule), Refusal> {
    r.array_of(2)?;
    let device = VerifyingKey(r.fixed()?);
    let rule = match (r.array()?, r.u64()?) {
        (1, 0) => ContentRule::All,
        (2, 1) => {
            let nodes = (0..r.array()?).map(|_| node(r)).collect::<Result<Vec<_>, _>>()?;
            ascending(&nodes)?;
            ContentRule::Pinned(nodes)
        }
        (2, 2) => ContentRule::Newest(r.u64()?),
        (1, 3) => ContentRule::None,
        _ => return Err(Refusal::Canon),
    };
    Ok((device, rule))
}

fn decode_meta(r: &mut Reader<'_>) -> Result<Meta, Refusal> {
    let (node, key, value) = (node(r)?, r.text()?, r.bytes()?);
    if key.len() > NAME_LEN_MAX || value.len() > META_VALUE_LEN_MAX {
        return Err(Refusal::Limit);
    }
    Ok(Meta { node, key: key.to_owned(), value: value.to_vec() })
}

fn encode_frontier(frontier: &[EntryRef], w: &mut Writer) {
    w.array(frontier.len());
    for entry in frontier {
        w.array(3).bytes(entry.author.as_ref()).u64(entry.seq).bytes(entry.id.as_ref());
    }
}

/// Reads `[[author, seq, entry_id]...]` with ascending authors: each stands there once.
fn decode_frontier(r: &mut Reader<'_>) -> Result<Vec<EntryRef>, Refusal> {
    let len = r.array()?;
    let read = |_| {
        r.array_of(3)?;
        entry_ref(r)
    };
    let frontier = (0..len).map(read).collect::<Result<Vec<_>, _>>()?;
    ascending(&frontier.iter().map(|entry| entry.author).collect::<Vec<_>>())?;
    Ok(frontier)
}

fn entry_ref(r: &mut Reader<'_>) -> Result<EntryRef, Refusal> {
    Ok(EntryRef { author: VerifyingKey(r.fixed()?), seq: r.u64()?, id: EntryId(r.fixed()?) })
}

fn node(r: &mut Reader<'_>) -> Result<NodeId, Refusal> {
    r.fixed().map(NodeId)
}

/// Sets have one form: ascending, each element once.
fn ascending<T: Ord>(items: &[T]) -> Result<(), Refusal> {
    if items.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(Refusal::Canon) }
}
