//! Links: making one, listing them, ending one (`docs/spec/07-links.md`).
//!
//! A snapshot link gives a state of files: a manifest with the keys of these files and the packs in which they lie, sealed
//! for the link alone. Which links there are, and what they give, stands in the log for every device of the person
//! (`register`), so that each of them lists, serves and ends them.

mod gather;
mod hints;
mod register;

use locker_catalog::operation::{Op, Revoke, Share as ShareOp};
use locker_crypto::Refusal;
use locker_crypto::capability::{Capability, Grant, Rights, Scope, Terms};
use locker_crypto::capsule::{Capsule, Gift, LABEL_LEN_MAX, MANIFEST_LEN_MAX};
use locker_crypto::entry::space_tag;
use locker_crypto::id::{NodeId, SpaceId, SpaceTag};
use locker_crypto::identity::owner_fp;
use locker_crypto::link::{Kind, Link, LinkKeys, Protection, TextForm};
use locker_crypto::pack::PackOp;
use locker_crypto::person::Entry;
use locker_crypto::share::{EXTENT_PATH_LEN_MAX, Extent, Registered};
use locker_store::{links, objects};

use self::register::Door;
pub(crate) use self::register::{Register, extent};
use crate::keys::person_log;
use crate::locker::Inner;
use crate::report::{Secret, ShareKind, Shared, SharedLink};
use crate::tree::Tree;
use crate::{Error, path};

/// How long a link lasts if nothing is said, in seconds: 30 days.
pub const EXPIRES_DEFAULT_S: u64 = 30 * 86_400;
/// Longest life of a link in seconds: ten years.
pub const EXPIRES_MAX_S: u64 = 3_650 * 86_400;
/// Hexadecimal digits by which a link is named.
const ID_DIGITS: usize = 16;
/// Fewest digits that name one.
const ID_DIGITS_MIN: usize = 4;

/// How something is shared.
#[derive(Clone, Debug)]
pub struct ShareOptions {
    /// How long the link lasts, in seconds.
    pub expires_s: u64,
    /// What it is called in the list of links; the name of what is shared if absent.
    pub label: Option<String>,
    /// A passphrase that it takes besides the text.
    pub passphrase: Option<Secret>,
}

/// Makes a snapshot link.
pub(crate) fn share(inner: &Inner, shared: &str, options: &ShareOptions) -> Result<SharedLink, Error> {
    check_life(options.expires_s)?;
    inner.may_sign()?;
    let shown = path::split(shared)?.join("/");
    let label = label(options.label.as_deref(), &shown)?;
    // What is gathered must still be here when the link that names it is committed.
    let _content = inner.turns().rely();
    let (node, gathered, log) = {
        let store = inner.store()?;
        let snapshot = store.read()?;
        let tree = Tree::new(&snapshot, inner.space_tag())?;
        let node = tree.resolve(shared)?;
        let gathered = gather::gather(&store, &snapshot, &tree, inner, node)?;
        (node, gathered, person_log(&snapshot, &inner.keys().person)?)
    };
    let manifest = gathered.manifest.encode().map_err(|why| gather::refused(why, &shown))?;

    let keys = inner.keys();
    let protection = match options.passphrase {
        Some(_) => Protection::Passphrase,
        None => Protection::TextOnly,
    };
    let hints = hints::hints(inner)?;
    let link = {
        let dice = &mut **inner.env().dice();
        Link::random(Kind::Snapshot, protection, owner_fp(&keys.person), hints, dice)
            .map_err(Error::Refused)?
    };
    let link_keys = link.keys(options.passphrase.as_ref().map(Secret::expose)).map_err(Error::Refused)?;
    let expires = inner.env().now_ms() / 1_000 + options.expires_s;
    let making = Making { inner, link: &link, link_keys: &link_keys, label, expires };
    let space = SpaceId(draw(inner));
    let token = making.token(space_tag(&space))?;
    let path = making.path(&log)?;
    let mut packs = gathered.packs();
    let capsule = Capsule {
        token: token.clone(),
        space,
        path,
        gift: Gift::Manifest(manifest),
        label: making.label.clone(),
    };
    let (capsule, manifest_packs) = making.capsule(capsule)?;
    packs.extend(manifest_packs.iter().map(PackOp::hash));
    packs.sort_unstable();
    packs.dedup();
    let extent = Extent { node, path: cut(&shown, EXTENT_PATH_LEN_MAX).to_owned(), packs };
    making.commit(&token, &capsule, &extent, &manifest_packs)?;
    Ok(SharedLink {
        id: id_of(&token),
        link: Secret::new(link.to_text(&TextForm::Locker).as_str().to_owned()),
        kind: ShareKind::Snapshot,
        expires: expires.saturating_mul(1_000),
        path: shown,
        label: making.label,
        files: gathered.files,
        bytes: gathered.bytes,
    })
}

/// Every link that was made, newest first.
pub(crate) fn list(inner: &Inner) -> Result<Vec<Shared>, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let register = Register::read(inner, &snapshot)?;
    let mut shared = Vec::new();
    for door in register.doors().iter().rev() {
        // What cannot be read here does not hide the link, which may have to be ended.
        let given = extent(&snapshot, inner, door).ok().flatten();
        let path = given.map_or_else(|| Ok(String::new()), |extent| where_is(inner, &snapshot, &extent))?;
        shared.push(Shared {
            id: id_of(&door.registered.token),
            path,
            kind: kind_of(door.registered.kind),
            label: door.registered.label.clone(),
            expires: door.expires_s.saturating_mul(1_000),
            created: door.created_ms,
            uses: links::uses(&snapshot, &door.tag)?,
            revoked: door.is_revoked,
        });
    }
    Ok(shared)
}

/// Ends a link for good, on every device that hears of it.
pub(crate) fn revoke(inner: &Inner, id: &str) -> Result<Shared, Error> {
    let typed = id.trim().to_ascii_lowercase();
    let is_id = typed.len() >= ID_DIGITS_MIN && typed.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_id {
        return Err(Error::Argument(format!("{id:?} is no id of a link: `locker share ls` shows them")));
    }
    let target = {
        let store = inner.store()?;
        let snapshot = store.read()?;
        let register = Register::read(inner, &snapshot)?;
        let named = |door: &&Door| door.registered.token.root_id().to_string().starts_with(&typed);
        let mut found = register.doors().iter().filter(named);
        let door = found.next().ok_or_else(|| Error::NoSuch(format!("there is no link {typed}")))?;
        if found.next().is_some() {
            return Err(Error::Argument(format!("several links begin with {typed}: give more of the id")));
        }
        door.registered.token.root_id()
    };
    inner.commit(|change| change.push(Op::Revoke(Revoke { target: target.0 })))?;
    let full = target.to_string();
    let listed = list(inner)?.into_iter().find(|shared| full.starts_with(&shared.id));
    listed.ok_or_else(|| Error::damaged("the register of links", Refusal::Unregistered))
}

/// A link in the making.
struct Making<'a> {
    inner: &'a Inner,
    link: &'a Link,
    link_keys: &'a LinkKeys,
    label: String,
    expires: u64,
}

impl Making<'_> {
    /// The right to be served what the link gives, for who holds its key.
    fn token(&self, space_tag: SpaceTag) -> Result<Capability, Error> {
        let grant = Grant {
            audience: self.link_keys.signing().verifying_key(),
            space_tag,
            rights: Rights::READ,
            scope: Scope::Space,
            not_before: self.inner.env().now_ms() / 1_000,
            expires: self.expires,
            depth: 0,
            quota: None,
            terms: Terms { registered: true, fresh: false },
        };
        let dice = &mut **self.inner.env().dice();
        Capability::issue(self.inner.keys().device.signing(), grant, dice).map_err(Error::Refused)
    }

    /// The entries of the person log from its beginning to the one that brought this device in.
    fn path(&self, log: &[Entry]) -> Result<Vec<Vec<u8>>, Error> {
        let keys = self.inner.keys();
        register::path_to(log, &keys.person, &keys.device_id())
            .ok_or_else(|| Error::damaged("the person log", Refusal::Chain))
    }

    /// Seals the capsule. A manifest that is too long for it goes into packs of its own, durable when this returns.
    fn capsule(&self, mut capsule: Capsule) -> Result<(Vec<u8>, Vec<PackOp>), Error> {
        let mut packs = Vec::new();
        if let Gift::Manifest(manifest) = &capsule.gift {
            let path: usize = capsule.path.iter().map(Vec::len).sum();
            // Head, token, label, signature and box take less than 4 KiB.
            if manifest.len() > MANIFEST_LEN_MAX.min((60 * 1_024_usize).saturating_sub(path)) {
                let (file, made) = gather::store_manifest(self.inner, manifest)?;
                packs.clone_from(&made);
                capsule.gift = Gift::ManifestFile { file, packs: made };
            }
        }
        let dice = &mut **self.inner.env().dice();
        let box_key = self.link_keys.box_keys().public();
        let sealed = capsule
            .seal(self.inner.keys().device.signing(), &self.link_keys.tag(), box_key, dice)
            .map_err(|why| gather::refused(why, &self.label))?;
        Ok((sealed, packs))
    }

    /// Makes the link known to every device of the person: one durable commit.
    fn commit(
        &self,
        token: &Capability,
        capsule: &[u8],
        extent: &Extent,
        manifest_packs: &[PackOp],
    ) -> Result<(), Error> {
        let keys = self.inner.keys();
        let person_key = keys.person_keys()?.newest();
        let extent = {
            let dice = &mut **self.inner.env().dice();
            extent
                .seal(person_key, &token.root_id(), dice)
                .map_err(|why| gather::refused(why, &self.label))?
        };
        self.inner.commit(|change| {
            for pack in manifest_packs {
                change.add_pack(pack)?;
            }
            let capsule = objects::put(change.txn(), capsule);
            let extent = objects::put(change.txn(), &extent);
            let link_box = objects::put(change.txn(), self.link_keys.box_keys().public().as_bytes());
            let registered = Registered {
                rendezvous: self.link.rendezvous(),
                kind: self.link.kind(),
                label: self.label.clone(),
                uses_max: 0,
                token: token.clone(),
                capsule,
                extent: Some(extent),
            };
            let sealed = registered.seal(person_key, &mut **self.inner.env().dice());
            change.push(Op::Share(ShareOp {
                token: token.root_id().0,
                link_tag: self.link_keys.tag().0,
                link_sign: self.link_keys.signing().verifying_key(),
                link_box,
                expires: self.expires,
                sealed,
            }))
        })
    }
}

/// Where what was shared lies now; where it lay then if it is gone.
fn where_is(inner: &Inner, snapshot: &locker_store::Snapshot, extent: &Extent) -> Result<String, Error> {
    let tree = Tree::new(snapshot, inner.space_tag())?;
    if extent.node == NodeId::ROOT {
        return Ok(String::new());
    }
    let now = match locker_catalog::tree::node(tree.rows(), extent.node)? {
        Some(_) => tree.path(extent.node)?,
        None => None,
    };
    Ok(now.unwrap_or_else(|| extent.path.clone()))
}

fn check_life(expires_s: u64) -> Result<(), Error> {
    if (1..=EXPIRES_MAX_S).contains(&expires_s) {
        Ok(())
    } else {
        Err(Error::Argument("a link lasts from one second to ten years".into()))
    }
}

fn label(given: Option<&str>, shown: &str) -> Result<String, Error> {
    match given {
        Some(text) if text.len() > LABEL_LEN_MAX || text.chars().any(char::is_control) => Err(
            Error::Argument(format!("a label has at most {LABEL_LEN_MAX} bytes and no control characters")),
        ),
        Some(text) => Ok(text.to_owned()),
        None => {
            let name = shown.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("everything");
            Ok(cut(name, LABEL_LEN_MAX).to_owned())
        }
    }
}

fn cut(text: &str, len: usize) -> &str {
    &text[..text.floor_char_boundary(len)]
}

fn draw(inner: &Inner) -> [u8; 32] {
    let mut bytes = [0; 32];
    inner.env().dice().fill_bytes(&mut bytes);
    bytes
}

fn id_of(token: &Capability) -> String {
    let mut id = token.root_id().to_string();
    id.truncate(ID_DIGITS);
    id
}

fn kind_of(kind: Kind) -> ShareKind {
    match kind {
        Kind::LiveRead => ShareKind::Read,
        Kind::LiveWrite => ShareKind::Write,
        Kind::Deposit => ShareKind::Deposit,
        Kind::Snapshot => ShareKind::Snapshot,
    }
}
