//! What a link gives, as files on this disk. Each thing at its top appears whole or not at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use cap_std::fs::Dir;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use locker_catalog::manifest::{Manifest, ManifestNode};
use locker_crypto::Refusal;
use locker_crypto::chunk::sealed_len;
use locker_crypto::file_ref::ChunkRecord;

use super::content::Content;
use crate::place::{
    Place, Temporary, current_umask, file_mode, finish_file, make_file, make_folder, open_folder,
};
use crate::progress::Meter;
use crate::{Env, Error};

/// Sealed bytes that are asked for in one go.
const WINDOW_BYTES: u32 = 4 << 20;
/// Chunks of one go.
const WINDOW_CHUNKS: usize = 1_024;
/// So many goes are under way at once; with the largest chunks they take 64 MiB.
const WINDOWS: usize = 4;

/// Writes everything into the folder `to`, which is made if it is missing.
///
/// # Errors
/// As [`super::open_link`]. Nothing is left then, but for things that had their names already when one of several did
/// not get its own.
pub(super) async fn write(
    content: Content<'_>,
    manifest: &Manifest,
    to: &Path,
    env: &Env,
    meter: &Meter<'_>,
) -> Result<(), Error> {
    let is_new = !to.exists();
    std::fs::create_dir_all(to).map_err(|e| Error::io("cannot make", to, e))?;
    let written = write_into(&content, manifest, to, env, meter).await;
    if written.is_err() && is_new {
        // Only if it is empty, which it is.
        let _ = std::fs::remove_dir(to);
    }
    written
}

async fn write_into(
    content: &Content<'_>,
    manifest: &Manifest,
    to: &Path,
    env: &Env,
    meter: &Meter<'_>,
) -> Result<(), Error> {
    let paths = manifest.paths();
    let nodes = manifest.nodes.iter().enumerate();
    let tops: Vec<usize> = nodes.filter(|(_, node)| node.parent.is_none()).map(|(index, _)| index).collect();
    let name = |index: &usize| manifest.nodes[*index].name.clone().into();
    let places = Place::several(to, tops.iter().map(name))?;
    let temporaries: Vec<Temporary<'_>> = places.iter().map(|place| place.temporary(env)).collect();
    let mut writer = Writer {
        to,
        nodes: &manifest.nodes,
        paths: &paths,
        temporaries: &temporaries,
        tops: &tops,
        stack: Vec::new(),
        open: None,
        umask: current_umask(),
        meter,
    };
    let (mut window, mut under_way) = (Window::default(), FuturesOrdered::new());
    for (index, node) in manifest.nodes.iter().enumerate() {
        let Some(file) = &node.file else {
            writer.folder(index)?;
            continue;
        };
        let records = match file.level() {
            0 => file.records().to_vec(),
            _ => {
                // Those under way go on only while they are waited for, and one of them may hold what this needs.
                while let Some(come) = under_way.next().await {
                    writer.pieces(come?)?;
                }
                content.records(file, &paths[index]).await?
            }
        };
        if records.is_empty() {
            // Beside the file whose chunks are on their way.
            writer.empty(index)?;
        }
        let count = records.len();
        for (n, record) in records.into_iter().enumerate() {
            window.push(Piece { node: index, is_first: n == 0, is_last: n + 1 == count }, record);
            if window.is_full() {
                if under_way.len() >= WINDOWS
                    && let Some(come) = under_way.next().await
                {
                    writer.pieces(come?)?;
                }
                under_way.push_back(std::mem::take(&mut window).fetch(content, &paths[index]));
            }
        }
    }
    under_way.push_back(window.fetch(content, "the last files"));
    while let Some(come) = under_way.next().await {
        writer.pieces(come?)?;
    }
    drop(writer);
    Place::publish_all(&places, temporaries)
}

/// A chunk of a file.
#[derive(Clone, Copy)]
struct Piece {
    node: usize,
    is_first: bool,
    is_last: bool,
}

/// What is asked for in one go.
#[derive(Default)]
struct Window {
    pieces: Vec<Piece>,
    records: Vec<ChunkRecord>,
    bytes: u32,
}

impl Window {
    fn push(&mut self, piece: Piece, record: ChunkRecord) {
        self.bytes += sealed_len(record.len).unwrap_or(0);
        self.pieces.push(piece);
        self.records.push(record);
    }

    fn is_full(&self) -> bool {
        self.bytes >= WINDOW_BYTES || self.records.len() >= WINDOW_CHUNKS
    }
}

/// What came of one go.
type Come = Result<(Vec<Piece>, Vec<Vec<u8>>), Error>;

impl Window {
    async fn fetch(self, content: &Content<'_>, what: &str) -> Come {
        let chunks = content.chunks(&self.records, what).await?;
        Ok((self.pieces, chunks))
    }
}

/// Puts files and folders below the temporary names of the top.
struct Writer<'a> {
    to: &'a Path,
    nodes: &'a [ManifestNode],
    paths: &'a [String],
    temporaries: &'a [Temporary<'a>],
    /// The nodes at the top, in the order of `temporaries`.
    tops: &'a [usize],
    /// Open folders from the top down to the last one that was used.
    stack: Vec<(usize, Dir)>,
    /// The file that is being written.
    open: Option<(File, blake3::Hasher)>,
    umask: u32,
    meter: &'a Meter<'a>,
}

impl Writer<'_> {
    fn folder(&mut self, index: usize) -> Result<(), Error> {
        let to = self.to;
        self.at(index, make_folder)?.map(drop).map_err(|e| Error::io("cannot write", to, e))
    }

    fn empty(&mut self, index: usize) -> Result<(), Error> {
        let to = self.to;
        let io = |e: std::io::Error| Error::io("cannot write", to, e);
        let file = self.at(index, make_file)?.map_err(io)?;
        self.finish(&file, index, &blake3::Hasher::new())
    }

    /// Checks what was written against the content that the link names, and gives the file its mode and time.
    fn finish(&self, file: &File, index: usize, hasher: &blake3::Hasher) -> Result<(), Error> {
        let node = &self.nodes[index];
        if let Some(content) = &node.file {
            let hash = (*hasher.finalize().as_bytes()).into();
            content.check_content(hash).map_err(|why| Error::damaged(&self.paths[index], why))?;
        }
        finish_file(file, file_mode(node.exec, self.umask), node.mtime_ms)
            .map_err(|e| Error::io("cannot write", self.to, e))?;
        self.meter.add(1, 0);
        Ok(())
    }

    fn pieces(&mut self, (pieces, chunks): (Vec<Piece>, Vec<Vec<u8>>)) -> Result<(), Error> {
        pieces.into_iter().zip(chunks).try_for_each(|(piece, plain)| self.piece(piece, &plain))
    }

    /// Writes the next chunk of a file; files come one after another.
    fn piece(&mut self, piece: Piece, plain: &[u8]) -> Result<(), Error> {
        let to = self.to;
        let io = |e: std::io::Error| Error::io("cannot write", to, e);
        if piece.is_first {
            let file = self.at(piece.node, make_file)?.map_err(io)?;
            self.open = Some((file, blake3::Hasher::new()));
        }
        let Some((file, hasher)) = &mut self.open else {
            return Err(Error::damaged(&self.paths[piece.node], Refusal::Canon));
        };
        hasher.update(plain);
        file.write_all(plain).map_err(io)?;
        self.meter.add(0, plain.len() as u64);
        if piece.is_last
            && let Some((file, hasher)) = self.open.take()
        {
            self.finish(&file, piece.node, &hasher)?;
        }
        Ok(())
    }

    /// Works in the open folder of a node, with the name that it has there for now.
    fn at<T: AsFd>(
        &mut self,
        index: usize,
        work: impl FnOnce(&Dir, &OsStr) -> std::io::Result<T>,
    ) -> Result<std::io::Result<T>, Error> {
        let node = &self.nodes[index];
        let Some(parent) = node.parent else {
            let top = self.tops.binary_search(&index).unwrap_or_default();
            let temporary = &self.temporaries[top];
            let made = work(temporary.parent, &temporary.name);
            return Ok(made.and_then(|made| temporary.note(&made).map(|()| made)));
        };
        let mut way = vec![parent];
        while let Some(above) = self.nodes[way[way.len() - 1]].parent {
            way.push(above);
        }
        way.reverse();
        let shared = self.stack.iter().zip(&way).take_while(|((open, _), folder)| open == *folder).count();
        self.stack.truncate(shared);
        for folder in &way[shared..] {
            let opened = self.open_folder(*folder).map_err(|e| Error::io("cannot write", self.to, e))?;
            self.stack.push((*folder, opened));
        }
        let Some((_, dir)) = self.stack.last() else {
            return Ok(Err(std::io::ErrorKind::NotFound.into()));
        };
        Ok(work(dir, OsStr::new(&node.name)))
    }

    fn open_folder(&self, index: usize) -> std::io::Result<Dir> {
        match self.stack.last() {
            Some((_, above)) => open_folder(above, OsStr::new(&self.nodes[index].name)),
            None => {
                let top = self.tops.binary_search(&index).unwrap_or_default();
                self.temporaries[top].open_folder()
            }
        }
    }
}
