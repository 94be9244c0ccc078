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
  locker --json device ls")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the devices, and which of them are reached now
    Ls,
}

#[derive(Serialize)]
struct Told<'a> {
    devices: &'a [Device],
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let Verb::Ls = self.verb;
        let watch = context.terminal.watch("Looking");
        let devices = reply_of!(context.ask(Request::Devices, &watch)?, Devices);
        watch.finish();
        context
            .terminal
            .result(&Told { devices: &devices }, || devices.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

/// One device as a line: the beginning of its id, its name, when it was seen.
pub(super) fn line(device: &Device) -> String {
    let seen = match device {
        Device { replaced_by, .. } if !replaced_by.is_empty() => {
            let ids: Vec<&str> = replaced_by.iter().map(|id| id.get(..8).unwrap_or(id)).collect();
            format!("replaced by {}", ids.join(" and "))
        }
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
