//! The disks of the laboratory (`docs/laboratory.md`), as file systems in user space: one whose writes are logged, so that
//! its power can be cut at any of them, and one whose operations fail when they are told to.
//!
//! A process of its own, so that whoever waits for such a disk can always be ended. It serves until its standard input
//! ends. What it is told stands on standard input, its answers on standard output, a line each.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "standard output carries the answers, standard error what went wrong"
)]

mod disk;
mod folder;

use std::io::{BufRead, stdin};
use std::path::Path;
use std::process::ExitCode;

use fuser::{Config, Filesystem, MountOption};

use disk::LoggedDisk;
use folder::FailingFolder;

const USAGE: &str = "usage: locker-lab-disks logged IMAGE LOG MOUNT | locker-lab-disks failing FOLDER MOUNT";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let served = match arguments[..] {
        ["logged", image, log, mount] => LoggedDisk::open(image.as_ref(), log.as_ref())
            .and_then(|disk| serve(disk, mount.as_ref(), |_| "it takes no orders".into())),
        ["failing", folder, mount] => {
            let folder = FailingFolder::new(folder.as_ref());
            let faults = folder.faults();
            serve(folder, mount.as_ref(), move |order| faults.obey(order))
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves a file system at `mount` until standard input ends, and answers orders.
fn serve(files: impl Filesystem, mount: &Path, obey: impl Fn(&str) -> String) -> std::io::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("locker-lab".into()), MountOption::NoAtime];
    let session = fuser::spawn_mount(files, mount, &config)?;
    println!("ready");
    for order in stdin().lock().lines() {
        println!("{}", obey(&order?));
    }
    session.umount_and_join()
}
