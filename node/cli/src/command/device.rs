//! `locker device`

use clap::{Args, Subcommand};
use locker_engine::report::{Device, ReplicaKind, Way};
use serde::Serialize;

use super::reply_of;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{printable, size, time};
use crate::request::Request;

/// The devices of this locker
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker device ls
  locker device rename 3f9a tablet
  locker device revoke 3f9a")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the devices, and which of them are reached now
    Ls,
    /// Give a device another name
    Rename {
        /// Id of the device, or the beginning of it
        id: String,
        /// The new name
        name: String,
    },
    /// End a device that was lost, stolen or given away
    ///
    /// It can open nothing that is written from now on, and your other devices do not let it in. What it has already it
    /// keeps: nobody can take that back.
    Revoke {
        /// Id of the device, or the beginning of it
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Told<'a> {
    devices: &'a [Device],
}

/// One device that was changed: what is told of it, and the same as a roster of one.
#[derive(Serialize)]
struct Changed<'a> {
    #[serde(flatten)]
    device: &'a Device,
    devices: [&'a Device; 1],
}

impl<'a> Changed<'a> {
    fn new(device: &'a Device) -> Self {
        Self { device, devices: [device] }
    }
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Ls => list(context),
            Verb::Rename { id, name } => {
                let device = one(context, Request::RenameDevice { id, name })?;
                context.terminal.result(&Changed::new(&device), || format!("Renamed: {}", line(&device)))
            }
            Verb::Revoke { id, yes } => {
                if !yes && !is_sure(context, &id)? {
                    return Err(Failure::usage(
                        "nothing was revoked",
                        "Give --yes to revoke without being asked.",
                    ));
                }
                let device = one(context, Request::RevokeDevice { id })?;
                context.terminal.result(&Changed::new(&device), || {
                    format!(
                        "Revoked: {}. Devices that run `locker up` hear of it at once, others when they meet.",
                        line(&device)
                    )
                })
            }
        }
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let watch = context.terminal.watch("Looking");
    let devices = reply_of!(context.ask(Request::Devices, &watch)?, Devices);
    watch.finish();
    context.terminal.result(&Told { devices: &devices }, || {
        let lines = devices.iter().map(|device| format!("{}{}", line(device), origin(device, &devices)));
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Who brought a device in, and when, to follow its line.
fn origin(device: &Device, devices: &[Device]) -> String {
    let (Some(by), Some(added)) = (&device.added_by, device.added) else { return String::new() };
    let known = devices.iter().find(|one| one.id == *by);
    let name = known.map_or_else(|| by.get(..8).unwrap_or(by).to_owned(), |one| printable(&one.name));
    format!("  added by {name}, {}", time(i64::try_from(added).unwrap_or(i64::MAX)))
}

/// Does something with one device, and gives it as it is then.
fn one(context: &Context, request: Request) -> Result<Device, Failure> {
    let watch = context.terminal.watch("Writing");
    let devices = reply_of!(context.ask(request, &watch)?, Devices);
    watch.finish();
    devices.into_iter().next().ok_or_else(super::mismatched)
}

/// Asks at a terminal whether a device is to be ended. Elsewhere there is nobody to ask.
fn is_sure(context: &Context, id: &str) -> Result<bool, Failure> {
    let watch = context.terminal.watch("Looking");
    let devices = reply_of!(context.ask(Request::Devices, &watch)?, Devices);
    watch.finish();
    if !context.terminal.is_interactive() {
        return Ok(false);
    }
    let named = devices.iter().filter(|device| device.id.starts_with(id)).map(line);
    context.terminal.say(&format!(
        "This ends for good:\n{}\nIt will open nothing that is written from now on. Type yes to go on:",
        named.collect::<Vec<_>>().join("\n")
    ));
    let answer = super::pair::answer().map_err(|e| Failure::io("cannot read the answer", &e))?;
    Ok(answer == "yes")
}

/// One device as a line: the beginning of its id, its name, when it was seen.
pub(super) fn line(device: &Device) -> String {
    let seen = match device {
        Device { replaced_by, .. } if !replaced_by.is_empty() => {
            let ids: Vec<&str> = replaced_by.iter().map(|id| id.get(..8).unwrap_or(id)).collect();
            format!("replaced by {}", ids.join(" and "))
        }
        Device { revoked: true, .. } => "revoked".into(),
        Device { this: true, .. } => "this device".into(),
        Device { online: true, path: Some(Way::Relayed), .. } => "online, through a relay".into(),
        Device { online: true, .. } => "online".into(),
        Device { last_seen: 0, .. } => "not seen since this node runs".into(),
        Device { last_seen, .. } => {
            format!("last seen {}", time(i64::try_from(*last_seen).unwrap_or(i64::MAX)))
        }
    };
    let id = device.id.get(..8).unwrap_or(&device.id);
    let what = device.store.map_or_else(String::new, |store| {
        let kind = match store.kind {
            ReplicaKind::Node => "stores and cannot read",
            ReplicaKind::Drive => "a drive",
        };
        let most = if store.quota > 0 { format!(" of {}", size(store.quota)) } else { String::new() };
        let is_full = if store.refused > 0 { ", full" } else { "" };
        format!(", {kind}: {}{most}{is_full}", size(store.used))
    });
    format!("{id}  {}  ({seen}{what})", printable(&device.name))
}
