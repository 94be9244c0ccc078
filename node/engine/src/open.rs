//! Opening a link, with or without a locker of one's own (`docs/spec/07-links.md`).
//!
//! Fresh keys in memory, nothing on the disk but what is asked for: who opens a link is nobody. The node that serves it
//! proves nothing but that it knows the link; what it gives is checked against the link itself, down to every byte.
//!
//! | Room | Holds |
//! |---|---|
//! | `visit` | finding a node that serves the link, proving to hold it, getting the capsule |
//! | `content` | chunks out of its packs: what is fetched when, from whom |
//! | `write` | files on this disk |

mod content;
mod visit;
mod write;

use std::path::PathBuf;
use std::rc::Rc;

use locker_catalog::manifest::{MANIFEST_LEN_MAX, Manifest};
use locker_crypto::Refusal;
use locker_crypto::capsule::Gift;
use locker_crypto::file_ref::FileRef;
use locker_crypto::link::{Kind, Link, Protection};

use self::content::Content;
use self::visit::Visitor;
use crate::node::NodeOptions;
use crate::progress::Meter;
use crate::report::{Entry, Kind as EntryKind, Local, Observer, Opened, Secret};
use crate::{Env, Error};

/// How a link is opened.
pub struct OpenOptions {
    /// Its text.
    pub link: Secret,
    /// Its passphrase, if it has one.
    pub passphrase: Option<Secret>,
    /// Folder into which what it gives is put, made if it is missing; only listed if absent.
    pub to: Option<PathBuf>,
    /// How the network is reached.
    pub node: NodeOptions,
}

/// Whether a link takes a passphrase besides its text.
///
/// # Errors
/// [`Error::Argument`] if the text is no link of a form that this program opens.
pub fn link_needs_passphrase(text: &Secret) -> Result<bool, Error> {
    Ok(read_link(text)?.protection() == Protection::Passphrase)
}

/// Opens a link: lists what it gives, or writes it.
///
/// # Errors
/// [`Error::Argument`] for what is no link; [`Error::LinkPassphraseNeeded`]; [`Error::LinkRefused`] if a node that serves
/// it refused; [`Error::Network`] if none was reached within 30 seconds; [`Error::Exists`] if a name is taken;
/// [`Error::Integrity`] if what came is not what the link names; [`Error::Full`], [`Error::Io`].
pub fn open_link(options: OpenOptions, env: &Env, observer: &dyn Observer) -> Result<Opened, Error> {
    let link = read_link(&options.link)?;
    let passphrase = match (link.protection(), &options.passphrase) {
        (Protection::Passphrase, None) => return Err(Error::LinkPassphraseNeeded),
        (Protection::Passphrase, Some(text)) => Some(text.expose()),
        (Protection::TextOnly, _) => None,
    };
    if options.node.bootstrap.is_empty() && !options.node.lan && link.hints().is_empty() {
        return Err(Error::Network(
            "there is nowhere to look: no bootstrap address, and the LAN is off".into(),
        ));
    }
    let keys = link.keys(passphrase).map_err(Error::Refused)?;
    crate::node::visit(options.node, async |net| {
        open(&Visitor::new(net, env, &link, &keys), options.to, env, observer).await
    })
}

async fn open(
    visitor: &Visitor<'_>,
    to: Option<PathBuf>,
    env: &Env,
    observer: &dyn Observer,
) -> Result<Opened, Error> {
    let (source, given) = visitor.begin().await?;
    let source = Rc::new(source);
    let expires = given.token.expires().saturating_mul(1_000);
    let space = given.token.space_tag();
    let (source, manifest) = match given.gift {
        Gift::Manifest(bytes) => (source, Manifest::decode(&bytes)),
        Gift::ManifestFile { file, packs } => {
            let content = Content::new(visitor, source, space, &packs);
            let bytes = whole(&content, &file).await?;
            (content.into_source(), Manifest::decode(&bytes))
        }
        Gift::LiveRead(_) | Gift::LiveWrite(_) | Gift::Deposit(_) => (source, Err(Refusal::Canon)),
    };
    let manifest = manifest.map_err(|why| Error::damaged("the list of what the link gives", why))?;
    let entries = entries(&manifest);
    let files = manifest.nodes.iter().filter(|node| node.file.is_some()).count() as u64;
    let bytes = entries.iter().map(|entry| entry.size).sum();
    if let Some(to) = to {
        let meter = Meter::new(observer, env, Some((files, bytes)));
        let content = Content::new(visitor, source, space, &manifest.packs);
        write::write(content, &manifest, &to, env, &meter).await?;
    }
    Ok(Opened { files, bytes, label: given.label, expires, entries })
}

/// Reads a file whole into memory.
async fn whole(content: &Content<'_>, file: &FileRef) -> Result<Vec<u8>, Error> {
    let damaged = |why| Error::damaged("the list of what the link gives", why);
    if file.size() > MANIFEST_LEN_MAX as u64 {
        return Err(damaged(Refusal::Limit));
    }
    let mut bytes = Vec::new();
    for record in content.records(file, "the list of what the link gives").await? {
        let wanted = std::slice::from_ref(&record);
        for plain in content.chunks(wanted, "the list of what the link gives").await? {
            bytes.extend_from_slice(&plain);
        }
    }
    file.check_content((*blake3::hash(&bytes).as_bytes()).into()).map_err(damaged)?;
    Ok(bytes)
}

fn entries(manifest: &Manifest) -> Vec<Entry> {
    let entry = |(node, path): (&locker_catalog::manifest::ManifestNode, String)| Entry {
        path,
        kind: if node.file.is_some() { EntryKind::File } else { EntryKind::Folder },
        size: node.file.as_ref().map_or(0, FileRef::size),
        mtime: node.file.as_ref().map(|_| node.mtime_ms),
        b3: node.file.as_ref().map(|file| file.content_hash().to_string()),
        local: Local::None,
        versions: u32::from(node.file.is_some()),
        conflict: false,
    };
    manifest.nodes.iter().zip(manifest.paths()).map(entry).collect()
}

fn read_link(text: &Secret) -> Result<Link, Error> {
    let (link, _) = Link::parse(text.expose().trim()).map_err(|why| {
        Error::Argument(match why {
            Refusal::Version => "this link was made by a newer program: update this one".into(),
            _ => "this is no link, or not all of it: it begins with locker:l# or https://".into(),
        })
    })?;
    match link.kind() {
        Kind::Snapshot => Ok(link),
        _ => Err(Error::Argument("this program opens snapshot links only".into())),
    }
}
