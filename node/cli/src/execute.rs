//! Carries a [`Request`] out on an open locker. The same for a command that opened the locker itself and for one
//! that came over the socket.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use locker_engine::report::{Entry, Guide, Observer, TicketShown};
use locker_engine::{Error, Locker, NodeOptions, ShareOptions, VerifyOptions};

use crate::failure::Failure;
use crate::request::{PairEvent, Reply, Request};

/// Takes what a verb streams while it runs.
pub(crate) trait Sink: Observer {
    /// A line of a listing.
    fn entry(&self, entry: Entry) -> io::Result<()>;

    /// Bytes of a file.
    fn bytes(&self, bytes: &[u8]) -> io::Result<()>;

    /// A pairing shows something. To [`PairEvent::Confirm`] the answer counts.
    fn pairing(&self, event: PairEvent) -> io::Result<bool> {
        let _ = event;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Carries out one verb.
pub(crate) fn execute(locker: &Locker, request: Request, sink: &dyn Sink) -> Result<Reply, Failure> {
    let mut broken = None;
    let mut entry = |entry| match sink.entry(entry) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            broken = Some(error);
            ControlFlow::Break(())
        }
    };
    let reply = match request {
        Request::Add { paths, to } => {
            let paths: Vec<_> = paths.iter().map(|p| p.as_path()).collect();
            Reply::Added(locker.add(&paths, &to, &AsObserver(sink))?)
        }
        Request::List { dir, options } => {
            locker.list(&dir, options, &mut entry)?;
            Reply::Done
        }
        Request::Find { query } => {
            locker.find(&query, &mut entry)?;
            Reply::Done
        }
        Request::Read { path, offset, length } => {
            locker.read(&path, offset, length, &mut Bytes(sink))?;
            Reply::Done
        }
        Request::Get { path, to } => Reply::Got(locker.get(&path, to.as_path(), &AsObserver(sink))?),
        Request::Leave { to } => Reply::Got(locker.leave(to.as_path(), &AsObserver(sink))?),
        Request::MakeFolder { path, parents } => {
            locker.make_folder(&path, parents)?;
            Reply::Done
        }
        Request::Move { from, to } => {
            locker.rename(&from, &to)?;
            Reply::Done
        }
        Request::Remove { path } => {
            let holders = locker.holders_of_removal(&path)?;
            Reply::Removed { removed: locker.remove(&path)?, holders }
        }
        Request::Held => Reply::Held(locker.held()?),
        Request::AllowHeld { device, words } => {
            Reply::Decided(locker.allow_held(device.as_deref(), words.as_ref())?)
        }
        Request::UndoHeld { device } => Reply::Decided(locker.undo_held(device.as_deref())?),
        Request::Restore { path, at, version } => Reply::Restored(locker.restore(&path, at, version)?),
        Request::History { path } => Reply::History(locker.history(&path)?),
        Request::Status { hash } => Reply::Status(Box::new(locker.status(hash)?)),
        Request::Free { path, copies } => {
            Reply::Freed(locker.free(&path, copies, remembered(locker)?, &AsObserver(sink))?)
        }
        Request::Pin { path } => Reply::Pinned(locker.pin(&path)?),
        Request::Unpin { path } => {
            Reply::RuleSet(Box::new(locker.unpin(&path, remembered(locker)?, &AsObserver(sink))?))
        }
        Request::Rule => Reply::Rule(locker.rule()?),
        Request::SetRule { rule } => {
            Reply::RuleSet(Box::new(locker.set_rule(rule, remembered(locker)?, &AsObserver(sink))?))
        }
        Request::Audit => Reply::Audited(locker.audit(remembered(locker)?, &AsObserver(sink))?),
        Request::Gc { dry_run } => Reply::Collected(locker.gc(dry_run, &AsObserver(sink))?),
        Request::Doctor { bootstrap, lan, port_mapping } => {
            let known = crate::network::Network::default().resolve(&locker.home()?)?;
            let resolved = crate::network::Resolved { bootstrap, lan, port_mapping, ..known };
            let options = crate::network::options(&[], &resolved)?;
            Reply::Diagnosis(match locker.doctor(options.clone(), &AsObserver(sink)) {
                // No node runs where nothing may be written; the rest is looked at all the same.
                Err(Error::ReadOnly(_)) => locker.doctor_without_node(&options, &AsObserver(sink)),
                diagnosis => diagnosis?,
            })
        }
        Request::Verify { repair, all } => {
            let repair = repair.then(|| remembered(locker)).transpose()?;
            let options = VerifyOptions { repair, anew: all };
            Reply::Verified(locker.verify(options, &AsObserver(sink))?)
        }
        Request::Pair { wanted } => {
            Reply::Paired(locker.pair(wanted, remembered(locker)?, &AsGuide(sink))?)
        }
        Request::InitDrive { dir, name } => {
            Reply::Drives(vec![locker.init_drive(dir.as_path(), name, &AsObserver(sink))?])
        }
        Request::UpdateDrives { dir } => {
            Reply::Drives(locker.update_drives(dir.as_ref().map(|dir| dir.as_path()), &AsObserver(sink))?)
        }
        Request::Rehearsal => Reply::Rehearsal(locker.rehearsal()?),
        Request::Devices => Reply::Devices(locker.devices()?),
        Request::RevokeDevice { id } => Reply::Devices(vec![locker.revoke_device(&id)?]),
        Request::RenameDevice { id, name } => Reply::Devices(vec![locker.rename_device(&id, &name)?]),
        Request::Share { path, expires_s, label, passphrase } => {
            Reply::Shared(Box::new(locker.share(&path, &ShareOptions { expires_s, label, passphrase })?))
        }
        Request::DraftPhrase { old } => Reply::Drafted(locker.draft_phrase(&old)?),
        Request::ChangePhrase { old, new } => {
            let behind = locker.change_phrase(&old, &new, remembered(locker)?)?;
            Reply::PhraseChanged(behind.into_iter().collect())
        }
        Request::Shares => Reply::Shares(locker.shares()?),
        Request::RevokeShare { id } => Reply::Shares(vec![locker.revoke_share(&id)?]),
        Request::Wait { synced, copies, timeout_ms } => {
            let (start, time) = (Instant::now(), timeout_ms.map(Duration::from_millis));
            if synced {
                locker.wait_synced(remembered(locker)?, time, &AsObserver(sink))?;
            }
            if let Some(copies) = copies {
                let left = time.map(|time| time.saturating_sub(start.elapsed()));
                locker.wait_copies(copies, remembered(locker)?, left, &AsObserver(sink))?;
            }
            Reply::Done
        }
    };
    match broken {
        Some(error) => Err(Failure::io("cannot write the listing", &error)),
        None => Ok(reply),
    }
}

/// How the network is reached for the time of one command.
fn remembered(locker: &Locker) -> Result<NodeOptions, Failure> {
    crate::network::options(&[], &crate::network::Network::default().resolve(&locker.home()?)?)
}

/// A sink seen as the person in front of a pairing.
struct AsGuide<'a>(&'a dyn Sink);

impl Guide for AsGuide<'_> {
    fn ticket(&self, ticket: &TicketShown) -> io::Result<()> {
        self.0.pairing(PairEvent::Ticket(ticket.clone())).map(|_| ())
    }

    fn waiting(&self) -> io::Result<()> {
        self.0.pairing(PairEvent::Waiting).map(|_| ())
    }

    fn confirm(&self, digits: &str, name: Option<&str>) -> io::Result<bool> {
        self.0.pairing(PairEvent::Confirm { digits: digits.to_owned(), name: name.map(str::to_owned) })
    }
}

/// A sink seen as the engine's observer.
struct AsObserver<'a>(&'a dyn Sink);

impl Observer for AsObserver<'_> {
    fn progress(&self, progress: locker_engine::report::Progress) {
        self.0.progress(progress);
    }

    fn saved(&self, path: &str) {
        self.0.saved(path);
    }

    fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }
}

/// A sink seen as a writer.
struct Bytes<'a>(&'a dyn Sink);

impl Write for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
