//! The shown tree: what this device shows while the brake holds something back (`docs/spec/05-tree.md`, "Brake").
//!
//! It is a second tree beside the replayed one, in the same rows: replay of the same entries without the operations that
//! are held. Each table of the tree has a twin, in which only those rows stand in which the two trees differ, so that it
//! costs what differs, and nothing where nothing is held: then no twin has a row, and one look says so.
//!
//! Whoever writes the replayed tree while they are apart writes through [`Keeping`], which leaves the shown one as it was;
//! whoever writes the shown one writes through [`ShownMut`]. What is held is decided elsewhere ([`crate::brake`]).

use std::cmp::Ordering;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::NodeId;

use super::row::{CHILDREN, COUNTS, FOLDERS, HISTORY, MARKS, META, NODES, ORDER, PROBLEMS, TRASHED, TWINS};
use crate::rows::{ReadRows, RowError, Table, Visit, WriteRows};

/// Nothing → nothing, while the two trees are apart.
const APART: Table = Table("shown");
/// The tables of the tree, each with its twin: key → 0 if the shown tree does not have the row, else 1 and its value.
const SHOWN: [(Table, Table); 11] = [
    (NODES, SHOWN_NODES),
    (HISTORY, Table("shown_history")),
    (CHILDREN, Table("shown_children")),
    (TWINS, Table("shown_twins")),
    (FOLDERS, Table("shown_folders")),
    (TRASHED, Table("shown_trashed")),
    (MARKS, Table("shown_marks")),
    (ORDER, Table("shown_order")),
    (PROBLEMS, Table("shown_problems")),
    (META, Table("shown_meta")),
    (COUNTS, Table("shown_counts")),
];
/// The twin of the table of nodes: the nodes that differ.
const SHOWN_NODES: Table = Table("shown_nodes");

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;
/// Rows of a twin that are read at a time; few in tests, so that these turn pages too.
const PAGE: usize = if cfg!(test) { 3 } else { 512 };

/// Whether the shown tree is another than the replayed one. Cost: one row.
///
/// # Errors
/// [`RowError`] as the store gives it, here and below.
pub fn is_apart(rows: &dyn ReadRows) -> Result<bool, RowError> {
    Ok(rows.get(APART, &[])?.is_some())
}

/// The nodes after `after` in which the two trees may differ, at most `most`; none where they are one.
///
/// # Errors
/// As [`is_apart`].
pub fn differing(rows: &dyn ReadRows, after: Option<NodeId>, most: usize) -> Result<Vec<NodeId>, RowError> {
    let from = after.map_or_else(Vec::new, |node| [node.as_ref(), &[0]].concat());
    let mut found = Vec::new();
    rows.scan(SHOWN_NODES, &from, None, &mut |key, _| {
        found.push(NodeId::from_slice(key));
        if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found.into_iter().collect::<Result<_, _>>().map_err(RowError::Corrupt)
}

/// Begins a shown tree, equal to the replayed one at first.
pub(crate) fn part(rows: &mut dyn WriteRows) -> Result<(), RowError> {
    rows.put(APART, &[], &[])
}

/// Ends the shown tree: the replayed one is shown again. Cost: the rows in which they differ.
pub(crate) fn join(rows: &mut dyn WriteRows) -> Result<(), RowError> {
    for (_, twin) in SHOWN {
        loop {
            let page = page(rows, twin, &[], None, Direction::Up)?;
            page.iter().try_for_each(|(key, _)| rows.delete(twin, key))?;
            if page.len() < PAGE {
                break;
            }
        }
    }
    rows.delete(APART, &[])
}

/// Reads the shown tree; everything else as it is.
pub struct Shown<R> {
    rows: R,
    apart: bool,
}

impl<R: ReadRows> Shown<R> {
    /// Looks whether there is a shown tree of its own.
    ///
    /// # Errors
    /// As [`is_apart`].
    pub fn new(rows: R) -> Result<Self, RowError> {
        let apart = is_apart(&rows)?;
        Ok(Self { rows, apart })
    }

    /// Reads the shown tree, or the replayed one, whatever there is.
    pub fn choose(rows: R, apart: bool) -> Self {
        Self { rows, apart }
    }

    /// The rows of the replayed tree.
    pub fn replayed(&self) -> &R {
        &self.rows
    }

    /// Whether the shown tree is another than the replayed one.
    pub fn is_apart(&self) -> bool {
        self.apart
    }
}

impl<R: ReadRows> ReadRows for Shown<R> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        match twin(table).filter(|_| self.apart) {
            Some(twin) => get(&self.rows, table, twin, key),
            None => self.rows.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        match twin(table).filter(|_| self.apart) {
            Some(twin) => scan(&self.rows, (table, twin), from, to, Direction::Up, visit),
            None => self.rows.scan(table, from, to, visit),
        }
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        match twin(table).filter(|_| self.apart) {
            Some(twin) => scan(&self.rows, (table, twin), from, to, Direction::Down, visit),
            None => self.rows.scan_back(table, from, to, visit),
        }
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        self.rows.keyed(bytes)
    }
}

/// Changes the shown tree.
pub(crate) struct ShownMut<'a>(pub(crate) &'a mut dyn WriteRows);

impl ShownMut<'_> {
    fn shown(&self) -> Shown<&dyn ReadRows> {
        Shown { rows: &*self.0, apart: true }
    }
}

impl ReadRows for ShownMut<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.shown().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.shown().scan(table, from, to, visit)
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.shown().scan_back(table, from, to, visit)
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        self.0.keyed(bytes)
    }
}

impl WriteRows for ShownMut<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        match twin(table) {
            // A row in which they agree again needs no twin.
            Some(twin) if self.0.get(table, key)?.is_some_and(|replayed| replayed == value) => {
                self.0.delete(twin, key)
            }
            Some(twin) => self.0.put(twin, key, &present(value)),
            None => self.0.put(table, key, value),
        }
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), RowError> {
        match twin(table) {
            Some(twin) if self.0.get(table, key)?.is_some() => self.0.put(twin, key, &[ABSENT]),
            Some(twin) => self.0.delete(twin, key),
            None => self.0.delete(table, key),
        }
    }
}

/// Changes the replayed tree and leaves the shown one as it is.
pub(crate) struct Keeping<'a>(pub(crate) &'a mut dyn WriteRows);

impl Keeping<'_> {
    /// Gives a row that is about to change to the shown tree, unless that has its own.
    fn keep(&mut self, table: Table, key: &[u8]) -> Result<(), RowError> {
        let Some(twin) = twin(table) else { return Ok(()) };
        if self.0.get(twin, key)?.is_some() {
            return Ok(());
        }
        match self.0.get(table, key)? {
            Some(value) => self.0.put(twin, key, &present(&value)),
            None => self.0.put(twin, key, &[ABSENT]),
        }
    }
}

impl ReadRows for Keeping<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.0.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.0.scan(table, from, to, visit)
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.0.scan_back(table, from, to, visit)
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        self.0.keyed(bytes)
    }
}

impl WriteRows for Keeping<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        self.keep(table, key)?;
        self.0.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), RowError> {
        self.keep(table, key)?;
        self.0.delete(table, key)
    }
}

/// The order of a scan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

fn twin(table: Table) -> Option<Table> {
    SHOWN.iter().find(|(replayed, _)| *replayed == table).map(|(_, twin)| *twin)
}

fn present(value: &[u8]) -> Vec<u8> {
    [&[PRESENT], value].concat()
}

/// Reads a row of a twin: the value that the shown tree has, if it has any.
fn value(row: &[u8]) -> Result<Option<&[u8]>, RowError> {
    match row.split_first() {
        Some((&ABSENT, [])) => Ok(None),
        Some((&PRESENT, value)) => Ok(Some(value)),
        _ => Err(RowError::Corrupt(Refusal::Canon)),
    }
}

fn get(rows: &dyn ReadRows, table: Table, twin: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
    match rows.get(twin, key)? {
        Some(row) => Ok(value(&row)?.map(<[u8]>::to_vec)),
        None => rows.get(table, key),
    }
}

type Pair = (Vec<u8>, Vec<u8>);

fn page(
    rows: &dyn ReadRows,
    twin: Table,
    from: &[u8],
    to: Option<&[u8]>,
    direction: Direction,
) -> Result<Vec<Pair>, RowError> {
    let mut page = Vec::new();
    let mut take = |key: &[u8], value: &[u8]| {
        page.push((key.to_vec(), value.to_vec()));
        if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    match direction {
        Direction::Up => rows.scan(twin, from, to, &mut take)?,
        Direction::Down => rows.scan_back(twin, from, to, &mut take)?,
    }
    Ok(page)
}

/// Visits the rows of a table as the shown tree has them: page by page of the twin, with the rows of the table between.
fn scan(
    rows: &dyn ReadRows,
    (table, twin): (Table, Table),
    from: &[u8],
    to: Option<&[u8]>,
    direction: Direction,
    visit: &mut Visit<'_>,
) -> Result<(), RowError> {
    let (mut from, mut to) = (from.to_vec(), to.map(<[u8]>::to_vec));
    loop {
        let page = page(rows, twin, &from, to.as_deref(), direction)?;
        // As far as this page of the twin reaches.
        let last = if page.len() < PAGE { None } else { page.last().map(|(key, _)| key.clone()) };
        let (low, high) = match (&last, direction) {
            (None, _) => (from.clone(), to.clone()),
            (Some(last), Direction::Up) => (from.clone(), Some([&last[..], &[0]].concat())),
            (Some(last), Direction::Down) => (last.clone(), to.clone()),
        };
        if merge(rows, table, (&low, high.as_deref()), direction, &page, visit)?.is_break() {
            return Ok(());
        }
        match (last, direction) {
            (None, _) => return Ok(()),
            (Some(_), Direction::Up) => from = high.unwrap_or_default(),
            (Some(last), Direction::Down) => to = Some(last),
        }
    }
}

fn merge(
    rows: &dyn ReadRows,
    table: Table,
    (from, to): (&[u8], Option<&[u8]>),
    direction: Direction,
    page: &[Pair],
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, RowError> {
    let mut values = Vec::with_capacity(page.len());
    for (key, row) in page {
        values.push((&key[..], value(row)?));
    }
    let mut twins = values.into_iter().peekable();
    let mut flow = ControlFlow::Continue(());
    let mut each = |key: &[u8], replayed: &[u8]| {
        while let Some((own, value)) = twins.peek() {
            let order = match direction {
                Direction::Up => (*own).cmp(key),
                Direction::Down => key.cmp(own),
            };
            match order {
                Ordering::Greater => break,
                Ordering::Equal => {
                    flow = value.map_or(ControlFlow::Continue(()), |value| visit(key, value));
                    twins.next();
                    return flow;
                }
                Ordering::Less => {
                    flow = value.map_or(ControlFlow::Continue(()), |value| visit(own, value));
                    twins.next();
                    if flow.is_break() {
                        return flow;
                    }
                }
            }
        }
        flow = visit(key, replayed);
        flow
    };
    match direction {
        Direction::Up => rows.scan(table, from, to, &mut each)?,
        Direction::Down => rows.scan_back(table, from, to, &mut each)?,
    }
    while let (ControlFlow::Continue(()), Some((key, value))) = (flow, twins.next()) {
        flow = value.map_or(ControlFlow::Continue(()), |value| visit(key, value));
    }
    Ok(flow)
}
