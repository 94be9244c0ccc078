//! The asking end of the socket.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::frame::{self, Kind};
use crate::execute::Sink;
use crate::failure::{Exit, Failure};
use crate::request::{PairEvent, Reply, Request};

/// Connects to the process that has the locker open; `None` if none listens.
///
/// # Errors
/// If somebody else's process listens there.
pub(crate) fn connect(home: &Path) -> Result<Option<UnixStream>, Failure> {
    let Ok((_folder, address)) = super::address(home) else { return Ok(None) };
    match UnixStream::connect(address) {
        Ok(stream) if super::is_same_user(&stream) => Ok(Some(stream)),
        Ok(_) => Err(Failure::new(
            Exit::Refused,
            "E_SOCKET",
            "the process that listens at this locker's socket belongs to another user",
            "Do not trust this home. Find out who put that socket there.",
        )),
        Err(_) => Ok(None),
    }
}

/// Sends a request and hands everything that comes back to `sink`, until the answer. `None` if the process at the other
/// end went away before it heard the request, or does not serve it in time.
pub(crate) fn ask(
    stream: &mut UnixStream,
    request: &Request,
    sink: &dyn Sink,
) -> Option<Result<Reply, Failure>> {
    // It may be busy with as many others as it serves at once.
    let _ = stream.set_read_timeout(Some(super::START_WAIT));
    match frame::read(stream) {
        Ok((Kind::Ready, _)) => {
            let _ = stream.set_read_timeout(None);
            Some(with_stop(stream, request, sink))
        }
        Ok(_) | Err(_) => None,
    }
}

/// How often it is looked whether the person wants the work to stop.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// Holds the conversation; if the person wants the work to stop, says so by closing our side of the stream. The answer
/// still comes.
fn with_stop(stream: &mut UnixStream, request: &Request, sink: &dyn Sink) -> Result<Reply, Failure> {
    let Ok(ours) = stream.try_clone() else { return converse(stream, request, sink) };
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(STOP_LOOK) {
                if sink.is_stopped() {
                    let _ = ours.shutdown(Shutdown::Write);
                    return;
                }
            }
        });
        let reply = converse(stream, request, sink);
        drop(end);
        reply
    })
}

fn converse(stream: &mut UnixStream, request: &Request, sink: &dyn Sink) -> Result<Reply, Failure> {
    let lost = |error: io::Error| {
        Failure::new(
            Exit::Failed,
            "E_IO",
            format!("the process that has the locker open went away: {error}"),
            "What was acknowledged is safe. Run the command again.",
        )
    };
    let shown = |error: io::Error| Failure::io("cannot write the result", &error);
    frame::write_json(stream, Kind::Request, request).map_err(lost)?;
    loop {
        let (kind, body) = frame::read(stream).map_err(lost)?;
        match kind {
            Kind::Progress => sink.progress(frame::parse(&body).map_err(lost)?),
            Kind::Saved => sink.saved(&frame::parse::<String>(&body).map_err(lost)?),
            Kind::Bytes => sink.bytes(&body).map_err(shown)?,
            Kind::Entries => {
                for entry in frame::parse::<Vec<_>>(&body).map_err(lost)? {
                    sink.entry(entry).map_err(shown)?;
                }
            }
            Kind::Reply => return frame::parse(&body).map_err(lost),
            Kind::Failure => return Err(frame::parse(&body).map_err(lost)?),
            Kind::Pairing => {
                let event: PairEvent = frame::parse(&body).map_err(lost)?;
                let is_question = matches!(event, PairEvent::Confirm { .. });
                let answer = sink.pairing(event).map_err(shown)?;
                if is_question {
                    frame::write_json(stream, Kind::Answer, &answer).map_err(lost)?;
                }
            }
            Kind::Request | Kind::Ready | Kind::Answer => {
                return Err(lost(io::ErrorKind::InvalidData.into()));
            }
        }
    }
}
