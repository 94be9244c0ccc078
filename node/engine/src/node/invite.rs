//! The old device's side of pairing: a ticket runs, somebody comes under it, a person compares the digits, and the new
//! device is enrolled (`docs/spec/07-links.md`, section 6).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use locker_crypto::Refusal;
use locker_crypto::id::VerifyingKey;
use locker_crypto::secret::{RendezvousSecret, Ticket};
use locker_net::{Connection, Stream, refuse};
use locker_sync::limits::{CONFIRM_TIME_S, EARLY_FRAME_TIME_MS, TICKET_LIFE_S};
use locker_sync::pairing::{OldDevice, OldStep, Role, Runs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::hub::Hub;
use crate::Error;
use crate::join::JoinAs;
use crate::report::{Guide, Paired, ROLE_BLIND, ROLE_FULL, Secret, TicketShown};

/// What is shown behind the name of a device that is to store and not to read.
const STORES_ONLY: &str = " (stores for you, cannot read)";
/// How often it is looked whether the person still wants to pair.
const LOOK: Duration = Duration::from_millis(500);
/// A frame of the handshake must come within this time.
const FRAME_TIME: Duration = Duration::from_millis(EARLY_FRAME_TIME_MS);
/// Longest run from the first digits on, until the new device is in the log.
const RUN_TIME: Duration = Duration::from_secs(CONFIRM_TIME_S + 60);
/// How long what a new device gets may take to be sent, and it to say that it keeps it.
const GRANT_TIME: Duration = Duration::from_secs(120);

/// A ticket that runs.
pub(crate) struct Invitation {
    ticket: Ticket,
    /// What a device is to become.
    wanted: JoinAs,
    runs: Mutex<Runs>,
    news: mpsc::UnboundedSender<News>,
}

/// What a run tells the person who pairs.
enum News {
    /// Digits and name to compare.
    Compare { digits: String, name: String, answer: oneshot::Sender<bool> },
    /// A run failed.
    Failed,
    /// A device joined.
    Joined(Joined),
}

/// Who joined.
struct Joined {
    device: VerifyingKey,
    name: String,
    role: Role,
}

impl Invitation {
    /// What a device becomes that asks to be `asked`: the lesser of both; nothing if that is not offered.
    fn role(&self, asked: Role) -> Option<Role> {
        match (self.wanted, asked) {
            (_, Role::Player) => None,
            (JoinAs::Full, Role::Full) => Some(Role::Full),
            (JoinAs::Blind { .. }, _) | (JoinAs::Full, Role::BlindStore) => Some(Role::BlindStore),
        }
    }

    /// The secret under which the new device finds this one.
    pub(super) fn rendezvous(&self) -> RendezvousSecret {
        self.ticket.rendezvous()
    }

    fn with_runs<T>(&self, f: impl FnOnce(&mut Runs) -> T) -> T {
        f(&mut self.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a run that passed message 1; nothing if it may not go on.
    fn begin(&self, now_s: u64) -> Option<Running<'_>> {
        self.with_runs(|runs| runs.begin(now_s)).then(|| Running(self))
    }

    /// Why nobody joined, once the ticket is over.
    fn why_over(&self) -> Error {
        if self.with_runs(|runs| runs.has_begun()) {
            Error::Pairing("the invitation ended after failed tries".into())
        } else {
            Error::Network("nobody came while the invitation was valid".into())
        }
    }

    fn tell(&self, news: News) {
        // Nobody hears it any more when the person gave up.
        let _ = self.news.send(news);
    }
}

/// A run that passed message 1, until it ends in whatever way.
struct Running<'a>(&'a Invitation);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.with_runs(Runs::run_ended);
    }
}

/// How far a run came.
#[derive(Default)]
struct Course<'a> {
    /// From message 1 on.
    running: Option<Running<'a>>,
    /// Whom it let in.
    enrolled: Option<Joined>,
}

impl Course<'_> {
    /// Ends the run. What was given is given: once the device is in the log it joined, however what followed ended.
    fn end(self, outcome: Result<(), Failed>) -> Result<(), Failed> {
        let (Some(running), Some(joined)) = (self.running, self.enrolled) else { return outcome };
        // Said before `running` goes: who waits looks at that first.
        running.0.tell(News::Joined(joined));
        Ok(())
    }
}

/// The place of the one invitation that runs. When this goes the ticket has ended, and the place is free for another.
struct Placed<'a> {
    hub: &'a Hub,
    invitation: &'a Arc<Invitation>,
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        self.invitation.with_runs(Runs::end);
        self.hub.end_invitation(self.invitation);
    }
}

/// Invites one device and waits until it joined, the ticket ended, or the person gave up.
///
/// # Errors
/// [`Error::Network`] when nobody came in its time; [`Error::Pairing`] if another ticket runs already, and when this
/// one ended otherwise.
pub(crate) async fn invite(hub: &Arc<Hub>, wanted: JoinAs, guide: &dyn Guide) -> Result<Paired, Error> {
    let ticket = Ticket::random(&mut **hub.inner().env().dice());
    // As many as there are runs, which a ticket bounds.
    let (news, mut hear) = mpsc::unbounded_channel();
    let shown = TicketShown {
        ticket: Secret::new(ticket.expose().iter().map(|byte| format!("{byte:02x}")).collect()),
        words: Secret::new(ticket.words().to_string()),
        expires: hub.inner().env().now_ms() + TICKET_LIFE_S * 1_000,
    };
    let runs = Mutex::new(Runs::new(hub.now_s()));
    let invitation = Arc::new(Invitation { ticket, wanted, runs, news });
    if !hub.set_invitation(&invitation) {
        return Err(Error::Pairing("another invitation is running".into()));
    }
    let placed = Placed { hub, invitation: &invitation };
    hub.announce().await;
    let result = match guide.ticket(&shown) {
        Ok(()) => wait(&invitation, &mut hear, guide, || hub.now_s(), || hub.is_stopping()).await,
        Err(error) => Err(gave_up(error)),
    };
    drop(placed);
    hub.announce().await;
    result
}

fn gave_up(_: std::io::Error) -> Error {
    Error::Pairing("whoever asked for the pairing went away".into())
}

/// Waits for what the runs say, until one let somebody in or the ticket is over. Blocks while the person looks: the
/// tasks of the node run beside it.
async fn wait(
    invitation: &Invitation,
    hear: &mut mpsc::UnboundedReceiver<News>,
    guide: &dyn Guide,
    now_s: impl Fn() -> u64,
    is_stopping: impl Fn() -> bool,
) -> Result<Paired, Error> {
    loop {
        // Looked at before it is heard what was said: a run that lets somebody in says so before it ends.
        let is_over = invitation.with_runs(|runs| runs.is_over(now_s()));
        match timeout(if is_over { Duration::ZERO } else { LOOK }, hear.recv()).await {
            // That run ended while the person looked at another one.
            Ok(Some(News::Compare { answer, .. })) if answer.is_closed() => {}
            Ok(Some(News::Compare { digits, name, answer })) => {
                let agreed = guide.confirm(&digits, Some(&name)).map_err(gave_up)?;
                // The run may have ended meanwhile; it says so itself.
                let _ = answer.send(agreed);
                if !agreed {
                    return Err(Error::Pairing("the digits were not confirmed here".into()));
                }
            }
            // Whether there may be another try, or one goes on, is looked at above.
            Ok(Some(News::Failed)) => {}
            Ok(Some(News::Joined(Joined { device, name, role }))) => {
                let role = if role == Role::BlindStore { ROLE_BLIND } else { ROLE_FULL };
                return Ok(Paired { device_id: device.to_string(), name, role: role.into() });
            }
            Err(_) => {
                guide.waiting().map_err(gave_up)?;
                if is_stopping() {
                    return Err(Error::Network("the node is stopping".into()));
                }
                if is_over {
                    return Err(invitation.why_over());
                }
            }
            Ok(None) => return Err(Error::Network("the node is stopping".into())),
        }
    }
}

/// Answers a stream for pairing. Without a ticket, or to somebody who does not know it or did not too often, as
/// everything is refused.
pub(super) async fn serve(hub: Arc<Hub>, connection: Connection, mut stream: Stream) {
    let open = hub.invitation().filter(|known| known.with_runs(|runs| runs.is_open(hub.now_s())));
    // Whoever failed too often speaks to a device without a ticket, by all that is answered.
    let is_unheard = open.is_some() && !hub.net().may_pair(&connection);
    let invitation = open.filter(|_| !is_unheard);
    let running = run(&hub, invitation.as_deref(), &connection, &mut stream);
    let Some(outcome) = hub.until_stop(running).await else { return };
    let Err(failed) = outcome else { return };
    if failed.has_begun
        && let Some(invitation) = invitation
    {
        invitation.tell(News::Failed);
    } else if !is_unheard {
        // One that was not heard may have been right: nobody is shut out for it.
        let _ = hub.net().handshake_failed(&connection).await;
    }
    refuse(stream, failed.frame_end).await;
}

/// A run that did not come to its end.
struct Failed {
    frame_end: Instant,
    has_begun: bool,
}

async fn run(
    hub: &Arc<Hub>,
    invitation: Option<&Invitation>,
    connection: &Connection,
    stream: &mut Stream,
) -> Result<(), Failed> {
    let mut course = Course::default();
    let outcome = go(hub, invitation, connection, stream, &mut course).await;
    course.end(outcome)
}

/// The steps of a run, until it is done or fails; `course` says then whether somebody was let in.
async fn go<'a>(
    hub: &Arc<Hub>,
    invitation: Option<&'a Invitation>,
    connection: &Connection,
    stream: &mut Stream,
    course: &mut Course<'a>,
) -> Result<(), Failed> {
    let mut buffer = vec![0; 4 * 1024];
    let person = hub.inner().keys().person;
    // Without a ticket the first frame is waited for all the same.
    let ticket = invitation.map_or_else(|| Ticket::new([0; Ticket::LEN]), |known| known.ticket.clone());
    let mut old = OldDevice::start(&ticket, person, &mut **hub.inner().env().dice())
        .map_err(|_| Failed { frame_end: Instant::now(), has_begun: false })?;
    let mut deadline = Instant::now() + FRAME_TIME;
    let mut answer: Option<oneshot::Receiver<bool>> = None;
    loop {
        let agreed = async {
            match &mut answer {
                Some(answer) => answer.await.unwrap_or(false),
                None => std::future::pending().await,
            }
        };
        let steps = tokio::select! {
            read = stream.read(&mut buffer) => {
                let frame_end = Instant::now();
                let failed = |old: &OldDevice| Failed { frame_end, has_begun: old.has_begun() };
                match read {
                    Ok(len) if len > 0 => old.receive(&buffer[..len], hub.now_s()).map_err(|_| failed(&old))?,
                    _ => return Err(failed(&old)),
                }
            }
            agreed = agreed => {
                answer = None;
                let failed = Failed { frame_end: Instant::now(), has_begun: true };
                match agreed.then(|| old.confirm(hub.now_s())) {
                    Some(Ok(bytes)) => vec![OldStep::Send(bytes)],
                    Some(Err(_)) | None => return Err(failed),
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                return Err(Failed { frame_end: Instant::now(), has_begun: old.has_begun() });
            }
        };
        let failed = || Failed { frame_end: Instant::now(), has_begun: true };
        for step in steps {
            match step {
                OldStep::Begun => {
                    // Nobody comes so far without a ticket.
                    let invitation = invitation.ok_or_else(failed)?;
                    hub.net().pairing_begun(connection);
                    course.running = Some(invitation.begin(hub.now_s()).ok_or_else(failed)?);
                    deadline = Instant::now() + FRAME_TIME;
                }
                OldStep::Send(bytes) => send(stream, &bytes, deadline).await.map_err(|_| failed())?,
                OldStep::Compare(digits, name) => {
                    let invitation = invitation.ok_or_else(failed)?;
                    let role = invitation.role(name.role).ok_or_else(failed)?;
                    let name = match role {
                        Role::BlindStore => format!("{}{STORES_ONLY}", name.name),
                        Role::Full | Role::Player => name.name,
                    };
                    deadline = Instant::now() + RUN_TIME;
                    let (sender, receiver) = oneshot::channel();
                    answer = Some(receiver);
                    invitation.tell(News::Compare { digits: digits.to_string(), name, answer: sender });
                }
                OldStep::Enrol(enrol) => {
                    let invitation = invitation.ok_or_else(failed)?;
                    let role = invitation.role(enrol.role).ok_or_else(failed)?;
                    let (device, name) = (enrol.device, enrol.name.clone());
                    invitation.with_runs(Runs::end);
                    let quota = invitation.wanted.quota();
                    let grant = hub.blocking(move |inner| match role {
                        Role::BlindStore => inner.enrol_replica(&enrol, quota),
                        Role::Full | Role::Player => inner.enrol(&enrol),
                    });
                    let grant = grant.await.map_err(|_| failed())?;
                    // The new device may knock before the commit is heard of; it looks again at the worst.
                    let _ = hub.look().await;
                    course.enrolled = Some(Joined { device, name, role });
                    deadline = Instant::now() + GRANT_TIME;
                    let bytes = old.grant(grant).map_err(|_: Refusal| failed())?;
                    send(stream, &bytes, deadline).await.map_err(|_| failed())?;
                }
                OldStep::Done => return Ok(()),
            }
        }
    }
}

/// Sends within the time that is left: whoever takes nothing off the wire holds nothing up.
async fn send(stream: &mut Stream, bytes: &[u8], deadline: Instant) -> std::io::Result<()> {
    timeout_at(deadline, async {
        stream.write_all(bytes).await?;
        stream.flush().await
    })
    .await?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// When a ticket that was made at 0 is over.
    const OVER: u64 = TICKET_LIFE_S;

    /// Says that the digits are the same, and counts how often it was asked.
    #[derive(Default)]
    struct Agreeing(AtomicU32);

    impl Guide for Agreeing {
        fn confirm(&self, _: &str, _: Option<&str>) -> std::io::Result<bool> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(true)
        }
    }

    /// A ticket that was made at 0, and what its runs say.
    fn invitation() -> (Invitation, mpsc::UnboundedReceiver<News>) {
        let (news, hear) = mpsc::unbounded_channel();
        let (ticket, runs) = (Ticket::new([7; Ticket::LEN]), Mutex::new(Runs::new(0)));
        (Invitation { ticket, wanted: JoinAs::Full, runs, news }, hear)
    }

    /// What the person is told at some time, and how often he was asked to compare digits.
    fn told(
        invitation: &Invitation,
        mut hear: mpsc::UnboundedReceiver<News>,
        now_s: u64,
    ) -> (Result<Paired, Error>, u32) {
        let guide = Agreeing::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let told = runtime.block_on(wait(invitation, &mut hear, &guide, || now_s, || false));
        (told, guide.0.into_inner())
    }

    /// A run that showed digits; it goes on as long as what it gives.
    fn compare(invitation: &Invitation) -> (Running<'_>, oneshot::Receiver<bool>) {
        let running = invitation.begin(0).unwrap();
        let (answer, heard) = oneshot::channel();
        invitation.tell(News::Compare { digits: "000000".into(), name: "shelf".into(), answer });
        (running, heard)
    }

    #[test]
    fn nobody_came_in_time() {
        let (invitation, hear) = invitation();
        let (told, asked) = told(&invitation, hear, OVER);
        assert!(matches!(told, Err(Error::Network(_))), "{told:?}");
        assert_eq!(asked, 0);
    }

    /// Goal: a try that failed after the digits were shown does not keep an invitation from its end.
    #[test]
    fn a_failed_try_does_not_outlive_the_ticket() {
        let (invitation, hear) = invitation();
        let (running, _heard) = compare(&invitation);
        drop(running);
        invitation.tell(News::Failed);
        let (told, asked) = told(&invitation, hear, OVER);
        assert!(matches!(told, Err(Error::Pairing(_))), "{told:?}");
        assert_eq!(asked, 1);
    }

    /// Goal: whoever is in the log joined, and is no try that failed, whatever ended the run before the grant was there.
    #[test]
    fn who_was_enrolled_joined_however_the_run_ended() {
        for was_enrolled in [false, true] {
            let (invitation, hear) = invitation();
            let (running, _heard) = compare(&invitation);
            let device = VerifyingKey([1; 32]);
            let joined = || Joined { device, name: "shelf".into(), role: Role::Full };
            let course = Course { running: Some(running), enrolled: was_enrolled.then(joined) };
            if was_enrolled {
                invitation.with_runs(Runs::end);
            }
            let outcome = course.end(Err(Failed { frame_end: Instant::now(), has_begun: true }));
            assert_eq!(outcome.is_ok(), was_enrolled);
            // The run is counted as ended in both cases.
            assert!(invitation.with_runs(|runs| runs.is_over(OVER)));
            let (told, _) = told(&invitation, hear, OVER);
            match told {
                Ok(paired) => assert!(was_enrolled && paired.name == "shelf", "{paired:?}"),
                Err(error) => assert!(!was_enrolled && matches!(error, Error::Pairing(_)), "{error:?}"),
            }
        }
    }

    /// Goal: three tries that failed are the end, before the time is over too; one that joined beside others that failed
    /// is heard.
    #[test]
    fn tries_that_failed_hide_none_that_joined() {
        for has_joined in [false, true] {
            let (invitation, hear) = invitation();
            for _ in 0..3 {
                drop(compare(&invitation));
                invitation.tell(News::Failed);
            }
            assert!(invitation.begin(0).is_none());
            if has_joined {
                let device = VerifyingKey([1; 32]);
                invitation.tell(News::Joined(Joined { device, name: "shelf".into(), role: Role::Full }));
            }
            let (told, asked) = told(&invitation, hear, 0);
            assert_eq!(asked, 0, "digits of a run that has ended were shown");
            match told {
                Ok(paired) => assert!(has_joined && paired.role == ROLE_FULL, "{paired:?}"),
                Err(error) => assert!(!has_joined && matches!(error, Error::Pairing(_)), "{error:?}"),
            }
        }
    }
}
