//! Entries of the other device that sort before half of what is there: it was away and worked on what it knew.

use std::path::Path;

use locker_catalog::operation::{Content, Move, NodeKind, Op, Trash};
use locker_crypto::id::NodeId;
use serde_json::json;

use crate::calls::{Moment, middle};
use crate::pen::{Hand, Pen, random_node};
use crate::plan::{self, Plan, create};
use crate::{Failure, now_ms};

/// Signs `count` late entries of a kind, takes them in `batch` at a time, and tells how long each commit took.
///
/// Kinds: `mixed` is what a device does (creates, edits, moves, deletes files), `rename` renames a folder to which
/// others added since, `move` moves such a folder.
pub(crate) fn run(
    home: &Path,
    files: u64,
    kind: &str,
    count: u64,
    batch: usize,
) -> Result<serde_json::Value, Failure> {
    let (mut pen, _) = Pen::open(home)?;
    let plan = Plan::new(files);
    let mut tip = pen.tip(Hand::Other)?;
    let known = pen.at(Hand::Own, pen.tip(Hand::Own)?.name.map_or(0, |name| name.seq / 2))?;
    tip.hlc = tip.hlc.max(known.1);
    // Another run takes other files.
    let first = tip.name.map_or(0, |name| name.seq + 1);
    let mut deps = vec![known.0];
    let mut entries = Vec::new();
    for number in 0..count {
        let ops = match kind {
            "mixed" => mixed(&pen, &plan, files, first, number)?,
            "rename" => vec![folder_to(number, None)],
            "move" => vec![folder_to(number, Some(plan::folder(1)))],
            other => return Err(format!("no such kind: {other}").into()),
        };
        let hlc = tip.hlc + 1;
        let entry = pen.sign(Hand::Other, &mut tip, hlc, std::mem::take(&mut deps), ops)?;
        entries.push(entry.sealed);
    }
    let (mut times, mut without) = (Vec::new(), 0);
    for batch in entries.chunks(batch.max(1)) {
        let start = Moment::now();
        without += pen.take(batch, now_ms())?;
        times.push(start.since());
    }
    pen.close()?;
    Ok(json!({
        "kind": kind, "entries": count, "commits": times.len(), "without_effect": without,
        "commit": middle(&times),
        "peak_bytes": crate::status_bytes("VmHWM:"),
    }))
}

/// What one entry of a person does: mostly new files, some edits, moves and deletions of what was known.
fn mixed(pen: &Pen, plan: &Plan, files: u64, first: u64, number: u64) -> Result<Vec<Op>, Failure> {
    // Far enough in the first half.
    let known = plan::file((number * 7_919 + first * 104_729) % (files / 4).max(1));
    let somewhere = plan::folder(number * 31 % (files / 800).max(1));
    Ok(match number % 10 {
        0..=5 => new_file(plan, number, somewhere)?,
        6 => new_file(plan, number, plan::folder(0))?,
        7 => {
            let bases = pen.versions(known)?;
            let file = plan.content(files + number)?;
            vec![Op::Content(Content { node: known, bases, file, mtime_ms: 1, exec: false })]
        }
        8 => {
            let name = format!("moved {number}.txt");
            vec![Op::Move(Move { node: known, parent: somewhere, name, kind: NodeKind::File.code() })]
        }
        _ => vec![Op::Trash(Trash { node: known })],
    })
}

fn new_file(plan: &Plan, number: u64, parent: NodeId) -> Result<Vec<Op>, Failure> {
    let node = random_node();
    let content = Content { node, bases: Vec::new(), file: plan.content(number)?, mtime_ms: 1, exec: false };
    Ok(vec![create(node, parent, format!("late {number}.txt"), NodeKind::File), Op::Content(content)])
}

/// Renames the folder with most files, or moves it into another one.
fn folder_to(number: u64, parent: Option<NodeId>) -> Op {
    let parent = parent.unwrap_or(NodeId::ROOT);
    let (node, name) = (plan::folder(0), format!("inbox of {number}"));
    Op::Move(Move { node, parent, name, kind: NodeKind::Folder.code() })
}
