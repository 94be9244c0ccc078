//! Devices that came in lately (`docs/spec/02-identity.md`, "Notice"): noted in the commit that takes in the entry which brought
//! them in, by the clock of this device, so that an entry with an early date is told like any other.
//!
//! Never here: what is in the log with which a home begins. Who joins or recovers has not missed it.

use locker_catalog::order::OpOrder;
use locker_catalog::roster::Roster;
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::VerifyingKey;
use locker_crypto::person::{Entry, Op};
use locker_store::settings::{self, Setting};
use locker_store::{Reads, Snapshot, WriteTxn};

use crate::Error;
use crate::keys::{person_log, short_id};
use crate::locker::Inner;
use crate::report::{Device, Notice};

/// Setting: devices that came in lately, and when this one heard of each.
const SETTING: Setting = Setting::engine(10);
const VERSION: u64 = 1;
/// How long it is told that a device came in, in milliseconds: 14 days.
const TOLD_MS: u64 = 14 * 86_400_000;

/// A device that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newcomer {
    device: VerifyingKey,
    /// When this device heard of it, unix milliseconds by its own clock.
    heard_ms: u64,
}

impl Newcomer {
    /// Whether it is told still. What was heard of in the future, by a clock that was set back since, is.
    fn is_told(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms) < TOLD_MS
    }
}

/// Notes the devices that a change of the person log brought in, this one excepted: `before` and `after` are what the log came
/// to and comes to. Forgets those of which it was told long enough, and no other: what ended a device may turn out not to count.
///
/// # Errors
/// What the store gives.
pub(crate) fn note(
    txn: &mut WriteTxn<'_>,
    own: &VerifyingKey,
    (before, after): (&Roster, &Roster),
    now_ms: u64,
) -> Result<(), Error> {
    let was = read(txn)?;
    let mut noted = was.clone();
    noted.retain(|one| one.is_told(now_ms));
    let was_in =
        |device: &VerifyingKey| before.brought_in.contains(device) && !before.removed.contains_key(device);
    for device in &after.brought_in {
        let is_new = device != own && !after.removed.contains_key(device) && !was_in(device);
        if is_new && noted.iter().all(|one| one.device != *device) {
            noted.push(Newcomer { device: *device, heard_ms: now_ms });
        }
    }
    if noted.is_empty() && !was.is_empty() {
        settings::delete(txn, SETTING);
    } else if noted != was {
        settings::put(txn, SETTING, &encode(&noted));
    }
    Ok(())
}

/// What is to be told of devices that came in, of those that came first before others. `devices` are all of the person.
///
/// # Errors
/// [`Error::Integrity`] if the person log is damaged.
pub(crate) fn notices(inner: &Inner, snapshot: &Snapshot, devices: &[Device]) -> Result<Vec<Notice>, Error> {
    let now_ms = inner.env().now_ms();
    let mut noted = read(snapshot)?;
    noted.retain(|one| one.is_told(now_ms));
    if noted.is_empty() {
        return Ok(Vec::new());
    }
    let keys = inner.keys();
    let own = keys.device_id();
    let log = person_log(snapshot, &keys.person)?;
    let roster = Roster::read(keys.person, &log);
    if roster.removed.contains_key(&own) || !roster.brought_in.contains(&own) {
        // Who was ended, or came in by what does not count, can end nobody; `status` names that as a problem.
        return Ok(Vec::new());
    }
    noted.retain(|one| one.device != own && !roster.removed.contains_key(&one.device));
    let mut notices = Vec::new();
    for one in &noted {
        let Some(at) = roster.arrivals.get(&one.device) else { continue };
        let op = op_at(&log, at, &one.device);
        // The device with which the log begins was brought in by nobody.
        if op.is_some() || at.entry.author != one.device {
            notices.push(notice(one, at, op, devices));
        }
    }
    Ok(notices)
}

/// The operation that brought a device in, which stands at a place of the log. A forked author may have others there.
fn op_at<'a>(log: &'a [Entry], at: &OpOrder, device: &VerifyingKey) -> Option<&'a Op> {
    let place = (at.entry.hlc, at.entry.author, at.entry.seq);
    let entries = log.iter().filter(|entry| (entry.body.hlc, entry.author, entry.seq) == place);
    let mut ops = entries.filter_map(|entry| entry.body.ops.get(usize::from(at.index)));
    ops.find(|op| match op {
        Op::AddDevice { device: new, .. }
        | Op::ReplaceDevice { device: new, .. }
        | Op::Recover { device: new, .. } => new.device == *device,
        _ => false,
    })
}

fn notice(one: &Newcomer, at: &OpOrder, op: Option<&Op>, devices: &[Device]) -> Notice {
    let id = one.device.to_string();
    let (name, by) = (name_of(&one.device, devices), name_of(&at.entry.author, devices));
    let command = format!("locker device revoke {}", beginning(&id, devices));
    let (came, heard) = (day(at.entry.hlc >> 16), day(one.heard_ms));
    let mut when = format!("on {came}");
    if came != heard {
        when.push_str(&format!(" (heard of here on {heard})"));
    }
    let (code, message) = match op {
        Some(Op::ReplaceDevice { .. }) => (
            "device_replaced",
            format!(
                "The device {name:?} goes on under a new key that was added on {by:?} {when}: its home was put back from an \
                 older copy, or copied, or its clock was ahead. If none of this is so: {command}"
            ),
        ),
        Some(Op::Recover { .. }) => (
            "device_recovered",
            format!(
                "The device {name:?} came in by the 24 words {when}. If that was not you, somebody else has them: {command}, \
                 then locker phrase change"
            ),
        ),
        _ => (
            "device_added",
            format!("The device {name:?} was added on {by:?} {when}. If that was not you: {command}"),
        ),
    };
    Notice { code: code.into(), message, device: id, at: one.heard_ms }
}

fn name_of(device: &VerifyingKey, devices: &[Device]) -> String {
    let id = device.to_string();
    let known = devices.iter().find(|one| one.id == id);
    known.map_or_else(|| short_id(device), |one| one.name.clone())
}

/// As much of an id as names one device: its beginning, or all of it if that of another one begins so too.
fn beginning<'a>(id: &'a str, devices: &[Device]) -> &'a str {
    let short = id.get(..8).unwrap_or(id);
    let is_clear = devices.iter().filter(|one| one.id.starts_with(short)).count() < 2;
    if is_clear { short } else { id }
}

/// A day as people write it, in the local time zone.
fn day(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(time) => time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%-d %B %Y").to_string(),
        Err(_) => "a day that no calendar has".into(),
    }
}

/// What is noted. It is told and nothing else hangs on it: what cannot be read counts for nothing, and is written anew with the
/// next entry.
fn read<R: Reads>(reads: &R) -> Result<Vec<Newcomer>, Error> {
    let bytes = settings::get(reads, SETTING)?;
    Ok(bytes.and_then(|bytes| decode(&bytes).ok()).unwrap_or_default())
}

fn encode(noted: &[Newcomer]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(2).u64(VERSION).array(noted.len());
    for one in noted {
        w.array(2).bytes(one.device.as_ref()).u64(one.heard_ms);
    }
    w.finish()
}

fn decode(bytes: &[u8]) -> Result<Vec<Newcomer>, Refusal> {
    let mut r = Reader::new(bytes);
    r.array_of(2)?;
    if r.u64()? != VERSION {
        return Err(Refusal::Version);
    }
    let mut noted = Vec::new();
    for _ in 0..r.array()? {
        r.array_of(2)?;
        noted.push(Newcomer { device: VerifyingKey(r.fixed()?), heard_ms: r.u64()? });
    }
    r.finish()?;
    Ok(noted)
}

#[cfg(test)]
mod tests;
