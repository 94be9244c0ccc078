//! The state as bytes, and its hash (`docs/spec/05-tree.md`, "State and snapshot").

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::encode::Writer;
use locker_crypto::id::NodeId;

use super::row::{META, NODES, Row, decode_meta, intact};
use crate::order::OpOrder;
use crate::rows::{ReadRows, RowError};

/// Bytes that are hashed at a time.
const PIECE: usize = 1 << 16;

/// Hashes the state: all nodes in the order of their ids, then all meta items by node and key.
///
/// Two devices with the same entries get the same hash. Cost: one pass over both tables.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn state_hash(rows: &dyn ReadRows) -> Result<[u8; 32], RowError> {
    let mut hasher = blake3::Hasher::new();
    // Many items at once: the hash is several times faster on long pieces.
    let mut piece = Vec::with_capacity(2 * PIECE);
    emit(rows, &mut |item| {
        piece.extend_from_slice(item);
        if piece.len() >= PIECE {
            hasher.update(&piece);
            piece.clear();
        }
    })?;
    Ok(*hasher.update(&piece).finalize().as_bytes())
}

/// Hands out the items of the state in their order: a CBOR sequence.
pub(super) fn emit(rows: &dyn ReadRows, sink: &mut dyn FnMut(&[u8])) -> Result<(), RowError> {
    let mut done = Ok(());
    rows.scan(NODES, &[], None, &mut |key, value| {
        done = node_item(key, value).map(|item| sink(&item));
        if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    intact(done)?;
    // Rows of one node come by the hash of the key and the last operation counts; the state has them by key.
    let mut open: Option<(NodeId, BTreeMap<String, Vec<u8>>)> = None;
    let mut done = Ok(());
    rows.scan(META, &[], None, &mut |key, value| {
        done = meta_item(key, value).map(|(node, key, value)| {
            if open.as_ref().is_some_and(|(at, _)| *at != node) {
                close(open.take(), sink);
            }
            open.get_or_insert_with(|| (node, BTreeMap::new())).1.insert(key, value);
        });
        if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    close(open, sink);
    intact(done)
}

fn node_item(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Refusal> {
    let row = Row::decode(value)?;
    let mut w = Writer::new();
    w.array(9).bytes(NodeId::from_slice(key)?.as_ref()).bytes(row.place.parent.as_ref());
    w.text(&row.place.name).u64(row.kind.code());
    write_op(&mut w, Some(&row.created));
    write_op(&mut w, Some(&row.place.moved));
    w.bytes(row.place.from.as_ref());
    write_op(&mut w, row.place.by.as_ref());
    w.array(row.versions.len());
    for version in &row.versions {
        w.array(4).bytes(version.vid.as_ref());
        version.file.write(&mut w);
        w.i64(version.mtime_ms).bool(version.exec);
    }
    Ok(w.finish())
}

fn write_op(w: &mut Writer, op: Option<&OpOrder>) {
    match op {
        Some(op) => w
            .array(4)
            .u64(op.entry.hlc)
            .bytes(op.entry.author.as_ref())
            .u64(op.entry.seq)
            .u64(op.index.into()),
        None => w.array(0),
    };
}

fn meta_item(key: &[u8], value: &[u8]) -> Result<(NodeId, String, Vec<u8>), Refusal> {
    let node = NodeId::from_slice(key.get(..NodeId::LEN).ok_or(Refusal::Canon)?)?;
    let (key, value) = decode_meta(value)?;
    Ok((node, key, value))
}

/// Hands out the items of one node; an empty value is no item.
fn close(open: Option<(NodeId, BTreeMap<String, Vec<u8>>)>, sink: &mut dyn FnMut(&[u8])) {
    let Some((node, items)) = open else { return };
    for (key, value) in items.iter().filter(|(_, value)| !value.is_empty()) {
        let mut w = Writer::new();
        w.array(3).bytes(node.as_ref()).text(key).bytes(value);
        sink(&w.finish());
    }
}
