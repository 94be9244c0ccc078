//! A wire between two interfaces: it holds frames back, loses some, and lets only so many through in a second. For
//! benchmarks in namespaces, where the kernel has no `netem`.
//!
//! `locker-lab-wire IF1 IF2 DELAY_MS MBIT_S LOSS_PERCENT`: delay each way; 0 Mbit/s is no limit. It tells "ready" on standard
//! output and runs until it is ended. Offloads of all four ends must be off, so that a frame is one packet. What does not
//! fit into its queue is lost, as at any router.

#![allow(clippy::print_stdout, reason = "whoever starts it waits for its word")]

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};

/// Longest frame.
const FRAME_MAX: usize = 65_536;
/// Bytes that wait for a slow wire.
const QUEUE_BYTES: f64 = 1_048_576.0;
/// Frames under way in one direction.
const UNDER_WAY_MAX: usize = 65_536;
/// A frame that this machine sends itself, as `sockaddr_ll` tells.
const OUTGOING: u8 = 4;

/// What the wire does to frames.
#[derive(Clone, Copy)]
struct Manner {
    delay: Duration,
    /// Bytes in a second; infinite for no limit.
    rate: f64,
    /// Of a million frames.
    lost: u64,
}

/// Frames on their way, each with the moment at which it arrives.
#[derive(Default)]
struct Way {
    frames: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    more: Condvar,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let run = || -> Option<()> {
        let [first, second, delay, rate, loss] = arguments.as_slice() else { return None };
        let number = |text: &String| text.parse::<f64>().ok().filter(|number| *number >= 0.0);
        let rate = number(rate)? * 125_000.0;
        let manner = Manner {
            delay: Duration::from_secs_f64(number(delay)? / 1_000.0),
            rate: if rate == 0.0 { f64::INFINITY } else { rate },
            lost: (number(loss)? * 10_000.0) as u64,
        };
        let ends = [tap(first)?, tap(second)?].map(Arc::new);
        println!("ready");
        let mut running = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let way = Arc::new(Way::default());
            let (source, taken) = (Arc::clone(&ends[from]), Arc::clone(&way));
            running.push(std::thread::spawn(move || take(&source, &taken, manner, from as u64 + 1)));
            let target = Arc::clone(&ends[to]);
            running.push(std::thread::spawn(move || give(&target, &way)));
        }
        running.into_iter().for_each(|thread| drop(thread.join()));
        Some(())
    };
    if run().is_some() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// Opens an interface for all frames.
fn tap(name: &str) -> Option<OwnedFd> {
    let link: LinkAddr = getifaddrs()
        .ok()?
        .filter(|one| one.interface_name == name)
        .find_map(|one| one.address?.as_link_addr().copied())?;
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).ok()?;
    bind(socket.as_raw_fd(), &link).ok()?;
    setsockopt(&socket, sockopt::RcvBuf, &(16 << 20)).ok()?;
    Some(socket)
}

/// Takes frames from one end.
fn take(source: &OwnedFd, way: &Way, manner: Manner, seed: u64) {
    let mut buffer = vec![0; FRAME_MAX];
    // When the last frame has left a wire that takes its time.
    let mut free_at = Instant::now();
    let mut dice = seed;
    loop {
        let Ok((len, from)) = recvfrom::<LinkAddr>(source.as_raw_fd(), &mut buffer) else { continue };
        if from.is_some_and(|from| from.pkttype() == OUTGOING) {
            continue;
        }
        // A linear congruential generator (Knuth, MMIX) is random enough to lose frames.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (dice >> 33) % 1_000_000 < manner.lost {
            continue;
        }
        let now = Instant::now();
        free_at = free_at.max(now);
        if (free_at - now).as_secs_f64() * manner.rate > QUEUE_BYTES {
            continue;
        }
        free_at += Duration::from_secs_f64(len as f64 / manner.rate);
        let mut frames = way.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() < UNDER_WAY_MAX {
            frames.push_back((free_at + manner.delay, buffer[..len].to_vec()));
            way.more.notify_one();
        }
    }
}

/// Gives frames to the other end when their time has come.
fn give(target: &OwnedFd, way: &Way) {
    loop {
        let mut frames = way.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, frame) = loop {
            match frames.pop_front() {
                Some(next) => break next,
                None => frames = way.more.wait(frames).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(frames);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // An end that is full loses frames like any router.
        let _ = send(target.as_raw_fd(), &frame, MsgFlags::empty());
    }
}
