//! Homes of a simulation: folders in memory, copied at the moment of a crash.

use std::fs;
use std::path::{Path, PathBuf};

use crate::unsynced::quietly;

/// A folder for one run, removed at its end.
pub struct Disk(PathBuf);

impl Disk {
    /// A new folder in memory, or, where there is none, among temporary files.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(seed: u64) -> Self {
        let path = place(std::process::id(), seed);
        fs::create_dir_all(&path).expect("a folder for the homes can be made");
        Self(path)
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if std::env::var_os("LOCKER_SIMULATION_KEEP").is_none() {
            _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Where the homes of a run lie.
pub fn place(process: u32, seed: u64) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    base.join(format!("locker-simulation-{process}-{seed}"))
}

/// Copies a home as it lies there now: what a process that ends at this moment leaves behind.
///
/// # Panics
/// If it cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    quietly(|| copy_folder(from, to));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a home can be made");
    for entry in fs::read_dir(from).expect("a home can be listed") {
        let entry = entry.expect("a home can be listed");
        let (kind, target) = (entry.file_type().expect("a file has a kind"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).expect("a file of a home can be copied");
        }
    }
}
