//! Goal: when a locker is closed in a process that lives on, none of its secrets is anywhere in memory any more. Method: look
//! through every page of this process that can be written, as a debugger would, before and after; what is looked for is itself
//! never there in clear.

#![cfg(target_os = "linux")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use locker_crypto::secret::{EpochSecret, SigningSeed};
use locker_store::keyring;
use zeroize::{Zeroize, Zeroizing};

use crate::report::{Secret, Silent};
use crate::{Env, Error, InitOptions, Locker, Vault};

/// Bytes read at a time.
const PIECE: usize = 1 << 20;
const MASK: u8 = 0xa5;

/// A secret, kept so that looking for it does not find it here.
struct Needle {
    name: &'static str,
    masked: Vec<u8>,
}

impl Needle {
    fn new(name: &'static str, secret: &[u8]) -> Self {
        Self { name, masked: secret.iter().map(|byte| byte ^ MASK).collect() }
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.masked.len()
            && bytes.iter().zip(&self.masked).all(|(byte, masked)| byte ^ MASK == *masked)
    }
}

/// The needles that are in memory, each as often as it is there.
fn found(needles: &[Needle]) -> Vec<&'static str> {
    let longest = needles.iter().map(|needle| needle.masked.len()).max().unwrap();
    let mut first = [false; 256];
    needles.iter().for_each(|needle| first[usize::from(needle.masked[0] ^ MASK)] = true);
    let mut buffer = Zeroizing::new(vec![0; PIECE]);
    let own = buffer.as_ptr() as u64;
    let own = own..own + buffer.len() as u64;
    let memory = File::open("/proc/self/mem").unwrap();
    let mut names = Vec::new();
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|edge| u64::from_str_radix(edge, 16).unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let mut at = start;
        while at < end {
            // Not what was just read, a piece of it seen twice.
            if own.contains(&at) {
                at = own.end;
                continue;
            }
            let stop = if at < own.start { end.min(own.start) } else { end };
            let len = buffer.len().min(usize::try_from(stop - at).unwrap());
            let Ok(read) = memory.read_at(&mut buffer[..len], at) else { break };
            let is_last = at + read as u64 >= stop;
            let starts = if is_last { read } else { read - (longest - 1) };
            for from in 0..starts {
                if first[usize::from(buffer[from])] {
                    let here = needles.iter().filter(|needle| needle.begins(&buffer[from..read]));
                    names.extend(here.map(|needle| needle.name));
                }
            }
            at += starts as u64;
            buffer[..read].zeroize();
        }
    }
    names.sort_unstable();
    names
}

/// T78: what is looked for is found while the locker is open, and not one of it is after it was closed.
#[test]
fn t78_a_closed_locker_leaves_no_secret_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home");
    let source = folder.path().join("file.txt");
    std::fs::write(&source, vec![7; 300_000]).unwrap();
    let mut needles = Vec::new();
    let options = InitOptions { name: Some("here".into()), vault: Vault::File };
    Locker::create(&path, options, Env::system(), |created| {
        needles.push(Needle::new("phrase", created.phrase.expose().as_bytes()));
        Ok::<_, Error>(())
    })
    .unwrap();
    use_and_close(&path, &source, &mut needles);
    assert_eq!(found(&needles), [""; 0]);
}

/// Opens a locker, works with it, and closes it; gathers its secrets on the way. A call of its own: what is on the stack of one
/// that goes on is nobody's to wipe.
#[inline(never)]
fn use_and_close(path: &Path, source: &Path, needles: &mut Vec<Needle>) {
    let mut none = || Err::<Secret, _>(Error::PassphraseNeeded);
    let locker = Locker::open(path, Env::system(), &mut none).unwrap();
    locker.add(&[source], "", &Silent).unwrap();
    locker.read("file.txt", 0, None, &mut std::io::sink()).unwrap();
    let inner = locker.inner();
    let keys = inner.keys();
    let store = inner.store().unwrap();
    let snapshot = store.read().unwrap();
    let seed = keyring::get::<SigningSeed, _>(&snapshot, &()).unwrap().unwrap();
    needles.push(Needle::new("signing key", seed.expose()));
    let epoch = keyring::newest::<EpochSecret, _>(&snapshot).unwrap().unwrap().1;
    needles.push(Needle::new("epoch secret", epoch.expose()));
    needles.push(Needle::new("log key", epoch.log_key().expose()));
    needles.push(Needle::new("person key", keys.person_keys().unwrap().newest().expose()));
    needles.push(Needle::new("dedup secret", keys.dedup().unwrap().expose()));
    needles.push(Needle::new("slot master", keys.master.as_ref().unwrap().1.expose()));
    let vault = Zeroizing::new(std::fs::read(path.join("vault/key")).unwrap());
    needles.push(Needle::new("vault key", &vault[4..]));
    let open = found(needles);
    for name in ["signing key", "epoch secret", "person key", "dedup secret", "slot master", "vault key"] {
        assert!(open.contains(&name), "looking finds what is there: {name} in {open:?}");
    }
}
